"""Building a bundle: a run's checkpoint in every format, with golden vectors and the whole manifest."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
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
from export.agreement import check_golden, recommend, starting_agreement, with_measured_agreement
from export.build_report import write_build_report
from export.calibration import CalibrationSet, load_calibration_set
from export.errors import ExportError
from export.formats import WRITERS
from export.golden_vectors import build_golden_inputs, run_graph
from export.graph import DeployableGraph, deployable_graph
from train.data.checking import check_patients
from train.data.rows import Dataset
from train.data.tables import load_dataset, split_sha256
from train.run import Run, load_run

__all__ = ["INT8_FORMATS", "BuildResult", "build_bundle"]

INT8_FORMATS: tuple[Format, ...] = ("onnx", "openvino")

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
    formats: Sequence[Format] = FORMATS,
    int8: bool = True,
    calibration: int = 120,
    golden_real: int = 0,
    name: str | None = None,
    on_step: OnStep = lambda _what, _done, _total: None,
) -> BuildResult:
    """Write a run as a bundle, whole or not at all: a bundle that was at ``out`` stays until the new one is complete.

    Parameters
    ----------
    run
        Run folder, as ``python -m train fit`` leaves it.
    data
        Dataset folder; its training split gives the calibration set and real golden inputs. None where
        neither is wanted.
    out
        Bundle folder: new, empty, or a bundle to replace.
    formats
        Formats to write at fp32.
    int8
        Also write a first int8 artifact at plain settings for ONNX and OpenVINO, where they are among
        ``formats``.
    calibration
        Number of radiographs in the calibration set, from training patients.
    golden_real
        Number of real radiographs to add to the synthetic golden inputs. Such a bundle holds images of
        people: it is not to be shipped.
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
    quantized = [f for f in INT8_FORMATS if f in ordered] if int8 else []
    steps = _Steps(on_step, 4 + len(ordered) + len(quantized))
    loaded = load_run(run)
    spec = loaded.spec
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
        artifacts = _write_artifacts(graph, writer.root, ordered, quantized, images, steps)
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
            gate=None,
            conformal=None,
            signature=None,
            artifacts=tuple(artifacts),
            recommended={},
            golden=golden,
            reports=(),
            provenance=description.describe_provenance(spec),
            licence=description.LICENCE,
            intended_use=description.INTENDED_USE,
            limitations=description.describe_limitations(spec, plain_int8=bool(quantized)),
        )
        steps.next("every artifact on the golden vectors")
        tests = run_selftest(Bundle(writer.root, writer.root, draft)).artifacts
        check_golden(tests)
        manifest = msgspec.structs.replace(
            draft,
            artifacts=tuple(with_measured_agreement(a, t) for a, t in zip(artifacts, tests, strict=True)),
            recommended={"cpu": recommend(tests)},
            reports=(write_build_report(writer.root, tests, images, quantized, notes),),
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
    if needed and split_sha256(data).get("train.csv") != run.spec.data_sha256.get("train.csv"):
        notes.append(
            "train.csv is not the one the run was trained with: calibration patients may be others than the run's."
        )
    return dataset


def _write_artifacts(
    graph: DeployableGraph,
    root: Path,
    formats: Sequence[Format],
    quantized: Sequence[Format],
    images: CalibrationSet | None,
    steps: _Steps,
) -> list[Artifact]:
    folder = root / "artifacts"
    folder.mkdir()
    artifacts = []
    for format_ in formats:
        steps.next(f"writing {format_}-fp32")
        path = folder / f"{format_}-fp32{WRITERS[format_].suffixes[0]}"
        WRITERS[format_].write(graph, path)
        artifacts.append(_artifact(root, format_, "fp32"))
    for format_ in quantized:
        assert images is not None
        steps.next(f"quantizing {format_}-int8 on {len(images.images)} radiographs")
        from export.int8 import quantize_onnx, quantize_openvino

        suffix = WRITERS[format_].suffixes[0]
        quantize = {"onnx": quantize_onnx, "openvino": quantize_openvino}[format_]
        quantize(folder / f"{format_}-fp32{suffix}", folder / f"{format_}-int8{suffix}", images.images)
        artifacts.append(_artifact(root, format_, "int8"))
    return artifacts


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
