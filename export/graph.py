"""The deployable graph: grey pixels in, answers out, preprocessing and temperature inside."""

from __future__ import annotations

import copy
from typing import NamedTuple

import torch
from torch import Tensor, nn

from export.errors import ExportError
from export.gate import Gate, GateParameters, TappedBody, gate_features
from export.gradcam import GradCamHead
from train.preprocessing import AnyNormalization, Normalization, squish
from train.run import Run

__all__ = [
    "FLOAT_OUTPUTS",
    "INPUT_NAME",
    "OUTPUT_MEANINGS",
    "OUTPUT_NAMES",
    "DeployableGraph",
    "GraphOutputs",
    "deployable_graph",
    "output_shapes",
]

INPUT_NAME = "image"
OUTPUT_MEANINGS = {
    "probabilities": "softmax of logits / temperature, one value a class in the order of labels",
    "logits": "the network's last layer, before temperature",
    "heatmap": "Grad-CAM of each class over the whole radiograph, 0..1, maximum 1; zero where nothing speaks for it",
    "embedding": "activations that enter the last linear layer",
    "gate_score": "how unlike the training radiographs the picture is: refused from 1 on, the whole part says why (see "
    "gate.reasons); constant 0 where the bundle has no gate",
}
OUTPUT_NAMES = tuple(OUTPUT_MEANINGS)
FLOAT_OUTPUTS = ("heatmap", "gate_score")
"""Outputs whose own arithmetic no quantizer may touch: it is cheap, and its limits were set in float."""


class GraphOutputs(NamedTuple):
    """The five outputs, in the order of every format."""

    probabilities: Tensor
    logits: Tensor
    heatmap: Tensor
    embedding: Tensor
    gate_score: Tensor


class DeployableGraph(nn.Module):
    """A classifier as every format carries it.

    Parameters
    ----------
    classifier
        ``Sequential(body, head)``: float [N, 3, S, S] -> feature map -> logits, with a head that
        :class:`export.gradcam.GradCamHead` knows. It is copied: the caller's model is not changed, and the
        copy is float32, on the CPU, in evaluation mode for good, without dropout.
    size
        Edge S of the network's input, in pixels.
    normalization
        ``imagenet``, ``per_image`` or ``mean_std``: see :class:`train.preprocessing.Normalization`.
    mean, std
        Of ``mean_std`` alone: for each channel, of grey values in 0..1.
    temperature
        T of the softmax, greater than 0; 1 leaves the probabilities uncalibrated.

    Attributes
    ----------
    gate
        Gives ``gate_score``; None until :meth:`set_gate`, and then the score is constant 0.

    Raises
    ------
    ExportError
        The classifier is not a body and a head, or its head has no closed form.
    """

    def __init__(
        self,
        classifier: nn.Module,
        *,
        size: int,
        normalization: AnyNormalization,
        temperature: float = 1.0,
        mean: tuple[float, float, float] | None = None,
        std: tuple[float, float, float] | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(classifier, nn.Sequential) or len(classifier) != 2:
            raise ExportError(
                "the classifier is not a body and a head",
                got=type(classifier).__name__,
                expected="nn.Sequential(body, head)",
                remedy="split it; a run of somebody else's classifier takes an adapter (docs/export.md)",
            )
        if not temperature > 0:
            raise ExportError("the temperature is not positive", got=str(temperature), expected="a number above 0")
        body, head = copy.deepcopy(classifier).cpu().float().eval()
        self.size = size
        self.temperature = temperature
        self.normalization = Normalization(normalization, mean, std)
        self.body: nn.Module = TappedBody(_without_dropout(body), size)
        self.head = GradCamHead(head)
        self.gate: Gate | None = None
        self.requires_grad_(False)
        super().train(False)

    def train(self, mode: bool = True) -> DeployableGraph:  # noqa: ARG002
        """Stay in evaluation mode: the graph is a finished product."""
        return self

    def forward(self, image: Tensor) -> GraphOutputs:
        """Answer for one radiograph.

        Parameters
        ----------
        image
            uint8 [1, 1, H, W], 0 black, any H and W.

        Returns
        -------
        GraphOutputs
            ``probabilities`` [1, C], ``logits`` [1, C], ``heatmap`` [1, C, h, w] in 0..1, ``embedding`` [1,
            D], ``gate_score`` [1], all float32.
        """
        return self.answer_grey(squish(image, self.size))

    def answer_grey(self, grey: Tensor) -> GraphOutputs:
        """Answer for radiographs that are resized already, float [N, 1, S, S] in 0..255; every output is [N, ...]."""
        return self._answer(*self.body(self.normalization(grey)))

    def look(self, grey: Tensor) -> tuple[GraphOutputs, Tensor]:
        """Answer, and also return what a gate looks at, float [N, F]: see :func:`export.gate.gate_features`."""
        last, tapped = self.body(self.normalization(grey))
        return self._answer(last, tapped), gate_features(tapped)

    def look_only(self, grey: Tensor) -> Tensor:
        """What a gate looks at, float [N, F], without an answer: a third quicker than :meth:`look`."""
        assert isinstance(self.body, TappedBody)
        return gate_features(self.body.until_tap(self.normalization(grey)))

    def _answer(self, last: Tensor, tapped: Tensor) -> GraphOutputs:
        logits, heatmap, embedding = self.head(last)
        probabilities = torch.softmax(logits / self.temperature, dim=1)
        gate_score = torch.zeros(1) if self.gate is None else self.gate(tapped)
        return GraphOutputs(probabilities, logits, heatmap, embedding, gate_score)

    def set_gate(self, parameters: GateParameters) -> None:
        """Give the graph a gate. Do it before a format is written."""
        self.gate = Gate(parameters)
        self.gate.requires_grad_(False).eval()


def deployable_graph(run: Run) -> DeployableGraph:
    """Load a run's weights into the deployable graph: the eager model that every artifact is judged against."""
    spec = run.spec
    return DeployableGraph(
        run.load_model(), size=spec.image_size, normalization=spec.normalization, temperature=spec.temperature,
        mean=spec.mean, std=spec.std,
    )  # fmt: skip


@torch.no_grad()
def output_shapes(graph: DeployableGraph) -> dict[str, tuple[int, ...]]:
    """Shape of each output, by name."""
    outputs: GraphOutputs = graph(torch.zeros(1, 1, graph.size, graph.size, dtype=torch.uint8))
    return {name: tuple(value.shape) for name, value in outputs._asdict().items()}


def _without_dropout(module: nn.Module) -> nn.Module:
    """Replace every dropout layer by nothing, in place; ``module`` is our own copy."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return nn.Identity()
    for name, child in module.named_children():
        setattr(module, name, _without_dropout(child))
    return module
