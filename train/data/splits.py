"""Which patient goes to which split.

A patient's place depends on the seed, the patient and the published tables alone, not on who else is there:
new images of other people move nobody. Patients who are one person (look-alike images under two numbers) go
together.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from train.data.published import Published

__all__ = ["TEST_FRACTION", "VALID_FRACTION", "PatientImage", "assign_splits", "unit_hash"]

TEST_FRACTION = 0.20
"""Of the patients of a source that the published tables do not know."""
VALID_FRACTION = 0.15
"""Of the patients that are left to training."""


@dataclass(frozen=True)
class PatientImage:
    """What the split has to know of an image."""

    source: str
    patient_id: str
    stem: str

    @property
    def patient(self) -> tuple[str, str]:
        """Patient numbers are the source's own, so the source is part of the name."""
        return (self.source, self.patient_id)


def assign_splits(
    images: Sequence[PatientImage],
    same_person: Iterable[tuple[tuple[str, str], tuple[str, str]]],
    published: Published | None,
    seed: int,
) -> dict[tuple[str, str], str]:
    """Return the split of every patient (source, patient_id).

    In this order:

    1. A patient whose number, or one of whose images, is in the published test table: test.
    2. One whom they list in the training table: training or validation.
    3. One whom they do not list: with the person's other number, if that is listed.
    4. Anyone else is drawn by ``seed``: into test too if the source has no published test image here.

    Parameters
    ----------
    images
        All images that are there.
    same_person
        Pairs of patients who are one person.
    """
    people = _people({image.patient for image in images}, same_person)
    listed: dict[tuple[str, str], set[str]] = defaultdict(set)
    sources_with_test = set()
    for image in images:
        if published is None:
            break
        if (image.source, image.stem) in published.images:
            split, _ = published.images[image.source, image.stem]
            listed[image.patient].add(split)
            if split == "test":
                sources_with_test.add(image.source)
        listed[image.patient] |= published.patients.get(image.patient, frozenset())

    splits = {}
    for person, patients in people.items():
        of_person = set().union(*(listed[patient] for patient in patients))
        name = ":".join(person)
        learning = "valid" if unit_hash(seed, "valid", name) < VALID_FRACTION else "train"
        testable = not any(source in sources_with_test for source, _ in patients)
        drawn = "test" if testable and unit_hash(seed, "test", name) < TEST_FRACTION else learning
        for patient in patients:
            known = listed[patient] or of_person
            if "test" in known:
                splits[patient] = "test"
            else:
                splits[patient] = learning if known else drawn
    return splits


def unit_hash(seed: int, purpose: str, name: str) -> float:
    """Return a number in [0, 1) that depends on the three arguments alone: the first 64 bits of a SHA-256."""
    digest = hashlib.sha256(f"{seed}:{purpose}:{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2.0**64


def _people(
    patients: Iterable[tuple[str, str]], same_person: Iterable[tuple[tuple[str, str], tuple[str, str]]]
) -> dict[tuple[str, str], list[tuple[str, str]]]:
    """Group patients into people; a person is named after the first patient in alphabetical order."""
    leader = {patient: patient for patient in patients}

    def find(patient: tuple[str, str]) -> tuple[str, str]:
        while leader[patient] != patient:
            leader[patient] = leader[leader[patient]]
            patient = leader[patient]
        return patient

    for one, other in same_person:
        if one in leader and other in leader:
            first, second = sorted((find(one), find(other)))
            leader[second] = first
    people: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for patient in sorted(leader):
        people[find(patient)].append(patient)
    return people
