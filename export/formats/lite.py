"""PyTorch's lite interpreter ``.ptl``: what PyTorch Mobile on Android and iOS reads (bytecode 8)."""

from __future__ import annotations

import warnings
from pathlib import Path

from edge_runtime.manifest import LiteFacts
from export.errors import ExportError
from export.formats.torchscript import canonicalise, trace
from export.graph import DeployableGraph

__all__ = ["BYTECODE_VERSIONS", "lite_facts", "write"]

BYTECODE_VERSIONS = range(4, 10)
"""Bytecode versions that PyTorch Android 2.1.0, the last release, loads."""


def write(graph: DeployableGraph, path: Path, *, freeze: bool = True) -> None:
    """Write ``graph`` to ``path`` for the lite interpreter, dynamic in H and W, frozen unless its weights are stored
    as int8.

    ``optimize_for_mobile`` is left out on purpose: it has given wrong numbers without a word.

    Raises
    ------
    ExportError
        The installed torch writes a bytecode version that PyTorch Android 2.1.0 does not load.
    """
    from torch.jit.mobile import _get_model_bytecode_version

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is what PyTorch Mobile reads
        trace(graph, freeze=freeze)._save_for_lite_interpreter(str(path))
        canonicalise(path)
        version = int(_get_model_bytecode_version(str(path)))
    if version not in BYTECODE_VERSIONS:
        raise ExportError(
            f"{path.name} has a bytecode version that PyTorch Android 2.1.0 does not load",
            got=str(version),
            expected=f"{BYTECODE_VERSIONS.start} to {BYTECODE_VERSIONS.stop - 1}",
            remedy="install a torch release that writes an older one (2.13 writes 8)",
        )


def lite_facts(path: Path) -> LiteFacts:
    """Read bytecode version and operators from a written ``.ptl`` file."""
    from torch.jit.mobile import _export_operator_list, _get_model_bytecode_version, _load_for_lite_interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        version = int(_get_model_bytecode_version(str(path)))
        operators = _export_operator_list(_load_for_lite_interpreter(str(path)))  # type: ignore[no-untyped-call]
    return LiteFacts(bytecode_version=version, operators=tuple(sorted(operators)))
