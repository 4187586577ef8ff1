"""Parity: every artifact, run the way the field runs it, against the eager model on real radiographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from edge_runtime.backends import backend_for_format, why_unavailable
from edge_runtime.bundle import Bundle, open_bundle
from edge_runtime.cpu import why_not_validated_here
from edge_runtime.errors import BackendError, Refusal
from edge_runtime.manifest import Artifact
from edge_runtime.predictor import Predictor
from edge_runtime.reading import read_radiograph
from export.acceptance import acceptance_rows, describe_sets
from export.calibration import combined_sha256
from export.errors import ExportError
from export.graph import DeployableGraph, GraphOutputs, deployable_graph
from export.other_backends import named_backends, row_name
from export.parity_judging import Answers, Judge
from export.parity_limits import Limits, load_limits
from export.parity_predictions import recorded_answers
from export.parity_result import Case, CaseSet, ParityReport
from train.data.rows import Dataset, Row, file_sha256
from train.run import Run, load_run

__all__ = ["check_parity"]

OnRadiograph = Callable[[int, int], None]
"""Told how many radiographs are done, and how many there are."""

_BLOCK = 32
"""Radiographs that one artifact answers before the next has its turn: the runtimes' threads spin for a while after a
run and would slow each other down image by image; and whatever the machine does meanwhile meets all alike."""


def check_parity(
    bundle: Bundle | str | Path,
    run: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    artifacts: Sequence[str] = (),
    limit: int | None = None,
    gate: bool = True,
    limits: Limits | str | Path | None = None,
    accept_not_shown: bool = False,
    predictions: str | Path | None = None,
    backends: Sequence[str] = (),
    on_radiograph: OnRadiograph = lambda _done, _total: None,
) -> ParityReport:
    """Compare a bundle's artifacts with the run it was built from, radiograph by radiograph.

    Each file is read by the field's reader; its pixels go to the eager model and, through
    :class:`edge_runtime.predictor.Predictor`, to every artifact. Nothing is written:
    :func:`export.parity_report.record_parity` does that.

    Parameters
    ----------
    bundle, run, data
        Bundle (opened, or its path), run folder, dataset folder.
    split
        ``test``, ``valid`` or ``train``. With ``gate``, one whose patients chose neither ranges nor recipe.
    artifacts
        Names of the artifacts to judge; by default all whose backend is installed here, the others are noted.
    limit
        Look at no more than so many radiographs, spread evenly over the split.
    gate
        Judge quantized artifacts by ``limits``; False: measure them only.
    limits
        Limits, or a TOML file of them (:func:`export.parity_limits.load_limits`); the defaults where None.
    accept_not_shown
        Let the exit code be 0 where nothing failed but something is not shown.
    predictions
        Answers that a device recorded (``edge-runtime predict --json``), to be judged instead of running the
        bundle's artifacts here.
    backends
        Other backends to judge the artifacts on too, such as ``openvino-bf16``, or ``all`` for those that this device
        opens: rows of their own, judged as quantization, for their arithmetic is another.
    on_radiograph
        Progress.

    Raises
    ------
    EdgeRuntimeError
        The bundle was not built from the run, the split does not exist, is empty or shares patients with another,
        an artifact is unknown, damaged or cannot be opened here.
    """
    if not isinstance(bundle, Bundle):
        with open_bundle(bundle) as opened:
            return check_parity(
                opened, run, data, split=split, artifacts=artifacts, limit=limit, gate=gate, limits=limits,
                accept_not_shown=accept_not_shown, predictions=predictions, backends=backends,
                on_radiograph=on_radiograph,
            )  # fmt: skip
    manifest = bundle.manifest
    labels = manifest.labels
    asked = limits if isinstance(limits, Limits) else load_limits(limits, labels)
    loaded = load_run(run)
    dataset, rows = acceptance_rows(data, split, labels, limit)
    _check_same_model(bundle, loaded)
    chosen, skipped = _chosen(bundle, artifacts) if predictions is None else (list(manifest.artifacts), [])
    others = named_backends(backends, chosen) if predictions is None else []
    sets, notes = describe_sets(bundle, dataset, split, {artifact.precision for artifact in chosen}, gate=gate)
    with ExitStack() as stack:
        wanted = [] if predictions is not None else [*((artifact, None) for artifact in chosen), *others]
        predictors = [
            (stack.enter_context(Predictor.open(bundle, artifact.name, backend or "auto")), backend)
            for artifact, backend in wanted
        ]
        answers = _Running(deployable_graph(loaded), predictors, labels)
        answers.run(dataset, rows, on_radiograph)
        if not answers.cases:
            raise ExportError(
                f"the reader refused every radiograph of the split {split}",
                got=f"{len(answers.refused)} refusals, the first: {': '.join(answers.refused[0])}",
                expected="frontal chest radiographs",
            )
        cases, full, full_heatmaps, said = answers.in_order()
    if predictions is None:
        notes = (*notes, *skipped)
    else:
        said, more = recorded_answers(predictions, manifest, [case.file for case in cases], artifacts)
        notes = (*notes, *more)
    truth = np.asarray([labels.index(case.truth) for case in cases])
    judge = Judge(
        labels, truth, [case.patient for case in cases], full, full_heatmaps, manifest.operating_thresholds, asked,
        gate=gate,
    )  # fmt: skip
    data_sha256 = combined_sha256([case.sha256 for case in cases])
    return ParityReport(
        bundle=manifest.name,
        split=split,
        labels=labels,
        checkpoint_sha256=loaded.spec.checkpoint_sha256,
        synthetic=dataset.synthetic,
        data_sha256=data_sha256,
        limited=len(rows) < len(dataset.splits[split]),
        cases=tuple(cases),
        refused=tuple(answers.refused),
        full_accuracy=float((full.argmax(1) == truth).mean()),
        artifacts=tuple(judge.judge(one) for one in said),
        gated=gate,
        limits=asked,
        accept_not_shown=accept_not_shown,
        sets=(*sets, _acceptance_set(split, cases, data_sha256)),
        validated_elsewhere={}
        if predictions is not None
        else {a.name: why for a in chosen if (why := why_not_validated_here(a)) is not None},
        notes=notes,
        files={a.name: {file.path: file.sha256 for file in a.files} for a in chosen},
    )


def _acceptance_set(split: str, cases: Sequence[Case], sha256: str) -> CaseSet:
    return CaseSet("acceptance", split, len(cases), len({case.patient for case in cases}), sha256)


class _Running:
    """Runs the eager model and the artifacts over radiographs, block by block."""

    def __init__(
        self, graph: DeployableGraph, predictors: Sequence[tuple[Predictor, str | None]], labels: tuple[str, ...]
    ) -> None:
        self._graph = graph
        self._predictors = predictors
        self._labels = labels
        self.cases: dict[int, Case] = {}
        self.refused: list[tuple[str, str]] = []
        self._full_heatmaps: dict[int, NDArray[np.float32]] = {}
        self._said: list[dict[int, tuple[NDArray[np.float64], NDArray[np.float32]]]] = [{} for _ in predictors]
        self._times: list[list[float]] = [[] for _ in predictors]

    def run(self, dataset: Dataset, rows: Sequence[Row], on_radiograph: OnRadiograph) -> None:
        done = 0
        for block in _blocks_by_size(dataset, rows):
            on_radiograph(done, len(rows))
            pixels: dict[int, NDArray[np.uint8]] = {}
            for number in block:
                row = rows[number]
                path = dataset.image_path(row)
                try:
                    pixels[number] = read_radiograph(path).pixels
                except Refusal as refusal:
                    self.refused.append((row.filename, refusal.reason.value))
                    continue
                probabilities, self._full_heatmaps[number] = _run_eager(self._graph, pixels[number])
                self.cases[number] = Case(row.filename, row.label, file_sha256(path), probabilities, row.patient)
            for (predictor, _), said, times in zip(self._predictors, self._said, self._times, strict=True):
                for number, image in pixels.items():
                    start = perf_counter()
                    said[number] = _run_artifact(predictor, image)
                    times.append((perf_counter() - start) * 1000)
            done += len(block)
        self.refused.sort()
        on_radiograph(len(rows), len(rows))

    def in_order(self) -> tuple[list[Case], NDArray[np.float64], NDArray[np.float32], list[Answers]]:
        """Everything in the order of the split's table again."""
        order = sorted(self.cases)
        cases = [self.cases[number] for number in order]
        full = np.asarray([case.probabilities for case in cases])
        answers = [
            Answers(
                name=predictor.artifact.name if other is None else row_name(predictor.artifact.name, other),
                backend=predictor.backend_name,
                versions=predictor.versions,
                precision="bf16" if other == "openvino-bf16" else predictor.precision,
                bytes=sum(file.bytes for file in predictor.artifact.files),
                case_numbers=tuple(range(len(order))),
                probabilities=np.asarray([said[number][0] for number in order]),
                heatmaps=np.asarray([said[number][1] for number in order]),
                p50_ms=float(np.median(times)),
                other_backend=other is not None,
            )
            for (predictor, other), said, times in zip(self._predictors, self._said, self._times, strict=True)
        ]
        return cases, full, np.asarray([self._full_heatmaps[number] for number in order]), answers


