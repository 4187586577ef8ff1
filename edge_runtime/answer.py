"""The answer to one file: what the model says, or why it does not say anything."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any, Literal

from edge_runtime.errors import BackendError, DecoderError, EdgeRuntimeError, Fault, InputError, Refusal
from edge_runtime.prediction_set import prediction_set, refers, set_note
from edge_runtime.predictor import Prediction, Predictor
from edge_runtime.radiograph import HeaderFacts, Radiograph
from edge_runtime.reading import read_radiograph
from edge_runtime.refusing import check_age, check_score

__all__ = ["DISCLAIMER", "Answer", "Outcome", "Status", "answer_file", "error_answer"]

DISCLAIMER = "For research and demonstration only. Not a medical device."

Status = Literal["ok", "refused", "error"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Answer:
    """What is said of one file, with nothing in it that identifies a patient but ``facts``.

    Attributes
    ----------
    file
        The file as the caller named it.
    status
        ``ok``; ``refused``: the file cannot be judged as a radiograph; ``error``: absent, timed out, or our
        own fault.
    reason
        A code: a :class:`~edge_runtime.errors.Reason` or :class:`~edge_runtime.errors.Fault`; None if ok.
    message, remedy
        A plain sentence, and what to do about it; None if ok.
    label, probabilities
        As in :class:`~edge_runtime.predictor.Prediction`; None unless ok.
    prediction_set
        The classes that cannot be ruled out (:mod:`edge_runtime.prediction_set`); None unless ok, and where
        the bundle has no conformal section.
    refer
        True where a reader should decide: the set holds not exactly one class. None where there is no set.
    gate_score
        How unlike the training radiographs the picture is, 1 the limit; None where the bundle has no gate or
        the picture did not reach it.
    artifact, backend, precision
        What answers; None where no artifact was opened.
    timings_ms
        ``read`` (file to pixels), ``predict`` (pixels to prediction), ``total``; in milliseconds.
    notes
        Plain sentences that belong to the answer.
    heatmap_file
        The picture with the heat map, where one was asked for and written.
    facts
        DICOM header facts; not part of the JSON object.
    """

    file: str
    status: Status
    reason: str | None = None
    message: str | None = None
    remedy: str | None = None
    label: str | None = None
    probabilities: dict[str, float] | None = None
    prediction_set: tuple[str, ...] | None = None
    refer: bool | None = None
    gate_score: float | None = None
    artifact: str | None = None
    backend: str | None = None
    precision: str | None = None
    timings_ms: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    heatmap_file: str | None = None
    facts: HeaderFacts | None = None

    def to_json_object(self) -> dict[str, Any]:
        """Return the answer as a JSON object; every key is always there, null where it does not apply."""
        return {
            "file": self.file,
            "status": self.status,
            "reason": self.reason,
            "label": self.label,
            "probabilities": self.probabilities,
            "prediction_set": None if self.prediction_set is None else list(self.prediction_set),
            "refer": self.refer,
            "gate_score": self.gate_score,
            "artifact": self.artifact,
            "backend": self.backend,
            "precision": self.precision,
            "timings_ms": {name: round(ms, 2) for name, ms in self.timings_ms.items()},
            "message": self.message,
            "remedy": self.remedy,
            "notes": list(self.notes),
            "heatmap_file": self.heatmap_file,
        }


@dataclass(frozen=True)
class Outcome:
    """An answer with what it was drawn from; radiograph and prediction as far as they were reached."""

    answer: Answer
    radiograph: Radiograph | None = None
    prediction: Prediction | None = None


def answer_file(
    predictor: Predictor,
    path: str | Path,
    name: str | None = None,
    *,
    read: Callable[[str | Path], Radiograph] | None = None,
) -> Outcome:
    """Read a file, predict it, and refuse what the bundle's gate refuses. A bad file gives an answer, never an
    exception.

    Parameters
    ----------
    name
        What to call the file in the answer; None takes ``path`` as given.
    read
        Reads the file: :func:`~edge_runtime.reading.read_radiograph` by default; or in a process of its own
        (:class:`edge_runtime.decoding.DecodingPool`).
    """
    watch = _Stopwatch()
    radiograph = prediction = None
    gate_score: float | None = None
    manifest = predictor.manifest
    status: Status = "error"
    reason: str | None = None
    message: str | None = None
    remedy: str | None = None
    try:
        with watch.time("read"):
            radiograph = (read or read_radiograph)(path)
        check_age(manifest.gate, radiograph.facts)
        with watch.time("predict"):
            predicted = predictor.predict(radiograph.pixels)
        gate_score = None if manifest.gate is None else predicted.gate_score
        check_score(manifest.gate, predicted.gate_score)
        prediction = predicted  # of what is refused, nothing is told
        status = "ok"
    except Refusal as refusal:
        status, reason = "refused", refusal.reason.value
        message, remedy = sentence(refusal), refusal.remedy
    except DecoderError as error:
        reason, message, remedy = error.fault.value, sentence(error), error.remedy
    except InputError as error:
        reason, message, remedy = Fault.UNREACHABLE.value, sentence(error), error.remedy
    except BackendError as error:
        reason, message, remedy = Fault.BACKEND_FAILED.value, sentence(error), error.remedy
    except MemoryError:
        reason, message = Fault.OUT_OF_MEMORY.value, "There was not enough memory for this file."
        remedy = "close other programs, or shrink the image"
    except Exception as error:  # our own fault: the other files are still to be answered
        _log.debug("unexpected error on %s", path, exc_info=True)
        reason = Fault.INTERNAL_ERROR.value
        message = f"An unexpected error: {type(error).__name__}: {str(error)[:300]}"
        remedy = "please report it, with the file if it may be shared"
    labels = None if prediction is None else prediction_set(manifest.conformal, prediction.probabilities)
    note = set_note(manifest.conformal, labels)
    answer = Answer(
        file=str(path) if name is None else name,
        status=status,
        reason=reason,
        message=message,
        remedy=remedy,
        label=None if prediction is None else prediction.label,
        probabilities=None if prediction is None else prediction.probabilities,
        prediction_set=labels,
        refer=refers(labels),
        gate_score=gate_score if gate_score is None or math.isfinite(gate_score) else None,
        artifact=predictor.artifact.name,
        backend=predictor.backend_name,
        precision=predictor.precision,
        timings_ms=watch.finish(),
        notes=predictor.notes + (() if radiograph is None else radiograph.notes) + (() if note is None else (note,)),
        facts=None if radiograph is None else radiograph.facts,
    )
    return Outcome(answer, radiograph, prediction)


def error_answer(file: str, fault: Fault, message: str, remedy: str | None = None) -> Answer:
    """Return the answer for something that was named and is no file to read."""
    return Answer(file=file, status="error", reason=fault.value, message=message, remedy=remedy)


def sentence(error: EdgeRuntimeError) -> str:
    """Return what happened, with what was found and expected, as one sentence."""
    details = [
        f"{word} {text}" for word, text in (("got", error.got), ("expected", error.expected)) if text is not None
    ]
    return f"{error.what} ({'; '.join(details)})" if details else error.what


class _Stopwatch:
    def __init__(self) -> None:
        self._start = perf_counter()
        self._parts: dict[str, float] = {}

    @contextmanager
    def time(self, part: str) -> Iterator[None]:
        start = perf_counter()
        try:
            yield
        finally:
            self._parts[part] = (perf_counter() - start) * 1000

    def finish(self) -> dict[str, float]:
        return {**self._parts, "total": (perf_counter() - self._start) * 1000}
