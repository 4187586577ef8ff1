"""Tubes filled with points that are projected one by one: bones, vessels, bronchi, wires.

Every point carries a volume (cm^3). The sum over a pixel, divided by the pixel's area, is the length of the
ray in the tube; so a rib that runs along the ray at the chest wall turns dense there by itself, as on a film.
"""

from __future__ import annotations

import numpy as np

from train.data.phantom_patient import Array, Projection

__all__ = ["CORTEX", "SPONGY", "line", "splat", "stations", "tube"]

CORTEX = 0.36
"""Attenuation of cortical bone over that of soft tissue, 1/cm, at about 70 keV."""
SPONGY = 0.075
"""The same of trabecular bone."""


def splat(projection: Projection, x: Array, y: Array, z: Array, volume: Array) -> Array:
    """Sum points of the given volumes (any unit times cm^3) into lengths per ray (unit times cm)."""
    row, column = projection.project(x, y, z)
    m = np.asarray(projection.magnification(z))
    weight = volume * m**2 / projection.pitch**2
    seen = (row > -1) & (row < projection.rows) & (column > -1) & (column < projection.columns) & (volume > 0)
    row, column, weight = row[seen] + 1.0, column[seen] + 1.0, weight[seen]
    top, left = row.astype(np.int64), column.astype(np.int64)
    down, right = row - top, column - left
    across = projection.columns + 2  # one pixel of margin all around
    size = (projection.rows + 2) * across
    corner = top * across + left
    low = weight * down
    high = weight - low
    total = np.zeros(size)
    for shift, share in (
        (0, high - high * right),
        (1, high * right),
        (across, low - low * right),
        (across + 1, low * right),
    ):
        total += np.bincount(corner + shift, share, size)
    return total.reshape(projection.rows + 2, across)[1:-1, 1:-1]


def stations(points: Array, step: float) -> tuple[Array, float]:
    """Resample a polyline [N, 3] at equal steps; returns the stations [M, 3] and the true step."""
    lengths = np.sqrt(((points[1:] - points[:-1]) ** 2).sum(1))
    along = np.concatenate([[0.0], np.cumsum(lengths)])
    count = max(int(np.ceil(along[-1] / step)), 2)
    at = (np.arange(count) + 0.5) * (along[-1] / count)
    return np.stack([np.interp(at, along, points[:, k]) for k in range(3)], axis=1), along[-1] / count


def tube(
    points: Array,
    half_height: float | Array,
    half_thickness: float,
    cortex: float,
    projection: Projection,
    out: Array,
) -> tuple[Array, Array]:
    """Points [M, 3] and attenuation volumes [M] of a bone: an ellipse of spongy bone in a cortical shell.

    `out` is the direction of the thin axis at every station of `points` ([N, 3]).
    """
    middle, step = stations(points, projection.pitch)
    at = np.linspace(0.0, 1.0, len(points))
    to = np.linspace(0.0, 1.0, len(middle))
    thin = np.stack([np.interp(to, at, out[:, k]) for k in range(3)], axis=1)
    high = np.interp(to, at, np.broadcast_to(half_height, at.shape))
    tangent = np.gradient(middle, axis=0)
    tangent /= np.sqrt((tangent**2).sum(1, keepdims=True))
    thin = thin - (thin * tangent).sum(1, keepdims=True) * tangent
    thin /= np.sqrt((thin**2).sum(1, keepdims=True)) + 1e-9
    wide = np.cross(tangent, thin)
    row, column = projection.project(middle[:, 0], middle[:, 1], middle[:, 2])
    margin = 3.0 / projection.pitch
    seen = (np.abs(row - projection.rows / 2) < projection.rows / 2 + margin) & (
        np.abs(column - projection.columns / 2) < projection.columns / 2 + margin
    )
    middle, high, thin, wide = middle[seen], high[seen], thin[seen], wide[seen]
    around = max(int(np.ceil(3.0 * float(np.median(half_height)) / projection.pitch)), 8)
    inner = 1.0 - cortex / half_thickness
    rings = [(0.5 * (1.0 + inner), 1.0 - inner**2, CORTEX, around)]
    for k in range(2):
        lo, hi = inner * k / 2, inner * (k + 1) / 2
        rings.append((0.5 * (lo + hi), hi**2 - lo**2, SPONGY, max(around * (k + 1) // 3, 4)))
    points_out, volumes = [], []
    turn = np.arange(len(middle)) * 2.399963229728653  # the golden angle: no streaks along the bone
    for radius, share, density, count in rings:
        psi = turn[:, None] + np.arange(count)[None, :] * (2.0 * np.pi / count)
        offset = (high[:, None] * radius * np.cos(psi))[..., None] * wide[:, None, :]
        offset += (half_thickness * radius * np.sin(psi))[..., None] * thin[:, None, :]
        points_out.append((middle[:, None, :] + offset).reshape(-1, 3))
        area = np.pi * high * half_thickness * share * density * step / count
        volumes.append(np.repeat(area, count))
    return np.concatenate(points_out), np.concatenate(volumes)


def line(*points: tuple[float, float, float]) -> Array:
    """A smooth course through a few points (a quadratic through three, else straight pieces), [N, 3]."""
    p = np.array(points)
    at = np.linspace(0.0, 1.0, len(p))
    to = np.linspace(0.0, 1.0, 40)
    if len(p) == 3:
        return np.stack([np.polyval(np.polyfit(at, p[:, k], 2), to) for k in range(3)], axis=1)
    return np.stack([np.interp(to, at, p[:, k]) for k in range(3)], axis=1)
