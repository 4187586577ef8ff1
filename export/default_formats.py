"""Formats that a build writes where nobody chooses."""

from __future__ import annotations

from edge_runtime.manifest import FORMATS, Format

__all__ = ["DEFAULT_FORMATS"]

DEFAULT_FORMATS: tuple[Format, ...] = tuple(f for f in FORMATS if f != "executorch")
"""Not ExecuTorch, which has an environment of its own (docs/mobile.md)."""
