"""PyTorch's lite interpreter ``.ptl``: what PyTorch Mobile on Android and iOS reads (bytecode 8)."""

from __future__ import annotations

import warnings
from pathlib import Path

from edge_runtime.manifest import LiteFacts
from export.errors import ExportError
from export.formats.answering import Shapes, check_answers
from export.formats.torchscript import canonicalise, trace
from export.graph import DeployableGraph, output_shapes

__all__ = ["BYTECODE_VERSIONS", "check_file", "lite_facts", "write"]

BYTECODE_VERSIONS = range(4, 10)
"""Bytecode versions that PyTorch Android 2.1.0, the last release, loads."""


def write(graph: DeployableGraph, path: Path, *, freeze: bool = True) -> None:
    """Write ``graph`` to ``path`` for the lite interpreter, dynamic in H and W, frozen unless its weights are stored
    as int8.

    ``optimize_for_mobile`` is left out on purpose: it has given wrong numbers without a word.

    Raises
    ------
    ExportError
        The graph cannot be traced; the installed torch writes a bytecode version that PyTorch Android 2.1.0 does not
        load; the file answers otherwise than the graph.
    OSError
        The file cannot be written.
    """
    module = trace(graph, freeze=freeze)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it is what PyTorch Mobile reads
        archive: bytes = module._save_to_buffer_for_lite_interpreter()
    path.write_bytes(canonicalise(archive))
    check_file(path, output_shapes(graph))


def check_file(path: Path, shapes: Shapes | None = None) -> None:
    """Open the written file in the lite interpreter, and check its bytecode version and what it answers.

    The file holds no names: see :func:`export.formats.answering.check_answers`.

    Raises
    ------
    ExportError
        It is not for the lite interpreter, not for that of PyTorch Android 2.1.0, or answers otherwise than the graph.
    """
    from torch.jit.mobile import _get_model_bytecode_version, _load_for_lite_interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            version = int(_get_model_bytecode_version(str(path)))
        except RuntimeError as error:
            raise _not_lite(path, error) from error
        if version not in BYTECODE_VERSIONS:
            raise ExportError(
                f"{path.name} has a bytecode version that PyTorch Android 2.1.0 does not load",
                got=str(version),
                expected=f"{BYTECODE_VERSIONS.start} to {BYTECODE_VERSIONS.stop - 1}",
                remedy="write it with a torch release that writes one of these (2.13 writes 8)",
            )
        try:
            module = _load_for_lite_interpreter(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        except RuntimeError as error:
            raise _not_lite(path, error) from error
        check_answers(module, path.name, shapes)


def lite_facts(path: Path) -> LiteFacts:
    """Read bytecode version and operators from a written ``.ptl`` file."""
    from torch.jit.mobile import _export_operator_list, _get_model_bytecode_version, _load_for_lite_interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        version = int(_get_model_bytecode_version(str(path)))
        operators = _export_operator_list(_load_for_lite_interpreter(str(path)))  # type: ignore[no-untyped-call]
    return LiteFacts(bytecode_version=version, operators=tuple(sorted(operators)))


def _not_lite(path: Path, error: Exception) -> ExportError:
    return ExportError(
        f"{path.name} is not a file for the lite interpreter",
        got=(str(error).strip().splitlines() or [""])[0][:300],
        expected="what torch's _save_for_lite_interpreter writes",
    )
