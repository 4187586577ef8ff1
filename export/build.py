"""Building a bundle: a run's checkpoint in every format, with golden vectors and the whole manifest."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.bundle import Bundle, BundleWriter
from edge_runtime.manifest import FORMATS, Artifact, Format, Manifest
from edge_runtime.selftest import ArtifactTest, run_selftest
from export import description
from export.agreement import check_golden, recommend_by_device, with_measured_agreement
from export.build_artifacts import HALF_FORMATS, drop_others, write_float32, write_half
from export.build_data import load_build_data, load_planned_calibration
from export.build_int8 import INT8_FORMATS, settings_of, standing_of, write_int8
from export.build_report import write_build_report
from export.conformal import COVERAGE
from export.default_formats import DEFAULT_FORMATS
from export.errors import ExportError
from export.formats import WRITERS
from export.golden_vectors import write_golden_vectors
from export.graph import DeployableGraph, deployable_graph
from export.label_order import check_label_order
from export.operating import learn_operating_curve
from export.quantization.plan import load_plan
from export.refusing import Judgement, learn_refusing
from export.steps import OnStep, Steps
from train.data.rows import Dataset
from train.run import Run, load_run

__all__ = ["INT8_FORMATS", "BuildResult", "build_bundle"]

_OTHER_STEPS = 6
"""Beside one for each artifact."""


@dataclasses.dataclass(frozen=True)
class BuildResult:
    """What a build left: the manifest as written, each artifact on the golden vectors, and what to tell the user."""

    manifest: Manifest
    tests: tuple[ArtifactTest, ...]
    notes: tuple[str, ...]


def build_bundle(
    run: str | Path | Run,
    data: str | Path | None,
    out: str | Path,
    *,
    formats: Sequence[Format] = DEFAULT_FORMATS,
    int8: bool = True,
    fp16: bool = False,
    keep: Sequence[str] = (),
    calibration: int = 120,
    golden_real: int = 0,
    not_frontal: str | Path | None = None,
    coverage: float = COVERAGE,
    minimum_age: float | None = None,
    name: str | None = None,
    on_step: OnStep = lambda _what, _done, _total: None,
) -> BuildResult:
    """Write a run as a bundle, whole or not at all: a bundle that was at ``out`` stays until the new one is complete.

    Parameters
    ----------
    run
        Run folder, as ``python -m train fit`` leaves it, or a run loaded by :func:`train.run.load_run`, with an
        adapter where the classifier is somebody else's.
    data
        Dataset folder; its training split gives the calibration set and real golden inputs; training and
        validation split give the gate and the prediction sets, the validation split the operating curve. None where
        none of these is wanted.
    out
        Bundle folder: new, empty, or a bundle to replace.
    formats
        Formats to write at fp32.
    int8
        Also write int8 artifacts: as the run's plan says, and where it has none at plain settings for ONNX, OpenVINO
        and ExecuTorch, where they are among ``formats``.
    fp16
        Also write float16 weights for ONNX and OpenVINO.
    keep
        Names of the artifacts to ship; all are built and tested. Empty: all.
    calibration
        Number of radiographs in the calibration set, from training patients, where the run has no plan.
    golden_real
        Number of real radiographs to add to the synthetic golden inputs. Such a bundle holds images of
        people: it is not to be shipped.
    not_frontal, coverage, minimum_age
        What the gate learns from besides, coverage of the prediction sets, and the youngest patient's age in
        years: see :func:`export.refusing.learn_refusing`.
    name
        The bundle's name; the run folder's by default.
    on_step
        Progress.

    Raises
    ------
    EdgeRuntimeError
        The run, the data or ``out`` is not what it should be; a format cannot be written; the disk is full.
    ParityFailure
        An fp32 artifact does not answer as the eager model does, or another one holds the classes in another order:
        nothing is written.
    """
    if not formats or len(set(formats)) != len(formats) or not set(formats) <= set(WRITERS):
        raise ExportError("no such choice of formats", got=", ".join(formats), expected=", ".join(WRITERS))
    ordered: list[Format] = [f for f in FORMATS if f in formats]
    loaded = load_run(run)
    spec = loaded.spec
    plan = load_plan(loaded) if int8 else None
    planned = plan.formats if plan else {}
    quantized = [f for f in ordered if f in INT8_FORMATS or f in planned] if int8 else []
    halved = [f for f in HALF_FORMATS if f in ordered] if fp16 else []
    made = [*(f"{f}-fp32" for f in ordered), *(f"{f}-fp16" for f in halved), *(f"{f}-int8" for f in quantized)]
    if unknown := [name for name in keep if name not in made]:
        raise ExportError("there is no such artifact to keep", got=", ".join(unknown), expected=", ".join(made))
    steps = Steps(on_step, _OTHER_STEPS + len(made))
    with _disk_errors(out), BundleWriter(Path(out)) as writer:
        steps.next("loading the run")
        graph = deployable_graph(loaded)
        notes: list[str] = []
        dataset = load_build_data(data, loaded, needed=bool(quantized or golden_real), notes=notes)
        images = None
        if quantized and dataset is not None:
            steps.next("reading the calibration set")
            images = load_planned_calibration(dataset, spec.labels, calibration, plan, notes)
        else:
            steps.next("no calibration set needed")
        curve = _learn_curve(graph, dataset, notes, steps)
        judgement = _learn_refusing(graph, dataset, not_frontal, coverage, minimum_age, notes, steps)
        artifacts = write_float32(graph, writer.root, ordered, steps)
        artifacts += write_half(writer.root, halved, steps)
        if images is not None:
            artifacts += write_int8(graph, loaded, writer.root, quantized, planned, images, steps)
        steps.next("golden vectors")
        golden = write_golden_vectors(graph, spec.labels, writer.root, dataset, golden_real, notes)
        draft = Manifest(
            schema_version=1,
            name=name or Path(run).resolve().name,
            labels=spec.labels,
            input=description.describe_input(spec),
            outputs=description.describe_outputs(graph),
            calibration=description.describe_calibration(spec),
            operating_thresholds=spec.operating_thresholds,
            operating_curve=curve,
            gate=judgement.gate,
            conformal=judgement.conformal,
            signature=None,
            artifacts=tuple(artifacts),
            recommended={},
            golden=golden,
            reports=(),
            provenance=description.describe_provenance(spec),
            licence=description.LICENCE,
            intended_use=description.INTENDED_USE,
            limitations=(),
        )
        steps.next("every artifact on the golden vectors")
        bundle = Bundle(writer.root, writer.root, draft)
        tests = run_selftest(bundle).artifacts
        check_golden(tests)
        check_label_order(bundle, artifacts)
        measured = [with_measured_agreement(a, t) for a, t in zip(artifacts, tests, strict=True)]
        if keep:
            measured = drop_others(writer.root, measured, keep)
            tests = tuple(test for test in tests if test.artifact in keep)
        standing = {a.name: standing_of(a.format, planned) for a in measured if a.precision == "int8"}
        manifest = msgspec.structs.replace(
            draft,
            artifacts=tuple(measured),
            recommended=recommend_by_device(tests, planned),
            reports=(
                write_build_report(
                    writer.root, tests, images, {f: settings_of(f, planned) for f in quantized}, plan, notes
                ),
            ),
            limitations=description.describe_limitations(
                spec,
                plain_int8=[name for name, how in standing.items() if how == "plain"],
                missed_int8=[name for name, how in standing.items() if how == "missed"],
                not_repeatable=_not_repeatable(measured),
            ),
        )
        writer.commit(manifest)
    return BuildResult(manifest, tests, tuple(notes))


@contextlib.contextmanager
def _disk_errors(out: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"the bundle {out} cannot be written",
            got=error.strerror or str(error),
            expected="a folder that can be written to, on a disk with room for all artifacts",
            remedy="check the folder's permissions and the disk; a bundle that was there is unchanged",
        ) from error


def _learn_curve(
    graph: DeployableGraph, dataset: Dataset | None, notes: list[str], steps: Steps
) -> dict[str, Any] | None:
    steps.next("the operating curve")
    if dataset is None:
        notes.append("No operating curve: it needs --data.")
        return None
    return learn_operating_curve(
        graph, dataset, notes, lambda done, total: steps.detail(f"the operating curve: {done} of {total} radiographs")
    )


def _learn_refusing(
    graph: DeployableGraph,
    dataset: Dataset | None,
    not_frontal: str | Path | None,
    coverage: float,
    minimum_age: float | None,
    notes: list[str],
    steps: Steps,
) -> Judgement:
    """Give the graph its gate; without a data set there is none, and no prediction set."""
    steps.next("learning what to refuse")
    if dataset is None:
        notes.append("No gate and no prediction sets: they need --data.")
        return Judgement(None, None, ())

    def on_radiograph(done: int, total: int) -> None:
        steps.detail(f"learning what to refuse: {done} of {total} radiographs")

    judgement = learn_refusing(
        graph, dataset, None if not_frontal is None else Path(not_frontal), coverage=coverage,
        minimum_age=minimum_age, on_radiograph=on_radiograph,
    )  # fmt: skip
    notes.extend(judgement.notes)
    return judgement


def _not_repeatable(artifacts: Sequence[Artifact]) -> list[str]:
    """ExecuTorch's files are not compared with a second build's anywhere: their tool has its own environment."""
    return [artifact.name for artifact in artifacts if artifact.format == "executorch"]
