"""The worklist as a table for other programs: whole, or without anything that names or dates a patient."""

from __future__ import annotations

import csv
import secrets
from collections.abc import Iterator
from io import StringIO
from typing import Any

from edge_runtime.manifest import Manifest
from edge_runtime.records import Records, Study, StudyQuery

__all__ = ["studies_csv", "years_of"]

_OLDEST = 89
"""Ages above this are given as 90: so the Safe Harbor rule (45 CFR 164.514(b)(2))."""


def studies_csv(records: Records, manifest: Manifest, query: StudyQuery, *, deidentified: bool) -> Iterator[str]:
    """Yield the rows of every study of a question, the head first.

    De-identified: no name, identifier, file name, date, note or comment; age in whole years, 90 for above 89; the
    case number is new with every export and leads back to nothing.
    """
    labels = manifest.labels
    head = ["case", "status", "reason", "label", *(f"probability_{label}" for label in labels)]
    head += ["reader_verdict", "reader_label", "view", "sex", "age_years", "model", "artifact", "precision"]
    if not deidentified:
        head += ["received", "source", "file_name", "patient_id", "patient_name", "study_date", "reader", "comment"]
    yield _row(head)
    for study in records.all_studies(query):
        yield _row(_cells(study, labels, deidentified))


def _cells(study: Study, labels: tuple[str, ...], deidentified: bool) -> list[Any]:
    answer, facts, verdict = study.answer, study.facts, study.verdict
    probabilities = answer.get("probabilities") or {}
    years = years_of(facts.age)
    cells = [
        *(secrets.token_hex(8) if deidentified else study.key, answer["status"], answer["reason"], answer["label"]),
        *(f"{probabilities[label]:.6f}" if label in probabilities else None for label in labels),
        *((None, None) if verdict is None else (verdict.verdict, verdict.label)),
        facts.view if facts.view in ("PA", "AP", "LL", "RL") or not deidentified else None,
        facts.sex if facts.sex in ("F", "M", "O") or not deidentified else None,
        min(years, _OLDEST + 1) if deidentified and years is not None else years,
        *(study.model, answer["artifact"], answer["precision"]),
    ]
    if not deidentified:
        cells += [study.received, study.source, study.file_name, facts.patient_id, study.patient_name]
        cells += [facts.study_date, *((None, None) if verdict is None else (verdict.reader, verdict.comment))]
    return cells


def years_of(age: str | None) -> int | None:
    """Return DICOM's age string (``058Y``, ``011M``) in whole years; None for anything else."""
    if age is None or len(age) != 4 or not age[:3].isdigit() or age[3] not in "DWMY":
        return None
    return int(age[:3]) if age[3] == "Y" else int(age[:3]) // {"M": 12, "W": 52, "D": 365}[age[3]]


def _row(cells: list[Any]) -> str:
    stream = StringIO()
    csv.writer(stream).writerow([_harmless(cell) for cell in cells])
    return stream.getvalue()


def _harmless(cell: Any) -> Any:
    # a spreadsheet would take such text for a formula (OWASP, CSV injection)
    if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")):
        return "'" + cell
    return cell
