"""``RUN/quantization.toml``: what the ladder chose, so that a build repeats it and asks nothing anew."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from edge_runtime.manifest import Format
from export.errors import ExportError
from export.quantization.judging import Figures, Target
from export.quantization.settings import QuantizationSettings
from train.run import Run

__all__ = ["PLAN_NAME", "FormatPlan", "QuantizationPlan", "load_plan", "save_plan"]

PLAN_NAME = "quantization.toml"


class FormatPlan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings chosen for one format, what they reached on the search set, and fine-tuned weights if there are
    any."""

    reached: bool
    """Whether the target was met; if not, this is the best there was."""
    settings: QuantizationSettings
    figures: Figures
    weights_file: str
    """File in the run folder with fine-tuned weights; empty: the run's own."""
    weights_sha256: str


class QuantizationPlan(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    schema_version: Literal[1]
    checkpoint_sha256: str
    calibration_radiographs: int
    calibration_sha256: str
    search_radiographs: int
    search_patients: int
    search_sha256: str
    target: Target
    cpu: str
    formats: dict[Format, FormatPlan]


def save_plan(folder: Path, plan: QuantizationPlan) -> Path:
    """Write the plan into a run folder through a temporary name; return its path."""
    import tomli_w

    path = folder / PLAN_NAME
    temporary = path.with_suffix(".part")
    text = tomli_w.dumps(msgspec.to_builtins(plan))
    temporary.write_text(
        "# Written by `python -m export quantize`; `python -m export build` repeats it.\n" + text, encoding="utf-8"
    )
    os.replace(temporary, path)
    return path


def load_plan(run: Run) -> QuantizationPlan | None:
    """Read a run's plan; None where there is none.

    Raises
    ------
    ExportError
        It is not TOML, does not follow the schema, or was made for another checkpoint.
    """
    path = run.folder / PLAN_NAME
    if not path.is_file():
        return None
    try:
        plan = msgspec.toml.decode(path.read_bytes(), type=QuantizationPlan)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ExportError(
            f"{path} is not a quantization plan", got=str(error)[:300],
            remedy="run `python -m export quantize` again, or remove the file to build with plain settings",
        ) from error  # fmt: skip
    if plan.checkpoint_sha256 != run.spec.checkpoint_sha256:
        raise ExportError(
            f"{path} was made for another checkpoint",
            got=plan.checkpoint_sha256[:16],
            expected=run.spec.checkpoint_sha256[:16],
            remedy="run `python -m export quantize` again, or remove the file to build with plain settings",
        )
    return plan
