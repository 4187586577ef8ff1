"""From grey pixels to the network's input: written once, used by training and held by the exported graph."""

from __future__ import annotations

from math import inf, isfinite
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "AnyNormalization", "Normalization", "NormalizationKind", "squish"]

NormalizationKind = Literal["imagenet", "per_image"]
"""What a recipe can choose."""
AnyNormalization = Literal["imagenet", "per_image", "mean_std"]
"""What the graph can hold: also a mean and standard deviation of a classifier that was trained elsewhere."""
Triple = tuple[float, float, float]
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def squish(image: Tensor, size: int) -> Tensor:
    """Resize to ``size`` x ``size`` without keeping the aspect, by antialiased bilinear interpolation.

    Parameters
    ----------
    image
        uint8 or float [N, 1, H, W], values in 0..255.
    size
        Edge of the result, in pixels.

    Returns
    -------
    Tensor
        float32 [N, 1, size, size], values in 0..255. Agrees with Pillow's ``BILINEAR`` to under one grey level.
    """
    return functional.interpolate(
        image.float(), size=(size, size), mode="bilinear", align_corners=False, antialias=True
    )


class Normalization(nn.Module):
    """Scale grey values 0..255 to what the network was trained on.

    ``imagenet`` divides by 255, repeats the grey value on three channels, subtracts ImageNet's mean and divides by its
    standard deviation (as pretrained weights expect). ``per_image`` subtracts each image's own mean and divides by its
    own standard deviation (floored at one grey level), then repeats it on three channels. ``mean_std`` does as
    ``imagenet`` does, with a mean and standard deviation of its own.

    Input float [N, 1, S, S] in 0..255; output float [N, 3, S, S].

    Parameters
    ----------
    kind
        As above.
    mean, std
        Of ``mean_std`` alone: for each of three channels, of grey values in 0..1; ``std`` above 0.

    Raises
    ------
    ValueError
        Another kind; a mean or standard deviation that the kind has not, lacks, or that is no number above 0.
    """

    def __init__(self, kind: AnyNormalization, mean: Triple | None = None, std: Triple | None = None) -> None:
        super().__init__()
        if kind not in get_args(AnyNormalization):
            raise ValueError(f"unknown normalization {kind!r}; expected one of {get_args(AnyNormalization)}")
        if (kind == "mean_std") != (mean is not None) or (kind == "mean_std") != (std is not None):
            raise ValueError(f"normalization {kind!r} with mean {mean} and std {std}; mean_std alone has them")
        if mean is None or std is None:
            mean, std = IMAGENET_MEAN, IMAGENET_STD
        if len(mean) != 3 or len(std) != 3 or not all(isfinite(m) for m in mean) or not all(0 < s < inf for s in std):
            raise ValueError(f"mean {mean} and std {std} are not three numbers each, std above 0")
        self.kind = kind
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1) * 255.0, persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1) * 255.0, persistent=False)

    mean: Tensor
    std: Tensor

    def forward(self, image: Tensor) -> Tensor:
        """Normalise float [N, 1, S, S] in 0..255 to float [N, 3, S, S]."""
        if self.kind != "per_image":
            return (image - self.mean) / self.std
        centred = image - image.mean(dim=(1, 2, 3), keepdim=True)
        # A uniform image has no contrast: the floor of one grey level keeps it at zero instead of NaN.
        deviation = centred.square().mean(dim=(1, 2, 3), keepdim=True).sqrt().clamp(min=1.0)
        return (centred / deviation).expand(-1, 3, -1, -1)
