"""The files of an evaluation: the table of predictions, and all of them written together."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.calibration import softmax
from train.data.tables import Row
from train.evaluation.predictions import EvaluationError

__all__ = ["predictions_table", "write_files"]


def predictions_table(
    rows: Sequence[Row],
    labels: Sequence[str],
    logits: NDArray[np.float64],
    temperature: float,
    losses: NDArray[np.float64],
    near_copies: Collection[str],
    augmented: NDArray[np.float64] | None,
) -> bytes:
    """Return ``predictions.csv``: one line a radiograph, in the split's order.

    Parameters
    ----------
    rows, labels
        The split and the C class names.
    logits, losses
        [N, C] and [N].
    temperature
        Probabilities are softmax(logits / temperature).
    near_copies
        File names that look like a training radiograph.
    augmented
        Logits of test-time augmentation, [N, C], or None: no such columns.
    """
    columns = ["filename", "patient_id", "source", "label", "called", "right", "near_copy", "loss"]
    probabilities = softmax(logits, temperature)
    columns += [f"probability_{label}" for label in labels] + [f"logit_{label}" for label in labels]
    figures = np.column_stack([losses, probabilities, logits])
    if augmented is not None:
        columns += [f"tta_probability_{label}" for label in labels]
        figures = np.column_stack([figures, softmax(augmented, temperature)])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row, called, numbers in zip(rows, probabilities.argmax(axis=1), figures, strict=True):
        answer = labels[int(called)]
        facts = [row.filename, row.patient_id, row.source, row.label, answer, int(answer == row.label)]
        writer.writerow([*facts, int(row.filename in near_copies), *(f"{number:.6f}" for number in numbers)])
    return text.getvalue().encode()


def write_files(out: Path, files: Mapping[str, bytes]) -> None:
    """Write all files under temporary names, then put them in place in the order given.

    Raises
    ------
    EvaluationError
        They cannot be written; what was there before is unchanged.
    """
    temporary = {name: out / f".{name}.partial" for name in files}
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in files.items():
            with temporary[name].open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
        for name, path in temporary.items():
            os.replace(path, out / name)
    except OSError as error:
        raise EvaluationError(
            f"the evaluation cannot be written to {out}",
            got=str(error),
            expected=f"a folder with {sum(map(len, files.values())) / 1e6:.1f} MB of room",
            remedy="name another one with --out",
        ) from error
    finally:
        if out.is_dir():
            for path in temporary.values():
                path.unlink(missing_ok=True)
