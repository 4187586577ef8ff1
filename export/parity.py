"""Parity: every artifact, run the way the field runs it, against the eager model on real radiographs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from edge_runtime.bundle import Bundle
from edge_runtime.errors import Refusal
from edge_runtime.manifest import Artifact
from edge_runtime.predictor import Predictor
from edge_runtime.reading import read_radiograph
from export.agreement import CONVERSION_LIMIT
from export.calibration import combined_sha256
from export.errors import ExportError
from export.graph import DeployableGraph, GraphOutputs, deployable_graph
from export.parity_result import (
    ACCURACY_MARGIN,
    COVID_LABEL,
    SENSITIVITY_MARGIN,
    ArtifactParity,
    Case,
    Gate,
    ParityReport,
    Verdict,
)
from export.statistics import judge_non_inferiority, tango_interval
from train.data.rows import SPLITS, Dataset, Row, file_sha256
from train.data.tables import load_dataset
from train.run import Run, load_run

__all__ = ["check_parity"]

OnRadiograph = Callable[[int, int], None]
"""Told how many radiographs are done, and how many there are."""


def check_parity(
    bundle: Bundle | str | Path,
    run: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    artifacts: Sequence[str] = (),
    limit: int | None = None,
    gate_int8: bool = False,
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
        ``test``, ``valid`` or ``train``.
    artifacts
        Names of the artifacts to judge; all of them by default.
    limit
        Look at no more than so many radiographs, spread evenly over the split.
    gate_int8
        Judge quantized artifacts by non-inferiority (DESIGN: accuracy within 1 point, COVID-19 sensitivity
        within 2, by the lower limits of paired 95 % score intervals), instead of reporting them.
    on_radiograph
        Progress.

    Raises
    ------
    EdgeRuntimeError
        The bundle was not built from the run, the split does not exist or is empty, an artifact is unknown,
        damaged or cannot be opened here.
    """
    if not isinstance(bundle, Bundle):
        from edge_runtime.bundle import open_bundle

        with open_bundle(bundle) as opened:
            return check_parity(
                opened, run, data, split=split, artifacts=artifacts, limit=limit, gate_int8=gate_int8,
                on_radiograph=on_radiograph,
            )  # fmt: skip
    loaded = load_run(run)
    dataset, rows = _rows(data, split, bundle.manifest.labels, limit)
    _check_same_model(bundle, loaded)
    with ExitStack() as stack:
        predictors = [
            stack.enter_context(Predictor.open(bundle, artifact.name)) for artifact in _chosen(bundle, artifacts)
        ]
        graph = deployable_graph(loaded)
        cases: list[Case] = []
        refused: list[tuple[str, str]] = []
        answers: dict[str, list[list[float]]] = {predictor.artifact.name: [] for predictor in predictors}
        for done, row in enumerate(rows):
            on_radiograph(done, len(rows))
            path = dataset.image_path(row)
            try:
                pixels = read_radiograph(path).pixels
            except Refusal as refusal:
                refused.append((row.filename, refusal.reason.value))
                continue
            cases.append(Case(row.filename, row.label, file_sha256(path), _run_eager(graph, pixels)))
            for predictor in predictors:
                answer = predictor.predict(pixels).probabilities
                answers[predictor.artifact.name].append([answer[label] for label in bundle.manifest.labels])
        on_radiograph(len(rows), len(rows))
        if not cases:
            raise ExportError(
                f"the reader refused every radiograph of the split {split}",
                got=f"{len(refused)} refusals, the first: {refused[0][0]}: {refused[0][1]}",
                expected="frontal chest radiographs",
            )
        judged = [
            _judge(p, np.asarray(answers[p.artifact.name]), cases, bundle.manifest.labels, gate_int8)
            for p in predictors
        ]
    full = np.asarray([case.probabilities for case in cases])
    truth = _truth(cases, bundle.manifest.labels)
    return ParityReport(
        bundle=bundle.manifest.name,
        split=split,
        labels=bundle.manifest.labels,
        checkpoint_sha256=loaded.spec.checkpoint_sha256,
        synthetic=dataset.synthetic,
        data_sha256=combined_sha256([case.sha256 for case in cases]),
        limited=len(rows) < len(dataset.splits[split]),
        cases=tuple(cases),
        refused=tuple(refused),
        full_accuracy=float((full.argmax(1) == truth).mean()),
        artifacts=tuple(judged),
        gated=gate_int8,
    )


