"""The conformal prediction set: every class that cannot be ruled out at the stated coverage."""

from __future__ import annotations

from collections.abc import Mapping

from edge_runtime.manifest import Conformal

__all__ = ["prediction_set", "refers", "set_note"]


def prediction_set(conformal: Conformal | None, probabilities: Mapping[str, float]) -> tuple[str, ...] | None:
    """Return the labels whose probability reaches their threshold, in the order of ``probabilities``.

    It can hold one label, several, or none. None (no set) where the bundle has no conformal section.
    """
    if conformal is None:
        return None
    return tuple(label for label, p in probabilities.items() if p >= conformal.thresholds[label])


def refers(labels: tuple[str, ...] | None) -> bool | None:
    """Tell whether a reader should decide: the set holds not exactly one label. None where there is no set."""
    return None if labels is None else len(labels) != 1


def set_note(conformal: Conformal | None, labels: tuple[str, ...] | None) -> str | None:
    """Return the sentence that asks for a reader; None where one label is left or there is no set."""
    if conformal is None or labels is None or len(labels) == 1:
        return None
    if not labels:
        return "Refer to a reader: the radiograph is like none of the classes."
    several = f"{', '.join(labels[:-1])} and {labels[-1]}"
    return f"Refer to a reader: {several} cannot be told apart (at {conformal.coverage:.0%} coverage)."
