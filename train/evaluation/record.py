"""``evaluation.json``: everything that the report shows, for a program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from train.evaluation.calibrating import Calibration, CarriedThreshold
from train.evaluation.comparison import ComparisonRow
from train.evaluation.metrics import Confused, Result
from train.evaluation.shortcuts import MaskedResult, SourceGroup, SourceProbe

__all__ = ["Evaluation", "NearCopies", "RunFacts", "TestTime", "TopLoss"]


@dataclass(frozen=True)
class RunFacts:
    """Which classifier was evaluated."""

    folder: str
    """Name of the run folder, without its path."""
    architecture: str
    image_size: int
    normalization: str
    recipe: str
    starting_weights: str
    temperature: float
    synthetic: bool
    checkpoint_sha256: str
    git_commit: str | None
    trained_on: dict[str, int]
    """Training radiographs by class, of the data folder given here."""


@dataclass(frozen=True)
class NearCopies:
    """Radiographs of the split that look like a training radiograph (``near_duplicates`` of ``dataset.json``)."""

    filenames: list[str]
    without: Result | None
    """Figures without them; None where there are none, or nothing would be left."""
    reason: str | None


@dataclass(frozen=True)
class TestTime:
    """Test-time augmentation: the logits of six views averaged. Not what a device computes."""

    __test__ = False  # pytest: this is no test

    views: int
    result: Result
    only_plain_right: int
    only_augmented_right: int


@dataclass(frozen=True)
class TopLoss:
    """A radiograph that the classifier got wrong with confidence, or right with none."""

    filename: str
    source: str
    label: str
    called: str
    probability_of_label: float
    probability_of_called: float
    loss: float
    near_copy: bool


@dataclass(frozen=True)
class Evaluation:
    """One run on one split."""

    schema_version: int
    created: str
    split: str
    labels: list[str]
    synthetic: bool
    data_sha256: dict[str, str]
    seed: int
    resamples: int
    summary: list[str]
    warnings: list[str]
    run: RunFacts
    result: Result
    near_copies: NearCopies
    test_time: TestTime | None
    by_source: list[SourceGroup]
    source_probe: SourceProbe
    masked: list[MaskedResult]
    commonest_class: float
    """Chance for every accuracy here: always saying the split's commonest class."""
    calibration: Calibration
    uncalibrated: Calibration
    thresholds: list[CarriedThreshold]
    most_confused: list[Confused]
    top_losses: list[TopLoss]
    comparison: list[ComparisonRow]
    not_comparable: list[str]

    def to_json(self) -> bytes:
        """Encode for ``evaluation.json``."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n"

    def to_object(self) -> dict[str, Any]:
        """Return plain objects, as ``evaluation.json`` holds them."""
        found: dict[str, Any] = msgspec.to_builtins(self)
        return found
