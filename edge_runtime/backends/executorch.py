"""ExecuTorch ``.pte`` on ExecuTorch's Python runtime, with its XNNPACK kernels: the successor of PyTorch Mobile.

It lives in an environment of its own (``constraints-executorch.txt``). Importing it imports torch.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from edge_runtime.backends.protocol import Outputs, check_returned
from edge_runtime.errors import BackendError
from edge_runtime.manifest import Artifact, Format, Manifest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["LARGEST_EDGE", "ExecuTorchBackend"]

LARGEST_EDGE = 4096
"""Pixels. ExecuTorch lays out its memory when the file is written, for the largest image that it shall take."""


class ExecuTorchBackend:
    """A ``.pte`` program. It returns the outputs in the manifest's order.

    ``threads`` sets the threads of ExecuTorch's pool for the whole process: it has no other.
    """

    name: ClassVar[str] = "executorch"
    format: ClassVar[Format] = "executorch"
    package: ClassVar[str] = "executorch"
    install: ClassVar[str] = 'pip install "cxr-edge-runtime[executorch]" (docs/mobile.md)'

    def __init__(self, path: Path, artifact: Artifact, manifest: Manifest, threads: int | None) -> None:
        import executorch.kernels.quantized  # noqa: F401 - registers the kernels of int8 outside XNNPACK
        import torch
        from executorch.runtime import Runtime, Verification

        if threads is not None:
            from executorch.extension.pybindings.portable_lib import _unsafe_reset_threadpool

            _unsafe_reset_threadpool(threads)
        self.versions = {"executorch": version("executorch"), "torch": str(torch.__version__)}
        self._torch: Any = torch
        # read in one go and handed over as bytes: nothing keeps the file open or reads it again later
        self._program: Any = Runtime.get().load_program(
            path.read_bytes(), verification=Verification.InternalConsistency
        )
        self._method: Any = self._program.load_method("forward")
        if self._method is None:
            raise BackendError(
                f"artifact {artifact.name} has no method to run",
                got=", ".join(sorted(self._program.method_names)) or "none",
                expected="forward",
                remedy="build the bundle anew",
            )
        self._names = [spec.name for spec in manifest.outputs]
        self._artifact = artifact
        self._manifest = manifest

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run a radiograph, uint8 [1, 1, H, W], no edge longer than ``LARGEST_EDGE``."""
        if image.size == 0:  # its own check would end the process
            raise BackendError(
                f"artifact {self._artifact.name} takes no image without pixels",
                got=f"{image.shape[3]} x {image.shape[2]} pixels",
                expected="at least 1 x 1",
                remedy="check that the file is whole",
            )
        if max(image.shape) > LARGEST_EDGE:
            raise BackendError(
                f"artifact {self._artifact.name} takes no image of that size",
                got=f"{image.shape[3]} x {image.shape[2]} pixels",
                expected=f"at most {LARGEST_EDGE} pixels a side",
                remedy="use another artifact, or export the radiograph at a smaller size",
            )
        if not image.flags.writeable:
            image = image.copy()  # torch warns of memory that it may not write
        tensors = self._method.execute([self._torch.from_numpy(image)])
        if len(tensors) != len(self._names):
            raise BackendError(
                f"artifact {self._artifact.name} does not return the outputs of the manifest",
                got=f"{len(tensors)} values",
                expected=", ".join(self._names),
                remedy="build the bundle anew",
            )
        # the tensors lie in the program's own memory, overwritten by the next run: copy them
        outputs: Outputs = {n: t.numpy().copy() for n, t in zip(self._names, tensors, strict=True)}
        return check_returned(self._artifact, self._manifest, outputs)

    def close(self) -> None:
        """Let go of the program."""
        self._method = self._program = None
