"""Leakage checks, made anew from the tables and the pixels, whatever the builder has promised."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations

from train.data.description.attributes import Described
from train.data.description.record import Check, Pair
from train.data.near_duplicates import MAX_DISTANCE, find_alike
from train.data.record import DatasetRecord

__all__ = ["check_leakage"]


def check_leakage(images: Sequence[Described], record: DatasetRecord | None) -> list[Check]:
    """Look for whatever would make a result on the test split too good.

    Parameters
    ----------
    images
        Of all splits.
    record
        ``dataset.json``: what it says about look-alike images is compared.
    """
    alike = [
        (images[first], images[second], distance)
        for first, second, distance in find_alike([image.facts.perceptual_hash for image in images])
    ]
    across = sorted(
        (
            _pair(a, b, f"{distance} of 256 bits differ" + ("; other class" if a.row.label != b.row.label else ""))
            for a, b, distance in alike
            if a.split != b.split
        ),
        key=lambda pair: (int(pair.detail.split()[0]), pair.filename),
    )
    copies = _groups(images, lambda image: image.facts.pixel_sha256)
    same_file = [(a, b) for a, b in copies if a.row.filename != b.row.filename]
    checks = [
        _check(
            "patients",
            _shared_patients(images),
            "No patient is in two splits.",
            "Patients in two splits: {n}.",
        ),
        _check(
            "file names",
            [
                _pair(a, b, "listed twice")
                for a, b in _groups(images, lambda image: image.row.filename, across_only=False)
            ],
            "No file is listed twice.",
            "Files listed twice: {n}.",
        ),
        _check(
            "same pixels",
            [_pair(a, b, "identical pixels") for a, b in same_file if a.split != b.split],
            "No two splits share an image with identical pixels.",
            "Pairs of images with identical pixels in two splits: {n}.",
        ),
        _check(
            "same pixels, other class",
            [
                _pair(a, b, f"{a.row.label} and {b.row.label}")
                for a, b in _groups(images, lambda image: image.facts.pixel_sha256, across_only=False)
                if a.row.label != b.row.label
            ],
            "No image has two classes.",
            "Pairs of images with identical pixels and different classes: {n}.",
        ),
        _check(
            "look-alike images",
            across,
            f"No images of two splits look alike (perceptual hash, at most {MAX_DISTANCE} of 256 bits different).",
            f"Pairs of images of two splits that look alike (at most {MAX_DISTANCE} of 256 bits different): {{n}}. "
            "A result on one of the splits may count radiographs that were learnt from.",
        ),
    ]
    if record is not None and "near_duplicate_hash" in record.options:
        checks.append(_compare(across, record))
    return checks


def _compare(across: Sequence[Pair], record: DatasetRecord) -> Check:
    here = {frozenset((pair.filename, pair.other_filename)) for pair in across}
    there = {frozenset((pair.filename, pair.other_filename)): pair for pair in record.near_duplicates}
    missed = [pair for pair in across if frozenset((pair.filename, pair.other_filename)) not in there]
    gone = [
        Pair(
            split=pair.split,
            filename=pair.filename,
            other_split=pair.other_split,
            other_filename=pair.other_filename,
            detail="in dataset.json only",
        )
        for names, pair in there.items()
        if names not in here
    ]
    return _check(
        "dataset.json agrees",
        [*missed, *gone],
        f"dataset.json names the same look-alike pairs ({len(there)})." if there else "dataset.json names none either.",
        "Look-alike pairs that only dataset.json names or that only this check found: {n}.",
    )


def _check(name: str, pairs: Sequence[Pair], clean: str, found: str) -> Check:
    sentence = found.format(n=len(pairs)) if pairs else clean
    return Check(name=name, passed=not pairs, sentence=sentence, pairs=tuple(pairs))


def _groups(
    images: Iterable[Described], key: Callable[[Described], str], across_only: bool = True
) -> list[tuple[Described, Described]]:
    """Pairs of images that share a key; with ``across_only`` those of different splits."""
    of_key: dict[str, list[Described]] = defaultdict(list)
    for image in images:
        of_key[key(image)].append(image)
    pairs = [pair for group in of_key.values() for pair in combinations(group, 2)]
    return [(a, b) for a, b in pairs if not across_only or a.split != b.split]


def _shared_patients(images: Iterable[Described]) -> list[Pair]:
    """One pair for each patient and two splits: a patient of 20 images is named once."""
    first: dict[str, dict[str, Described]] = defaultdict(dict)
    for image in images:
        first[image.row.patient].setdefault(image.split, image)
    pairs = [(patient, a, b) for patient, of in first.items() for a, b in combinations(of.values(), 2)]
    return [_pair(a, b, patient) for patient, a, b in pairs]


def _pair(a: Described, b: Described, detail: str) -> Pair:
    return Pair(
        split=a.split, filename=a.row.filename, other_split=b.split, other_filename=b.row.filename, detail=detail
    )
