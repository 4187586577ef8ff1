"""Opacities: fluid in the place of air, on a coarse grid in space that is summed along the rays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from train.data.phantom_chest import cage, lung_interval, solid_intervals
from train.data.phantom_patient import Array, Patient, Positioning, Projection, resample
from train.data.phantom_vessels import Tree, tree_length

__all__ = ["GRID", "build_opacity"]

GRID = 144
"""Pixels of the coarse grid on the picture's long side: the same at every size of the picture."""
LAYERS = 20


@dataclass(frozen=True)
class _LungVolume:
    """The lungs, sampled: arrays [LAYERS, rows, columns], cm."""

    x: Array
    y: Array
    z: Array
    inside: Array
    """1 in lung, 0 outside."""
    pleura: Array
    """0 in the middle of the cage, 1 at the chest wall."""
    step: float

    def noise(self, rng: np.random.Generator, cells: int) -> Array:
        """Smooth noise of unit spread, `cells` cells across."""
        coarse = rng.standard_normal((max(cells // 3, 3), cells, cells))
        return resample(coarse, self.inside.shape)

    def near(self, point: tuple[float, float, float], reach: float) -> tuple[slice, slice, slice]:
        """The part of the grid within `reach` of a point (a little more, for tilted pictures)."""
        middle = tuple(n // 2 for n in self.inside.shape)
        lines = (self.z[:, 0, 0], self.y[0, :, middle[2]], self.x[0, middle[1], :])
        spread = (reach, 1.1 * reach + 1.0, 1.1 * reach + 1.0)
        parts = []
        for line, at, wide in zip(lines, point[::-1], spread, strict=True):
            first, last = np.searchsorted(line, [at - wide, at + wide])
            parts.append(slice(int(first), max(int(last), int(first) + 1)))
        return parts[0], parts[1], parts[2]

    def pick(self, rng: np.random.Generator, weight: Array) -> tuple[float, float, float]:
        """A point drawn with probability proportional to `weight`."""
        total = np.cumsum((weight * self.inside).ravel())
        index = min(int(np.searchsorted(total, rng.random() * total[-1])), total.size - 1)
        return float(self.x.ravel()[index]), float(self.y.ravel()[index]), float(self.z.ravel()[index])


def _step(value: Array, width: float) -> Array:
    t = np.clip(value * (0.2 / width) + 0.5, 0.0, 1.0)  # a smooth step, 5 widths from end to end
    return t * t * (3.0 - 2.0 * t)


def _lung_volume(patient: Patient, positioning: Positioning, coarse: Projection) -> _LungVolume:
    x, y = coarse.plane(0.0)
    near, far = lung_interval(patient, x, y)
    edge = patient.half_depth + 0.5
    z = np.linspace(-edge - 1.6, edge, LAYERS)
    column = z[:, None, None]
    inside = (column > near) & (column < far)
    for lo, hi in solid_intervals(patient, positioning, x, y):
        inside &= ~((column > lo) & (column < hi))
    inside &= np.abs(x) > 2.5 * patient.scale
    a, b, centre = cage(patient, y)
    pleura = np.sqrt((x / np.maximum(a, 1.0)) ** 2 + ((column - centre) / b) ** 2)
    shape = inside.shape
    return _LungVolume(
        x=np.broadcast_to(x, shape),
        y=np.broadcast_to(y, shape),
        z=np.broadcast_to(column, shape),
        inside=inside.astype(np.float64),
        pleura=pleura,
        step=float(z[1] - z[0]),
    )


def _lobes(volume: _LungVolume, patient: Patient) -> dict[str, Array]:
    """Membership 0..1 of each lobe: the oblique fissure falls to the front, the minor one is level."""
    s = patient.scale
    sharp = 0.12
    oblique = _step(volume.y - (1.0 * s + 0.93 * volume.z), sharp)
    minor = _step(volume.y + 0.6 * s, sharp)
    right, left = _step(-volume.x, 0.05), _step(volume.x, 0.05)
    lingula = _step(volume.y - 0.5 * s, 0.8)
    return {
        "right upper lobe": right * (1 - oblique) * (1 - minor),
        "middle lobe": right * (1 - oblique) * minor,
        "right lower lobe": right * oblique,
        "left upper lobe": left * (1 - oblique) * (1 - lingula),
        "lingula": left * (1 - oblique) * lingula,
        "left lower lobe": left * oblique,
    }


def _consolidation(
    volume: _LungVolume, lobe: Array, patient: Patient, rng: np.random.Generator, extent: float
) -> Array:
    """Filled air spaces, 0..1: most of a lobe or a part of it, sharp at the fissure and soft elsewhere."""
    # not wholly behind heart or diaphragm, where no model of a few hundred pictures could find it
    s = patient.scale
    seen = (volume.pleura < 0.9) & (np.abs(volume.x) > 6.0 * s) & (volume.y < 4.0 * s)
    cx, cy, cz = volume.pick(rng, lobe * seen)
    radius = (5.2 + 3.2 * extent) * s
    distance = np.sqrt((volume.x - cx) ** 2 + (volume.y - cy) ** 2 + (0.75 * (volume.z - cz)) ** 2)
    core = _step(radius - distance + 1.1 * volume.noise(rng, 11), 0.55)
    return lobe * core * (0.85 + 0.15 * rng.random())


def _pneumonia(volume: _LungVolume, patient: Patient, rng: np.random.Generator) -> tuple[Array, tuple[str, ...]]:
    lobes = _lobes(volume, patient)
    names = list(lobes)
    odds = np.cumsum([0.2, 0.17, 0.25, 0.14, 0.05, 0.19])
    first = int(np.searchsorted(odds, rng.random() * odds[-1]))
    chosen = [first]
    if rng.random() < 0.15:
        chosen.append((first + 1 + int(rng.integers(5))) % 6)
    filled = np.zeros(volume.inside.shape)
    for k, index in enumerate(chosen):
        extent = rng.random() * (1.0 if k == 0 else 0.4)
        filled = np.maximum(filled, _consolidation(volume, lobes[names[index]], patient, rng, float(extent)))
    return filled, tuple(names[index] for index in chosen)


def _covid(volume: _LungVolume, patient: Patient, rng: np.random.Generator) -> tuple[Array, tuple[str, ...]]:
    """Ground glass in both lungs: patches along the pleura, more of them low and at the back."""
    s = patient.scale
    rim = _step(volume.pleura - 0.68, 0.05)
    low = _step(volume.y - 0.5 * s, 2.2)
    back = 0.35 + 0.65 * _step(-volume.z, 1.5)
    clear = np.ones(volume.inside.shape)
    severity = rng.random()
    lean = 0.35 * (rng.random() - 0.5)
    for sign in (-1.0, 1.0):
        side = _step(sign * volume.x, 0.1)
        weight = side * rim * (0.12 + low) * back * (np.abs(volume.x) > 5.0 * s)
        count = max(4, round(4.0 + 3.4 * (severity + sign * lean)))
        for _ in range(count):
            cx, cy, cz = volume.pick(rng, weight)
            radius = (2.2 + 1.4 * rng.random()) * s
            part = volume.near((cx, cy, cz), 1.5 * radius + 2.0)
            x, y, z = volume.x[part] - cx, volume.y[part] - cy, volume.z[part] - cz
            distance = np.sqrt((1.15 * x) ** 2 + (0.85 * y) ** 2 + (0.7 * z) ** 2)
            density = 0.66 + 0.26 * rng.random()
            patch = side[part] * (0.15 + 0.85 * rim[part]) * _step(radius - distance, 0.5)
            clear[part] *= 1.0 - density * patch
    mottled = np.clip(1.0 + 0.28 * volume.noise(rng, 26), 0.3, 1.6)
    return np.clip((1.0 - clear) * mottled, 0.0, 0.9), ("both lungs, peripheral",)


def build_opacity(
    label: str,
    patient: Patient,
    positioning: Positioning,
    projection: Projection,
    tree: Tree,
    rng: np.random.Generator,
) -> tuple[Array, tuple[str, ...]]:
    """Length of fluid in the place of air along every ray, cm, float64 [rows, columns]; and where it is.

    Nothing (zeros and no words) for a label without disease.
    """
    draw: Callable[[_LungVolume, Patient, np.random.Generator], tuple[Array, tuple[str, ...]]]
    if label == "pneumonia":
        draw = _pneumonia
    elif label == "COVID-19":
        draw = _covid
    else:
        return np.zeros((projection.rows, projection.columns)), ()
    long_side = max(projection.rows, projection.columns)
    coarse = projection.at_size(round(projection.rows * GRID / long_side), round(projection.columns * GRID / long_side))
    volume = _lung_volume(patient, positioning, coarse)
    filled, where = draw(volume, patient, rng)
    filled = filled * volume.inside
    length = ndimage.gaussian_filter(filled.sum(0) * volume.step, 0.8, truncate=3.0)
    if label == "pneumonia":  # air bronchograms: open bronchi run through the consolidation
        trunk = tree.generation <= 3
        bronchi = Tree(tree.start[trunk], tree.end[trunk], tree.radius[trunk], tree.generation[trunk])
        air = tree_length(bronchi, patient, positioning, coarse, scale=1.25)
        whole = ndimage.gaussian_filter(volume.inside.sum(0) * volume.step, 0.8, truncate=3.0)
        length = np.clip(length - 1.6 * air * length / (whole + 0.5), 0.0, None)
    return resample(length, (projection.rows, projection.columns)), where
