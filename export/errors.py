"""What export raises on purpose: one message that says what to do about it."""

from __future__ import annotations

from edge_runtime.errors import EdgeRuntimeError

__all__ = ["ExportError", "ParityFailure"]


class ExportError(EdgeRuntimeError):
    """A model cannot be made deployable, converted, calibrated or written."""


class ParityFailure(ExportError):  # noqa: N818 - a verdict, not a fault
    """A written artifact does not answer as the eager model does."""
