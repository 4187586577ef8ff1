"""The operating point: from which probability on a site wants a radiograph marked, chosen on the bundle's own curve."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import sqrt
from typing import Annotated, Any

import msgspec

from edge_runtime.errors import UsageError
from edge_runtime.manifest import Manifest
from edge_runtime.records import Records
from edge_runtime.web.language import gettext

__all__ = [
    "SETTING",
    "OperatingCurve",
    "OperatingPoint",
    "choose",
    "clear",
    "curve_of",
    "described",
    "point_in_force",
    "strange_curve",
    "wilson",
]

SETTING = "operating_point"
Z = 1.959964  # 95 %


Count = Annotated[int, msgspec.Meta(ge=0)]


class CurvePoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts on the bundle's validation radiographs where the class is called from ``threshold`` on."""

    threshold: Annotated[float, msgspec.Meta(ge=0, le=1)]
    true_positives: Count
    false_negatives: Count
    false_positives: Count
    true_negatives: Count


class OperatingCurve(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The manifest's ``operating_curve``: for some classes, counts at thresholds from 0 to 1, on one split."""

    split: str
    radiographs: int
    curves: dict[str, tuple[CurvePoint, ...]]


@dataclass(frozen=True)
class OperatingPoint:
    """What a site chose. It belongs to one checkpoint: with another model it is void."""

    label: str
    threshold: float
    checkpoint_sha256: str
    actor: str
    at: str
    reason: str

    def mark(self, probabilities: dict[str, float] | None) -> dict[str, Any] | None:
        """Return what an answer says of it: ``label``, ``threshold``, and whether it is ``reached``."""
        if probabilities is None or self.label not in probabilities:
            return None
        reached = probabilities[self.label] >= self.threshold
        return {"label": self.label, "threshold": self.threshold, "reached": reached}


def curve_of(manifest: Manifest) -> OperatingCurve | None:
    """Return the bundle's curve, without classes that it has no point of; None where there is nothing to choose on.

    That is where the bundle has none, or one of a form that this runtime does not know: :func:`strange_curve` tells.
    """
    if manifest.operating_curve is None:
        return None
    try:
        curve = msgspec.convert(manifest.operating_curve, OperatingCurve, from_attributes=True)
    except msgspec.ValidationError:
        return None
    curves = {label: points for label, points in curve.curves.items() if points and label in manifest.labels}
    return OperatingCurve(curve.split, curve.radiographs, curves) if curves else None


def strange_curve(manifest: Manifest) -> bool:
    """True where the bundle has a curve that this runtime cannot use."""
    return manifest.operating_curve is not None and curve_of(manifest) is None


def described(curve: OperatingCurve) -> dict[str, Any]:
    """Return the curve for drawing: by rising threshold, sensitivity and specificity with 95 % Wilson intervals.

    ``cases`` says of how many radiographs of a class, and how many others, its points are counts.
    """
    curves = {label: sorted(points, key=lambda point: point.threshold) for label, points in curve.curves.items()}
    return {
        "split": curve.split,
        "radiographs": curve.radiographs,
        "cases": {label: _cases(points[0]) for label, points in curves.items()},
        "curves": {label: [_described(point) for point in points] for label, points in curves.items()},
    }


def wilson(hits: int, trials: int) -> tuple[float, float, float] | None:
    """Return a proportion with its 95 % score interval (Wilson 1927), or None without a trial."""
    if trials == 0:
        return None
    share = hits / trials
    centre = (share + Z * Z / (2 * trials)) / (1 + Z * Z / trials)
    half = Z * sqrt(share * (1 - share) / trials + Z * Z / (4 * trials * trials)) / (1 + Z * Z / trials)
    return share, max(0.0, centre - half), min(1.0, centre + half)


def point_in_force(records: Records | None, manifest: Manifest) -> OperatingPoint | None:
    """Return the site's operating point, if there is one and it belongs to this bundle's checkpoint."""
    setting = None if records is None else records.setting(SETTING)
    if setting is None or setting.value is None:
        return None
    value = setting.value
    if value.get("checkpoint_sha256") != manifest.provenance.checkpoint_sha256 or value["label"] not in manifest.labels:
        return None
    return OperatingPoint(actor=setting.actor, at=setting.at, **value)


def choose(records: Records, manifest: Manifest, label: object, threshold: object, reason: object, actor: str) -> None:
    """Write a choice down, with the name of who made it and why.

    Raises
    ------
    UsageError
        Not a class of this bundle, a threshold outside 0 to 1, or no reason.
    """
    if label not in manifest.labels:
        raise UsageError(
            gettext("This is no class of the bundle."), got=str(label)[:60], expected=", ".join(manifest.labels)
        )
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise UsageError(gettext("The threshold is not a number from 0 to 1."), got=str(threshold)[:60])
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError(gettext("A change of the operating point needs a reason."))
    value = {
        "label": label,
        "threshold": round(float(threshold), 6),
        "checkpoint_sha256": manifest.provenance.checkpoint_sha256,
        "reason": reason.strip()[:300],
    }
    records.set_setting(SETTING, value, actor=actor)


def clear(records: Records, actor: str) -> None:
    """Take the operating point back: the most probable class answers alone."""
    records.set_setting(SETTING, None, actor=actor)


def to_json(point: OperatingPoint | None) -> dict[str, Any] | None:
    """Return the operating point as a JSON object."""
    return None if point is None else asdict(point)


def _cases(point: CurvePoint) -> tuple[int, int]:
    return point.true_positives + point.false_negatives, point.false_positives + point.true_negatives


def _described(point: CurvePoint) -> dict[str, Any]:
    sick, well = _cases(point)
    return {
        "threshold": point.threshold,
        "sensitivity": wilson(point.true_positives, sick),
        "specificity": wilson(point.true_negatives, well),
    }
