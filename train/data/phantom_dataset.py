"""A folder of phantoms: DICOM files, and the dataset that ``train fit`` takes as it takes COVIDx."""

from __future__ import annotations

import csv
import io
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from edge_runtime.errors import Refusal
from edge_runtime.reading import read_radiograph
from edge_runtime.reading.limits import DEFAULT_LIMITS
from train.data.phantom import MAXIMUM_SIZE, build_phantom
from train.data.phantom_dicom import Identity, write_dicom
from train.data.record import DatasetRecord
from train.data.tables import (
    IMAGES_NAME,
    LABELS,
    RECORD_NAME,
    SPLITS,
    Box,
    DataError,
    Dataset,
    Row,
    check_dataset,
    file_sha256,
    load_dataset,
    write_dataset,
)
from train.progress import track

__all__ = ["DICOM_NAME", "MINIMUM_COUNT", "SOURCE", "PlannedStudy", "build_phantom_dataset", "plan_studies"]

DICOM_NAME = "dicom"
SOURCE = "phantom"
MINIMUM_COUNT = 3
"""Radiographs of a class: one for each split."""
_VERSION = "1"
"""Of the drawing: to be raised with every change that moves a pixel."""
_SHARE = 0.2
"""Of each class, for the test and for the validation split."""


@dataclass(frozen=True)
class PlannedStudy:
    """One phantom of a dataset, before it is drawn."""

    label: str
    split: str
    identity: Identity
    seed: int
    patient_seed: int

    @property
    def stem(self) -> str:
        """Name of its files, without the suffix."""
        return f"{self.identity.patient_id.lower()}-{self.identity.study}"


@dataclass(frozen=True)
class _Drawn:
    study: PlannedStudy
    row: Row
    boxes: tuple[Box, ...]
    where: tuple[str, ...]


def plan_studies(count: int, seed: int) -> list[PlannedStudy]:
    """Decide patients, studies and splits of `count` phantoms of each class.

    From 10 of a class on, three patients in ten have two or three studies. A patient has one label and is in
    one split; test and validation get a fifth of each class each (never less than one), training the rest.

    Raises
    ------
    DataError
        Fewer than 3 of a class, or a negative seed.
    """
    if count < MINIMUM_COUNT:
        raise DataError(
            "too few phantoms to have every class in every split",
            got=f"{count} of a class",
            expected=f"{MINIMUM_COUNT} or more",
        )
    if seed < 0:
        raise DataError("the seed is negative", got=str(seed), expected="0 or more")
    rng = np.random.default_rng([seed, 201])
    patients = [(label, split, size) for label in LABELS for split, size in _class_patients(count, rng)]
    digits = max(4, len(str(len(patients))))
    studies = []
    # numbered in an order that says nothing about label or split
    for number, index in enumerate(rng.permutation(len(patients)), start=1):
        label, split, size = patients[index]
        patient_seed = int(rng.integers(2**31))
        for study in range(1, size + 1):
            identity = Identity(f"PHANTOM-{number:0{digits}d}", study)
            studies.append(PlannedStudy(label, split, identity, int(rng.integers(2**31)), patient_seed))
    return studies


def _class_patients(count: int, rng: np.random.Generator) -> Iterator[tuple[str, int]]:
    """Split and number of studies of each patient of one class."""
    placed = dict.fromkeys(SPLITS, 0)
    left = count
    while left:
        size = 1 if count < 10 else int(rng.choice([1, 2, 3], p=[0.7, 0.2, 0.1]))
        size = min(size, left)
        split = next((name for name in ("test", "valid") if _has_room(placed[name], size, count)), "train")
        placed[split] += size
        left -= size
        yield split, size


def _has_room(placed: int, size: int, count: int) -> bool:
    """Whether a test or validation split takes a patient: up to its share, and one in any case."""
    return placed == 0 or placed + size <= round(_SHARE * count)


def build_phantom_dataset(
    out: str | Path,
    count: int,
    size: int,
    seed: int,
    *,
    workers: int | None = None,
    overwrite: bool = False,
) -> Dataset:
    """Draw a dataset of phantoms and put it at `out`, whole or not at all.

    Parameters
    ----------
    out
        The folder. Where it already holds this very dataset, it is left as it is.
    count
        Radiographs of each class, 3 or more.
    size
        Shorter side in pixels, 128 or more: the field runtime, which reads them back, refuses smaller ones.
    seed
        The same arguments give the same bytes in every file, whatever the number of workers (for the same
        versions of NumPy, SciPy, Pillow and pydicom; see `build_phantom`).
    workers
        Processes; as many as there are CPUs where it is None, none beside this one where it is 1.
    overwrite
        Replace another dataset of phantoms at `out`. Anything else there is never touched.

    Raises
    ------
    DataError
        Arguments out of range, or something else is at `out`.
    """
    root = Path(out)
    studies = plan_studies(count, seed)
    if not DEFAULT_LIMITS.min_edge <= size <= MAXIMUM_SIZE:
        raise DataError(
            "a dataset of phantoms cannot have this size",
            got=f"{size} px",
            expected=f"{DEFAULT_LIMITS.min_edge} to {MAXIMUM_SIZE} px",
        )
    record = _record(count, size, seed)
    present = _dataset_at(root, record, overwrite)
    if present is not None:
        return present
    root.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{root.name}.", suffix=".partial", dir=root.parent))
    try:
        temporary.chmod(0o755)
        for name in (IMAGES_NAME, DICOM_NAME):
            (temporary / name).mkdir()
        drawn = list(_draw_all(studies, temporary, size, workers))
        _write_tables(temporary, drawn, record)
        _swap(temporary, root)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return load_dataset(root)


