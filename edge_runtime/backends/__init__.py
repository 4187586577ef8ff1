"""Backends: the software that runs an artifact. One per format, chosen by name, imported when opened."""

from __future__ import annotations

import sys
from importlib.util import find_spec

from edge_runtime.backends.executorch import ExecuTorchBackend
from edge_runtime.backends.lite import LiteBackend
from edge_runtime.backends.onnxruntime import OnnxRuntimeBackend
from edge_runtime.backends.openvino import OpenVinoBackend
from edge_runtime.backends.protocol import Backend, Outputs
from edge_runtime.backends.torchscript import TorchScriptBackend
from edge_runtime.backends.variants import OnnxRuntimeCudaBackend, OnnxRuntimeTensorRtBackend, OpenVinoBf16Backend
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BackendError, UsageError
from edge_runtime.manifest import Artifact, Format

__all__ = [
    "BACKENDS",
    "VARIANTS",
    "Backend",
    "Outputs",
    "backend_for_format",
    "backend_named",
    "open_backend",
    "why_unavailable",
]

BACKENDS: dict[str, type[Backend]] = {
    backend.name: backend
    for backend in (OnnxRuntimeBackend, OpenVinoBackend, TorchScriptBackend, LiteBackend, ExecuTorchBackend)
}


VARIANTS: dict[str, type[Backend]] = {
    backend.name: backend for backend in (OpenVinoBf16Backend, OnnxRuntimeCudaBackend, OnnxRuntimeTensorRtBackend)
}
"""Taken only when they are named or were measured here: see :mod:`edge_runtime.backends.variants`."""


def backend_named(name: str) -> type[Backend] | None:
    """Return a backend or a variant by its name, or None."""
    return BACKENDS.get(name) or VARIANTS.get(name)


def backend_for_format(format_: Format) -> type[Backend]:
    """Return the backend that runs a format."""
    return next(b for b in BACKENDS.values() if b.format == format_)


def why_unavailable(backend: type[Backend]) -> str | None:
    """Say why a backend cannot run here, with the command that helps; None where it is installed.

    Looks for the package without importing it.
    """
    try:
        found = backend.package in sys.modules or find_spec(backend.package) is not None
    except (ImportError, ValueError):
        found = False
    return None if found else f"{backend.package} is not installed: {backend.install}"


def open_backend(bundle: Bundle, artifact: Artifact, backend: str | None = None, threads: int | None = None) -> Backend:
    """Check an artifact's files and open it.

    Parameters
    ----------
    backend
        Name of the backend; None takes the one that runs the artifact's format.
    threads
        Number of threads; None leaves it to the backend.

    Raises
    ------
    UsageError
        No such backend, or one that runs another format.
    BundleError
        A file of the artifact is missing or was changed.
    BackendError
        The backend is not installed, or cannot open the artifact.
    """
    kind = backend_named(backend) if backend is not None else backend_for_format(artifact.format)
    if kind is None or kind.format != artifact.format:
        raise UsageError(
            f"backend {backend} does not run artifact {artifact.name}",
            expected=backend_for_format(artifact.format).name,
            remedy="leave --backend out, or choose an artifact of its format",
        )
    unavailable = why_unavailable(kind)
    if unavailable is not None:
        raise BackendError(f"artifact {artifact.name} cannot be opened here", got=unavailable, remedy=kind.install)
    path = bundle.artifact_path(artifact)
    try:
        return kind(path, artifact, bundle.manifest, threads)
    except BackendError:
        raise
    except Exception as error:  # whatever a third-party runtime raises
        raise BackendError(
            f"{kind.name} cannot open artifact {artifact.name}",
            got=_first_line(error),
            remedy=f"check that {kind.package} is whole and not older than the bundle asks for; "
            f"the artifact was validated with {_versions(artifact)}",
        ) from error


def _versions(artifact: Artifact) -> str:
    versions = artifact.validated_on.runtime_versions
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items())) or "unnamed versions"


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"[:300]
