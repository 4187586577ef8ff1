"""Gate and prediction sets of a bundle, from its data set: what the graph and the manifest get."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_runtime.errors import Refusal
from edge_runtime.manifest import Conformal, Gate, GateReason
from edge_runtime.reading import read_radiograph
from export.calibration import combined_sha256
from export.conformal import COVERAGE, conformal_thresholds, fewest_radiographs
from export.gate_fitting import FEWEST_TRAINING, FEWEST_VALIDATION, Seen, fit_gate
from export.gate_pictures import drawn_pictures, inverted, load_given, rotated
from export.graph import DeployableGraph
from train.data.rows import Dataset, Row
from train.preprocessing import squish

__all__ = ["Judgement", "learn_refusing"]

_BATCH = 4  # of larger ones the feature maps no longer fit into a CPU's cache
_DRAWN = 400
OnRadiograph = Callable[[int, int], None]
Change = Callable[[Tensor, int], Tensor]
"""Of the n-th radiograph, float [1, 1, S, S] in 0..255."""


def _as_it_is(grey: Tensor, _number: int) -> Tensor:
    return grey


_MADE: dict[str, Change] = {"inverted": lambda grey, _number: inverted(grey), "rotated": rotated}
"""What every training radiograph is shown as beside, by the reason that such a picture is refused for."""


@dataclass(frozen=True)
class Judgement:
    """What was learnt: sections of the manifest, null where there were too few radiographs, and why in ``notes``."""

    gate: Gate | None
    conformal: Conformal | None
    notes: tuple[str, ...]


def learn_refusing(
    graph: DeployableGraph,
    dataset: Dataset,
    not_frontal: Path | None = None,
    *,
    coverage: float = COVERAGE,
    minimum_age: float | None = None,
    on_radiograph: OnRadiograph = lambda _done, _total: None,
) -> Judgement:
    """Fit a gate on the training split, set its limits and the prediction sets' on the validation split.

    The graph gets the gate.

    Parameters
    ----------
    graph
        In place: :meth:`~export.graph.DeployableGraph.set_gate` is called.
    dataset
        The data set that the run was trained on.
    not_frontal
        Folder of pictures that are no frontal chest radiographs (:func:`export.gate_pictures.load_given`), of no
        validation or test patient. Without it the gate has seen made and drawn pictures only.
    coverage
        Of the prediction sets, above 0 and below 1.
    minimum_age
        Years; younger patients are refused where the header tells the age.
    on_radiograph
        Progress: radiographs done, and how many there are.
    """
    notes: list[str] = []
    train, valid = dataset.splits["train"], dataset.splits["valid"]
    wants_gate = len(train) >= FEWEST_TRAINING and len(valid) >= FEWEST_VALIDATION
    total = len(valid) + len(train) * wants_gate
    look = _Looking(graph, lambda done: on_radiograph(done, total))
    (seen_valid,), valid_rows, probabilities = look.at_rows(dataset, valid)
    conformal = _conformal(dataset, valid_rows, probabilities, coverage, notes)
    if not wants_gate:
        notes.append(
            f"No gate: it needs {FEWEST_TRAINING} training and {FEWEST_VALIDATION} validation radiographs, and there "
            f"are {len(train)} and {len(valid)}. Nothing is refused by how it looks."
        )
        return Judgement(None, conformal, tuple(notes))
    (seen_train, *seen_made), train_rows, _ = look.at_rows(dataset, train, (_as_it_is, *_MADE.values()))
    others = {**look.at_others(not_frontal), **dict(zip(_MADE, seen_made, strict=True))}
    if "lateral_view" not in others:
        notes.append("The gate has seen no lateral view: it was built without --not-frontal DIR (DIR/lateral).")
    graph.set_gate(fit_gate(seen_train, seen_valid, others))
    assert graph.gate is not None
    with torch.inference_mode():
        scores = graph.gate.score(torch.from_numpy(seen_valid.features).float())
    gate = Gate(
        threshold=1.0,
        reasons=cast("tuple[GateReason, ...]", tuple(others)),
        minimum_age_years=minimum_age,
        training_radiographs=len(train_rows),
        other_pictures={cast("GateReason", reason): len(seen) for reason, seen in others.items()},
        validation_radiographs=len(valid_rows),
        validation_refused=int((scores >= 1).sum()),
        data_sha256=combined_sha256([row.sha256 for row in (*train_rows, *valid_rows)]),
    )
    return Judgement(gate, conformal, tuple(notes))


def _conformal(
    dataset: Dataset, rows: Sequence[Row], probabilities: NDArray[np.float64], coverage: float, notes: list[str]
) -> Conformal | None:
    targets = np.array([dataset.labels.index(row.label) for row in rows], np.intp)
    counts = {label: int((targets == index).sum()) for index, label in enumerate(dataset.labels)}
    fewest = fewest_radiographs(coverage)
    if short := [f"{count} of {label}" for label, count in counts.items() if count < fewest]:
        notes.append(
            f"No prediction sets: {coverage:.0%} coverage needs {fewest} validation radiographs of each class, and "
            f"there are {', '.join(short)}."
        )
        return None
    return Conformal(
        coverage=coverage,
        thresholds=conformal_thresholds(probabilities, targets, dataset.labels, coverage),
        split="valid",
        radiographs=counts,
        data_sha256=combined_sha256([row.sha256 for row in rows]),
    )


class _Looking:
    """Runs the graph over pictures in batches, and keeps what the gate and the prediction sets need."""

    def __init__(self, graph: DeployableGraph, on_radiograph: Callable[[int], None]) -> None:
        self._graph = graph
        self._on_radiograph = on_radiograph
        self._done = 0

    def at_rows(
        self, dataset: Dataset, rows: Sequence[Row], changes: Sequence[Change] = (_as_it_is,)
    ) -> tuple[list[Seen], list[Row], NDArray[np.float64]]:
        """Look at a split, at each radiograph once for each change; what the reader refuses is left out.

        Also returns the rows read, and the probabilities under the first change.
        """
        kept: list[Row] = []

        def grey() -> Iterator[Tensor]:
            for row in rows:
                self._done += 1
                self._on_radiograph(self._done)
                try:
                    pixels = read_radiograph(dataset.image_path(row)).pixels
                except Refusal:
                    continue
                kept.append(row)
                yield self._grey(pixels)

        seen, probabilities = self._look(grey(), changes)
        patients = tuple(f"{row.source}:{row.patient}" for row in kept)
        return [replace(one, groups=patients) for one in seen], kept, probabilities

    def at_others(self, not_frontal: Path | None) -> dict[str, Seen]:
        """Look at pictures of other kinds, by reason: drawn, and given."""
        seen = {"not_a_radiograph": [self._look(map(self._grey, drawn_pictures(_DRAWN)))[0][0]]}
        given: dict[str, list[NDArray[np.uint8]]] = {}
        if not_frontal is not None:
            for kind, picture in load_given(not_frontal):
                given.setdefault(kind, []).extend((picture, picture[:, ::-1]))  # a lateral view faces left or right
        for reason, pictures in given.items():
            seen.setdefault(reason, []).append(self._look(map(self._grey, pictures))[0][0])
        return {reason: Seen(np.concatenate([part.features for part in parts])) for reason, parts in seen.items()}

    def _grey(self, pixels: NDArray[np.uint8]) -> Tensor:
        return squish(torch.from_numpy(pixels.copy())[None, None], self._graph.size)

    def _look(
        self, grey: Iterable[Tensor], changes: Sequence[Change] = (_as_it_is,)
    ) -> tuple[list[Seen], NDArray[np.float64]]:
        features: list[list[NDArray[np.float64]]] = [[] for _ in changes]
        probabilities = []
        number = 0
        with torch.inference_mode():
            for batch in _batches(grey):
                for place, change in enumerate(changes):
                    changed = torch.cat([change(image, number + n) for n, image in enumerate(batch)])
                    if place == 0:
                        outputs, seen = self._graph.look(changed)
                        probabilities.append(outputs.probabilities.double().numpy())
                    else:
                        seen = self._graph.look_only(changed)
                    features[place].append(seen.double().numpy())
                number += len(batch)
        return [Seen(np.concatenate(parts)) for parts in features], np.concatenate(probabilities)


def _batches(grey: Iterable[Tensor]) -> Iterator[list[Tensor]]:
    waiting: list[Tensor] = []
    for image in grey:
        waiting.append(image)
        if len(waiting) == _BATCH:
            yield waiting
            waiting = []
    if waiting:
        yield waiting
