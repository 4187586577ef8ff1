"""Synthetic chest radiographs: a ray-sum of a simple thorax, exposed on a simple detector.

For demonstrations and tests. They look like a schematic chest film and are of nobody; what a model learns
from them says nothing about patients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from train.data.phantom_bones import build_skeleton
from train.data.phantom_chest import Chest, build_chest
from train.data.phantom_disease import build_opacity
from train.data.phantom_exposure import BITS, display, expose, find_window, letter, store
from train.data.phantom_patient import (
    Array,
    Patient,
    Positioning,
    Projection,
    draw_patient,
    draw_positioning,
    resample,
)
from train.data.phantom_vessels import build_tree, tree_length, wires
from train.data.rows import LABELS, Box, DataError

__all__ = [
    "INVERTED_SHARE",
    "MARKER",
    "MAXIMUM_SIZE",
    "MINIMUM_SIZE",
    "SIGMOID_SHARE",
    "Phantom",
    "PhantomFacts",
    "build_phantom",
    "phantom_pixels",
]

MARKER = "SYNTHETIC"
MINIMUM_SIZE, MAXIMUM_SIZE = 64, 2048

INVERTED_SHARE, SIGMOID_SHARE = 0.15, 0.3
"""Of all phantoms: written as MONOCHROME1; windowed by SIGMOID."""

_SOFT, _LUNG = 0.19, 0.043
"""Attenuation of soft tissue and of aerated lung, 1/cm, at about 70 keV."""
_VISIBLE = 0.07
"""An opacity is boxed where it attenuates by at least this much (log units)."""


@dataclass(frozen=True)
class PhantomFacts:
    """What is known of a phantom, as it is: the label, the body, the exposure, the window."""

    label: str
    seed: int
    patient_seed: int
    sex: str
    age: int
    view: str
    erect: bool
    where: tuple[str, ...]
    """The diseased parts, in words; empty for a normal one."""
    pixel_spacing: float
    """On the detector, mm."""
    distance: float
    """Source to detector, mm."""
    inverted: bool
    """To be written as MONOCHROME1."""
    window_centre: float
    window_width: float
    sigmoid: bool
    """VOI LUT Function SIGMOID, else LINEAR."""


@dataclass(frozen=True)
class Phantom:
    """One synthetic radiograph.

    Attributes
    ----------
    stored
        uint16 [H, W], 12 bits, more attenuation is a larger value (the MONOCHROME2 sense).
    pixels
        uint8 [H, W]: `stored` through the window, as a display shows it; bone is bright.
    opacity
        float32 [H, W]: by how much the opacities attenuate (log units); 0 for a normal one.
    boxes
        Around the opacities, the largest first.
    facts
        See `PhantomFacts`.
    """

    stored: NDArray[np.uint16]
    pixels: NDArray[np.uint8]
    opacity: NDArray[np.float32]
    boxes: tuple[Box, ...]
    facts: PhantomFacts


def phantom_pixels(label: str, seed: int, size: int) -> NDArray[np.uint8]:
    """Just the picture of `build_phantom`: uint8 [H, W], the shorter side `size`."""
    return build_phantom(label, seed, size).pixels


def build_phantom(label: str, seed: int, size: int, patient_seed: int | None = None) -> Phantom:
    """Draw one synthetic chest radiograph.

    Parameters
    ----------
    label
        ``normal``, ``pneumonia`` (lobar consolidation) or ``COVID-19`` (peripheral ground glass, bilateral).
        Body, exposure and noise depend on the seeds alone: the same seeds with another label are the same
        person without or with disease.
    seed
        Any integer >= 0: exposure, disease, noise.
    size
        Shorter side in pixels, 64 to 2048. The picture is upright (33:39.5), across (41:35.5), or square.
    patient_seed
        Seeds the body; `seed` where it is not given. Several seeds with one patient seed are several
        studies of one patient.

    Notes
    -----
    The same call gives the same bytes with the same versions of NumPy and SciPy on the same kind of CPU.
    Elsewhere functions may differ in their last bits (1e-15 of the value), which can move a rare pixel by one
    stored value; NumPy does not promise the same random stream in every later version.

    Raises
    ------
    DataError
        An unknown label, a negative seed, a size out of range.
    """
    _check(label, seed, size, patient_seed)
    body_seed = seed if patient_seed is None else patient_seed
    patient = draw_patient(np.random.default_rng([body_seed, 101]))
    positioning = draw_positioning(np.random.default_rng([seed, 102]))
    projection = _projection(patient, positioning, size)

    chest = build_chest(patient, positioning, projection)
    tree = build_tree(patient)
    fluid, where = build_opacity(label, patient, positioning, projection, tree, np.random.default_rng([seed, 103]))
    fluid = np.minimum(fluid, chest.lung)
    vessels = tree_length(tree, patient, positioning, projection)
    attenuation = _attenuation(chest, vessels, fluid, patient, seed)
    attenuation += build_skeleton(patient, positioning, projection) * np.clip(chest.body / 3.0, 0.0, 1.0)
    if positioning.leads:
        attenuation += wires(patient, projection, seed)

    signal = expose(attenuation, positioning, projection.pitch, np.random.default_rng([seed, 104]))
    signal += positioning.gain
    low, high = find_window(signal, positioning)
    stored = _finish(signal, positioning)
    lo, hi = float(store(low)), float(store(high))
    sigmoid = positioning.window[2] < SIGMOID_SHARE
    centre, width = round((lo + hi) / 2), round(max(hi - lo, 2.0) * (0.8 if sigmoid else 1.0))
    opacity = (fluid * (_SOFT - _LUNG)).astype(np.float32)
    facts = PhantomFacts(
        label=label,
        seed=seed,
        patient_seed=body_seed,
        sex=patient.sex,
        age=patient.age,
        view=positioning.view,
        erect=positioning.erect,
        where=where,
        pixel_spacing=round(projection.pitch * 10.0, 6),
        distance=round(positioning.distance * 10.0, 1),
        inverted=positioning.inverted < INVERTED_SHARE,
        window_centre=float(centre),
        window_width=float(width),
        sigmoid=sigmoid,
    )
    return Phantom(stored, display(stored, centre, width, sigmoid), opacity, find_boxes(opacity), facts)


def _check(label: str, seed: int, size: int, patient_seed: int | None) -> None:
    if label not in LABELS:
        raise DataError("no phantom has this label", got=repr(label), expected=", ".join(LABELS))
    if seed < 0 or (patient_seed is not None and patient_seed < 0):
        lowest = min(seed, patient_seed or 0)
        raise DataError("a phantom's seed is negative", got=str(lowest), expected="0 or more")
    if not MINIMUM_SIZE <= size <= MAXIMUM_SIZE:
        raise DataError(
            "phantoms are not drawn at this size",
            got=f"{size} px",
            expected=f"{MINIMUM_SIZE} to {MAXIMUM_SIZE} px",
        )


def _projection(patient: Patient, positioning: Positioning, size: int) -> Projection:
    width, height = positioning.field
    short_side = min(width, height)
    return Projection(
        rows=round(size * height / short_side),
        columns=round(size * width / short_side),
        pitch=short_side / size,
        distance=positioning.distance,
        gap=patient.half_depth + patient.wall_depth + 2.0,
        anterior=positioning.view == "PA",
        rotation=positioning.rotation,
        tilt=positioning.tilt,
        shift=positioning.shift,
    )


def _attenuation(chest: Chest, vessels: Array, fluid: Array, patient: Patient, seed: int) -> Array:
    """The ray-sum of everything soft."""
    rng = np.random.default_rng([seed, 105])
    long_side = max(chest.lung.shape)
    grain: Array = np.zeros(chest.lung.shape)
    for cells, weight in ((40, 0.02), (90, 0.022)):  # interstitium and what is too fine to draw
        coarse = rng.standard_normal((cells, cells))
        field = resample(coarse, (long_side, long_side))
        grain += weight * field[: grain.shape[0], : grain.shape[1]]
    aerated = chest.lung - fluid
    lung = _LUNG * (1.0 + grain) + 0.002 * (patient.age - 50) / 40
    soft = chest.body - chest.lung - chest.air + fluid
    return _SOFT * soft + lung * aerated + (_SOFT - _LUNG) * np.minimum(vessels, 0.8 * aerated)


def _finish(signal: Array, positioning: Positioning) -> NDArray[np.uint16]:
    """Collimate, put the lead letter and the word SYNTHETIC on, round to 12 bits."""
    rows, columns = signal.shape
    largest = 2**BITS - 1
    value = store(signal)
    side = letter("R", max(1, round(rows / 110)))
    at_row, at_column = round(0.10 * rows), round(0.055 * columns)
    _imprint(value, side, (at_row, at_column), 0.9 * largest)

    scale = max(1, round(max(rows, columns) / 260))
    word = letter(MARKER, scale)
    strip = word.shape[0] + 2 * scale
    top, right, _, left = (round(m * max(rows, columns)) for m in positioning.margins)
    dark = 0.0 if positioning.shutter_black else 0.8 * largest
    border = np.zeros(signal.shape, dtype=bool)
    border[:top] = border[rows - strip :] = True
    border[:, :left] = border[:, columns - right :] = True
    value[border] = dark
    row, column = rows - strip + scale, left + 2 * scale
    _imprint(value, word, (row, column), largest - dark)
    return np.round(value).astype(np.uint16)


def _imprint(picture: Array, mask: NDArray[np.bool_], corner: tuple[int, int], value: float) -> None:
    """Set `value` where `mask`, put down with its upper left at `corner`, is true, as far as it fits."""
    rows, columns = np.nonzero(mask)
    rows, columns = rows + corner[0], columns + corner[1]
    seen = (rows < picture.shape[0]) & (columns < picture.shape[1])
    picture[rows[seen], columns[seen]] = value


def find_boxes(opacity: NDArray[np.float32]) -> tuple[Box, ...]:
    """Boxes around what can be seen of the opacities: one for each connected part that is not tiny."""
    rows, columns = opacity.shape
    peak = float(opacity.max())
    if peak <= 0.0:
        return ()
    seen = opacity > max(min(_VISIBLE, 0.5 * peak), 0.25 * peak)
    parts, count = ndimage.label(seen)
    areas = np.bincount(parts.ravel(), minlength=count + 1)[1:]
    boxes: list[Box] = []
    for index in np.argsort(-areas, kind="stable"):
        if boxes and areas[index] < 0.003 * rows * columns:
            break
        ys, xs = np.nonzero(parts == index + 1)
        top, left = int(ys.min()), int(xs.min())
        height, width = int(ys.max()) + 1 - top, int(xs.max()) + 1 - left
        boxes.append(Box(left / columns, top / rows, width / columns, height / rows))
    return tuple(boxes)
