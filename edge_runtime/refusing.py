"""Refusing what the model cannot judge: by the bundle's gate, and by the patient's age.

The graph computes the score; here it is read. See :class:`edge_runtime.manifest.Gate`.
"""

from __future__ import annotations

import math
import re
from typing import Final

from edge_runtime.errors import BackendError, Reason, Refusal
from edge_runtime.manifest import Gate
from edge_runtime.radiograph import HeaderFacts

__all__ = ["age_in_years", "check_age", "check_score", "reason_of"]

_SENTENCES: Final[dict[Reason, tuple[str, str]]] = {
    Reason.NOT_A_RADIOGRAPH: (
        "the picture does not look like the frontal chest radiographs that the model was trained on",
        "choose a frontal chest radiograph, the whole image, without a screen or a frame around it",
    ),
    Reason.INVERTED: (
        "the picture seems to be inverted: bone is dark and air is bright",
        "export it with bone bright, or as DICOM with its photometric interpretation",
    ),
    Reason.ROTATED: (
        "the radiograph seems to lie on its side or upside down",
        "turn it so that the patient's head is up, and answer it again",
    ),
    Reason.LATERAL_VIEW: (
        "the picture looks like a lateral view of the chest",
        "choose the study's frontal view",
    ),
}
"""For each reason a gate can give: what is wrong, and what to do."""
_PER_YEAR: Final = {"D": 365.25, "W": 365.25 / 7, "M": 12.0, "Y": 1.0}
"""So many of a DICOM age's units (PS3.5 6.2, AS) make a year."""


def reason_of(gate: Gate, score: float) -> Reason | None:
    """Return what a score is refused as; None where it is let through."""
    if score < gate.threshold:
        return None
    return Reason(gate.reasons[min(int(score), len(gate.reasons)) - 1])


def check_score(gate: Gate | None, score: float) -> None:
    """Refuse a picture by its ``gate_score``. Without a gate nothing is refused.

    Raises
    ------
    Refusal
        The score is at its limit or above.
    BackendError
        The score is not a number: nothing is known of the picture.
    """
    if gate is None:
        return
    if not math.isfinite(score):
        raise BackendError(
            "the artifact gave a gate score that is not a number",
            got=str(score),
            remedy="run `edge-runtime selftest`, and use an artifact that agrees",
        )
    reason = reason_of(gate, score)
    if reason is not None:
        what, remedy = _SENTENCES[reason]
        raise Refusal(reason, what, got=f"gate score {score:.2f}", expected=f"below {gate.threshold:g}", remedy=remedy)


def check_age(gate: Gate | None, facts: HeaderFacts) -> None:
    """Refuse a patient younger than the model was made for. An age that the header does not tell passes.

    Raises
    ------
    Refusal
        ``child_under_limit``.
    """
    if gate is None or gate.minimum_age_years is None:
        return
    age = age_in_years(facts.age)
    if age is not None and age < gate.minimum_age_years:
        raise Refusal(
            Reason.CHILD_UNDER_LIMIT,
            "the patient is younger than those the model was trained on",
            got=f"age {facts.age}",
            expected=f"at least {gate.minimum_age_years:g} years",
            remedy="have a reader judge the radiograph",
        )


def age_in_years(age: str | None) -> float | None:
    """Years of a DICOM age string such as ``018M``; None where it is absent or no age.

    Age 0 in years is read as unknown: anonymised headers have it (``000Y``).
    """
    match = re.fullmatch(r"(\d{1,3})([DWMY])?", (age or "").strip().upper())
    if match is None:
        return None
    number, unit = int(match[1]), match[2] or "Y"
    return None if number == 0 and unit == "Y" else number / _PER_YEAR[unit]
