"""How much an attribute of a radiograph gives its class away, before anybody looks at the lungs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from train.data.description.record import Association

__all__ = ["FEWEST_PATIENTS", "associate", "cramers_v", "guess_share", "pool_rare"]

FEWEST_PATIENTS = 10
"""Values that fewer patients have are taken as one."""

RARE = "rare"


def associate(attribute: str, values: Sequence[str], classes: Sequence[str], patients: Sequence[str]) -> Association:
    """Measure how an attribute goes with the class.

    Parameters
    ----------
    attribute
        Its name.
    values, classes, patients
        One entry an image.
    """
    pooled = pool_rare(values, patients)
    rows, columns = sorted(set(pooled)), sorted(set(classes))
    place_of_value = {name: place for place, name in enumerate(rows)}
    place_of_class = {name: place for place, name in enumerate(columns)}
    table = np.zeros((len(rows), len(columns)))
    for value, label in zip(pooled, classes, strict=True):
        table[place_of_value[value], place_of_class[label]] += 1
    strength = cramers_v(table)
    return Association(
        attribute=attribute,
        values=len(set(values)),
        values_compared=len(rows),
        cramers_v=None if strength is None else round(strength, 4),
        guess=round(guess_share(table), 4),
        guess_without=round(float(table.sum(0).max() / table.sum()), 4),
        words=_words(strength),
    )


def cramers_v(table: NDArray[np.float64]) -> float | None:
    """Cramér's V of a table of counts [R, C], corrected for chance (Bergsma 2013, J. Korean Stat. Soc. 42:323).

    Returns
    -------
    float or None
        0 to 1; None where there is a single row or column, or about as many rows as images.
    """
    table = table[table.sum(1) > 0][:, table.sum(0) > 0]
    rows, columns = table.shape
    total = table.sum()
    if min(rows, columns) < 2:
        return None
    expected = np.outer(table.sum(1), table.sum(0)) / total
    phi = float(((table - expected) ** 2 / expected).sum() / total)
    phi = max(0.0, phi - (rows - 1) * (columns - 1) / (total - 1))
    least = min(n - (n - 1) ** 2 / (total - 1) for n in (rows, columns)) - 1
    return min(1.0, float(np.sqrt(phi / least))) if least > 1e-9 else None


def guess_share(table: NDArray[np.float64]) -> float:
    """Share of images guessed right by naming the commonest class of their value: table of counts [R, C]."""
    return float(table.max(1).sum() / table.sum())


def pool_rare(values: Sequence[str], patients: Sequence[str]) -> list[str]:
    """The values, those of fewer than :data:`FEWEST_PATIENTS` patients made one.

    A value that one patient has (an exact image size) would guess that patient's class by itself, and say nothing
    about the next patient.
    """
    having: dict[str, set[str]] = defaultdict(set)
    for value, patient in zip(values, patients, strict=True):
        having[value].add(patient)
    return [value if len(having[value]) >= FEWEST_PATIENTS else RARE for value in values]


def _words(strength: float | None) -> str:
    if strength is None:
        return "cannot be measured"
    # Cohen's rule of thumb for two degrees of freedom (0.07, 0.21, 0.35), rounded; words, not a test.
    limits = ((0.1, "hardly any"), (0.2, "weak"), (0.35, "moderate"), (0.6, "strong"))
    return next((words for limit, words in limits if strength < limit), "very strong")
