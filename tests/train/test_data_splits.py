"""Patients to splits: published tables first, then the seed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.covidx_sources import write_published
from train.data.published import load_published
from train.data.rows import DataError
from train.data.splits import TEST_FRACTION, VALID_FRACTION, PatientImage, assign_splits


def patients(source: str, count: int) -> list[PatientImage]:
    return [PatientImage(source, str(n), f"{source}-{n}") for n in range(count)]


def test_fractions_are_met_and_the_seed_decides() -> None:
    images = patients("rsna", 3000)
    splits = assign_splits(images, [], None, seed=0)
    share = {split: sum(s == split for s in splits.values()) / 3000 for split in ("train", "valid", "test")}
    assert share["test"] == pytest.approx(TEST_FRACTION, abs=0.03)
    assert share["valid"] == pytest.approx((1 - TEST_FRACTION) * VALID_FRACTION, abs=0.03)
    assert assign_splits(images, [], None, seed=0) == splits
    assert assign_splits(images, [], None, seed=1) != splits


def test_new_patients_move_nobody() -> None:
    few, many = patients("rsna", 50), patients("rsna", 500)
    before, after = assign_splits(few, [], None, seed=3), assign_splits(many, [], None, seed=3)
    assert all(after[patient] == split for patient, split in before.items())


def test_published_tables_decide_and_unlisted_patients_of_their_sources_are_learnt_from(
    tmp_path: Path,
) -> None:
    test = [(n, f"cohen-{n}.jpeg", "COVID-19", "cohen") for n in range(20)]
    train = [(n, f"cohen-{n}.jpeg", "COVID-19", "cohen") for n in range(20, 200)]
    published = load_published(write_published(tmp_path, train, test))
    images = [*patients("cohen", 400), *patients("rsna", 400)]
    splits = assign_splits(images, [], published, seed=0)
    in_test = {int(number) for (source, number), split in splits.items() if source == "cohen" and split == "test"}
    assert in_test == set(range(20))
    assert {splits["cohen", str(n)] for n in range(20, 200)} == {"train", "valid"}
    assert {split for (source, _), split in splits.items() if source == "rsna"} == {"train", "valid", "test"}


def test_all_images_of_a_published_patient_go_along(tmp_path: Path) -> None:
    published = load_published(write_published(tmp_path, [], [(7, "first.jpg", "COVID-19", "cohen")]))
    images = [PatientImage("cohen", "7", "second"), PatientImage("cohen", "8", "third")]
    splits = assign_splits(images, [], published, seed=0)
    assert splits["cohen", "7"] == "test"


def test_the_same_number_of_two_sources_is_two_patients(tmp_path: Path) -> None:
    published = load_published(
        write_published(tmp_path, [(1, "a.png", "COVID-19", "actmed")], [(1, "b.png", "COVID-19", "cohen")])
    )
    images = [PatientImage("cohen", "1", "b"), PatientImage("actmed", "1", "a")]
    splits = assign_splits(images, [], published, seed=0)
    assert splits["cohen", "1"] == "test"
    assert splits["actmed", "1"] in ("train", "valid")


def test_one_person_under_many_numbers_is_in_one_split() -> None:
    images = patients("rsna", 300)
    pairs = [(images[n].patient, images[n + 1].patient) for n in range(0, 300, 3)]
    pairs += [(images[n + 2].patient, images[n + 1].patient) for n in range(0, 300, 3)]
    splits = assign_splits(images, pairs, None, seed=0)
    for n in range(0, 300, 3):
        assert len({splits[images[n + k].patient] for k in range(3)}) == 1
    assert len(set(splits.values())) == 3


def test_the_other_number_of_a_published_test_patient_is_not_learnt_from(tmp_path: Path) -> None:
    published = load_published(write_published(tmp_path, [], [(7, "a.jpg", "COVID-19", "cohen")]))
    images = [PatientImage("cohen", "7", "a"), PatientImage("fig1", "COVID-1", "b")]
    splits = assign_splits(images, [(images[0].patient, images[1].patient)], published, seed=0)
    assert splits["fig1", "COVID-1"] == "test"


def test_published_tables_that_contradict_themselves_are_refused(tmp_path: Path) -> None:
    row = (1, "a.jpg", "COVID-19", "cohen")
    with pytest.raises(DataError, match=r"a\.jpg is listed twice"):
        load_published(write_published(tmp_path, [row], [row]))
    (tmp_path / "test_split_v3.csv").unlink()
    with pytest.raises(DataError, match=r"no test tables.*test_split_v3\.csv"):
        load_published(tmp_path)
