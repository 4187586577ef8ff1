"""What parity asks of an artifact: a small TOML file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from export.errors import ExportError

__all__ = ["DEFAULT_LIMITS_FILE", "ConversionLimits", "Limits", "QuantizationLimits", "RecordedLimits", "load_limits"]

DEFAULT_LIMITS_FILE = Path(__file__).with_name("parity_limits.toml")

Share = Annotated[float, Meta(ge=0, le=1)]
Margin = Annotated[float, Meta(gt=0, lt=1)]


class ConversionLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For fp32: largest difference of a probability, and number of decisions that may differ."""

    max_abs_probability_difference: Share
    differing_decisions: Annotated[int, Meta(ge=0)]


class QuantizationLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For every other precision.

    ``agreement`` is compared with the share of equal decisions as measured. The margins are compared with the lower
    limits of Tango's paired 95 % intervals of (artifact - full model).
    """

    agreement: Share
    accuracy_margin: Margin
    sensitivity_margins: dict[str, Margin]


class RecordedLimits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """For answers that a device recorded: share of the split's radiographs that it must have answered."""

    coverage: Share


class Limits(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file; every key must be there."""

    conversion: ConversionLimits
    quantization: QuantizationLimits
    recorded: RecordedLimits


def load_limits(path: str | Path | None = None, labels: Sequence[str] | None = None) -> Limits:
    """Read limits; None reads the defaults that come with the kit.

    Parameters
    ----------
    labels
        A bundle's classes. Of a file that was named, a class that is not among them is an error; of the defaults, it
        is left out.

    Raises
    ------
    ExportError
        The file is not there, is no TOML, or has an unknown, missing or impossible entry.
    """
    file = DEFAULT_LIMITS_FILE if path is None else Path(path)
    try:
        limits = msgspec.toml.decode(file.read_bytes(), type=Limits)
    except OSError as error:
        raise ExportError(f"the limits {file} cannot be read", got=error.strerror or str(error)) from error
    except (msgspec.DecodeError, ValueError) as error:
        raise ExportError(
            f"{file} is not a file of limits",
            got=str(error)[:300],
            expected=f"every key of {DEFAULT_LIMITS_FILE}, and no other",
            remedy="copy that file and change its figures",
        ) from error
    if labels is None:
        return limits
    margins = limits.quantization.sensitivity_margins
    unknown = [label for label in margins if label not in labels]
    if unknown and path is not None:
        raise ExportError(
            f"{file} names a class that the bundle does not have", got=", ".join(unknown), expected=", ".join(labels)
        )
    kept = {label: margin for label, margin in margins.items() if label in labels}
    quantization = msgspec.structs.replace(limits.quantization, sensitivity_margins=kept)
    return msgspec.structs.replace(limits, quantization=quantization)
