"""The training transforms, as fastai batch transforms: they run where the model runs, a whole batch at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from train.preprocessing import Normalization
from train.recipe import Augmentation
from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

from fastai.data.transforms import IntToFloatTensor  # noqa: E402
from fastai.torch_core import TensorImage  # noqa: E402
from fastai.vision.augment import (  # noqa: E402
    AffineCoordTfm,
    Contrast,
    PadMode,
    RandomErasing,
    Rotate,
    Zoom,
    affine_mat,
    setup_aug_tfms,
)
from fasttransform import Transform  # noqa: E402

__all__ = ["batch_transforms"]


def batch_transforms(augmentation: Augmentation, normalization: Normalization) -> list[Any]:
    """Build the batch pipeline for fastai's ``after_batch``.

    uint8 [B, 1, S, S] -> float32 [B, 3, S, S]. Geometry, contrast, noise and erasing apply to training batches
    only (``split_idx`` 0); scaling and normalisation to all.

    Parameters
    ----------
    augmentation
        The recipe's section.
    normalization
        The module that the exported graph holds too.
    """
    a = augmentation
    geometry: list[Any] = []
    if a.zoom_p > 0:
        geometry.append(Zoom(min_zoom=a.zoom_min, max_zoom=a.zoom_max, p=a.zoom_p, pad_mode=PadMode.Zeros))
    if a.rotate_degrees > 0:
        geometry.append(Rotate(max_deg=a.rotate_degrees, p=0.75, pad_mode=PadMode.Zeros))
    if a.shift > 0 or a.stretch > 0 or a.flip_p > 0:
        matrix = _ShiftStretchFlip(a.shift, a.stretch, a.flip_p)
        geometry.append(AffineCoordTfm(aff_fs=matrix, pad_mode=PadMode.Zeros))
    transforms: list[Any] = [IntToFloatTensor(), *setup_aug_tfms(geometry)]
    if a.contrast_p > 0:
        low, high = a.contrast_min, a.contrast_max

        def draw(x: Tensor) -> Tensor:
            return x.new_empty(x.size(0)).uniform_(low, high)

        transforms.append(Contrast(p=a.contrast_p, draw=draw))
    if a.noise > 0:
        transforms.append(_Noise(a.noise / 255.0))
    if a.erase_p > 0:
        transforms.append(RandomErasing(p=a.erase_p, max_count=1))
    for transform in transforms[1:]:
        transform.split_idx = 0
    return [*transforms, _Normalize(normalization)]


class _ShiftStretchFlip:
    """Affine matrices of a random shift, aspect change and left-right flip, for fastai's ``AffineCoordTfm``."""

    def __init__(self, shift: float, stretch: float, flip_p: float) -> None:
        self.shift, self.stretch, self.flip_p = shift, stretch, flip_p

    def __call__(self, x: Tensor) -> Tensor:
        n = x.size(0)

        def uniform(limit: float) -> Tensor:
            return x.new_empty(n).uniform_(-limit, limit)

        flip = torch.where(torch.rand(n, device=x.device) < self.flip_p, -1.0, 1.0)
        sx, sy = 1 + uniform(self.stretch), 1 + uniform(self.stretch)
        zero = x.new_zeros(n)
        # fastai's coordinates run from -1 to 1: a shift by the whole edge is 2.
        matrix: Tensor = affine_mat(flip * sx, zero, 2 * uniform(self.shift), zero, sy, 2 * uniform(self.shift))
        return matrix


class _Noise(Transform):  # type: ignore[misc] # fasttransform is untyped
    order = 70

    def __init__(self, sigma: float) -> None:
        super().__init__()
        self.sigma = sigma

    def encodes(self, x: TensorImage) -> TensorImage:
        return x + torch.randn_like(x) * self.sigma


class _Normalize(Transform):  # type: ignore[misc] # fasttransform is untyped
    """Our normalisation as a fastai transform: 0..1 [B, 1, S, S] to the network's [B, 3, S, S]."""

    order = 99

    def __init__(self, module: Normalization) -> None:
        super().__init__()
        self.module = module

    def encodes(self, x: TensorImage) -> TensorImage:
        self.module.to(x.device)
        # A copy of its own: what follows (erasing) writes into it, and three channels share one memory.
        return TensorImage(self.module(x.as_subclass(torch.Tensor).float() * 255.0).contiguous())
