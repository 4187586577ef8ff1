"""From a trained run to a bundle for devices, and the proof that what runs there answers as the full model does.

As a library::

    from export import DeployableGraph, build_bundle, check_parity, quantize_run

    quantize_run("runs/a", "data")  # climbs the ladder, writes runs/a/quantization.toml
    build_bundle("runs/a", "data", "bundle")  # the commands' work, with a callback for progress
    report = check_parity("bundle", "runs/a", "data", split="test")
    graph = DeployableGraph(classifier, size=240, normalization="imagenet", temperature=1.0)

On the command line: ``python -m export --help``. See ``docs/export.md`` and ``docs/parity.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from export.add import Added, add_artifact
    from export.bench import BenchReport, bench_bundle
    from export.build import BuildResult, build_bundle
    from export.errors import ExportError, ParityFailure
    from export.explain import Explanation, explain_artifact
    from export.graph import DeployableGraph, deployable_graph
    from export.naive import build_naive_bundle
    from export.parity import check_parity
    from export.parity_limits import Limits, load_limits
    from export.parity_result import ArtifactParity, ParityReport
    from export.quantization.fine_tune_run import fine_tune_run
    from export.quantization.judging import Target
    from export.quantization.quantize import QuantizeResult, quantize_run
    from export.quantization.settings import QuantizationSettings
    from train.run import load_run

__all__ = [
    "Added",
    "ArtifactParity",
    "BenchReport",
    "BuildResult",
    "DeployableGraph",
    "Explanation",
    "ExportError",
    "Limits",
    "ParityFailure",
    "ParityReport",
    "QuantizationSettings",
    "QuantizeResult",
    "Target",
    "add_artifact",
    "bench_bundle",
    "build_bundle",
    "build_naive_bundle",
    "check_parity",
    "deployable_graph",
    "explain_artifact",
    "fine_tune_run",
    "load_limits",
    "load_run",
    "quantize_run",
]

_HOMES = {
    "fine_tune_run": "export.quantization.fine_tune_run",
    "build_naive_bundle": "export.naive",
    "QuantizationSettings": "export.quantization.settings",
    "Target": "export.quantization.judging",
    "quantize_run": "export.quantization.quantize",
    "QuantizeResult": "export.quantization.quantize",
    "Added": "export.add",
    "ArtifactParity": "export.parity_result",
    "BenchReport": "export.bench",
    "Explanation": "export.explain",
    "Limits": "export.parity_limits",
    "add_artifact": "export.add",
    "bench_bundle": "export.bench",
    "explain_artifact": "export.explain",
    "load_limits": "export.parity_limits",
    "BuildResult": "export.build",
    "DeployableGraph": "export.graph",
    "ExportError": "export.errors",
    "ParityFailure": "export.errors",
    "ParityReport": "export.parity_result",
    "build_bundle": "export.build",
    "check_parity": "export.parity",
    "deployable_graph": "export.graph",
    "load_run": "train.run",
}


def __getattr__(name: str) -> Any:
    """Import a name when it is first used: torch takes seconds, and ``--help`` does not need it."""
    from importlib import import_module

    if name not in _HOMES:
        raise AttributeError(f"module 'export' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
