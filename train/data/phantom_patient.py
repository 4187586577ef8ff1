"""Who stands before the detector, and how: the random choices behind one synthetic chest radiograph.

Coordinates, in centimetres: x to the patient's left (right in the picture), y downwards, z to the front;
the origin is the middle of the thorax. Nothing here knows the disease, so nothing here can give it away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Patient", "Positioning", "Projection", "draw_patient", "draw_positioning", "resample"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Patient:
    """A body. Lengths in cm, factors around 1."""

    sex: str
    """``F`` or ``M``."""
    age: int
    scale: float
    half_width: float
    """Inner half width of the thoracic cage at its base."""
    half_depth: float
    height: float
    """Lung apex to the lowest recess, in full inspiration."""
    wall: float
    """Soft tissue around the cage, at the sides."""
    wall_depth: float
    """Soft tissue in front and behind, each."""
    heart: float
    aorta: float
    breast: float
    """Thickness of the breasts; 0 for none."""
    bone: float
    """Mineral content of the skeleton."""
    rib_drop: float
    """How steeply the ribs run down."""
    seed: int
    """Seeds what else differs between bodies: vessels, small shifts."""


@dataclass(frozen=True)
class Positioning:
    """One exposure: view, attitude, detector, technique."""

    view: str
    """``PA`` or ``AP``."""
    erect: bool
    inspiration_loss: float
    """How far the diaphragm stands above full inspiration, cm."""
    rotation: float
    """About the long axis, radians."""
    tilt: float
    """In the picture's plane, radians."""
    shift: tuple[float, float]
    distance: float
    """Source to detector, cm."""
    field: tuple[float, float]
    """Width and height of the exposed field, cm."""
    scapula_out: float
    """How far the shoulder blades are rolled out of the lungs, cm."""
    dose: float
    """Quanta per pixel behind no patient, over 1e5."""
    scatter: float
    """Scattered to primary radiation behind the grid."""
    gain: float
    """Offset of the log signal."""
    window: tuple[float, float, float]
    """Jitter of the window's ends (log units), and the choice of its curve (uniform 0..1)."""
    inverted: float
    """Uniform 0..1: decides MONOCHROME1."""
    shutter_black: bool
    margins: tuple[float, float, float, float]
    """Collimated border, top, right, bottom, left, as a fraction of the side."""
    leads: bool
    """Monitoring electrodes and their wires lie on the chest."""


def draw_patient(rng: np.random.Generator) -> Patient:
    """Draw a body; reads a fixed number of values, so that later draws do not depend on it."""
    r = rng.random(12)
    sex = "F" if r[0] < 0.48 else "M"
    scale = float(np.clip((0.95 if sex == "F" else 1.03) + 0.09 * (r[1] - 0.5), 0.86, 1.12))
    age = int(22 + 66 * r[2])
    stout = float(r[3])
    return Patient(
        sex=sex,
        age=age,
        scale=scale,
        half_width=13.0 * scale * (0.95 + 0.1 * float(r[4])),
        half_depth=8.4 * scale * (0.92 + 0.16 * float(r[5])),
        height=26.5 * scale * (0.94 + 0.12 * float(r[6])),
        wall=2.0 + 2.6 * stout,
        wall_depth=2.4 + 2.6 * stout,
        heart=scale * (0.9 + 0.12 * float(r[7]) + 0.0016 * (age - 50)),
        aorta=0.9 + 0.3 * float(r[8]) + 0.004 * (age - 50),
        breast=(1.2 + 3.6 * float(r[9]) * (0.5 + stout)) if sex == "F" else 0.0,
        bone=1.15 - 0.005 * (age - 50) + 0.2 * (float(r[10]) - 0.5),
        rib_drop=0.85 + 0.35 * float(r[11]),
        seed=int(rng.integers(2**31)),
    )


