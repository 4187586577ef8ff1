"""Figures with 95 % intervals: Wilson's for shares, a bootstrap over patients for the rest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from train.intervals import wilson_interval

__all__ = ["Estimate", "PatientResampling", "no_estimate", "resampled", "share"]

_BLOCK = 100  # resamples at a time: 100 x 14,000 radiographs of float64 are 11 MB


@dataclass(frozen=True)
class Estimate:
    """One figure. ``value`` is None where it cannot be computed, and ``reason`` then says why; never NaN.

    ``method`` is ``wilson`` (shares; each radiograph counts as independent) or ``bootstrap`` (over patients).
    """

    value: float | None
    interval: tuple[float, float] | None = None
    method: str | None = None
    successes: int | None = None
    cases: int | None = None
    reason: str | None = None


def no_estimate(reason: str) -> Estimate:
    """Return an estimate without a value."""
    return Estimate(None, reason=reason)


def share(successes: int, cases: int, reason: str) -> Estimate:
    """Return a share with its Wilson interval, or ``reason`` where there are no cases."""
    if cases == 0:
        return Estimate(None, successes=successes, cases=0, reason=reason)
    return Estimate(successes / cases, wilson_interval(successes, cases), "wilson", successes, cases)


def resampled(value: float, draws: NDArray[np.float64]) -> Estimate:
    """Return a figure with the 2.5 and 97.5 percentiles of its resampled values, float64 [R]; NaNs are left out."""
    usable = draws[np.isfinite(draws)]
    if not np.isfinite(value):
        return no_estimate("not defined on this split")
    if len(usable) == 0:
        return Estimate(float(value))
    low, high = np.percentile(usable, [2.5, 97.5])
    return Estimate(float(value), (float(low), float(high)), "bootstrap")


class PatientResampling:
    """Bootstrap weights that keep a patient's radiographs together.

    Patients are drawn with replacement within strata (patients whose radiographs have the same set of classes), so that
    no class disappears from a resample. A radiograph's weight is how often its patient was drawn.

    Parameters
    ----------
    patients
        Patient of each radiograph, N strings.
    targets
        int [N], class indices.
    resamples
        Number R of draws.
    seed
        The same seed draws the same.
    """

    def __init__(self, patients: Sequence[str], targets: NDArray[np.int64], resamples: int, seed: int) -> None:
        names, self._patient = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
        classes: list[set[int]] = [set() for _ in names]
        for patient, target in zip(self._patient, targets, strict=True):
            classes[patient].add(int(target))
        strata: dict[tuple[int, ...], list[int]] = {}
        for patient, found in enumerate(classes):
            strata.setdefault(tuple(sorted(found)), []).append(patient)
        self._strata = [np.array(members) for _, members in sorted(strata.items())]
        self.patients = len(names)
        self.resamples = resamples
        self._seed = seed

    def blocks(self) -> Iterator[NDArray[np.float64]]:
        """Yield weights float64 [r, N] until R rows have been given."""
        generator = np.random.default_rng(self._seed)
        for start in range(0, self.resamples, _BLOCK):
            rows = min(_BLOCK, self.resamples - start)
            counts = np.zeros((rows, self.patients))
            for members in self._strata:
                drawn = generator.integers(len(members), size=(rows, len(members)))
                for row in range(rows):
                    counts[row, members] = np.bincount(drawn[row], minlength=len(members))
            yield counts[:, self._patient]
