"""The gate: how unlike a frontal chest radiograph the picture is, computed inside the deployable graph.

It looks at a feature map from the middle of the network, where the chest's layout is still there: behind the
classifier's last layers most of what tells a lateral view or a page of text from a frontal radiograph is gone. Two
tests, each with a limit set on real frontal radiographs (:mod:`export.gate_fitting`):

``kind``
    A multinomial logistic regression: a frontal radiograph as it is, or one of the kinds it was shown (inverted,
    turned, a lateral view, something else). A plain classifier on the network's features is what did best in the
    comparison of Cao et al. (2020, arXiv:2007.04250).
``distance``
    Mahalanobis distance from the training radiographs (Lee et al. 2018; on a middle layer Çallı et al. 2019, FRODO),
    for pictures like nothing it was shown.

Everything is an ordinary forward computation: no host repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["Gate", "GateParameters", "TappedBody", "gate_features"]

_STRIDE = 16
"""The map that is looked at: the last of at least 1 / _STRIDE of the picture's edge."""
_KIND_LIMIT, _DISTANCE_LIMIT = 8.0, 50.0
"""Standardised features are cut here, so that a picture unlike anything seen cannot outvote itself."""
_MOST = 1e4

Floats = NDArray[np.float64]


class TappedBody(nn.Sequential):
    """A feature extractor that returns its last feature map and the one that the gate looks at.

    Modules keep their names: those of an ``nn.Sequential`` are taken over, any other module becomes ``whole`` and its
    last map is the gate's too.

    Parameters
    ----------
    body
        float [N, 3, S, S] -> [N, C, h, w]. Its modules are used, not copied.
    size
        S, to find the map: the last child's whose edge is at least S / 16, else the last.
    """

    tap: int

    def __init__(self, body: nn.Module, size: int) -> None:
        children = dict(body.named_children()) if type(body) is nn.Sequential else {"whole": body}
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)
        edges = self._edges(size)
        wide = [number for number, edge in enumerate(edges) if edge * _STRIDE >= size]
        self.tap = wide[-1] if wide else len(edges) - 1

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Float [N, 3, S, S] to the last map [N, C, h, w] and the gate's [N, C', h', w']."""
        tapped = x
        for number, child in enumerate(self):
            x = child(x)
            if number == self.tap:
                tapped = x
        return x, tapped

    def until_tap(self, x: Tensor) -> Tensor:
        """The gate's map alone, without running what lies behind it."""
        for child in list(self)[: self.tap + 1]:
            x = child(x)
        return x

    @torch.no_grad()
    def _edges(self, size: int) -> list[int]:
        """Edge of each child's map; 0 of what is no map."""
        x = torch.zeros(1, 3, size, size)
        found = []
        for child in self:
            x = child(x)
            found.append(min(x.shape[2:]) if x.ndim == 4 else 0)
        return found


def gate_features(tapped: Tensor) -> Tensor:
    """Return what the gate looks at of a map, float [N, C', h, w]: means of its quarters and deviations, [N, 5 C'].

    The quarters meet, or share a row or column where there is an odd number of them.
    """
    height, width = (int(edge) for edge in tapped.shape[2:])
    rows = (slice(0, (height + 1) // 2), slice(height // 2, height))
    columns = (slice(0, (width + 1) // 2), slice(width // 2, width))
    quarters = [tapped[:, :, row, column].mean((2, 3)) for row in rows for column in columns]
    mean = tapped.mean((2, 3), keepdim=True)
    deviation = (tapped - mean).square().mean((2, 3)).sqrt()
    return torch.cat([*quarters, deviation], 1)


@dataclass(frozen=True)
class GateParameters:
    """What fitting leaves.

    Attributes
    ----------
    centre, scale
        float64 [F]: features are standardised by them.
    directions
        float64 [K, F], orthonormal rows: principal directions of the training radiographs' standardised features.
    deviations
        float64 [K]: along each.
    rest
        Variance of each of the other F - K directions.
    weights, bias
        float64 [1 + R, F] and [1 + R]: the regression; row 0 is a frontal radiograph as it is, row r the reason r - 1.
    limits
        Of ``distance`` and ``kind``: a score at its limit is refused.
    reasons
        R reason codes.
    """

    centre: Floats
    scale: Floats
    directions: Floats
    deviations: Floats
    rest: float
    weights: Floats
    bias: Floats
    limits: tuple[float, float]
    reasons: tuple[str, ...]


class Gate(nn.Module):
    """Score a picture: below 1 it is let through, from 1 on it is refused, and the whole part says why.

    A score below 1 is the larger share that either test has of its limit. A score s from 1 on is refused for
    ``reasons[int(s) - 1]``; the fraction tells how far the limit is exceeded (0 at the limit, towards 1 far beyond).
    So one number carries verdict and reason to every host.
    """

    centre: Tensor
    scale: Tensor
    directions: Tensor
    deviations: Tensor
    weights: Tensor
    bias: Tensor
    limits: Tensor

    def __init__(self, parameters: GateParameters) -> None:
        super().__init__()
        self.reasons = parameters.reasons
        self.rest = parameters.rest
        self.register_buffer("limits", torch.tensor(parameters.limits))
        for name in ("centre", "scale", "directions", "deviations", "weights", "bias"):
            self.register_buffer(name, torch.from_numpy(np.ascontiguousarray(getattr(parameters, name))).float())

    def forward(self, tapped: Tensor) -> Tensor:
        """Score pictures by their feature map, float [N, C', h, w]: float [N], at least 0, below 1 + R."""
        return self.score(gate_features(tapped))

    def score(self, features: Tensor) -> Tensor:
        """Score pictures by what :func:`gate_features` gives of them, float [N, F]."""
        tests, kinds = self.measure(features)
        shares = [tests[:, :1] / self.limits[:1], 2 * torch.sigmoid(tests[:, 1:] - self.limits[1:])]
        far = torch.cat(shares, 1).amax(1)
        reason = kinds[:, 1:].argmax(1).to(far.dtype)
        refused = reason + 2 - 1 / far.clamp(min=1.0, max=_MOST)
        return torch.where(far < 1, far, refused)

    def measure(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two tests' scores, float [N, 2], and the regression's logits, float [N, 1 + R].

        The first is the distance for each dimension, about 1 for what it was fitted on; the second the log odds of
        "any other kind" against "frontal radiograph as it is".
        """
        standard = (features - self.centre) / self.scale
        far = standard.clamp(-_DISTANCE_LIMIT, _DISTANCE_LIMIT)
        # Sums of products, not matrix products: quantizers leave them in float.
        along = (far.unsqueeze(1) * self.directions).sum(2)
        beside = (far.square().sum(1) - along.square().sum(1)).clamp(min=0.0) / self.rest
        distance = (((along / self.deviations).square().sum(1) + beside) / features.shape[1]).sqrt()
        near = standard.clamp(-_KIND_LIMIT, _KIND_LIMIT)
        kinds = (near.unsqueeze(1) * self.weights).sum(2) + self.bias
        odds = torch.logsumexp(kinds[:, 1:], 1) - kinds[:, 0]
        return torch.stack([distance, odds], 1), kinds
