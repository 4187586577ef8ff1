"""Building a bundle: a run's checkpoint in every format, with golden vectors and the whole manifest."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from edge_runtime.bundle import Bundle, BundleWriter, file_entry
from edge_runtime.errors import Refusal
from edge_runtime.golden import write_golden
from edge_runtime.manifest import (
    FORMATS,
    Artifact,
    Format,
    Golden,
    Manifest,
    Precision,
)
from edge_runtime.reading import read_radiograph
from edge_runtime.selftest import ArtifactTest, run_selftest
from export import description
from export.agreement import check_golden, recommend_by_device, starting_agreement, with_measured_agreement
from export.build_report import write_build_report
from export.calibration import CalibrationSet, load_calibration_set
from export.conformal import COVERAGE
from export.default_formats import DEFAULT_FORMATS
from export.errors import ExportError
from export.formats import WRITERS
from export.formats.lite import lite_facts
from export.golden_vectors import build_golden_inputs, run_graph
from export.graph import DeployableGraph, deployable_graph
from export.quantization.plan import PLAN_NAME, FormatPlan, QuantizationPlan, load_plan
from export.quantization.settings import PLAIN, QuantizationSettings
from export.refusing import Judgement, learn_refusing
from train.data.checking import check_patients
from train.data.rows import Dataset, file_sha256
from train.data.tables import load_dataset, split_sha256
from train.run import Run, load_run

__all__ = ["INT8_FORMATS", "BuildResult", "build_bundle"]

INT8_FORMATS: tuple[Format, ...] = ("onnx", "openvino", "executorch")
"""Formats with int8 at plain settings where a run has no plan."""
HALF_FORMATS: tuple[Format, ...] = ("onnx", "openvino")

OnStep = Callable[[str, int, int], None]
"""Told what is done next, how many steps are done, and how many there are."""


@dataclasses.dataclass(frozen=True)
class BuildResult:
    """What a build left: the manifest as written, each artifact on the golden vectors, and what to tell the user."""

    manifest: Manifest
    tests: tuple[ArtifactTest, ...]
    notes: tuple[str, ...]


def build_bundle(
    run: str | Path,
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
        Run folder, as ``python -m train fit`` leaves it.
    data
        Dataset folder; its training split gives the calibration set and real golden inputs; training and
        validation split give the gate and the prediction sets. None where none of these is wanted.
    out
        Bundle folder: new, empty, or a bundle to replace.
    formats
        Formats to write at fp32.
    int8
        Also write a first int8 artifact at plain settings for ONNX, OpenVINO and ExecuTorch, where they are among
        ``formats``.
    calibration
        Number of radiographs in the calibration set, from training patients.
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
        The run, the data or ``out`` is not what it should be; a format cannot be written.
    ParityFailure
        An fp32 artifact does not answer as the eager model does: nothing is written.
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
    if plan is not None:
        calibration = plan.calibration_radiographs
    steps = _Steps(on_step, 5 + len(made))
    with _disk_errors(out), BundleWriter(Path(out)) as writer:
        steps.next("loading the run")
        graph = deployable_graph(loaded)
        notes: list[str] = []
        dataset = _load_data(data, loaded, needed=bool(quantized or golden_real), notes=notes)
        images = None
        if quantized and dataset is not None:
            steps.next(f"reading {calibration} calibration radiographs")
            images = load_calibration_set(dataset, spec.labels, calibration)
        else:
            steps.next("no calibration set needed")
        judgement = _learn_refusing(graph, dataset, not_frontal, coverage, minimum_age, notes, steps)
        artifacts = _write_artifacts(graph, writer.root, ordered, steps)
        artifacts += _write_half(writer.root, halved, steps)
        if images is not None:
            artifacts += _write_int8(graph, loaded, writer.root, quantized, plan, images, steps)
        steps.next("golden vectors")
        golden = _write_golden(graph, spec.labels, writer.root, dataset, golden_real, notes)
        draft = Manifest(
            schema_version=1,
            name=name or Path(run).resolve().name,
            labels=spec.labels,
            input=description.describe_input(spec),
            outputs=description.describe_outputs(graph),
            calibration=description.describe_calibration(spec),
            operating_thresholds=spec.operating_thresholds,
            operating_curve=None,
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
            limitations=description.describe_limitations(spec, plain_int8=bool(quantized) and plan is None),
        )
        steps.next("every artifact on the golden vectors")
        tests = run_selftest(Bundle(writer.root, writer.root, draft)).artifacts
        check_golden(tests)
        measured = [with_measured_agreement(a, t) for a, t in zip(artifacts, tests, strict=True)]
        if keep:
            measured = _drop_others(writer.root, measured, keep)
            tests = tuple(test for test in tests if test.artifact in keep)
        manifest = msgspec.structs.replace(
            draft,
            artifacts=tuple(measured),
            recommended=recommend_by_device(tests, planned),
            reports=(
                write_build_report(
                    writer.root, tests, images, {f: _settings(f, planned) for f in quantized}, plan, notes
                ),
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
            remedy="check the folder's permissions and the disk; a bundle that was there is unchanged",
        ) from error


@dataclasses.dataclass
class _Steps:
    on_step: OnStep
    total: int
    done: int = -1

    def next(self, what: str) -> None:
        self.done += 1
        self.on_step(what, self.done, self.total)

    def detail(self, what: str) -> None:
        self.on_step(what, self.done, self.total)


def _load_data(data: str | Path | None, run: Run, *, needed: bool, notes: list[str]) -> Dataset | None:
    if data is None:
        if needed:
            raise ExportError(
                "no data folder was given",
                expected="the data set the run was trained on, for the calibration set and real golden inputs",
                remedy="give --data, or build with --no-int8 and without --golden-real",
            )
        return None
    dataset = load_dataset(data)
    if tuple(dataset.labels) != run.spec.labels:
        raise ExportError(
            f"the data set {data} has other classes than the run",
            got=", ".join(dataset.labels),
            expected=", ".join(run.spec.labels),
            remedy="give the data set the run was trained on",
        )
    if dataset.synthetic != run.spec.synthetic:
        kinds = {True: "synthetic radiographs", False: "radiographs of people"}
        raise ExportError(
            f"the data set {data} is of another kind than the run's",
            got=kinds[dataset.synthetic],
            expected=kinds[run.spec.synthetic],
            remedy="give the data set the run was trained on",
        )
    check_patients(dataset.splits)
    if split_sha256(data).get("train.csv") != run.spec.data_sha256.get("train.csv"):
        notes.append(
            "train.csv is not the one the run was trained with: calibration, gate and prediction sets may rest on "
            "other patients than the run."
        )
    return dataset


def _learn_refusing(
    graph: DeployableGraph,
    dataset: Dataset | None,
    not_frontal: str | Path | None,
    coverage: float,
    minimum_age: float | None,
    notes: list[str],
    steps: _Steps,
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


def _write_artifacts(graph: DeployableGraph, root: Path, formats: Sequence[Format], steps: _Steps) -> list[Artifact]:
    folder = root / "artifacts"
    folder.mkdir()
    artifacts = []
    for format_ in formats:
        steps.next(f"writing {format_}-fp32")
        path = folder / f"{format_}-fp32{WRITERS[format_].suffixes[0]}"
        WRITERS[format_].write(graph, path)
        artifacts.append(_artifact(root, format_, "fp32"))
    return artifacts


def _write_half(root: Path, formats: Sequence[Format], steps: _Steps) -> list[Artifact]:
    artifacts = []
    for format_ in formats:
        from export.quantization import onnx_weights, openvino_int8

        steps.next(f"writing {format_}-fp16")
        write = {"onnx": onnx_weights.write_half, "openvino": openvino_int8.write_half}[format_]
        suffix = WRITERS[format_].suffixes[0]
        write(root / f"artifacts/{format_}-fp32{suffix}", root / f"artifacts/{format_}-fp16{suffix}")
        artifacts.append(_artifact(root, format_, "fp16"))
    return artifacts


def _write_int8(
    graph: DeployableGraph,
    run: Run,
    root: Path,
    formats: Sequence[Format],
    plan: QuantizationPlan | None,
    images: CalibrationSet,
    steps: _Steps,
) -> list[Artifact]:
    from export.quantization.layers import find_layers
    from export.quantization.quantizers import open_quantizer
    from export.quantization.sensitivity import mean_inputs
    from export.quantization.sets import network_size

    planned = plan.formats if plan else {}
    small = network_size(images.images, graph.size)
    layers, means = find_layers(graph), mean_inputs(graph, small)
    artifacts = []
    for format_ in formats:
        steps.next(f"quantizing {format_}-int8 on {len(small)} radiographs")
        suffix = WRITERS[format_].suffixes[0]
        path = root / f"artifacts/{format_}-int8{suffix}"
        if format_ == "executorch":  # from the graph: a .pte file is not read back
            from export.formats import executorch

            executorch.quantize(graph, path, images.images)
        else:
            settings = _settings(format_, planned)
            source, fp32 = graph, root / f"artifacts/{format_}-fp32{suffix}"
            with tempfile.TemporaryDirectory(prefix="quantize-") as folder:
                if format_ in planned and planned[format_].weights_file:
                    source, fp32 = _fine_tuned(graph, run, planned[format_]), None  # type: ignore[assignment]
                quantizer = open_quantizer(format_, source, layers, small, means, fp32, Path(folder))
                quantizer.write(path, settings)
        artifacts.append(_artifact(root, format_, "int8"))
    return artifacts


def _settings(format_: Format, planned: Mapping[Format, FormatPlan]) -> QuantizationSettings:
    return planned[format_].settings if format_ in planned else PLAIN


def _fine_tuned(graph: DeployableGraph, run: Run, plan: FormatPlan) -> DeployableGraph:
    """The graph with the weights that quantization-aware fine-tuning left in the run folder."""
    from safetensors.torch import load_file

    path = run.folder / plan.weights_file
    if not path.is_file() or file_sha256(path) != plan.weights_sha256:
        raise ExportError(
            f"{path} is not the file that {PLAN_NAME} names",
            got="missing" if not path.is_file() else file_sha256(path)[:16],
            expected=plan.weights_sha256[:16],
            remedy="run `python -m export quantize` again",
        )
    tuned = copy.deepcopy(graph)
    tuned.load_state_dict(load_file(path), strict=False)  # the gate is not in it
    return tuned


def _drop_others(root: Path, artifacts: Sequence[Artifact], keep: Sequence[str]) -> list[Artifact]:
    for artifact in artifacts:
        if artifact.name not in keep:
            for entry in artifact.files:
                (root / entry.path).unlink()
    return [artifact for artifact in artifacts if artifact.name in keep]


def _artifact(root: Path, format_: Format, precision: Precision) -> Artifact:
    name = f"{format_}-{precision}"
    return Artifact(
        name=name,
        format=format_,
        precision=precision,
        files=tuple(file_entry(root, f"artifacts/{name}{suffix}") for suffix in WRITERS[format_].suffixes),
        # what conversion may do; of an int8 artifact it is measured afterwards
        golden_agreement=starting_agreement(precision),
        parity=None,
        validated_on=description.describe_validation(format_),
        lite=lite_facts(root / f"artifacts/{name}.ptl") if format_ == "lite" else None,
    )


def _write_golden(
    graph: DeployableGraph,
    labels: tuple[str, ...],
    root: Path,
    dataset: Dataset | None,
    real: int,
    notes: list[str],
) -> Golden:
    inputs = build_golden_inputs(labels)
    if real and dataset is not None and not dataset.synthetic:
        notes.append(f"{real} real radiographs are among the golden inputs: keep the bundle where it was built.")
    if real and dataset is not None:
        found = 0
        for row in dataset.splits["valid"] or dataset.splits["train"]:
            if found == real:
                break
            try:
                inputs.append(read_radiograph(dataset.image_path(row)).pixels)
                found += 1
            except Refusal:
                continue
        if found < real:
            raise ExportError(
                "not enough radiographs for the golden vectors", got=str(found), expected=str(real),
                remedy="lower --golden-real",
            )  # fmt: skip
    synthetic = not real or (dataset is not None and dataset.synthetic)
    return write_golden(root, labels, run_graph(graph, inputs), synthetic=synthetic)
