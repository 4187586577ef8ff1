"""TorchScript bytecode on torch's lite interpreter, as a phone runs it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from edge_runtime.backends.torchscript import TorchScriptBackend
from edge_runtime.errors import BackendError
from edge_runtime.manifest import Artifact, Format, Manifest

__all__ = ["LiteBackend"]


class LiteBackend(TorchScriptBackend):
    """A ``.ptl`` file on the lite interpreter of desktop torch; here for bench, parity and self-test."""

    name: ClassVar[str] = "lite"
    format: ClassVar[Format] = "lite"

    def __init__(self, path: Path, artifact: Artifact, manifest: Manifest, threads: int | None) -> None:
        import torch

        if artifact.precision == "int8":
            # int8 was prepared for phones: the desktop's default engine answers otherwise
            if "qnnpack" not in torch.backends.quantized.supported_engines:
                raise BackendError(
                    f"artifact {artifact.name} needs torch's qnnpack engine",
                    got=", ".join(torch.backends.quantized.supported_engines),
                    expected="qnnpack",
                    remedy="use another artifact on this machine",
                )
            torch.backends.quantized.engine = "qnnpack"
        super().__init__(path, artifact, manifest, threads)

    def _load(self, path: Path) -> Any:
        from torch.jit.mobile import _load_for_lite_interpreter

        return _load_for_lite_interpreter(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
