"""What CPU this is; the runtime asks the same, so it lives there."""

from __future__ import annotations

from edge_runtime.cpu import FEATURES, cpu_features, cpu_model

__all__ = ["FEATURES", "cpu_features", "cpu_model"]
