"""Grad-CAM in closed form: a classifier's head that answers with its own gradient, without autograd.

Grad-CAM (Selvaraju et al., 2017) weights the feature map's channels with the gradient of a class's logit,
averaged over positions. Behind global pooling and a piecewise linear head that gradient is a product of the
head's own weights and the ReLU's mask, so it is an ordinary forward computation that every runtime can do.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from export.errors import ExportError

__all__ = ["GradCamHead"]

_DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.AlphaDropout, nn.FeatureAlphaDropout)
_EXPECTED = (
    "global pooling (max and average concatenated, average, or max), Flatten, then any of "
    "BatchNorm1d, Dropout, Linear, ReLU, ending in a Linear"
)


class GradCamHead(nn.Module):
    """A copy of a classifier's head that returns logits, Grad-CAM heat maps and the embedding.

    Parameters
    ----------
    head
        The head behind the feature extractor, as fastai's ``create_head`` builds it: global pooling,
        flattening, and a chain of batch norm, dropout, linear layers and ReLU that ends in a linear layer.
        It is copied, not changed. Dropout and flattening do not reach the copy.

    Raises
    ------
    ExportError
        The head holds another kind of layer; the message names it.
    """

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        leaves = list(_leaves(head, "head"))
        if not leaves:
            raise ExportError("the classifier's head is empty", expected=_EXPECTED)
        self.pools = _pool_kinds(*leaves[0])
        layers: list[nn.Module] = []
        for name, module in leaves[1:]:
            if isinstance(module, (*_DROPOUTS, nn.Identity)) or _is_flatten(module):
                continue
            if isinstance(module, nn.ReLU):
                layers.append(nn.ReLU())  # not in place: the mask is read afterwards
            elif isinstance(module, nn.Linear):
                layers.append(copy.deepcopy(module))
            elif isinstance(module, nn.BatchNorm1d) and module.running_var is not None:
                layers.append(_Affine(module))
            else:
                raise ExportError(
                    "the heat map has no closed form behind this head",
                    got=f"{name}: {type(module).__name__}",
                    expected=_EXPECTED,
                    remedy="train with the head of `train.model.build_classifier`, or add a rule to export/gradcam.py",
                )
        if not layers or not isinstance(layers[-1], nn.Linear):
            raise ExportError(
                "the classifier's head does not end in a Linear layer",
                got=f"{leaves[-1][0]}: {type(leaves[-1][1]).__name__}",
                expected=_EXPECTED,
            )
        self.hidden = nn.ModuleList(layers[:-1])
        self.last: nn.Linear = layers[-1]
        self.eval()

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Answer for a feature map.

        Parameters
        ----------
        features
            float [N, K, h, w]: the feature extractor's last map.

        Returns
        -------
        logits
            float [N, C].
        heatmap
            float [N, C, h, w] in 0..1: for each class, what speaks for it; its own maximum is 1, all zero
            where nothing speaks for the class.
        embedding
            float [N, D]: the activations that enter the last linear layer.
        """
        pooled = [features.amax((2, 3)) if kind == "max" else features.mean((2, 3)) for kind in self.pools]
        x = torch.cat(pooled, 1) if len(pooled) > 1 else pooled[0]
        masks: list[Tensor | None] = []
        for layer in self.hidden:
            x = layer(x)
            masks.append((x > 0).to(x.dtype) if isinstance(layer, nn.ReLU) else None)
        embedding = x
        logits = self.last(x)
        heatmap = _class_maps(features, self._channel_weights(masks, len(pooled)))
        return logits, heatmap, embedding

    def _channel_weights(self, masks: list[Tensor | None], pools: int) -> Tensor:
        """d logit / d pooled features, [N or 1, C, K], the pools' shares added up.

        Both pools give a channel the same spatially averaged gradient: average pooling spreads g / (h w)
        over every position, max pooling puts g on one of them. The common factor 1 / (h w) falls out when
        the map is normalised.
        """
        # As columns, [N or 1, D, C]: with the weight as the left factor OpenVINO keeps one copy of it, not
        # two.
        gradient = self.last.weight.t().unsqueeze(0)
        for layer, mask in zip(reversed(self.hidden), reversed(masks), strict=True):
            if mask is not None:
                gradient = gradient * mask.unsqueeze(2)
            elif isinstance(layer, _Affine):
                gradient = gradient * layer.scale.unsqueeze(1)
            else:  # a linear layer, perhaps with weights stored as int8
                gradient = torch.matmul(cast("nn.Linear", layer).weight.t(), gradient)
        shares = gradient.chunk(pools, dim=1)
        summed = shares[0] + shares[1] if pools == 2 else shares[0]
        return summed.transpose(1, 2)


class _Affine(nn.Module):
    """A batch norm in evaluation mode: x * scale + shift, float [N, K]."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm1d) -> None:
        super().__init__()
        assert norm.running_var is not None and norm.running_mean is not None
        scale = (norm.running_var.double() + norm.eps).rsqrt()
        if norm.affine:
            scale = scale * norm.weight.double()
        shift = -norm.running_mean.double() * scale
        if norm.affine:
            shift = shift + norm.bias.double()
        self.register_buffer("scale", scale.detach().float())
        self.register_buffer("shift", shift.detach().float())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


def _class_maps(features: Tensor, weights: Tensor) -> Tensor:
    """ReLU of the weighted sum of the channels, each class's map scaled to a maximum of 1."""
    n, channels, height, width = features.shape
    maps = torch.matmul(weights, features.reshape(n, channels, height * width)).relu()
    peak = maps.amax(2, keepdim=True)
    maps = maps / torch.where(peak > 0, peak, torch.ones_like(peak))
    # A runtime that multiplies by the reciprocal can end a rounding step above 1.
    return maps.clamp(max=1.0).reshape(n, -1, height, width)


def _leaves(module: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential):
        for child_name, child in module.named_children():
            yield from _leaves(child, f"{name}.{child_name}")
    else:
        yield name, module


def _pool_kinds(name: str, module: nn.Module) -> tuple[str, ...]:
    """The pools in the order of their concatenation; fastai's AdaptiveConcatPool2d puts the maximum first."""
    kinds: tuple[str, ...] = ()
    if isinstance(module, nn.AdaptiveAvgPool2d) and module.output_size in (1, (1, 1)):
        kinds = ("average",)
    elif isinstance(module, nn.AdaptiveMaxPool2d) and module.output_size in (1, (1, 1)):
        kinds = ("max",)
    # By name: importing fastai for one class takes seconds.
    elif type(module).__name__ == "AdaptiveConcatPool2d" and getattr(module, "size", None) in (1, (1, 1)):
        kinds = ("max", "average")
    if not kinds:
        raise ExportError(
            "the classifier's head does not begin with global pooling",
            got=f"{name}: {type(module).__name__}",
            expected=_EXPECTED,
        )
    return kinds


def _is_flatten(module: nn.Module) -> bool:
    if isinstance(module, nn.Flatten):
        return module.start_dim == 1 and module.end_dim == -1
    return type(module).__name__ == "Flatten" and type(module).__module__.startswith("fastai.")