def _rows(data: str | Path, split: str, labels: tuple[str, ...], limit: int | None) -> tuple[Dataset, list[Row]]:
    if split not in SPLITS:
        raise ExportError(f"there is no split {split!r}", expected=", ".join(SPLITS))
    dataset = load_dataset(data)
    if tuple(dataset.labels) != labels:
        raise ExportError(
            f"the data set {data} has other classes than the bundle",
            got=", ".join(dataset.labels),
            expected=", ".join(labels),
        )
    rows = dataset.splits[split]
    if not rows:
        raise ExportError(
            f"the split {split} of {data} is empty",
            expected="at least one radiograph",
            remedy="choose another --split, or build the data set with more sources",
        )
    if limit is not None and limit < len(rows):
        rows = [rows[number * len(rows) // limit] for number in range(limit)]
    return dataset, rows


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


def _chosen(bundle: Bundle, names: Sequence[str]) -> list[Artifact]:
    known = [artifact.name for artifact in bundle.manifest.artifacts]
    if unknown := [name for name in names if name not in known]:
        raise ExportError(
            f"the bundle {bundle.source} has no such artifact",
            got=", ".join(unknown),
            expected=", ".join(known),
        )
    return [artifact for artifact in bundle.manifest.artifacts if not names or artifact.name in names]


def _run_eager(graph: DeployableGraph, pixels: NDArray[np.uint8]) -> tuple[float, ...]:
    with torch.inference_mode():
        outputs: GraphOutputs = graph(torch.from_numpy(pixels.copy())[None, None])
    return tuple(float(p) for p in outputs.probabilities[0])


def _truth(cases: Sequence[Case], labels: tuple[str, ...]) -> NDArray[np.int64]:
    return np.asarray([labels.index(case.truth) for case in cases])


def _judge(
    predictor: Predictor,
    answers: NDArray[np.float64],
    cases: Sequence[Case],
    labels: tuple[str, ...],
    gate_int8: bool,
) -> ArtifactParity:
    full = np.asarray([case.probabilities for case in cases])
    truth = _truth(cases, labels)
    difference = np.abs(answers - full)
    differing = tuple(int(i) for i in np.flatnonzero(answers.argmax(1) != full.argmax(1)))
    largest = float(difference.max())
    conversion = predictor.precision == "fp32"
    right, full_right = answers.argmax(1) == truth, full.argmax(1) == truth
    gate = None
    verdict: Verdict = "reported"
    if conversion:
        verdict = "passed" if largest <= CONVERSION_LIMIT and not differing else "failed"
    else:
        covid = truth == labels.index(COVID_LABEL) if COVID_LABEL in labels else None
        gate = _gate(right, full_right, covid)
        if gate_int8:
            verdict = _gate_verdict(gate)
    return ArtifactParity(
        name=predictor.artifact.name,
        backend=predictor.backend_name,
        versions=predictor.versions,
        question="conversion" if conversion else "quantization",
        verdict=verdict,
        max_abs_probability_difference=largest,
        mean_abs_probability_difference=float(difference.mean()),
        differing=differing,
        accuracy=float(right.mean()),
        gate=gate,
        probabilities=answers,
    )


def _gate(right: NDArray[np.bool_], full_right: NDArray[np.bool_], covid: NDArray[np.bool_] | None) -> Gate:
    def interval(chosen: NDArray[np.bool_]) -> tuple[float, float]:
        gained = int((right & ~full_right & chosen).sum())
        lost = int((~right & full_right & chosen).sum())
        return tango_interval(gained, lost, int(chosen.sum()))

    accuracy = interval(np.ones_like(right))
    sensitivity = None if covid is None else interval(covid)
    return Gate(
        accuracy=accuracy,
        accuracy_verdict=judge_non_inferiority(accuracy, ACCURACY_MARGIN),
        sensitivity=sensitivity,
        sensitivity_verdict=None if sensitivity is None else judge_non_inferiority(sensitivity, SENSITIVITY_MARGIN),
        sensitivity_cases=0 if covid is None else int(covid.sum()),
    )


def _gate_verdict(gate: Gate) -> Verdict:
    verdicts = {gate.accuracy_verdict, gate.sensitivity_verdict} - {None}
    if "inferior" in verdicts:
        return "failed"
    return "passed" if verdicts == {"not inferior"} else "not shown"
