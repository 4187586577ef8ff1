"""Run a classifier over a split: logits and embeddings, of pixels that a check may change on the way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from edge_runtime.errors import EdgeRuntimeError
from train.preprocessing import Normalization, NormalizationKind
from train.progress import track

__all__ = ["Answers", "Classifier", "EvaluationError", "tta_logits"]

Change = Callable[[Tensor], Tensor]
"""float [N, 1, S, S] in 0..255 -> the same shape."""

_TTA_ZOOMS = (1.0, 1.05, 1.1)


class EvaluationError(EdgeRuntimeError):
    """A run cannot be evaluated on this data, or the report cannot be written."""


@dataclass(frozen=True)
class Answers:
    """What a classifier says of N radiographs."""

    logits: NDArray[np.float64]
    """[N, C], before temperature."""
    embeddings: NDArray[np.float32]
    """[N, D], the activations that enter the last linear layer, as the exported graph gives them."""


class Classifier:
    """A run's classifier on a device, fed from the image cache.

    Parameters
    ----------
    model
        ``[body, head]`` in evaluation mode.
    normalization
        The run's kind.
    device
        Where to compute.
    batch
        Radiographs at a time.
    """

    def __init__(
        self,
        model: nn.Sequential,
        normalization: NormalizationKind | Normalization,
        device: torch.device,
        batch: int = 32,
    ) -> None:
        self.body, self.head = model.to(device).eval()
        if not isinstance(normalization, Normalization):
            normalization = Normalization(normalization)
        self.normalization = normalization.to(device)
        self.device = device
        self.batch = batch
        linear = [module for module in self.head.modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise EvaluationError("the classifier's head has no linear layer: there is no embedding to look at")
        self._last = linear[-1]

    @torch.no_grad()
    def answer(self, images: NDArray[np.uint8], what: str, change: Change | None = None) -> Answers:
        """Answer for radiographs.

        Parameters
        ----------
        images
            uint8 [N, S, S], N > 0, may be memory-mapped.
        what
            For the progress bar.
        change
            Applied to the pixels before normalization: a mask, a flip.
        """
        seen: list[Tensor] = []
        hook = self._last.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        logits = []
        try:
            starts = range(0, len(images), self.batch)
            for start in track(starts, what, len(starts)):
                pixels = self.pixels(images[start : start + self.batch])
                if change is not None:
                    pixels = change(pixels)
                logits.append(self.head(self.body(self.normalization(pixels))).double().cpu().numpy())
                seen[-1] = seen[-1].float().cpu()
        finally:
            hook.remove()
        values = np.concatenate(logits)
        if not np.isfinite(values).all():
            raise EvaluationError(
                "the classifier answers with numbers that are not finite",
                got=f"{int((~np.isfinite(values)).any(axis=1).sum())} of {len(values)} radiographs",
                remedy="train again: the checkpoint is not usable",
            )
        return Answers(values, torch.cat(seen).numpy())

    def pixels(self, images: NDArray[np.uint8]) -> Tensor:
        """Return uint8 [N, S, S] as float [N, 1, S, S] on the device."""
        return torch.from_numpy(np.array(images))[:, None].to(self.device).float()

    def grad_cam(self, image: NDArray[np.uint8], classes: Sequence[int]) -> NDArray[np.float32]:
        """Grad-CAM (Selvaraju et al., 2017) by autograd.

        Parameters
        ----------
        image
            uint8 [S, S].
        classes
            K class indices.

        Returns
        -------
        NDArray
            float32 [K, h, w] in 0..1; a map's own maximum is 1, all zero where nothing speaks for the class.
        """
        maps = []
        with torch.enable_grad():
            features = self.body(self.normalization(self.pixels(image[None]))).detach().requires_grad_(True)
            logits = self.head(features)[0]
            for index in classes:
                (gradient,) = torch.autograd.grad(logits[index], features, retain_graph=True)
                weighted = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1)[0].relu().detach()
                peak = weighted.max()
                maps.append((weighted / peak if peak > 0 else weighted).float().cpu().numpy())
        return np.stack(maps)


def tta_logits(classifier: Classifier, images: NDArray[np.uint8], plain: NDArray[np.float64]) -> NDArray[np.float64]:
    """Average the logits of six views: as it is and mirrored, at zoom 1, 1.05 and 1.1 about the centre.

    Parameters
    ----------
    classifier, images
        As for :meth:`Classifier.answer`.
    plain
        Logits of the unchanged view, float64 [N, C]: not computed again.
    """
    total = plain.copy()
    views = [(zoom, flip) for zoom in _TTA_ZOOMS for flip in (False, True)][1:]
    for zoom, flip in views:
        name = f"test-time view: zoom {zoom:g}{', mirrored' if flip else ''}"
        total += classifier.answer(images, name, lambda x, z=zoom, f=flip: _view(x, z, f)).logits  # type: ignore[misc]
    averaged: NDArray[np.float64] = total / (len(views) + 1)
    return averaged


def _view(pixels: Tensor, zoom: float, flip: bool) -> Tensor:
    size = pixels.shape[-1]
    cut = round((size - size / zoom) / 2)
    if cut:
        pixels = pixels[..., cut : size - cut, cut : size - cut]
        pixels = functional.interpolate(pixels, size=(size, size), mode="bilinear", align_corners=False)
    return pixels.flip(-1) if flip else pixels
