"""What is known of each image, in values that can be counted, and how they are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from train.data.description.images import ImageFacts
from train.data.description.record import Count, Numbers
from train.data.rows import Row

__all__ = [
    "ALL",
    "ATTRIBUTES",
    "BANDS",
    "UNKNOWN",
    "Described",
    "count_values",
    "describe_row",
    "order_of",
    "summarise_numbers",
]

UNKNOWN = "not known"
ALL = "all"

_AGES = ((20.0, "under 20"), (40.0, "20-39"), (60.0, "40-59"), (80.0, "60-79"), (float("inf"), "80 and over"))
_EDGES = ((512.0, "under 512"), (1024.0, "512-1023"), (2048.0, "1024-2047"), (float("inf"), "2048 and over"))
_SHAPES = ((0.9, "upright"), (1.1, "nearly square"), (float("inf"), "wide"))

BANDS = {
    "age": tuple(name for _, name in _AGES),
    "shorter side": tuple(name for _, name in _EDGES),
    "shape": tuple(name for _, name in _SHAPES),
}
"""Attributes whose values have an order of their own."""

ATTRIBUTES = ("source", "view", "sex", "age", "shorter side", "shape")
"""What is counted by split and class. Age in years, shorter side in pixels, shape by width / height (0.9, 1.1)."""


@dataclass(frozen=True)
class Described:
    """An image with what is known of it."""

    row: Row
    split: str
    facts: ImageFacts
    values: dict[str, str]
    """One value for each of :data:`ATTRIBUTES`, and the exact ``size``."""
    age: float | None


def describe_row(row: Row, split: str, facts: ImageFacts) -> Described:
    """Put an image's facts into bands. An age that is no number from 0 to 130 is not known."""
    age = _age(row.age)
    values = {
        "source": row.source or UNKNOWN,
        "view": row.view or UNKNOWN,
        "sex": row.sex or UNKNOWN,
        "age": UNKNOWN if age is None else _band(age, _AGES),
        "shorter side": _band(min(facts.width, facts.height), _EDGES),
        "shape": _band(facts.width / facts.height, _SHAPES),
        "size": f"{facts.width} x {facts.height}",
    }
    return Described(row, split, facts, values, age)


def count_values(images: Sequence[Described], labels: Sequence[str], splits: Sequence[str]) -> list[Count]:
    """Count every attribute's values by split and class; zeros are left out."""
    counts = []
    for attribute in ATTRIBUTES:
        found = Counter((image.split, image.row.label, image.values[attribute]) for image in images)
        order = order_of(attribute, images)
        counts += [
            Count(attribute=attribute, split=split, label=label, value=value, images=found[split, label, value])
            for split in splits
            for label in labels
            for value in order
            if found[split, label, value]
        ]
    return counts


def order_of(attribute: str, images: Sequence[Described]) -> list[str]:
    """An attribute's values in the order to show them: bands as they follow, names by number, unknown last."""
    found = Counter(image.values[attribute] for image in images)
    if attribute in BANDS:
        known = [value for value in BANDS[attribute] if value in found]
    else:
        known = sorted((value for value in found if value != UNKNOWN), key=lambda value: (-found[value], value))
    return known + [UNKNOWN] * (UNKNOWN in found)


def summarise_numbers(images: Sequence[Described], labels: Sequence[str], splits: Sequence[str]) -> list[Numbers]:
    """Quartiles, mean and spread of width, height and age by split and class."""
    summaries = []
    for split in (ALL, *splits):
        for label in (ALL, *labels):
            chosen = [i for i in images if split in (ALL, i.split) and label in (ALL, i.row.label)]
            if not chosen:
                continue
            ages = [image.age for image in chosen if image.age is not None]
            summaries += [
                _summary("width", split, label, [i.facts.width for i in chosen], 0),
                _summary("height", split, label, [i.facts.height for i in chosen], 0),
                _summary("age", split, label, ages, len(chosen) - len(ages)),
            ]
    return summaries


def _summary(attribute: str, split: str, label: str, values: Sequence[float], unknown: int) -> Numbers:
    array = np.asarray(values, dtype=np.float64)
    quantiles = [round(float(q), 2) for q in np.quantile(array, (0, 0.25, 0.5, 0.75, 1))] if len(array) else [None] * 5
    return Numbers(
        attribute=attribute,  # type: ignore[arg-type] # one of the three names above
        split=split,
        label=label,
        known=len(array),
        unknown=unknown,
        minimum=quantiles[0],
        quartile_1=quantiles[1],
        median=quantiles[2],
        quartile_3=quantiles[3],
        maximum=quantiles[4],
        mean=round(float(array.mean()), 2) if len(array) else None,
        standard_deviation=round(float(array.std(ddof=1)), 2) if len(array) > 1 else None,
    )


def _age(text: str) -> float | None:
    try:
        age = float(text)
    except ValueError:
        return None
    return age if 0 <= age <= 130 else None


def _band(value: float, bands: Sequence[tuple[float, str]]) -> str:
    return next(name for limit, name in bands if value < limit)
