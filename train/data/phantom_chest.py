"""Lungs, mediastinum, diaphragm and body outline as lengths along the rays (a ray-sum in closed form)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from train.data.phantom_patient import Array, Patient, Positioning, Projection

__all__ = ["Chest", "arm_axis", "build_chest", "cage", "lung_interval", "solid_intervals"]

Interval = tuple[Array, Array]


@dataclass(frozen=True)
class Chest:
    """Lengths in cm along each ray, float64 [rows, columns]."""

    body: Array
    """From skin to skin."""
    lung: Array
    """Of it, aerated lung."""
    air: Array
    """Of it, free air: trachea, main bronchi, gastric bubble."""


def cage(patient: Patient, y: Array) -> tuple[Array, Array, Array]:
    """Inner half width, half depth and centre depth of the thoracic cage at height `y`."""
    u = np.clip(y / patient.height + 0.5, 0.0, 1.0)
    open_ = np.sqrt(1.0 - (1.0 - u) ** 2.3)
    return patient.half_width * open_, patient.half_depth * (0.4 + 0.6 * open_), -1.6 * (1.0 - u)


def lung_interval(patient: Patient, x: Array, y: Array) -> Interval:
    """Where a ray enters and leaves the pleural space, were nothing else in it."""
    side = np.abs(x)
    dome = 3.0 * np.clip(1.0 - side / (4.8 * patient.scale), 0.0, 1.0) ** 2  # round apices, lower near the midline
    a, b, centre = cage(patient, y - dome)
    half = b * np.sqrt(np.clip(1.0 - (side / np.maximum(a, 1e-6)) ** 2.4, 0.0, None))
    return centre - half, centre + half


def _ellipsoid(
    x: Array,
    y: Array,
    centre: tuple[float, float, float],
    axes: tuple[float, float, float],
    angle: float = 0.0,
) -> Interval:
    cos, sin = np.cos(angle), np.sin(angle)
    dx, dy = x - centre[0], y - centre[1]
    along, across = cos * dx + sin * dy, cos * dy - sin * dx
    half = axes[2] * np.sqrt(np.clip(1.0 - (along / axes[0]) ** 2 - (across / axes[1]) ** 2, 0.0, None))
    return centre[2] - half, centre[2] + half


def _overlap(first: Interval, second: Interval) -> Array:
    shared = np.minimum(first[1], second[1]) - np.maximum(first[0], second[0])
    return np.asarray(np.clip(shared, 0.0, None))


def _both(first: Interval, second: Interval) -> Interval:
    return np.maximum(first[0], second[0]), np.minimum(first[1], second[1])


def _diaphragm(patient: Patient, positioning: Positioning, x: Array, y: Array) -> Interval:
    """The domes: highest a little in front of the middle, falling to the sides and to the back."""
    s = patient.scale
    left = x > 0
    top = s * np.where(left, 8.9, 7.7) + patient.height / 2 - 13.3 * s - positioning.inspiration_loss
    away = np.abs(x) - 6.6 * s
    lateral = np.clip(away, 0.0, None) / (patient.half_width - 6.6 * s)
    medial = np.clip(-away, 0.0, None) / (6.6 * s)
    below = np.clip(y - top - 3.9 * s * lateral**2.3 - 1.1 * s * medial**2, 0.0, None)
    reach = np.sqrt(below / s)
    return 1.0 - 4.6 * reach * s, 1.0 + 5.2 * reach * s


def solid_intervals(patient: Patient, positioning: Positioning, x: Array, y: Array) -> list[Interval]:
    """Domes and heart: what stands in the pleural space, in the order domes, heart."""
    s, h = patient.scale, patient.heart
    low = positioning.inspiration_loss
    angle = np.deg2rad(40.0 - 4.0 * low)  # a high diaphragm lays the heart down
    centre = (2.3 * s, 4.7 * s - 0.75 * low, 2.0 * s)
    heart = _ellipsoid(x, y, centre, (6.7 * h, 5.1 * h, 6.6 * h), float(angle))
    return [_diaphragm(patient, positioning, x, y), heart]


def _mediastinum(patient: Patient, positioning: Positioning, x: Array, y: Array) -> Array:
    """How much of the ray the column of spine, great vessels and oesophagus covers, 0..1."""
    s, wide = patient.scale, 1.0 if positioning.erect else 1.15
    knots = np.array([-16.0, -12.0, -9.0, -6.0, -3.0, 0.0, 4.0, 12.0]) * s
    right = np.array([2.1, 2.3, 2.5, 2.6, 2.2, 1.9, 1.9, 2.2]) * s * wide
    left = np.array([2.2, 2.6, 2.4, 2.0, 1.8, 1.9, 2.1, 2.4]) * s * wide
    heights = y[:, 0]
    width = np.where(x > 0, np.interp(heights, knots, left)[:, None], np.interp(heights, knots, right)[:, None])
    return np.asarray(0.9 * np.sqrt(np.clip(1.0 - (np.abs(x) / (1.12 * width)) ** 3.2, 0.0, None)))


def _lung_length(patient: Patient, positioning: Positioning, x: Array, y: Array) -> Array:
    s = patient.scale
    lung = lung_interval(patient, x, y)
    domes, heart = solid_intervals(patient, positioning, x, y)
    filled = _overlap(lung, domes) + _overlap(lung, heart) - _overlap(lung, _both(domes, heart))
    knob = 1.75 * s * patient.aorta
    solids = [
        _ellipsoid(x, y, (2.3 * s, -5.6 * s, -1.5), (knob, knob, knob)),  # aortic knob
        _ellipsoid(x, y, (2.9 * s, -2.4 * s, 1.5), (1.7 * s, 1.9 * s, 1.7 * s)),  # pulmonary trunk
        _ellipsoid(x, y, (-3.2 * s, -0.2 * s, 0.0), (1.25 * s, 2.3 * s, 1.6 * s), 0.25),  # right hilum
        _ellipsoid(x, y, (3.6 * s, -1.0 * s, 0.0), (1.2 * s, 2.0 * s, 1.5 * s), -0.2),  # left hilum
        _ellipsoid(x, y, (1.9 * s, 4.0 * s, -5.5 * s), (1.35 * patient.aorta, 11.0 * s, 1.3)),  # descending aorta
    ]
    length = lung[1] - lung[0] - filled
    for solid in solids:
        length = length - (_overlap(lung, solid) - _overlap(lung, _both(solid, heart)))
    return np.clip(length, 0.0, None) * (1.0 - _mediastinum(patient, positioning, x, y))


def _smooth_step(value: Array) -> Array:
    t = np.clip(value, 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def arm_axis(patient: Patient, positioning: Positioning) -> tuple[tuple[float, float], tuple[float, float]]:
    """Shoulder joint (|x|, y) and the way from it to the elbow (outwards, down)."""
    s = patient.scale
    out = 9.5 if positioning.erect and positioning.view == "PA" else 2.8
    return (18.2 * s, -patient.height / 2 + 2.3 * s), (out * s + 0.6 * patient.wall, 15.0 * s)


def _arms(patient: Patient, positioning: Positioning, side: Array, y: Array) -> Array:
    """Upper arms: held away from the chest for PA, along it lying down."""
    s = patient.scale
    shoulder, (run, fall) = arm_axis(patient, positioning)
    length = np.hypot(run, fall)
    across = ((side - shoulder[0]) * fall - (y - shoulder[1]) * run) / length
    along = ((side - shoulder[0]) * run + (y - shoulder[1]) * fall) / length
    radius = (3.6 + 0.35 * patient.wall) * s
    gone = np.clip(-along, 0.0, None)  # round at the shoulder
    chord = np.sqrt(np.clip(radius**2 - across**2 - gone**2, 0.0, None))
    return np.asarray(2.0 * chord)


def _body_length(patient: Patient, positioning: Positioning, x: Array, y: Array) -> Array:
    """Skin to skin: trunk, shoulders, neck, pectoral muscles and breasts."""
    s = patient.scale
    high = _smooth_step((-5.0 * s - y) / (8.0 * s))  # 0 at the trunk, 1 at the shoulders
    a = patient.half_width + patient.wall + high * (9.0 * s)
    b = (patient.half_depth + patient.wall_depth) * (1.0 - 0.42 * high)
    side = np.abs(x)
    trapezius = -17.8 * s + 0.2 * np.clip(side - 5.0 * s, 0.0, None) + 0.006 * side**2
    top = np.sqrt(np.clip((y - trapezius) / (4.5 * s), 0.0, 1.0))
    trunk = 2.0 * b * np.sqrt(np.clip(1.0 - (side / a) ** 4.5, 0.0, None)) * top
    neck_width = (5.4 + 0.25 * patient.wall) * s
    neck = 2.0 * 5.6 * s * np.sqrt(np.clip(1.0 - (side / neck_width) ** 2, 0.0, None)) * (y < -8.0 * s)
    body = np.maximum(np.maximum(trunk, neck), _arms(patient, positioning, side, y))
    muscle = (1.6 if patient.sex == "M" else 0.9) * s
    body = body + muscle * _smooth_step((side - 3.0 * s) / (5.0 * s)) * _smooth_step((1.0 * s - y) / (5.0 * s)) * (
        trunk > 0
    )
    if patient.breast > 0:
        drop = 5.2 * s if positioning.erect else 3.6 * s
        for sign in (-1.0, 1.0):
            dx = (x - sign * (7.6 if positioning.erect else 9.0) * s) / (6.0 * s)
            dy = (y - drop) / (5.0 * s)
            shape = np.clip(1.0 - dx**2 - np.where(dy > 0, dy**2, (0.45 * dy) ** 2), 0.0, None)
            body = body + patient.breast * np.sqrt(shape) * _smooth_step((dy + 2.0) / 2.0)
    return body


def _air_length(patient: Patient, positioning: Positioning, x: Array, y: Array) -> Array:
    """Trachea, main bronchi and the gas in the stomach's fundus (with its level in an erect patient)."""
    s = patient.scale
    radius = 0.95 * s
    shift = 0.35 * s * np.exp(-(((y + 6.0 * s) / (3.0 * s)) ** 2))  # the aortic arch pushes it to the right
    ends = _smooth_step((-3.6 * s - y) / (0.8 * s))
    air = 2.0 * np.sqrt(np.clip(radius**2 - (x + shift) ** 2, 0.0, None)) * ends
    for sign, slope, end in ((-1.0, 1.35, 3.4), (1.0, 0.95, 4.2)):
        across = (sign * x * slope - (y + 4.2 * s)) / np.hypot(slope, 1.0)
        inside = (sign * x > -0.2) & (sign * x < end * s)
        fade = _smooth_step((end * s - sign * x) / (1.5 * s))
        air = air + 2.0 * np.sqrt(np.clip((0.62 * s) ** 2 - across**2, 0.0, None)) * inside * fade
    rng = np.random.default_rng([patient.seed, 7])
    size = 1.0 + 1.8 * rng.random(2)
    gas = 1.0 if rng.random() < 0.8 else 0.0
    top = 8.9 * s + patient.height / 2 - 13.3 * s - positioning.inspiration_loss
    centre = (6.6 * s, float(top + 0.9 + size[1]), 1.0)
    lo, hi = _ellipsoid(x, y, centre, (float(1.3 * size[0]), float(size[1]), 3.0))
    level = (y < centre[1] + 0.35 * size[1]) if positioning.erect else 1.0
    return air + (hi - lo) * level * gas * (0.8 if positioning.erect else 0.45)


def build_chest(patient: Patient, positioning: Positioning, projection: Projection) -> Chest:
    """Lengths of body, lung and free air along every ray."""
    x, y = projection.plane(0.0)
    body = _body_length(patient, positioning, x, y)
    lung = np.minimum(_lung_length(patient, positioning, x, y), body)
    return Chest(body=body, lung=lung, air=np.minimum(_air_length(patient, positioning, x, y), body - lung))
