"""Make torchvision importable beside a torch build that its compiled operators do not match.

torchvision's wheel is built for CUDA. Beside a CPU build of torch its native library does not load, and then
``import torchvision`` (which fastai does) stops at ``torchvision::nms``, an operator that nothing here uses. Declaring
the schemas of the two missing operators lets the import go on. With a matching pair of torch and torchvision nothing
is declared and nothing changes.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

__all__ = ["declare_missing_operators"]

_SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}


def declare_missing_operators() -> tuple[str, ...]:
    """Declare torchvision's operators where its native library does not load; call it before importing fastai.

    Returns
    -------
    tuple of str
        The operators that were declared; empty where torchvision's own library loads.
    """
    if _native_library_loads():
        return ()
    declared = []
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            torch.library.define(f"torchvision::{name}", schema)
            declared.append(name)
    return tuple(declared)


def _native_library_loads() -> bool:
    """Load torchvision's library as its own ``extension.py`` does, and say whether that worked."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        return True  # not installed: the import error that follows is the right one
    folder = Path(spec.origin).parent
    for library in sorted(folder.glob("_C.*")) + sorted(folder.glob("_C_stable.*")):
        try:
            torch.ops.load_library(str(library))  # type: ignore[no-untyped-call]
        except OSError:
            return False
    return True
