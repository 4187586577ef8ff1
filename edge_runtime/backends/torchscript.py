"""TorchScript on libtorch, CPU. torch is imported when an artifact is opened, not before."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edge_runtime.backends.protocol import Outputs, check_returned
from edge_runtime.errors import BackendError
from edge_runtime.manifest import Artifact, Format, Manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["TorchScriptBackend"]


class TorchScriptBackend:
    """A frozen TorchScript module. It returns a tuple of the outputs in the manifest's order.

    ``threads`` sets torch's number of threads for the whole process: torch has no other.
    """

    name: ClassVar[str] = "torchscript"
    format: ClassVar[Format] = "torchscript"
    package: ClassVar[str] = "torch"
    install: ClassVar[str] = 'pip install "cxr-edge-runtime[torchscript]"'

    def __init__(self, path: Path, artifact: Artifact, manifest: Manifest, threads: int | None) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self.versions = {"torch": str(torch.__version__)}
        self._torch: Any = torch
        self._names = [spec.name for spec in manifest.outputs]
        self._artifact = artifact
        self._manifest = manifest
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r".*torch\.jit\.", DeprecationWarning)
            self._module = self._load(path)

    def _load(self, path: Path) -> Any:
        return self._torch.jit.load(str(path), map_location="cpu")

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run a radiograph, uint8 [1, 1, H, W]."""
        if not image.flags.writeable:
            image = image.copy()  # torch warns of memory that it may not write
        with self._torch.inference_mode():
            tensors = self._module(self._torch.from_numpy(image))
        if not isinstance(tensors, tuple) or len(tensors) != len(self._names):
            got = f"{len(tensors)} values" if isinstance(tensors, tuple) else type(tensors).__name__
            raise BackendError(
                f"artifact {self._artifact.name} does not return the outputs of the manifest",
                got=got,
                expected=f"a tuple of {', '.join(self._names)}",
                remedy="build the bundle anew",
            )
        # freezing can fold an output into a constant of the module: copy, so that a caller never writes
        # into it
        outputs: Outputs = {n: t.numpy().copy() for n, t in zip(self._names, tensors, strict=True)}
        return check_returned(self._artifact, self._manifest, outputs)

    def close(self) -> None:
        """Let go of the module."""
        self._module = None
