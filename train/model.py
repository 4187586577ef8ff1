"""The classifier: a pytorchcv network's features under fastai's head."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_runtime.errors import EdgeRuntimeError
from train.torchvision_ops import declare_missing_operators

__all__ = ["build_classifier", "count_parameters"]


def build_classifier(architecture: str, classes: int, head_dropout: float = 0.5) -> nn.Sequential:
    """Build an untrained classifier.

    Parameters
    ----------
    architecture
        Name of a pytorchcv image classifier with a ``features`` part, such as ``efficientnet_b1``.
    classes
        Number of classes.
    head_dropout
        Dropout before the head's last layer (half of it before the hidden layer, as fastai does).

    Returns
    -------
    nn.Sequential
        ``[body, head]``: float [N, 3, S, S] -> feature map [N, F, h, w] -> logits [N, classes]. The head is fastai's
        ``create_head``: concatenated max and average pooling, batch norm, dropout, 512 hidden units. With
        EfficientNet-b1 and 3 classes it has 7,831,584 parameters.

    Raises
    ------
    EdgeRuntimeError
        pytorchcv does not know the architecture, or it has no ``features``.
    """
    declare_missing_operators()
    from fastai.vision.learner import create_head
    from pytorchcv.model_provider import get_model

    try:
        network = get_model(architecture, pretrained=False)
    except (ValueError, KeyError) as error:
        raise EdgeRuntimeError(
            f"pytorchcv has no model called {architecture!r}",
            expected="a name such as efficientnet_b1",
            remedy="see pytorchcv's list of models",
        ) from error
    body = getattr(network, "features", None)
    if not isinstance(body, nn.Sequential):
        raise EdgeRuntimeError(
            f"{architecture} has no sequential feature extractor", expected="a network with `features`"
        )
    # The head pools by itself, and the heat map needs the map before pooling.
    if hasattr(body, "final_pool"):
        del body.final_pool
    head = create_head(_feature_channels(body), classes, ps=head_dropout)
    return nn.Sequential(body, head)


def count_parameters(model: nn.Module) -> int:
    """Return the number of trainable and frozen parameters (buffers not counted)."""
    return sum(p.numel() for p in model.parameters())


@torch.no_grad()
def _feature_channels(body: nn.Module) -> int:
    training = body.training
    features: Tensor = body.eval()(torch.zeros(1, 3, 96, 96))
    body.train(training)
    return int(features.shape[1])
