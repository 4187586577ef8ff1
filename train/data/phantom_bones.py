"""The skeleton of a phantom: ribs, clavicles, shoulder blades, arms, spine."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from train.data.phantom_chest import arm_axis, cage
from train.data.phantom_patient import Array, Patient, Positioning, Projection
from train.data.phantom_tubes import CORTEX, SPONGY, line, splat, tube

__all__ = ["build_skeleton"]


def _rib(patient: Patient, index: int, sign: float) -> tuple[Array, Array]:
    """Course [N, 3] and outward direction [N, 3] of rib `index` (1..11); `sign` +1 is the patient's left."""
    s = patient.scale
    spacing = 0.0885 * patient.height
    start = -patient.height / 2 - (1.0 if index > 1 else 0.3) * s + spacing * (index - 1)
    drop = patient.rib_drop * s * (3.9, 5.4, 6.6, 7.6, 8.4, 9.0, 9.2, 9.0, 8.4, 7.0, 5.0)[index - 1]
    end = np.deg2rad((150, 148, 146, 143, 140, 137, 132, 125, 116, 104, 88)[index - 1])
    theta = np.linspace(0.19, end, 60)
    t = (theta - theta[0]) / (np.deg2rad(150) - theta[0])
    y = start + drop * (0.12 * t + 0.88 * t**1.7) - 0.5 * s * np.sin(np.pi * np.clip(t * 2.2, 0, 1))
    # a rib is a stiff hoop: its size is that of the cage at its own level, smoothed over its course
    a, b, centre = cage(patient, 0.55 * y + 0.45 * (start + 0.35 * drop) + 1.9 * s)
    a, b = np.maximum(a + 0.35, 5.2 * s), b + 0.35
    x = sign * a * np.sin(theta) ** 0.92
    z = centre - b * np.cos(theta)
    out = np.stack([sign * np.sin(theta) / a, np.zeros_like(theta), -np.cos(theta) / b], axis=1)
    return np.stack([x, y, z], axis=1), out / np.sqrt((out**2).sum(1, keepdims=True))


def _girdle(patient: Patient, positioning: Positioning) -> list[tuple[Array, float | Array, float, float]]:
    """Clavicles, shoulder blades' borders, humeri: course, half height, half thickness, cortex."""
    s = patient.scale
    rng = np.random.default_rng([patient.seed, 3])
    lift = s * (0.6 * (rng.random() - 0.5) + (0.0 if positioning.view == "PA" else -1.3))
    tubes: list[tuple[Array, float | Array, float, float]] = []
    top = -patient.height / 2 + 2.6 * s + lift
    for sign in (-1.0, 1.0):
        shoulder = (sign * 16.6 * s, top - 2.3 * s, 0.5)
        inner, middle = (sign * 2.2 * s, top + 0.4 * s, 6.0 * s), (sign * 8.6 * s, top - 1.7 * s, 5.4 * s)
        clavicle = line(inner, middle, shoulder)
        clavicle[:, 1] += 0.45 * s * np.sin(np.linspace(0, 2 * np.pi, 40))
        tubes.append((clavicle, 0.62 * s, 0.55 * s, 0.16))
        o = positioning.scapula_out * s
        glenoid = (sign * (15.6 * s + 0.5 * o), top + 1.8 * s, -2.5)
        angle = (sign * (10.9 * s + o), top + 12.5 * s, -8.0)
        upper = (sign * (10.0 * s + o), top + 0.2 * s, -7.0)
        acromion = (sign * 17.3 * s, top - 1.5 * s, -1.5)
        lateral = line(angle, (sign * (13.6 * s + 0.9 * o), top + 6.0 * s, -5.5), glenoid)
        medial = line(angle, (sign * (10.3 * s + o), top + 6.0 * s, -7.5), upper)
        crest = line(upper, (sign * (13.6 * s + 0.5 * o), top - 1.3 * s, -4.5), acromion)
        tubes.append((lateral, 0.55 * s, 0.42 * s, 0.13))
        tubes.append((medial, 0.28 * s, 0.22 * s, 0.09))
        tubes.append((crest, 0.5 * s, 0.35 * s, 0.11))
        (jx, jy), (run, fall) = arm_axis(patient, positioning)
        humerus = line((sign * jx, jy - 1.0 * s, -1.5), (sign * (jx + 1.3 * run), jy + 1.3 * fall, -1.5))
        t = np.linspace(0.0, 1.0, 40)
        girth = np.sqrt(np.clip(t / 0.06, 0.0, 1.0)) * (1.15 + 1.15 * np.exp(-((t / 0.17) ** 2))) * s
        tubes.append((humerus, girth, 1.25 * s, 0.26))
    return tubes


