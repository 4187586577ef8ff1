"""De-identified export: a table and the grey images, nothing that names a patient.

What may leave follows DICOM PS3.15 Annex E, the Basic Application Level Confidentiality Profile: of the header's
attributes only those stay that its Table E.1-1 does not list (Modality, View Position, Body Part Examined), and sex and
age under its Retain Patient Characteristics Option, ages from 90 years on as ``090Y``. Dates, identifiers, UIDs, names,
file names, notes and comments do not leave. The images are PNG without metadata. Burned-in text is not searched for: a
DICOM image that declares Burned In Annotation YES (0028,0301) is left out; one that says nothing is marked ``unknown``.
"""

from __future__ import annotations

import csv
import os
import secrets
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_runtime.answer import DISCLAIMER
from edge_runtime.reading.limits import DEFAULT_LIMITS
from edge_runtime.records.database import RecordsError, make_private_folder
from edge_runtime.records.store import Records
from edge_runtime.records.study import Study
from edge_runtime.records.worklist import StudyQuery

__all__ = ["ExportCount", "export_deidentified"]

_COLUMNS = (
    *("image", "patient", "study_of_patient", "modality", "view", "body_part", "sex", "age", "burned_in"),
    *("status", "reason", "label", "probability", "verdict", "reader_label"),
)


@dataclass(frozen=True)
class ExportCount:
    """How many studies went into the table, how many images were written, and how many were left out because of
    burned-in text.
    """

    studies: int
    images: int
    burned_in: int


def export_deidentified(
    records: Records,
    out: Path,
    *,
    actor: str,
    query: StudyQuery | None = None,
    with_images: bool = True,
    on_study: Callable[[int], None] | None = None,
) -> ExportCount:
    """Write ``out/studies.csv``, ``out/images/*.png`` and ``out/README.txt``, whole or not at all.

    The numbers of patients and images are drawn anew for each export and are not kept: two exports cannot be joined,
    nor an export with the records.

    Parameters
    ----------
    out
        A folder that does not exist.
    on_study
        Told how many studies are done.

    Raises
    ------
    RecordsError
        ``out`` exists or cannot be written.
    """
    if out.exists():
        raise RecordsError(f"{out} exists already", remedy="name a folder that does not exist")
    temporary = out.with_name(f".{out.name}.{os.getpid()}")
    make_private_folder(temporary)
    try:
        (temporary / "images").mkdir(mode=0o700)
        count = _write(records, temporary, query, with_images, on_study)
        (temporary / "README.txt").write_text(_README.format(disclaimer=DISCLAIMER), encoding="utf-8")
        temporary.rename(out)
    except OSError as error:
        raise RecordsError(
            f"the export {out} cannot be written", got=error.strerror or str(error),
            remedy="check the disk's free space and the permissions",
        ) from error  # fmt: skip
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    details = {"studies": count.studies, "images": count.images}
    records.log("de-identified export", actor=actor, details=details)
    return count


def _write(
    records: Records, folder: Path, query: StudyQuery | None, with_images: bool, on_study: Callable[[int], None] | None
) -> ExportCount:
    studies = list(records.all_studies(query))
    secrets.SystemRandom().shuffle(studies)  # the order would tell the order of arrival
    patients: dict[str, str] = {}
    seen: dict[str, int] = {}
    images = burned = 0
    with (folder / "studies.csv").open("w", encoding="utf-8", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(_COLUMNS)
        for number, study in enumerate(studies, 1):
            patient = patients.setdefault(study.facts.patient_id or study.key, f"P{len(patients) + 1:05}")
            seen[patient] = seen.get(patient, 0) + 1
            in_image = _burned_in(records, study)
            name = ""
            source = records.files.pixels_file(study.key) if with_images else None
            if source is not None and in_image == "yes":
                burned += 1
            elif source is not None:
                name = f"images/{number:05}.png"
                shutil.copyfile(source, folder / name)  # written by us from pixels alone: no metadata in it
                images += 1
            rows.writerow(_row(study, name, patient, seen[patient], in_image))
            if on_study is not None:
                on_study(number)
    return ExportCount(len(studies), images, burned)


def _row(study: Study, image: str, patient: str, number: int, burned_in: str) -> list[object]:
    facts, answer, verdict = study.facts, study.answer, study.verdict
    probability = (answer["probabilities"] or {}).get(answer["label"])
    words = (facts.modality, _code(facts.view), _code(facts.body_part), _code(facts.sex), _age(facts.age))
    return [
        *(image, patient, number, *words, burned_in),
        *(answer["status"], answer["reason"], answer["label"], probability),
        *((None, None) if verdict is None else (verdict.verdict, verdict.label)),
    ]


def _code(text: str | None) -> str | None:
    # CS values: what is longer or of other characters is free text that somebody typed
    plain = text is not None and len(text) <= 16 and all(c.isupper() or c.isdigit() or c in " _" for c in text)
    return text if plain else None


def _age(text: str | None) -> str | None:
    if text is None or len(text) != 4 or not text[:3].isdigit() or text[3] not in "DWMY":
        return None
    return "090Y" if text[3] == "Y" and int(text[:3]) > 90 else text


def _burned_in(records: Records, study: Study) -> str:
    original = records.files.original(study.key)
    if study.source_format != "DICOM" or original is None:
        return "unknown"
    from edge_runtime.errors import EdgeRuntimeError
    from edge_runtime.reading.dicom_file import load_data_set

    try:
        with original.open("rb") as stream:
            data_set = load_data_set(stream, original.stat().st_size, DEFAULT_LIMITS)
        declared = str(data_set.get("BurnedInAnnotation", "")).strip().upper()
    except (EdgeRuntimeError, OSError):
        return "unknown"
    return {"YES": "yes", "NO": "no"}.get(declared, "unknown")


_README = """Chest radiographs with a model's answers and readers' verdicts, de-identified.

{disclaimer}

studies.csv: one row a study, in random order. patient: the same number for studies of one patient, drawn anew for each
export. study_of_patient: counts a patient's studies, in no order of time. age: DICOM notation; 090Y is 90 or older.
burned_in: what the file declares of text inside the picture; "unknown" means that it declares nothing.

Removed: names, identifiers, dates, times, UIDs, file names, notes, comments (DICOM PS3.15, Basic Application Level
Confidentiality Profile, with the Retain Patient Characteristics Option for sex and age). Nobody has looked for text
inside the pictures: look at each before you pass it on.
"""