def _record(count: int, size: int, seed: int) -> DatasetRecord:
    versions = {name: metadata.version(name) for name in ("numpy", "scipy", "pillow", "pydicom")}
    return DatasetRecord(
        labels=LABELS,
        synthetic=True,
        created_by={"train data phantom": _VERSION, **versions},
        seed=seed,
        options={"count": count, "size": size},
        notes=("SYNTHETIC: computed phantoms, no patients. For demonstrations and tests only.",),
    )


def _dataset_at(root: Path, record: DatasetRecord, overwrite: bool) -> Dataset | None:
    """What is at `root`, if it is what is asked for; None where the place is free or may be overwritten."""
    if not root.exists() or (root.is_dir() and not any(root.iterdir())):
        return None
    here = load_dataset(root).record if (root / RECORD_NAME).is_file() else None
    if here is None or "train data phantom" not in here.created_by:
        raise DataError(
            f"{root} is there and is not a dataset of phantoms",
            remedy="name a new or an empty folder with --out",
        )
    if overwrite:
        return None
    same = (here.created_by, here.seed, here.options) == (record.created_by, record.seed, record.options)
    if not same:
        raise DataError(
            f"{root} holds another dataset of phantoms",
            got=f"seed {here.seed}, {here.options}, {here.created_by}",
            expected=f"seed {record.seed}, {record.options}, {record.created_by}",
            remedy="name another folder with --out, or replace it with --overwrite",
        )
    dataset = load_dataset(root)
    check_dataset(dataset, splits=SPLITS)
    return dataset


def _draw_all(studies: list[PlannedStudy], root: Path, size: int, workers: int | None) -> Iterable[_Drawn]:
    draw = partial(_draw, root=root, size=size)
    count = min(workers or os.cpu_count() or 1, len(studies))
    if count == 1:
        yield from track(map(draw, studies), "Drawing phantoms", len(studies))
        return
    # spawned, not forked: a fork would copy the locks of the progress bar's thread
    with ProcessPoolExecutor(count, mp_context=get_context("spawn")) as pool:
        yield from track(pool.map(draw, studies, chunksize=4), "Drawing phantoms", len(studies))


def _draw(study: PlannedStudy, root: Path, size: int) -> _Drawn:
    """Draw one phantom, write it as DICOM, and read it back as the field runtime reads a radiograph."""
    phantom = build_phantom(study.label, study.seed, size, study.patient_seed)
    dicom = root / DICOM_NAME / f"{study.stem}.dcm"
    write_dicom(dicom, phantom, study.identity)
    image = root / IMAGES_NAME / f"{study.stem}.png"
    try:
        pixels = read_radiograph(dicom).pixels
    except Refusal as refusal:
        raise DataError(f"the field runtime refuses the phantom {dicom.name}", got=str(refusal)) from refusal
    Image.fromarray(pixels).save(image)
    row = Row(
        patient_id=study.identity.patient_id,
        filename=image.name,
        label=study.label,
        source=SOURCE,
        view=phantom.facts.view,
        age=str(phantom.facts.age),
        sex=phantom.facts.sex,
        sha256=file_sha256(image),
    )
    return _Drawn(study, row, phantom.boxes, phantom.facts.where)


def _write_tables(root: Path, drawn: list[_Drawn], record: DatasetRecord) -> None:
    splits = {split: [item.row for item in drawn if item.study.split == split] for split in SPLITS}
    write_dataset(root, splits, record, {item.row.filename: item.boxes for item in drawn if item.boxes})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["filename", "dicom", "label", "seed", "patient_seed", "where"])
    for item in drawn:
        study = item.study
        dicom = f"{DICOM_NAME}/{study.stem}.dcm"
        where = "; ".join(item.where)
        writer.writerow([item.row.filename, dicom, study.label, study.seed, study.patient_seed, where])
    (root / "phantoms.csv").write_bytes(text.getvalue().encode())


def _swap(temporary: Path, root: Path) -> None:
    """Put the finished folder in place; an old one is kept until then."""
    old = None
    if root.exists():
        old = temporary.with_name(temporary.name + ".old")
        root.replace(old)
    try:
        temporary.replace(root)
    except OSError:
        if old is not None:
            old.replace(root)
        raise
    if old is not None:
        shutil.rmtree(old)