def _blades(patient: Patient, positioning: Positioning, projection: Projection) -> Array:
    """The thin plates of the shoulder blades, in units of attenuation."""
    s, o = patient.scale, positioning.scapula_out * patient.scale
    x, y = projection.plane(-6.0)
    lift = 0.0 if positioning.view == "PA" else -1.3 * s
    top = -patient.height / 2 + 2.6 * s + lift
    side = np.abs(x)
    medial = side - (10.4 * s + o) - 0.03 * (y - top)
    lateral = (10.9 * s + o) + (top + 12.5 * s - y) * 0.5 - side
    edge = np.clip(np.minimum(np.minimum(medial, lateral), y - top) / (0.25 * s), 0.0, 1.0)
    return np.asarray(edge * 0.26 * CORTEX * 0.5)


def _spine(patient: Patient, projection: Projection) -> Array:
    """Vertebral bodies with their discs, pedicles and spinous processes, in units of attenuation."""
    s = patient.scale
    near = projection.columns_near(5.0 * s)
    x, y = (plane[:, near] for plane in projection.plane(-0.62 * patient.half_depth))
    rng = np.random.default_rng([patient.seed, 5])
    curve = 0.5 * s * (rng.random() - 0.5) * np.sin(y / (9.0 * s) + 6.0 * rng.random())
    x = x - curve
    spacing = 0.0885 * patient.height
    t = (y + patient.height / 2 + 1.0 * s) / spacing
    within = (t - np.floor(t) - 0.5) * spacing
    waist = (1.55 + 0.035 * t + 0.25 * (within / spacing * 2) ** 2) * s
    half = 0.41 * spacing
    from_end = (half - np.abs(within)) / (0.12 * s)
    body = np.sqrt(np.clip(1.0 - (x / waist) ** 4, 0.0, None)) * np.clip(from_end + 0.5, 0.0, 1.0)
    plate = np.exp(-(from_end**2)) * np.clip((waist - np.abs(x)) / (0.2 * s), 0.0, 1.0)
    total = body * 2.9 * s * SPONGY + plate * 0.45 * CORTEX
    oval = ((np.abs(x) - 1.15 * s) / (0.33 * s)) ** 2 + ((within + 0.12 * spacing) / (0.55 * s)) ** 2
    total += np.exp(-(((np.sqrt(oval) - 1.0) / 0.35) ** 2)) * 0.35 * CORTEX
    process = (x / (0.32 * s)) ** 2 + ((within - 0.3 * spacing) / (0.75 * s)) ** 2
    total += np.exp(-(process**2)) * 0.55 * CORTEX
    whole = np.zeros((projection.rows, projection.columns))
    whole[:, near] = 0.75 * total
    return whole


def build_skeleton(patient: Patient, positioning: Positioning, projection: Projection) -> Array:
    """Attenuation (dimensionless, over that of soft tissue) of all bones, float64 [rows, columns]."""
    s = patient.scale
    points, volumes = [], []
    for index in range(1, 12):
        for sign in (-1.0, 1.0):
            course, out = _rib(patient, index, sign)
            height = (0.5 + 0.14 * np.linspace(0.0, 1.0, len(course)) ** 2) * s
            p, v = tube(course, height, 0.34 * s, 0.11, projection, out)
            points.append(p)
            volumes.append(v)
    for course, height_, thickness, cortex in _girdle(patient, positioning):
        forward = np.broadcast_to(np.array([0.0, 0.0, 1.0]), course.shape)
        p, v = tube(course, height_, thickness, cortex, projection, forward)
        points.append(p)
        volumes.append(v)
    xyz = np.concatenate(points)
    bones = splat(projection, xyz[:, 0], xyz[:, 1], xyz[:, 2], np.concatenate(volumes))
    bones = ndimage.gaussian_filter(bones, 0.55, truncate=3.0)
    bones += _spine(patient, projection) + _blades(patient, positioning, projection)
    return np.asarray(bones * patient.bone)
