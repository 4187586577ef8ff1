"""``--formats onnx,lite``, for every command that takes several."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from edge_runtime.manifest import Format

__all__ = ["QUANTIZED", "formats_of"]

QUANTIZED: tuple[Format, ...] = ("onnx", "openvino", "torchscript", "lite")
"""Formats whose int8 the ladder knows (here without its imports, which take seconds)."""


def formats_of(allowed: Sequence[Format]) -> Callable[[click.Context, click.Parameter, str], tuple[Format, ...]]:
    """Return a click callback: names with commas become formats, in the order of ``allowed``, each once."""

    def parse(_context: click.Context, _parameter: click.Parameter, value: str) -> tuple[Format, ...]:
        asked = [part.strip() for part in value.split(",") if part.strip()]
        if unknown := [name for name in asked if name not in allowed]:
            raise click.BadParameter(f"no format {', '.join(unknown)}; choose of {', '.join(allowed)}")
        if not asked:
            raise click.BadParameter(f"choose of {', '.join(allowed)}")
        return tuple(name for name in allowed if name in asked)

    return parse
