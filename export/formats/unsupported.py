"""Which operator a format has no counterpart for, and which module of the network it came from."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from export.errors import ExportError
from export.graph import DeployableGraph

__all__ = ["check_operators", "modules_of", "tracing", "unsupported"]

_KNOWN = ("aten", "prim", "quantized", "prepacked")
"""Namespaces of TorchScript operators that libtorch holds without further libraries."""
_SEVERAL = 3


def unsupported(format_name: str, operators: dict[str, list[str]], graph: nn.Module) -> ExportError:
    """Return the error for operators without counterpart.

    Parameters
    ----------
    format_name
        As users know it.
    operators
        Operator -> paths of the modules that use it, such as ``body.stage1.foo``; empty where they are not known.
    """
    said = [f"{operator}{_places(paths, graph)}" for operator, paths in operators.items()]
    return ExportError(
        f"the graph cannot be written as {format_name}: it has no counterpart for an operator",
        got="; ".join(said),
        expected="operators that the format knows",
        remedy="write the module with other operators, or leave the format out",
    )


def modules_of(trace: torch.jit.ScriptModule, wanted: Callable[[str], bool]) -> dict[str, list[str]]:
    """Find operators of an unfrozen trace, and the modules they come from.

    Parameters
    ----------
    wanted
        Told an operator's kind, such as ``aten::linalg_eigvals``.

    Returns
    -------
    dict
        Operator -> module paths in the graph, in order. A Python function is called by its name.
    """
    found: dict[str, list[str]] = {}
    for node in _nodes(trace.inlined_graph):
        if wanted(node.kind()):
            operator = f"Python function {node.pyname()}" if node.kind() == "prim::PythonOp" else str(node.kind())
            paths = found.setdefault(operator, [])
            path = _path(node.scopeName())
            if path not in paths:
                paths.append(path)
    return found


def check_operators(trace: torch.jit.ScriptModule, graph: DeployableGraph) -> None:
    """Check that a trace holds operators of libtorch alone: nothing of Python or of a package's own library.

    Raises
    ------
    ExportError
        It names the operators and their modules.
    """

    def foreign(kind: str) -> bool:
        return kind == "prim::PythonOp" or kind.partition("::")[0] not in _KNOWN

    operators = modules_of(trace, foreign)
    if operators:
        raise unsupported("TorchScript", operators, graph)


@contextlib.contextmanager
def tracing(graph: nn.Module, format_name: str) -> Iterator[None]:
    """Let an error that leaves a module's ``forward`` while it is traced say which module it was.

    Raises
    ------
    ExportError
        In place of whatever a module raised.
    """
    entered: list[str] = []
    names = {module: name for name, module in graph.named_modules()}

    def enter(module: nn.Module, _inputs: Any) -> None:
        if module in names:
            entered.append(names[module])

    def leave(module: nn.Module, _inputs: Any, _outputs: Any) -> None:
        if module in names:
            entered.pop()  # not reached by a module that raises: it stays the last one

    # Hooks of all modules, not of these: torch.jit would try to compile a module's own.
    hooks = (
        nn.modules.module.register_module_forward_pre_hook(enter),
        nn.modules.module.register_module_forward_hook(leave),
    )
    try:
        yield
    except ExportError:
        raise
    except Exception as error:  # whatever a module or a tracer raises
        first = (str(error).strip().splitlines() or [""])[0][:300]
        raise ExportError(
            f"the graph cannot be traced for {format_name}",
            got=f"{type(error).__name__}: {first}" + (f", in {_named(entered[-1], graph)}" if entered else ""),
            expected="modules without control flow that depends on values",
            remedy="write the module otherwise, or leave the format out",
        ) from error
    finally:
        for hook in hooks:
            hook.remove()


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _path(scope: str) -> str:
    """``__module/__module.body/__module.body.stage1`` -> ``body.stage1``."""
    last = scope.rpartition("/")[2].partition("::")[0]
    return last.removeprefix("__module").removeprefix(".")


def _places(paths: list[str], graph: nn.Module) -> str:
    if not paths:
        return ""
    more = f" and {len(paths) - _SEVERAL} more" if len(paths) > _SEVERAL else ""
    return " in " + ", ".join(_named(path, graph) for path in paths[:_SEVERAL]) + more


def _named(path: str, graph: nn.Module) -> str:
    kind = type(graph.get_submodule(path)).__name__
    return f"{path} ({kind})" if path else f"the graph itself ({kind})"
