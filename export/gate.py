"""The gate: how unlike a frontal chest radiograph the picture is, computed inside the deployable graph.

Three tests, each with a limit that was set on real frontal radiographs (:mod:`export.gate_fitting`):

``picture``
    Mahalanobis distance of the picture's small version (standardised grey, a few hundred pixels) from the
    training radiographs, in their principal subspace and beside it.
``embedding``
    The same for the network's embedding (Lee et al., 2018, with one Gaussian).
``kind``
    A multinomial logistic regression on both subspaces' coordinates: a frontal radiograph as it is, or one
    of the kinds it was shown: inverted, turned, a lateral view, something else.

Everything is an ordinary forward computation: no host repeats it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train.preprocessing import squish

__all__ = ["THUMBNAIL", "Gate", "GateParameters", "Subspace", "kind_features", "thumbnail"]

THUMBNAIL = 24
"""Edge of the small version, in pixels: anatomy's coarse layout; no hospital's fine grain, no letters."""
_FEATURE_LIMIT = 8.0
"""Standardised features are cut here, so that a picture unlike anything seen cannot outvote itself."""
_MOST = 1e4

Floats = NDArray[np.float64]


def thumbnail(grey: Tensor) -> Tensor:
    """Return the small version, standardised: float [N, THUMBNAIL ** 2], mean 0, deviation 1 (0 of an even grey).

    Parameters
    ----------
    grey
        float [N, 1, S, S] in 0..255, as the graph resized it.
    """
    x = squish(grey, THUMBNAIL).flatten(1)
    x = x - x.mean(1, keepdim=True)
    return x / x.square().mean(1, keepdim=True).sqrt().clamp(min=1.0)


@dataclass(frozen=True)
class Subspace:
    """A Gaussian with a low-rank covariance: principal directions, and one variance for all the rest.

    Attributes
    ----------
    mean
        float64 [D].
    directions
        float64 [K, D], orthonormal rows divided by the standard deviation along each: ``z = directions @ (x - mean)``.
    deviations
        float64 [K].
    rest
        Variance of each of the other D - K directions.
    """

    mean: Floats
    directions: Floats
    deviations: Floats
    rest: float


@dataclass(frozen=True)
class GateParameters:
    """What fitting leaves: two subspaces, the regression, three limits, and what each kind is refused as.

    Attributes
    ----------
    picture, embedding
        Of the small version and of the embedding.
    centre, scale
        float64 [F]: the features of the regression are standardised by them.
    weights, bias
        float64 [1 + R, F] and [1 + R]: the regression; row 0 is a frontal radiograph as it is, row r the reason r - 1.
    limits
        Of ``picture``, ``embedding``, ``kind``: a score at its limit is refused.
    reasons
        R reason codes.
    """

    picture: Subspace
    embedding: Subspace
    centre: Floats
    scale: Floats
    weights: Floats
    bias: Floats
    limits: tuple[float, float, float]
    reasons: tuple[str, ...]


class Gate(nn.Module):
    """Score a picture: below 1 it is let through, from 1 on it is refused, and the whole part says why.

    A score below 1 is the largest share that any of the three tests has of its limit. A score s from 1 on
    is refused for ``reasons[int(s) - 1]``; the fraction tells how far the limit is exceeded (0 at the limit,
    towards 1 far beyond). So one number carries verdict and reason to every host.
    """

    def __init__(self, parameters: GateParameters) -> None:
        super().__init__()
        self.picture = _Distance(parameters.picture)
        self.embedding = _Distance(parameters.embedding)
        self.reasons = parameters.reasons
        self.register_buffer("limits", torch.tensor(parameters.limits))
        for name in ("centre", "scale", "weights", "bias"):
            self.register_buffer(name, torch.from_numpy(getattr(parameters, name)).float())

    limits: Tensor
    centre: Tensor
    scale: Tensor
    weights: Tensor
    bias: Tensor

    def forward(self, grey: Tensor, embedding: Tensor) -> Tensor:
        """Score pictures.

        Parameters
        ----------
        grey
            float [N, 1, S, S] in 0..255, as the graph resized it.
        embedding
            float [N, D] of the same pictures.

        Returns
        -------
        Tensor
            float [N], at least 0, below 1 + R.
        """
        return self.score(thumbnail(grey), embedding)

    def score(self, small: Tensor, embedding: Tensor) -> Tensor:
        """Score small versions, float [N, P] of :func:`thumbnail`, with their embeddings, float [N, D]."""
        tests, kinds = self.measure(small, embedding)
        shares = [tests[:, :2] / self.limits[:2], 2 * torch.sigmoid(tests[:, 2:] - self.limits[2:])]
        far = torch.cat(shares, 1).amax(1)
        reason = kinds[:, 1:].argmax(1).to(far.dtype)
        refused = reason + 2 - 1 / far.clamp(min=1.0, max=_MOST)
        return torch.where(far < 1, far, refused)

    def measure(self, small: Tensor, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Return the three tests' scores, float [N, 3], and the regression's logits, float [N, 1 + R].

        The third score is the log odds of "any other kind" against "frontal radiograph as it is".
        """
        picture, z, off_z = self.picture(small)
        embedded, e, off_e = self.embedding(embedding)
        features = (kind_features(z, off_z, e, off_e) - self.centre) / self.scale
        features = features.clamp(-_FEATURE_LIMIT, _FEATURE_LIMIT)
        # Sums of products, not a matrix product: quantizers leave them in float.
        kinds = (features.unsqueeze(1) * self.weights).sum(2) + self.bias
        odds = torch.logsumexp(kinds[:, 1:], 1) - kinds[:, 0]
        return torch.stack([picture, embedded, odds], 1), kinds


class _Distance(nn.Module):
    """Mahalanobis distance from a :class:`Subspace`, per dimension: about 1 for what it was fitted on."""

    mean: Tensor
    directions: Tensor
    deviations: Tensor

    def __init__(self, subspace: Subspace) -> None:
        super().__init__()
        self.rest = subspace.rest
        for name in ("mean", "directions", "deviations"):
            self.register_buffer(name, torch.from_numpy(getattr(subspace, name)).float())

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For float [N, D] return distance [N], coordinates [N, K], and squared distance beside the subspace [N]."""
        centred = x - self.mean
        z = (centred.unsqueeze(1) * self.directions).sum(2)
        beside = centred.square().sum(1) - (z * self.deviations).square().sum(1)
        beside = beside.clamp(min=0.0) / self.rest
        return ((z.square().sum(1) + beside) / x.shape[1]).sqrt(), z, beside


def kind_features(z: Tensor, off_z: Tensor, e: Tensor, off_e: Tensor) -> Tensor:
    """What the regression looks at: coordinates in both subspaces, the picture's squared, and both distances beside."""
    return torch.cat([z, z.square(), e, off_z.log1p().unsqueeze(1), off_e.log1p().unsqueeze(1)], 1)