def _blocks_by_size(dataset: Dataset, rows: Sequence[Row]) -> Iterator[list[int]]:
    """Indices of rows, radiographs of one size together: some runtimes prepare themselves anew for every size."""

    def size(number: int) -> tuple[int, int]:
        try:
            with Image.open(dataset.image_path(rows[number])) as image:  # the header alone
                width, height = image.size
                return int(width), int(height)
        except (OSError, ValueError, Image.DecompressionBombError):
            return 0, 0  # the reader will say what is wrong with it

    order = sorted(range(len(rows)), key=lambda number: (size(number), number))
    for start in range(0, len(order), _BLOCK):
        yield order[start : start + _BLOCK]


def _check_same_model(bundle: Bundle, run: Run) -> None:
    built_from = bundle.manifest.provenance.checkpoint_sha256
    if built_from != run.spec.checkpoint_sha256:
        raise ExportError(
            f"the bundle {bundle.source} was not built from the run {run.folder}",
            got=f"checkpoint {run.spec.checkpoint_sha256[:16]}...",
            expected=f"checkpoint {built_from[:16]}...",
            remedy="give the run that the bundle was built from, or build the bundle anew",
        )
    calibration = bundle.manifest.calibration
    if calibration.temperature != run.spec.temperature or bundle.manifest.labels != run.spec.labels:
        raise ExportError(
            f"the run {run.folder} was changed after the bundle {bundle.source} was built",
            got=f"temperature {run.spec.temperature}, classes {', '.join(run.spec.labels)}",
            expected=f"temperature {calibration.temperature}, classes {', '.join(bundle.manifest.labels)}",
            remedy="build the bundle anew",
        )


