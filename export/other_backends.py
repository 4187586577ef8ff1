"""The other backends that can run a bundle's artifacts on this device: bfloat16 on OpenVINO, NVIDIA GPUs.

A device takes one of them only when it is named, or was measured by ``edge-runtime tune``; so they are judged and timed
beside the artifact's own backend, and never in its place.
"""

from __future__ import annotations

from collections.abc import Sequence

from edge_runtime.backends import VARIANTS, why_unavailable
from edge_runtime.manifest import Artifact, Format
from export.errors import ExportError
from export.telemetry import decline_telemetry

__all__ = ["ALL", "backends_here", "named_backends", "row_name", "why_not_here"]

ALL = "all"
"""Stands for every one that this device opens."""


def why_not_here(name: str) -> str | None:
    """Say why this device cannot run a backend of :data:`edge_runtime.backends.VARIANTS`; None where it can."""
    kind = VARIANTS[name]
    if (why := why_unavailable(kind)) is not None:
        return why
    if kind.format == "openvino":
        decline_telemetry()
        import openvino

        capabilities = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return None if "BF16" in capabilities else f"this CPU does not compute in bfloat16 ({', '.join(capabilities)})"
    import onnxruntime

    available = onnxruntime.get_available_providers()
    provider = str(getattr(kind, "provider", None))
    return None if provider in available else f"this ONNX Runtime has no {provider}"


def backends_here(format_: Format) -> tuple[str, ...]:
    """Name the other backends of a format that this device can run."""
    return tuple(name for name, kind in VARIANTS.items() if kind.format == format_ and why_not_here(name) is None)


def named_backends(names: Sequence[str], artifacts: Sequence[Artifact]) -> list[tuple[Artifact, str]]:
    """Pair artifacts with other backends, in the artifacts' order.

    Parameters
    ----------
    names
        Of :data:`edge_runtime.backends.VARIANTS`, or :data:`ALL`.

    Raises
    ------
    ExportError
        A named one is unknown, cannot run here, or none of the artifacts is of its format.
    """
    if unknown := [name for name in names if name not in VARIANTS and name != ALL]:
        raise ExportError(
            "there is no such other backend", got=", ".join(unknown), expected=", ".join((*VARIANTS, ALL)),
            remedy="an artifact's own backend is judged anyway",
        )  # fmt: skip
    formats = {artifact.format for artifact in artifacts}
    for name in (name for name in names if name != ALL):
        if (why := why_not_here(name)) is not None:
            raise ExportError(
                f"backend {name} cannot run here", got=why, remedy=f"leave it out, or give --backend {ALL}"
            )
        if VARIANTS[name].format not in formats:
            raise ExportError(
                f"no artifact for backend {name}", got=", ".join(sorted(formats)), expected=VARIANTS[name].format
            )

    def wanted(artifact: Artifact) -> tuple[str, ...]:
        if ALL in names:
            return backends_here(artifact.format)
        return tuple(name for name in dict.fromkeys(names) if VARIANTS[name].format == artifact.format)

    return [(artifact, name) for artifact in artifacts for name in wanted(artifact)]


def row_name(artifact: str, backend: str) -> str:
    """Return an artifact's name on another backend, such as ``openvino-fp32 (bf16)``."""
    return f"{artifact} ({backend.partition('-')[2]})"
