"""Formats that the deployable graph is written in, float32: one module each, with ``write(graph, path)``."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import cast

from edge_runtime.backends.executorch import ExecuTorchBackend
from edge_runtime.manifest import Format
from export.errors import ExportError
from export.graph import DeployableGraph

__all__ = ["WRITERS", "FormatWriter"]


_INSTALL_EXPORT = 'pip install "cxr-edge-runtime[export]"'
_INSTALL: dict[Format, str] = {"executorch": ExecuTorchBackend.install}


@dataclass(frozen=True)
class FormatWriter:
    """How one format is written.

    Attributes
    ----------
    format
        The manifest's name of the format.
    suffixes
        Of the files it leaves; the first is the one that is opened.
    """

    format: Format
    suffixes: tuple[str, ...]

    def write(self, graph: DeployableGraph, path: Path) -> None:
        """Write ``graph`` to ``path``, a file with the first suffix, and check what was written.

        Raises
        ------
        ExportError
            The format's tool is not installed, cannot express the graph, or wrote something else.
        """
        write = cast("Callable[[DeployableGraph, Path], None]", import_module(f"export.formats.{self.format}").write)
        with self._installed():
            write(graph, path)

    def check(self, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Check a file of this format, whoever wrote it: the graph's input, its outputs by name, dtype, order, shape.

        TorchScript, the lite interpreter and ExecuTorch keep no names: there the order fixes them, and the file is run.

        Parameters
        ----------
        shapes
            Output name -> shape, as in the manifest.

        Raises
        ------
        ExportError
            It is another kind of file, or one of another graph.
        """
        with self._installed():
            import_module(f"export.formats.{self.format}").check_file(path, shapes)

    @contextlib.contextmanager
    def _installed(self) -> Iterator[None]:
        try:
            yield
        except ImportError as error:
            raise ExportError(
                f"the format {self.format} needs a package that is not installed",
                got=str(error),
                remedy=f"{_INSTALL.get(self.format, _INSTALL_EXPORT)}, or leave the format out",
            ) from error


WRITERS: dict[Format, FormatWriter] = {
    writer.format: writer
    for writer in (
        FormatWriter("onnx", (".onnx",)),
        FormatWriter("openvino", (".xml", ".bin")),
        FormatWriter("torchscript", (".pt",)),
        FormatWriter("lite", (".ptl",)),
        FormatWriter("executorch", (".pte",)),
    )
}
