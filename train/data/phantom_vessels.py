"""The branches of the lungs' vessels and bronchi, and what may lie on the chest: monitoring wires."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from train.data.phantom_chest import lung_interval, solid_intervals
from train.data.phantom_patient import Array, Patient, Positioning, Projection
from train.data.phantom_tubes import line, splat, stations

__all__ = ["Tree", "build_tree", "tree_length", "wires"]


@dataclass(frozen=True)
class Tree:
    """Branches of the lungs' vessels (and of the bronchi beside them): straight pieces, float64."""

    start: Array
    """[N, 3]."""
    end: Array
    """[N, 3]."""
    radius: Array
    """[N], cm."""
    generation: NDArray[np.int64]


def build_tree(patient: Patient, generations: int = 7) -> Tree:
    """Grow the vessels of both lungs from the hila, thinner and more crooked from branch to branch."""
    s = patient.scale
    rng = np.random.default_rng([patient.seed, 1])
    angles = np.linspace(-1.25, 1.35, 9)
    starts, directions, radii = [], [], []
    for sign, level in ((-1.0, 0.0), (1.0, -0.9)):
        for angle in angles:
            turn = angle + 0.15 * rng.standard_normal()
            starts.append([sign * 3.1 * s, level * s + 1.3 * s * np.sin(turn), 1.5 * rng.standard_normal()])
            directions.append([sign * np.cos(turn), np.sin(turn) * 1.1, 0.45 * rng.standard_normal()])
            radii.append(0.40 * s * (0.8 + 0.4 * rng.random()))
    start, direction, radius = np.array(starts), np.array(directions), np.array(radii)
    pieces = []
    for generation in range(generations):
        direction = direction / np.sqrt((direction**2).sum(1, keepdims=True))
        length = (2.9 * 0.86**generation) * s * (0.7 + 0.6 * rng.random(len(start)))
        end = start + direction * length[:, None]
        pieces.append((start, end, radius, np.full(len(start), generation, dtype=np.int64)))
        spread = 0.42 + 0.05 * generation
        start = np.repeat(end, 2, axis=0)
        swing = spread * rng.standard_normal((len(end), 3))
        direction = np.stack([direction + swing, direction - swing], axis=1).reshape(-1, 3)
        radius = np.repeat(radius, 2) * 0.74 * (0.85 + 0.3 * rng.random(len(start)))
    return Tree(*(np.concatenate([piece[k] for piece in pieces]) for k in range(4)))


def tree_length(
    tree: Tree, patient: Patient, positioning: Positioning, projection: Projection, scale: float = 1.0
) -> Array:
    """Length of every ray in the branches (their radius times `scale`) that lie in aerated lung, cm."""
    total = np.zeros((projection.rows, projection.columns))
    step = 0.8 * projection.pitch
    length = np.sqrt(((tree.end - tree.start) ** 2).sum(1))
    for low, high in ((0.0, 0.06), (0.06, 0.11), (0.11, 0.19), (0.19, 9.0)):
        chosen = np.flatnonzero((tree.radius >= low) & (tree.radius < high))
        if not len(chosen):
            continue
        count = np.maximum(np.ceil(length[chosen] / step).astype(np.int64), 1)
        owner = np.repeat(chosen, count)
        order = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        t = (order + 0.5) / np.repeat(count, count)
        p = tree.start[owner] + (tree.end - tree.start)[owner] * t[:, None]
        x, y, z = p[:, 0], p[:, 1], p[:, 2]
        near, far = lung_interval(patient, x[:, None], y[:, None])
        inside = (z > near[:, 0] + 0.2) & (z < far[:, 0] - 0.2)
        for lo, hi in solid_intervals(patient, positioning, x[:, None], y[:, None]):
            inside &= ~((z > lo[:, 0]) & (z < hi[:, 0]))
        r = tree.radius[owner] * scale
        volume = np.pi * r**2 * length[owner] / np.repeat(count, count) * inside
        layer = splat(projection, x, y, z, volume)
        sigma = 0.55 * scale * float(np.mean(tree.radius[chosen])) / projection.pitch
        total += ndimage.gaussian_filter(layer, max(sigma, 0.35), truncate=3.0)
    return total


def wires(patient: Patient, projection: Projection, seed: int) -> Array:
    """Monitoring electrodes and their leads on the chest wall, in units of attenuation."""
    s = patient.scale
    rng = np.random.default_rng([seed, 11])
    front = patient.half_depth + patient.wall_depth
    points, volumes = [], []
    for x, y in ((-9.5, -8.5), (9.0, -8.0), (9.5, 6.5)):
        at = np.array([x * s, y * s, front]) + rng.standard_normal(3) * [0.8, 0.8, 0.0]
        stop = np.array([(3.0 + 3.0 * rng.random()) * s, 19.0 * s, front])
        bend = 0.5 * (at + stop) + rng.standard_normal(3) * [3.0, 1.5, 0.0]
        lead = line(tuple(at), tuple(bend), tuple(stop))
        middle, step = stations(lead, 0.5 * projection.pitch)
        points.append(middle)
        volumes.append(np.full(len(middle), 0.006 * 2.4 * step))
        grid = np.mgrid[-5:6, -5:6].reshape(2, -1).T * 0.1
        grid = grid[(grid**2).sum(1) < 0.24]
        points.append(np.concatenate([at[None, :2] + grid, np.full((len(grid), 1), front)], axis=1))
        volumes.append(np.full(len(grid), 0.55 * 0.01))
    xyz = np.concatenate(points)
    drawn = splat(projection, xyz[:, 0], xyz[:, 1], xyz[:, 2], np.concatenate(volumes))
    return np.asarray(ndimage.gaussian_filter(drawn, 0.5, truncate=3.0))
