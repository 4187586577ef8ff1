"""What a backend is: one opened artifact that turns pixels into the five outputs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_runtime.errors import BackendError
from edge_runtime.manifest import Artifact, Format, Manifest

__all__ = ["Backend", "Outputs", "check_declared", "check_returned"]

Outputs = dict[str, NDArray[np.float32]]
"""``probabilities`` [1, C], ``logits`` [1, C], ``heatmap`` [1, C, h, w], ``embedding`` [1, D],
``gate_score`` [1].
"""


class Backend(Protocol):
    """One artifact, opened. Not safe for calls from several threads at once; :class:`Predictor` sees to that.

    Attributes
    ----------
    name
        The key in ``BACKENDS``.
    format
        The artifact format it runs.
    package, install
        The import name it needs, and the command that installs it.
    versions
        Versions of the software that runs the artifact.
    """

    name: ClassVar[str]
    format: ClassVar[Format]
    package: ClassVar[str]
    install: ClassVar[str]
    versions: dict[str, str]

    def __init__(self, path: Path, artifact: Artifact, manifest: Manifest, threads: int | None) -> None:
        """Open ``path``, whose hash was checked; ``threads`` None leaves their number to the backend."""

    def run(self, image: NDArray[np.uint8]) -> Outputs:
        """Run a radiograph, uint8 [1, 1, H, W]; the arrays returned are the caller's own."""

    def close(self) -> None:
        """Let go of the model. A closed backend is not run again."""


def check_declared(artifact: Artifact, manifest: Manifest, declared: Mapping[str, tuple[Any, Any]]) -> None:
    """Check the outputs that a model file declares against the manifest.

    Parameters
    ----------
    declared
        Output name -> (dtype, shape); a dtype equals ``"float32"``; a shape is a sequence in which anything
        but an int is a dimension that the file leaves open.

    Raises
    ------
    BackendError
        An output is missing, or its dtype or shape differs.
    """
    for spec in manifest.outputs:
        if spec.name not in declared:
            raise _mismatch(artifact, f"output {spec.name}", ", ".join(sorted(declared)) or "no outputs", "present")
        dtype, shape = declared[spec.name]
        if dtype != spec.dtype:
            raise _mismatch(artifact, f"the dtype of {spec.name}", str(dtype), spec.dtype)
        fixed = [n if isinstance(n, int) else None for n in shape]
        if len(fixed) != len(spec.shape) or any(
            n is not None and n != m for n, m in zip(fixed, spec.shape, strict=True)
        ):
            raise _mismatch(artifact, f"the shape of {spec.name}", str(list(shape)), str(list(spec.shape)))


def check_returned(artifact: Artifact, manifest: Manifest, outputs: Outputs) -> Outputs:
    """Check what a run returned against the manifest, and return it.

    Raises
    ------
    BackendError
        An output is missing, or its dtype or shape differs.
    """
    for spec in manifest.outputs:
        array = outputs.get(spec.name)
        if array is None:
            raise _mismatch(artifact, f"output {spec.name}", ", ".join(outputs), "present")
        if array.dtype != np.float32 or array.shape != spec.shape:
            got = f"{array.dtype} {list(array.shape)}"
            raise _mismatch(artifact, f"output {spec.name}", got, f"{spec.dtype} {list(spec.shape)}")
    return outputs


def _mismatch(artifact: Artifact, what: str, got: str, expected: str) -> BackendError:
    return BackendError(
        f"artifact {artifact.name}: {what} is not what the manifest says",
        got=got,
        expected=expected,
        remedy="build the bundle anew",
    )
