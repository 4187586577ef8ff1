"""A bundle at naive int8 settings: what a gate must fail, one command away.

Everything in int8, one scale a tensor, ranges from minimum and maximum: what a tool does where nobody looks. It is
built by the very code that builds a good one, from a plan that names these settings.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import msgspec

from edge_runtime.bundle import open_bundle, rewrite_manifest
from edge_runtime.manifest import Format
from export.build import BuildResult, build_bundle
from export.build_data import load_build_data
from export.cpu import cpu_model
from export.errors import ExportError
from export.formats import WRITERS
from export.graph import DeployableGraph, deployable_graph
from export.quantization.judging import Figures, Judge, Target
from export.quantization.layers import find_layers
from export.quantization.plan import FormatPlan, QuantizationPlan, save_plan
from export.quantization.quantize import run_skeleton
from export.quantization.quantizers import open_quantizer
from export.quantization.sets import SearchSet, build_search_set, read_calibration
from export.quantization.settings import NAIVE
from export.steps import OnStep
from train.run import CHECKPOINT_NAME, RUN_NAME, Run, load_run

__all__ = ["NAIVE_FORMATS", "build_naive_bundle"]

NAIVE_FORMATS: tuple[Format, ...] = ("onnx", "openvino", "lite")


def build_naive_bundle(
    run: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    formats: Sequence[Format] = NAIVE_FORMATS,
    calibration: int = 60,
    on_step: OnStep = lambda _what, _done, _total: None,
) -> BuildResult:
    """Build a bundle whose int8 artifacts are naive, beside fp32; none of them is recommended.

    The run folder and its own plan are left as they are.

    Parameters
    ----------
    run, data, out, on_step
        As for :func:`export.build.build_bundle`.
    formats
        Of ``onnx``, ``openvino``, ``torchscript``, ``lite``.
    calibration
        Radiographs of the calibration set.

    Raises
    ------
    EdgeRuntimeError
        As for :func:`export.build.build_bundle`.
    """
    loaded = load_run(run)
    dataset = load_build_data(data, loaded, needed=True, notes=[])
    assert dataset is not None  # it was needed
    graph = deployable_graph(loaded)
    on_step("reading the calibration and the search set", 0, len(formats) + 1)
    calibration_set, images = read_calibration(dataset, loaded.spec.labels, calibration, graph.size)
    search = build_search_set(graph, dataset, loaded.spec.labels, copies=False)
    plans: dict[Format, FormatPlan] = {}
    for done, format_ in enumerate(formats):
        on_step(f"naive {format_} on the search set", done + 1, len(formats) + 1)
        figures = _judge(graph, loaded, format_, images, search)
        # "reached" is what a search says, and there was none: so nothing of this is ever recommended
        plans[format_] = FormatPlan(
            reached=False, settings=NAIVE, figures=figures, weights_file="", weights_sha256=""
        )  # fmt: skip
    plan = QuantizationPlan(
        schema_version=1,
        checkpoint_sha256=loaded.spec.checkpoint_sha256,
        calibration_radiographs=len(calibration_set.rows),
        calibration_sha256=calibration_set.sha256,
        search_radiographs=len(search.images),
        search_patients=search.patients,
        search_sha256=search.sha256,
        target=Target(),
        cpu=cpu_model(),
        formats=plans,
    )
    with tempfile.TemporaryDirectory(prefix="naive-") as folder:
        copy = Path(folder) / loaded.folder.resolve().name
        copy.mkdir()
        shutil.copy(loaded.folder / RUN_NAME, copy / RUN_NAME)
        _link(loaded.folder / CHECKPOINT_NAME, copy / CHECKPOINT_NAME)
        save_plan(copy, plan)
        result = build_bundle(
            Run(copy, loaded.spec, loaded.adapter), data, out, formats=formats,
            name=f"{loaded.folder.resolve().name}-naive", on_step=on_step,
        )  # fmt: skip
    return _marked(result, Path(out), formats)


def _judge(
    graph: DeployableGraph, run: Run, format_: Format, images: Sequence[object], search: SearchSet
) -> Figures:  # fmt: skip
    suffix = WRITERS[format_].suffixes[0]
    with tempfile.TemporaryDirectory(prefix="naive-") as name:
        folder = Path(name)
        fp32, path = folder / f"{format_}-fp32{suffix}", folder / f"{format_}-int8{suffix}"
        WRITERS[format_].write(graph, fp32)
        open_quantizer(format_, graph, find_layers(graph), images, {}, fp32, folder).write(path, NAIVE)  # type: ignore[arg-type]
        judge = Judge(run_skeleton(graph, run.spec), search, format_, fp32)
        try:
            return judge.judge(path, "int8", Target())
        finally:
            judge.close()


def _marked(result: BuildResult, out: Path, formats: Sequence[Format]) -> BuildResult:
    """Say in the manifest what these artifacts are."""
    names = ", ".join(f"{format_}-int8" for format_ in formats)
    sentence = (
        f"Quantized naively on purpose, one scale a tensor and ranges from minimum and maximum: {names}. "
        "For showing that a gate fails such an artifact; not to be used."
    )
    with open_bundle(out) as bundle:
        kept = tuple(line for line in bundle.manifest.limitations if "best settings that a search found" not in line)
        manifest = msgspec.structs.replace(bundle.manifest, limitations=(*kept, sentence))
        if any(name.endswith("-int8") for name in manifest.recommended.values()):
            raise ExportError("a naive artifact was recommended", got=str(manifest.recommended), expected="fp32 alone")
        rewrite_manifest(bundle, manifest)
    return BuildResult(manifest, result.tests, result.notes)


def _link(source: Path, target: Path) -> None:
    """The checkpoint is large: linked where the system lets us, else copied."""
    try:
        target.symlink_to(source.resolve())
    except OSError:
        shutil.copy(source, target)
