"""TorchScript ``.pt``: traced and frozen; the same graph gives the same bytes, on any machine."""

from __future__ import annotations

import pickletools
import re
import tempfile
import warnings
from pathlib import Path

import torch

from export.graph import DeployableGraph

__all__ = ["canonicalise", "trace", "write"]

_TRACE_SIZE = (250, 190)  # any: the graph resizes by itself, and the trace keeps H and W open
_MANGLED = re.compile(rb"[./]___torch_mangle_\d+")
_WRITTEN_BY_THE_WRITER = (".data/serialization_id", "byteorder", "version")


def write(graph: DeployableGraph, path: Path, *, freeze: bool = True) -> None:
    """Write ``graph`` to ``path`` as TorchScript, dynamic in H and W, frozen unless its weights are stored as int8."""
    trace(graph, freeze=freeze).save(str(path))
    canonicalise(path)


def trace(graph: DeployableGraph, *, freeze: bool = True) -> torch.jit.ScriptModule:
    """Trace, and freeze where asked. (Scripting fails on pytorchcv's blocks.)

    Freezing computes what is constant: int8 weights would be expanded to float in the file.
    """
    image = torch.zeros(1, 1, *_TRACE_SIZE, dtype=torch.uint8)
    with torch.no_grad(), warnings.catch_warnings():
        # torch.jit is deprecated for new designs; it is what libtorch and the lite interpreter read.
        warnings.simplefilter("ignore")
        traced: torch.jit.ScriptModule = torch.jit.trace(graph, image, check_trace=False)  # type: ignore[no-untyped-call]
        if not freeze:
            return traced
        frozen: torch.jit.ScriptModule = torch.jit.freeze(traced)
    return frozen


def canonicalise(path: Path) -> None:
    """Rewrite a TorchScript archive without what differs from machine to machine and from run to run.

    That is the debug records, which hold source paths of the machine that wrote the file, and the number
    that torch puts into the class's name, which counts what was traced before in the same process.
    """
    reader = torch._C.PyTorchFileReader(str(path))
    names = [str(name) for name in reader.get_all_records()]
    kept = [n for n in names if not n.endswith(".debug_pkl") and n not in _WRITTEN_BY_THE_WRITER]
    # A frozen trace holds one class. Of several (int8 weights) the numbers tell them apart and stay: the same command
    # gives the same bytes, a second build in the same process does not.
    rename = sum(n.startswith("code/") for n in kept) == 1
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        # The archive names the folder inside after its own file: keep the file name.
        temporary = Path(folder) / path.name
        writer = torch._C.PyTorchFileWriter(str(temporary))
        for name in kept:
            data = reader.get_record(name)
            if rename and name.endswith(".pkl"):
                data = _without_mangling_in_pickle(data)
            elif rename and name.startswith("code/"):
                name, data = _without_mangling(name.encode()).decode(), _without_mangling(data)
            writer.write_record(name, data, len(data))
        writer.write_end_of_file()
        temporary.replace(path)


def _without_mangling(text: bytes) -> bytes:
    return _MANGLED.sub(b"", text)


def _without_mangling_in_pickle(data: bytes) -> bytes:
    """Rename inside a pickle; strings there carry their length, so each is written anew."""
    operations = list(pickletools.genops(data))
    ends = [position for _, _, position in operations[1:]] + [len(data)]
    parts: list[bytes] = []
    for (operation, argument, start), end in zip(operations, ends, strict=True):
        piece = data[start or 0 : end]
        if operation.name == "BINUNICODE" and isinstance(argument, str):
            text = _without_mangling(argument.encode())
            piece = b"X" + len(text).to_bytes(4, "little") + text
        elif operation.name == "GLOBAL":
            piece = _without_mangling(piece)
        parts.append(piece)
    return b"".join(parts)
