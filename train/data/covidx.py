"""The COVIDx builder: sources under the rules -> images, splits by patient, tables."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from edge_runtime import __version__
from train.data.assembly import (
    across_splits,
    boxes_of,
    collect_images,
    compare_with_published,
    drop_copies,
    find_same_person,
    notes_on,
    row_of,
    unique_names,
)
from train.data.build_index import BuildIndex
from train.data.checking import check_patients
from train.data.images import ImageTask, convert_images, is_current, reader_versions
from train.data.near_duplicates import MAX_DISTANCE, PERCEPTUAL_HASH_SIZE, find_alike
from train.data.published import Published, load_published
from train.data.record import DatasetRecord, Dropped
from train.data.rows import IMAGES_NAME, LABELS, SPLITS, DataError, Row, file_sha256
from train.data.sources import (
    Candidate,
    Listing,
    list_actualmed,
    list_cohen,
    list_figure1,
    list_radiography,
    list_rsna,
)
from train.data.splits import TEST_FRACTION, VALID_FRACTION, PatientImage, assign_splits
from train.data.tables import write_dataset
from train.progress import track

__all__ = ["BuildOptions", "BuildResult", "build_covidx"]


@dataclass(frozen=True)
class BuildOptions:
    """What to build from. At least one source is named."""

    out: Path
    cohen: Path | None = None
    figure1: Path | None = None
    actualmed: Path | None = None
    radiography: Path | None = None
    rsna: Path | None = None
    splits: Path | None = None
    """Folder of the published tables; None: every patient is drawn by the seed."""
    seed: int = 0
    workers: int = field(default_factory=lambda: os.cpu_count() or 1)


@dataclass(frozen=True)
class BuildResult:
    """What a build did."""

    record: DatasetRecord
    written: int
    """Images decoded and written in this run."""
    kept: int
    """Images that were there already, from unchanged files."""
    removed: int
    """Images of an earlier run that are in the dataset no more."""
    refused: tuple[Dropped, ...]
    """Listed images that the reader could not use; they are among ``record.dropped`` too."""


def build_covidx(options: BuildOptions) -> BuildResult:
    """Build (or bring up to date) the dataset folder ``options.out``.

    Images are written as they are decoded; the tables are replaced at the end. A build that was killed goes
    on where it stopped.

    Raises
    ------
    DataError
        A source is not what its option wants, nothing is left to build, the output folder is somebody else's,
        or a patient would be in two splits.
    """
    listings = _list_sources(options)
    published = load_published(options.splits) if options.splits is not None else None
    names = unique_names(candidate for listing in listings for candidate in listing.candidates)
    if not names:
        raise DataError(
            "none of the images that the tables list is there",
            got=f"{sum(len(listing.missing) for listing in listings)} listed images missing",
            remedy="unpack the sources' image folders beside their tables",
        )
    with BuildIndex(options.out) as index:
        written = _convert(names, index, options)
        images, refused = collect_images(names, index.entries)
        alike = find_alike([image.entry.perceptual_hash for image in images])
        same_person = find_same_person(images, listings, alike)
        of_patients = [PatientImage(*image.patient, image.candidate.stem) for image in images]
        splits = assign_splits(of_patients, same_person, published, options.seed)
        kept, copies = drop_copies(images, splits, published)
        # A copy of an earlier run whose original is gone: its file was removed, so it is written again.
        back = {image.entry.filename: names[image.entry.filename] for image in kept if image.entry.removed}
        written += _convert(back, index, options, again=True)
        rows: dict[str, list[Row]] = {split: [] for split in SPLITS}
        for image in kept:
            rows[splits[image.patient]].append(row_of(image))
        if not kept:
            raise DataError(
                f"the reader refused all {len(refused)} images",
                got=refused[0].why if refused else None,
                remedy="look at one of them with `edge-runtime predict`",
            )
        check_patients(rows)
        boxes, whole = boxes_of(kept)
        record = DatasetRecord(
            labels=LABELS,
            synthetic=False,
            created_by={"train.data.covidx": __version__, **reader_versions()},
            seed=options.seed,
            options={
                "sources": [listing.source for listing in listings],
                "published_splits": published is not None,
                "test_fraction": TEST_FRACTION,
                "valid_fraction": VALID_FRACTION,
                "near_duplicate_hash": f"imagehash phash, {PERCEPTUAL_HASH_SIZE**2} bits",
                "near_duplicate_max_distance": MAX_DISTANCE,
                "boxes_left_out_that_cover_the_whole_image": whole,
            },
            inputs=_input_hashes(listings, published),
            missing=tuple(entry for listing in listings for entry in listing.missing),
            dropped=(*(entry for listing in listings for entry in listing.dropped), *refused, *copies),
            near_duplicates=across_splits(images, splits, alike, kept),
            published=compare_with_published(kept, splits, published),
            notes=tuple(notes_on(kept, splits, same_person)),
        )
        record = write_dataset(options.out, rows, record, boxes)
        removed = _remove_stale(options.out, index, {image.entry.filename for image in kept}, names)
    return BuildResult(record, len(written), len(names) - len(written), removed, tuple(refused))


def _list_sources(options: BuildOptions) -> list[Listing]:
    """Read the tables, in the order in which the first of two equal images counts."""
    listings = []
    if options.cohen is not None:
        listings.append(list_cohen(options.cohen))
    if options.figure1 is not None:
        listings.append(list_figure1(options.figure1))
    if options.actualmed is not None:
        listings.append(list_actualmed(options.actualmed))
    if options.radiography is not None:
        known = frozenset(url for listing in listings for url in listing.urls)
        listings.append(list_radiography(options.radiography, known))
    if options.rsna is not None:
        listings.append(list_rsna(options.rsna))
    if not listings:
        raise DataError(
            "no source was named",
            expected="at least one of --cohen, --figure1, --actualmed, --radiography, --rsna",
        )
    return listings


def _convert(
    names: Mapping[str, Candidate], index: BuildIndex, options: BuildOptions, *, again: bool = False
) -> list[str]:
    """Write the images that are not there or whose source changed (``again``: all); return their names."""
    folder = options.out / IMAGES_NAME
    folder.mkdir(exist_ok=True)
    reader = ", ".join(f"{name} {number}" for name, number in reader_versions().items())
    tasks = []
    for name, candidate in names.items():
        task = ImageTask(candidate.source, candidate.path, name, folder / name)
        if again or not is_current(index.entries.get(name), task, reader):
            tasks.append(task)
    for entry in track(convert_images(tasks, options.workers, reader), "reading radiographs", len(tasks)):
        index.add(entry)
    return [task.filename for task in tasks]


def _input_hashes(listings: Iterable[Listing], published: Published | None) -> dict[str, str]:
    hashes = {f"{of.source}/{path.name}": file_sha256(path) for of in listings for path in of.tables}
    for path in published.tables if published is not None else ():
        hashes[f"splits/{path.name}"] = file_sha256(path)
    return hashes


def _remove_stale(out: Path, index: BuildIndex, in_tables: Set[str], listed: Collection[str]) -> int:
    """Remove images that a build wrote and the tables do not list, and half-written ones of a killed build.

    The index remembers the ``listed`` ones, refused and removed ones too: the next run need not read them.
    """
    folder = out / IMAGES_NAME
    stale = [name for name in index.entries if name not in in_tables and (folder / name).is_file()]
    for name in stale:
        (folder / name).unlink()
        if name in listed:
            index.add(msgspec.structs.replace(index.entries[name], removed=True))
    for partial in folder.glob(".*.partial"):
        partial.unlink()
    index.keep_only(listed)
    return len(stale)
