"""What the records say of one radiograph, as Python objects."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import asdict, dataclass
from typing import Any, Literal

from edge_runtime.radiograph import HeaderFacts

__all__ = ["Note", "Setting", "SimilarStudy", "Study", "StudyPage", "Verdict", "VerdictWord", "study_of"]

VerdictWord = Literal["agree", "disagree", "other", "withdrawn"]


@dataclass(frozen=True)
class Verdict:
    """What a reader says of an answer.

    Attributes
    ----------
    verdict
        ``agree``; ``disagree``; ``other``: none of the model's classes; ``withdrawn``: takes the earlier one back.
    label
        The reader's own class; of ``agree`` the model's, of ``other`` None.
    at, reader
        When (ISO 8601, UTC) and who.
    """

    verdict: VerdictWord
    label: str | None
    reader: str
    at: str
    comment: str | None = None


@dataclass(frozen=True)
class Note:
    """A reader's note on a study. Notes are added, not changed."""

    author: str
    at: str
    text: str


@dataclass(frozen=True)
class Setting:
    """One value that a setting had: from ``at`` on, by ``actor``. The value is whatever JSON can hold."""

    name: str
    value: Any
    at: str
    actor: str


@dataclass(frozen=True)
class Study:
    """One radiograph that came in, with the newest answer and the newest verdict.

    Attributes
    ----------
    key
        32 hexadecimal digits, random; names the study everywhere.
    revision
        Grows with every change of anything in the records.
    received
        ISO 8601, UTC.
    source
        ``upload``, ``watch``, ``receive`` or ``batch``.
    file_name
        What the sender called it; for showing, never a path.
    content_sha256
        Of the file as it came.
    source_format, width, height
        Of the radiograph; None where it could not be read.
    facts, patient_name
        From the DICOM header. Patient data: show names only when asked for.
    answer
        :meth:`edge_runtime.answer.Answer.to_json_object`; status, label, probabilities and the rest.
    answered
        When; ISO 8601, UTC.
    model, checkpoint_sha256
        The bundle's name and the checkpoint it was built from.
    gate_score
        None where nothing was predicted or the bundle has no gate.
    verdict
        None where there is none, or it was withdrawn.
    notes
        How many there are.
    """

    key: str
    revision: int
    received: str
    source: str
    file_name: str
    content_sha256: str
    source_format: str | None
    width: int | None
    height: int | None
    has_original: bool
    facts: HeaderFacts
    patient_name: str | None
    answer: dict[str, Any]
    answered: str
    model: str | None
    checkpoint_sha256: str | None
    gate_score: float | None
    verdict: Verdict | None
    notes: int

    @property
    def word(self) -> str:
        """The answer in a word or two: where a reader should decide, what cannot be ruled out, not one label alone."""
        label, status = self.answer["label"], self.answer["status"]
        if label is None:
            return f"{status}: {self.answer['reason']}"
        if not self.answer.get("refer"):
            return str(label)
        return f"refer to a reader: {' or '.join(self.answer['prediction_set']) or 'none of the classes'}"

    def to_json_object(self, *, with_identity: bool = False) -> dict[str, Any]:
        """Return the study for a JSON interface.

        Parameters
        ----------
        with_identity
            With the patient's name and identifier, the sender's file name and the SOP Instance UID; else these
            are null.
        """
        body = asdict(self)
        if not with_identity:
            body["patient_name"] = body["file_name"] = None
            body["facts"]["patient_id"] = body["facts"]["sop_instance_uid"] = None
            body["answer"] = {**self.answer, "file": None}
        return body


@dataclass(frozen=True)
class StudyPage:
    """Some studies of a query, and how many it has in all; ``revision`` is that of the records then."""

    studies: tuple[Study, ...]
    total: int
    revision: int


@dataclass(frozen=True)
class SimilarStudy:
    """A confirmed study near another: cosine similarity of the embeddings, at most 1; the reader's label."""

    study: Study
    similarity: float
    label: str


def study_of(row: sqlite3.Row) -> Study:
    """Build a study from a row of the worklist's query."""
    verdict = None
    if row["verdict"] is not None and row["verdict"] != "withdrawn":
        verdict = Verdict(row["verdict"], row["verdict_label"], row["reader"], row["verdict_at"], row["comment"])
    return Study(
        key=row["key"],
        revision=row["revision"],
        received=row["received"],
        source=row["source"],
        file_name=row["file_name"],
        content_sha256=row["content_sha256"],
        source_format=row["source_format"],
        width=row["width"],
        height=row["height"],
        has_original=bool(row["has_original"]),
        facts=HeaderFacts(
            modality=row["modality"],
            view=row["view"],
            body_part=row["body_part"],
            sex=row["sex"],
            age=row["age"],
            study_date=row["study_date"],
            patient_id=row["patient_id"],
            sop_instance_uid=row["sop_instance_uid"],
        ),
        patient_name=row["patient_name"],
        answer=json.loads(row["body"]),
        answered=row["answered"],
        model=row["model"],
        checkpoint_sha256=row["checkpoint_sha256"],
        gate_score=row["gate_score"],
        verdict=verdict,
        notes=row["notes"],
    )
