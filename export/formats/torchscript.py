"""TorchScript ``.pt``: traced and frozen; the same graph gives the same bytes, on any machine."""

from __future__ import annotations

import io
import pickletools
import re
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from export.errors import ExportError
from export.formats.answering import Shapes, check_answers
from export.formats.unsupported import check_operators, tracing
from export.graph import DeployableGraph, output_shapes

__all__ = ["canonicalise", "check_file", "trace", "write"]

_TRACE_SIZE = (250, 190)  # any: the graph resizes by itself, and the trace keeps H and W open
_MANGLED = re.compile(rb"([./])___torch_mangle_(\d+)")
_WRITTEN_BY_THE_WRITER = (".data/serialization_id", "byteorder", "version")


def write(graph: DeployableGraph, path: Path, *, freeze: bool = True) -> None:
    """Write ``graph`` to ``path`` as TorchScript, dynamic in H and W, frozen unless its weights are stored as int8.

    torch writes into memory and Python the file: torch's own writer ends the process where the disk is full.

    Raises
    ------
    ExportError
        The graph cannot be traced, holds an operator that libtorch has not, or the file answers otherwise.
    OSError
        The file cannot be written.
    """
    module = trace(graph, freeze=freeze)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        archive: bytes = module.save_to_buffer()
    path.write_bytes(canonicalise(archive))
    check_file(path, output_shapes(graph))


def check_file(path: Path, shapes: Shapes | None = None) -> None:
    """Open the written file as a device does, and check what it answers.

    The file holds no names: its outputs are a tuple in the order of every format, and that order is what
    :func:`export.formats.answering.check_answers` checks.

    Raises
    ------
    ExportError
        It is not TorchScript, or answers otherwise than the graph.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            raise ExportError(
                f"{path.name} is not a TorchScript file", got=(str(error).strip().splitlines() or [""])[0][:300]
            ) from error
        check_answers(module, path.name, shapes)


def trace(graph: DeployableGraph, *, freeze: bool = True) -> torch.jit.ScriptModule:
    """Trace, and freeze where asked. (Scripting fails on pytorchcv's blocks.)

    Freezing computes what is constant: int8 weights would be expanded to float in the file.

    Raises
    ------
    ExportError
        The graph cannot be traced, or holds an operator that libtorch alone has not: the message names the module.
    """
    image = torch.zeros(1, 1, *_TRACE_SIZE, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        # torch.jit is deprecated for new designs; it is what libtorch and the lite interpreter read.
        warnings.simplefilter("ignore")

        def traced() -> torch.jit.ScriptModule:
            with tracing(graph, "TorchScript"):
                module: torch.jit.ScriptModule = torch.jit.trace(graph, image, check_trace=False)  # type: ignore[no-untyped-call]
            return module

        module = traced()
        check_operators(module, graph)
        if freeze:
            frozen: torch.jit.ScriptModule = torch.jit.freeze(module)
            return frozen
        # torch numbers a class only if its name was used before in the process. Traced twice every name was, and
        # `canonicalise` can number the classes of every build alike.
        return traced()


def canonicalise(archive: bytes) -> bytes:
    """Rewrite a TorchScript archive without what differs from machine to machine and from run to run.

    That is the debug records, which hold source paths of the machine that wrote the file, and the numbers that torch
    puts into names of classes, which count what was traced before in the same process: a frozen trace holds one class
    and loses its number; several are numbered anew, in their order.
    """
    reader = torch._C.PyTorchFileReader(io.BytesIO(archive))
    names = [str(name) for name in reader.get_all_records()]
    kept = [n for n in names if not n.endswith(".debug_pkl") and n not in _WRITTEN_BY_THE_WRITER]
    records = {name: bytes(reader.get_record(name)) for name in kept}
    texts = [name for name in kept if name.endswith(".pkl") or name.startswith("code/")]
    rename = _renaming([part for name in texts for part in (name.encode(), records[name])])
    stream = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(stream)
    writer.set_min_version(int(reader.get_record("version")))  # of operators: an older one would be translated
    for name in kept:
        data = records[name]
        if name.endswith(".pkl"):
            data = _renamed_in_pickle(data, rename)
        elif name.startswith("code/"):
            name, data = rename(name.encode()).decode(), rename(data)
        writer.write_record(name, data, len(data))
    writer.write_end_of_file()
    return stream.getvalue()


def _renaming(texts: list[bytes]) -> Callable[[bytes], bytes]:
    numbers = sorted({int(found[1]) for text in texts for found in _MANGLED.findall(text)})
    if len(numbers) <= 1:
        return lambda text: _MANGLED.sub(b"", text)
    new: Mapping[int, int] = {number: place for place, number in enumerate(numbers)}

    def rename(text: bytes) -> bytes:
        return _MANGLED.sub(lambda found: found[1] + b"___torch_mangle_%d" % new[int(found[2])], text)

    return rename


def _renamed_in_pickle(data: bytes, rename: Callable[[bytes], bytes]) -> bytes:
    """Rename inside a pickle; strings there carry their length, so each is written anew."""
    operations = list(pickletools.genops(data))
    ends = [position for _, _, position in operations[1:]] + [len(data)]
    parts: list[bytes] = []
    for (operation, argument, start), end in zip(operations, ends, strict=True):
        piece = data[start or 0 : end]
        if operation.name == "BINUNICODE" and isinstance(argument, str):
            text = rename(argument.encode())
            piece = b"X" + len(text).to_bytes(4, "little") + text
        elif operation.name == "GLOBAL":
            piece = rename(piece)
        parts.append(piece)
    return b"".join(parts)