def _chosen(bundle: Bundle, names: Sequence[str]) -> tuple[list[Artifact], list[str]]:
    """Choose the artifacts, and say which are passed over because their backend is not installed.

    One that was named is never passed over: opening it says what is missing.
    """
    known = [artifact.name for artifact in bundle.manifest.artifacts]
    if unknown := [name for name in names if name not in known]:
        raise ExportError(
            f"the bundle {bundle.source} has no such artifact",
            got=", ".join(unknown),
            expected=", ".join(known),
        )
    if names:
        return [artifact for artifact in bundle.manifest.artifacts if artifact.name in names], []
    missing = {a.name: why_unavailable(backend_for_format(a.format)) for a in bundle.manifest.artifacts}
    here = [artifact for artifact in bundle.manifest.artifacts if missing[artifact.name] is None]
    if not here:
        raise ExportError(
            f"no artifact of {bundle.source} can be opened here", got="; ".join(str(why) for why in missing.values())
        )
    return here, [f"{name} was not judged: {why}." for name, why in missing.items() if why is not None]


def _run_eager(graph: DeployableGraph, pixels: NDArray[np.uint8]) -> tuple[tuple[float, ...], NDArray[np.float32]]:
    with torch.inference_mode():
        outputs: GraphOutputs = graph(torch.from_numpy(pixels.copy())[None, None])
    return tuple(float(p) for p in outputs.probabilities[0]), outputs.heatmap[0].numpy().copy()


def _run_artifact(predictor: Predictor, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    outputs = predictor.run_raw(pixels)
    probabilities = outputs["probabilities"][0].astype(np.float64)
    if not np.isfinite(probabilities).all():
        raise BackendError(
            f"artifact {predictor.artifact.name} gave probabilities that are not numbers",
            got=str(probabilities.tolist()),
            remedy="leave the artifact out (--artifact), or build it anew",
        )
    return probabilities, outputs["heatmap"][0]
