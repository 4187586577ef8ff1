"""Candidates that need no file of their own: the same file on another backend of this CPU, such as bfloat16."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.manifest import Format, Precision
from export.quantization.judging import Figures, Judge, Target

__all__ = ["Variant", "judge_variants"]

_BACKENDS: Mapping[Format, tuple[str, ...]] = {"openvino": ("openvino-bf16",)}
"""Backends of the CPU, by format: a GPU's times would not compare with a CPU's."""


@dataclass(frozen=True)
class Variant:
    """A file on another backend: its figures on the search set, or why it does not run here.

    Attributes
    ----------
    file
        In words: ``fp32``, or the name of the rung whose file it is.
    """

    backend: str
    file: str
    figures: Figures | None
    failure: str | None = None


def judge_variants(judge: Judge, files: Mapping[str, tuple[Path, Precision]], target: Target) -> tuple[Variant, ...]:
    """Run each file, by its name in words, on each other backend of the judge's format."""
    found = []
    for backend in _BACKENDS.get(judge.format, ()):
        for name, (path, precision) in files.items():
            try:
                found.append(Variant(backend, name, judge.judge(path, precision, target, backend)))
            except EdgeRuntimeError as error:  # this CPU has no such arithmetic
                found.append(Variant(backend, name, None, str(error)))
    return tuple(found)