def draw_positioning(rng: np.random.Generator) -> Positioning:
    """Draw one exposure of a body."""
    r = rng.random(24)
    view = "PA" if r[0] < 0.6 else "AP"
    erect = view == "PA" or bool(r[1] < 0.35)
    if r[2] < 0.4:
        field = (33.0, 39.5)
    elif view == "AP" and r[2] > 0.75:
        field = (41.0, 35.5)
    else:
        field = (36.5, 36.5)
    zoom = (0.95 + 0.13 * float(r[3])) * (1.0 if view == "PA" else 1.05)
    return Positioning(
        view=view,
        erect=erect,
        inspiration_loss=(1.6 if view == "PA" else 2.6) * float(r[4]) + (0.0 if erect else 0.6),
        rotation=float(np.deg2rad(9.0 * (r[5] - 0.5))),
        tilt=float(np.deg2rad(5.0 * (r[6] - 0.5))),
        shift=(2.4 * float(r[7] - 0.5), 2.4 * float(r[8] - 0.5)),
        distance=180.0 if view == "PA" else 105.0 + 45.0 * float(r[9]),
        field=(field[0] * zoom, field[1] * zoom),
        scapula_out=(2.6 if view == "PA" else 0.4) + 1.6 * float(r[10]),
        dose=0.35 + 1.3 * float(r[11]) ** 2,
        scatter=0.25 + 0.5 * float(r[12]),
        gain=0.5 * float(r[13] - 0.5),
        window=(0.5 * float(r[14] - 0.5), 0.5 * float(r[15] - 0.5), float(r[16])),
        inverted=float(r[17]),
        shutter_black=bool(r[18] < 0.7),
        margins=(0.03 * float(r[19]), 0.03 * float(r[20]), 0.0, 0.03 * float(r[21])),
        leads=view == "AP" and bool(r[22] < 0.4),
    )


def resample(array: Array, shape: tuple[int, ...]) -> Array:
    """Linear interpolation onto another grid over the same extent (pixel centres; edges repeated)."""
    for axis, (old, new) in enumerate(zip(array.shape, shape, strict=True)):
        at = np.clip((np.arange(new) + 0.5) * (old / new) - 0.5, 0.0, old - 1.0)
        low = np.minimum(at.astype(np.int64), max(old - 2, 0))
        part = (at - low).reshape([-1 if k == axis else 1 for k in range(array.ndim)])
        first = array.take(low, axis)
        array = first + part * (array.take(np.minimum(low + 1, old - 1), axis) - first)
    return array


@dataclass(frozen=True)
class Projection:
    """A point source and a flat detector.

    Attributes
    ----------
    rows, columns
        Size of the picture.
    pitch
        Pixel spacing on the detector, cm.
    distance
        Source to detector, cm.
    gap
        From the origin to the detector, cm.
    anterior
        True where the detector is at the patient's front (PA).
    rotation, tilt, shift
        As in `Positioning`.
    """

    rows: int
    columns: int
    pitch: float
    distance: float
    gap: float
    anterior: bool
    rotation: float
    tilt: float
    shift: tuple[float, float]

    def magnification(self, z: float | Array) -> float | Array:
        """By how much a plane at depth `z` is enlarged on the detector."""
        to_detector = self.gap - z if self.anterior else self.gap + z
        return self.distance / (self.distance - to_detector)

    def plane(self, z: float) -> tuple[Array, Array]:
        """The x and y (cm), both [rows, columns], that every pixel sees in the plane at depth `z`."""
        u = (np.arange(self.columns) - (self.columns - 1) / 2) * self.pitch - self.shift[0]
        v = (np.arange(self.rows) - (self.rows - 1) / 2) * self.pitch - self.shift[1]
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        m = self.magnification(z)
        x = (cos * u[None, :] - sin * v[:, None]) / m - z * np.sin(self.rotation)
        y = (sin * u[None, :] + cos * v[:, None]) / m
        return x, y

    def project(self, x: Array, y: Array, z: Array) -> tuple[Array, Array]:
        """Row and column (fractional) of points in space."""
        m = self.magnification(z)
        a, b = (x + z * np.sin(self.rotation)) * m, y * m
        cos, sin = np.cos(self.tilt), np.sin(self.tilt)
        u, v = cos * a + sin * b + self.shift[0], -sin * a + cos * b + self.shift[1]
        return v / self.pitch + (self.rows - 1) / 2, u / self.pitch + (self.columns - 1) / 2

    def columns_near(self, x: float) -> slice:
        """The columns that can see the sagittal planes up to `x` cm from the middle, with room for tilt."""
        middle = (self.columns - 1) / 2 + self.shift[0] / self.pitch
        reach = (1.25 * x + 0.1 * self.rows * self.pitch) / self.pitch
        return slice(max(int(middle - reach), 0), max(min(int(middle + reach) + 1, self.columns), 1))

    def at_size(self, rows: int, columns: int) -> Projection:
        """The same picture on another pixel grid (same field along the rows)."""
        return Projection(
            rows, columns, self.pitch * self.rows / rows, self.distance, self.gap, self.anterior,
            self.rotation, self.tilt, self.shift,
        )  # fmt: skip
