"""``train evaluate``: a run on a split, its figures with intervals, and what they lean on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from train.calibration import softmax
from train.data.tables import Dataset, Row, check_dataset, load_dataset, split_sha256
from train.evaluation.calibrating import carry_thresholds, judge_calibration
from train.evaluation.comparison import NOT_COMPARABLE, PUBLISHED, our_row
from train.evaluation.files import predictions_table, write_files
from train.evaluation.metrics import Result, measure, most_confused
from train.evaluation.predictions import Classifier, EvaluationError, tta_logits
from train.evaluation.record import Evaluation, NearCopies, RunFacts, TestTime, TopLoss
from train.evaluation.report import Pictures, draw_pictures, render_report
from train.evaluation.shortcuts import MASKS, MaskedResult, group_by_source, linear_probe, masked_result, probe_source
from train.evaluation.summary import summarize
from train.image_cache import cached_images, load_grey
from train.progress import track
from train.run import Run, load_run

__all__ = ["CSV_NAME", "HTML_NAME", "JSON_NAME", "EvaluateOptions", "evaluate"]

JSON_NAME = "evaluation.json"
HTML_NAME = "report.html"
CSV_NAME = "predictions.csv"


@dataclass(frozen=True)
class EvaluateOptions:
    """What to look at and how.

    ``out`` defaults to ``evaluation-<split>`` in the run folder, ``cache`` to ``cache`` in the data folder. Without
    ``pictures`` the report holds no radiographs, so that it can be passed on where their licences do not allow that.
    """

    split: str = "test"
    tta: bool = False
    out: Path | None = None
    device: str = "auto"
    cache: Path | None = None
    workers: int = 2
    seed: int = 0
    resamples: int = 2000
    top: int = 12
    pictures: bool = True


def evaluate(run_folder: Path, data: Path, options: EvaluateOptions | None = None) -> Evaluation:
    """Evaluate a run on a split and write ``report.html``, ``evaluation.json`` and ``predictions.csv``.

    Parameters
    ----------
    run_folder
        What ``train fit`` has left.
    data
        A data set folder with the same labels. Its training split serves the shortcut checks.
    options
        See :class:`EvaluateOptions`.

    Raises
    ------
    EdgeRuntimeError
        Of one kind or another: a run or data that does not hold, other labels than the run's, an empty split, no
        CUDA device, no room for the report. Nothing is written then.
    """
    options = options or EvaluateOptions()
    run = load_run(run_folder)
    dataset = load_dataset(data)
    _check_labels(run, dataset)
    check_dataset(dataset, splits=(options.split,))
    return _Assessment(run, dataset, options).run_all()


class _Assessment:
    """One evaluation, from the classifier's answers to the files."""

    def __init__(self, run: Run, dataset: Dataset, options: EvaluateOptions) -> None:
        self.run, self.dataset, self.options = run, dataset, options
        self.labels = list(run.spec.labels)
        self.rows = dataset.splits[options.split]
        # On the training split itself the source probe would be judged on what it was fitted on; the warning says so.
        self.train_rows = dataset.splits.get("train", [])
        self.targets = np.array([self.labels.index(row.label) for row in self.rows], dtype=np.int64)
        self.patients = [row.patient for row in self.rows]
        self.model = run.load_model()
        self.classifier = Classifier(self.model, run.build_normalization(), _device(options.device))
        self.images = self._cached(self.rows)
        self.train_images = self._cached(self.train_rows) if self.train_rows else None

    def run_all(self) -> Evaluation:
        """Measure, write, return."""
        spec, options, labels, targets = self.run.spec, self.options, self.labels, self.targets
        answers = self.classifier.answer(self.images, f"{options.split} split")
        train_embeddings = answers.embeddings[:0]
        if self.train_images is not None:
            train_embeddings = self.classifier.answer(self.train_images, "training split").embeddings
        augmented = tta_logits(self.classifier, self.images, answers.logits) if options.tta else None
        probabilities = softmax(answers.logits, spec.temperature)
        called = probabilities.argmax(axis=1).astype(np.int64)
        copies = self._near_copies()
        result = self._measure(probabilities)
        near_copies = self._without(probabilities, copies)
        probe = probe_source(
            self.train_rows,
            train_embeddings,
            self.rows,
            answers.embeddings,
            labels,
        )
        masked = self._masked()
        commonest = float(np.bincount(targets).max() / len(targets))
        losses = -np.log(np.maximum(probabilities[np.arange(len(targets)), targets], 1e-12))
        evaluation = Evaluation(
            schema_version=1,
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
            split=options.split,
            labels=labels,
            synthetic=self.dataset.synthetic or spec.synthetic,
            data_sha256=split_sha256(self.dataset.root),
            seed=options.seed,
            resamples=options.resamples,
            summary=summarize(result, near_copies, probe, masked, commonest),
            warnings=self._warnings(),
            run=self._facts(),
            result=result,
            near_copies=near_copies,
            test_time=self._test_time(augmented, called) if augmented is not None else None,
            by_source=group_by_source(self.rows, called, labels),
            source_probe=probe,
            masked=masked,
            commonest_class=commonest,
            calibration=judge_calibration(answers.logits, targets, spec.temperature),
            uncalibrated=judge_calibration(answers.logits, targets, 1.0),
            thresholds=carry_thresholds(spec.operating_points, labels, probabilities, targets),
            most_confused=most_confused(result.confusion, labels),
            top_losses=self._top_losses(probabilities, called, losses, copies),
            comparison=[*PUBLISHED, our_row(spec, self.model, result, options.split, labels)],
            not_comparable=list(NOT_COMPARABLE),
        )
        page = render_report(evaluation, targets, probabilities, self._pictures(evaluation.top_losses))
        files = {
            CSV_NAME: predictions_table(self.rows, labels, answers.logits, spec.temperature, losses, copies, augmented),
            HTML_NAME: page.encode(),
            JSON_NAME: evaluation.to_json(),
        }
        write_files(options.out or self.run.folder / f"evaluation-{options.split}", files)
        return evaluation

    def _cached(self, rows: Sequence[Row]) -> NDArray[np.uint8]:
        names, hashes = [row.filename for row in rows], [row.sha256 for row in rows]
        folder = self.dataset.image_path(rows[0]).parent
        cache = self.options.cache or self.dataset.root / "cache"
        return cached_images(folder, names, hashes, self.run.spec.image_size, cache, self.options.workers)

    def _measure(self, probabilities: NDArray[np.float64], keep: NDArray[np.bool_] | None = None) -> Result:
        kept = np.ones(len(self.rows), dtype=bool) if keep is None else keep
        patients = [patient for patient, inside in zip(self.patients, kept, strict=True) if inside]
        options = self.options
        return measure(self.labels, self.targets[kept], probabilities[kept], patients, options.resamples, options.seed)

    def _near_copies(self) -> set[str]:
        """File names of this split's radiographs that look like one of training."""
        found = set()
        for pair in self.dataset.record.near_duplicates if self.dataset.record else ():
            for name, split, other in (
                (pair.filename, pair.split, pair.other_split),
                (pair.other_filename, pair.other_split, pair.split),
            ):
                if split == self.options.split and other == "train" and split != other:
                    found.add(name)
        return found & {row.filename for row in self.rows}

    def _without(self, probabilities: NDArray[np.float64], copies: set[str]) -> NearCopies:
        if not copies:
            return NearCopies(
                [], None, "dataset.json lists no radiograph of this split that looks like a training one."
            )
        keep = np.array([row.filename not in copies for row in self.rows])
        if not keep.any():
            return NearCopies(sorted(copies), None, "Every radiograph of this split looks like one of training.")
        return NearCopies(sorted(copies), self._measure(probabilities, keep), None)

    def _masked(self) -> list[MaskedResult]:
        results = []
        for mask in MASKS:
            answers = self.classifier.answer(self.images, f"{mask.title.lower()}: {self.options.split}", mask)
            refitted = None
            if self.train_images is not None and len({row.label for row in self.train_rows}) > 1:
                trained = self.classifier.answer(self.train_images, f"{mask.title.lower()}: training", mask)
                refitted = linear_probe(trained.embeddings, [row.label for row in self.train_rows], answers.embeddings)
            called = answers.logits.argmax(axis=1).astype(np.int64)
            results.append(masked_result(mask, self.labels, self.targets, called, refitted))
        return results

    def _test_time(self, logits: NDArray[np.float64], called: NDArray[np.int64]) -> TestTime:
        probabilities = softmax(logits, self.run.spec.temperature)
        right, before = probabilities.argmax(axis=1) == self.targets, called == self.targets
        return TestTime(6, self._measure(probabilities), int((before & ~right).sum()), int((right & ~before).sum()))

    def _top_losses(
        self,
        probabilities: NDArray[np.float64],
        called: NDArray[np.int64],
        losses: NDArray[np.float64],
        copies: set[str],
    ) -> list[TopLoss]:
        worst = np.argsort(-losses, kind="stable")[: self.options.top]
        return [
            TopLoss(
                filename=self.rows[i].filename,
                source=self.rows[i].source,
                label=self.rows[i].label,
                called=self.labels[called[i]],
                probability_of_label=float(probabilities[i, self.targets[i]]),
                probability_of_called=float(probabilities[i, called[i]]),
                loss=float(losses[i]),
                near_copy=self.rows[i].filename in copies,
            )
            for i in worst
        ]

    def _pictures(self, losses: Sequence[TopLoss]) -> list[Pictures | None]:
        if not self.options.pictures:
            return [None] * len(losses)
        position = {row.filename: i for i, row in enumerate(self.rows)}
        pictures: list[Pictures | None] = []
        for loss in track(losses, "heat maps", len(losses)):
            index = position[loss.filename]
            classes = [self.labels.index(loss.label), self.labels.index(loss.called)]
            maps = self.classifier.grad_cam(self.images[index], classes)
            pictures.append(draw_pictures(load_grey(self.dataset.image_path(self.rows[index])), maps))
        return pictures

    def _facts(self) -> RunFacts:
        spec = self.run.spec
        counts = Counter(row.label for row in self.train_rows)
        return RunFacts(
            folder=self.run.folder.resolve().name,
            architecture=spec.architecture,
            image_size=spec.image_size,
            normalization=spec.normalization,
            recipe=str(spec.recipe.get("name", "unnamed")),
            starting_weights=spec.starting_weights,
            temperature=spec.temperature,
            synthetic=spec.synthetic,
            checkpoint_sha256=spec.checkpoint_sha256,
            git_commit=spec.git_commit,
            trained_on={label: counts[label] for label in self.labels},
        )

    def _warnings(self) -> list[str]:
        found = []
        if split_sha256(self.dataset.root) != self.run.spec.data_sha256:
            found.append(
                "The tables of this data folder are not those that the run was trained on. Patients of this split "
                "may have been trained on, and “training split” below is this folder’s."
            )
        if self.options.split == "train":
            found.append("This is the training split: these figures say how well it was learnt by heart, nothing more.")
        if self.options.split == "valid":
            found.append("The validation split chose the temperature and the thresholds: its figures are flattering.")
        if self.run.spec.synthetic and not self.dataset.synthetic:
            found.append("The run was trained on synthetic radiographs.")
        missing = [label for c, label in enumerate(self.labels) if not (self.targets == c).any()]
        if missing:
            found.append(f"This split has no radiograph of: {', '.join(missing)}. What needs one is n/a.")
        return found


def _check_labels(run: Run, dataset: Dataset) -> None:
    if set(run.spec.labels) != set(dataset.labels):
        raise EvaluationError(
            f"the run {run.folder} and the data {dataset.root} have different labels",
            got=f"data: {', '.join(dataset.labels)}",
            expected=f"run: {', '.join(run.spec.labels)}",
            remedy="evaluate on data that was built for this run's classes",
        )


def _device(name: str) -> torch.device:
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise EvaluationError(
            "there is no CUDA device", expected="a GPU and a CUDA build of torch", remedy="--device cpu"
        )
    return torch.device(name)
