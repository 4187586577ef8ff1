"""The description of a data set: what it counts, what it finds, what it leaves on disk."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image
from scipy import stats

import train.data.description.describe as describing
from tests.train.varied_dataset import rewrite, write_varied_dataset
from train.data.describe_command import describe_command
from train.data.description.association import associate, cramers_v
from train.data.description.describe import describe
from train.data.description.moments import distances_to_centre, moments_by_class, moments_of
from train.data.description.projection import choose_points, project
from train.data.description.record import Check, Description
from train.data.tables import DataError, Row, file_sha256, load_dataset, write_dataset


def check_named(description: Description, name: str) -> Check:
    return next(check for check in description.checks if check.name == name)


@pytest.fixture
def varied_dataset(tmp_path: Path) -> Path:
    return write_varied_dataset(tmp_path / "data")


def test_cramers_v_is_one_where_source_decides_and_none_where_it_says_nothing() -> None:
    assert cramers_v(np.diag([40.0, 40.0, 40.0])) == pytest.approx(1.0)
    assert cramers_v(np.full((3, 3), 20.0)) == 0.0
    assert cramers_v(np.array([[5.0, 9.0]])) is None
    # 2 x 2, by hand: phi^2 = 0.36, less 1/99; both sides shrink to 2 - 1/99.
    expected = np.sqrt((0.36 - 1 / 99) / (1 - 1 / 99))
    assert cramers_v(np.array([[40.0, 10.0], [10.0, 40.0]])) == pytest.approx(expected)


def test_a_value_of_few_patients_cannot_guess_its_own_class() -> None:
    classes = ["normal", "COVID-19"] * 50
    patients = [str(number) for number in range(100)]
    unique = associate("size", patients, classes, patients)
    assert (unique.values, unique.values_compared) == (100, 1)
    assert unique.guess == unique.guess_without == 0.5
    told = associate("source", ["a", "b"] * 50, classes, patients)
    assert told.guess == 1.0
    assert told.cramers_v == 1.0
    # A hundred images of one patient are still one patient.
    assert associate("source", ["a", "b"] * 50, classes, ["one"] * 100).values_compared == 1


def test_moments_are_the_unbiased_ones_and_none_where_undefined() -> None:
    mean, variance, skewness, kurtosis = moments_of(np.array([1.0, 2.0, 3.0, 10.0]))
    assert mean == 4.0
    assert variance == pytest.approx(50 / 3)
    # G1 and G2 by their formulas: m2 = 12.5, m3 = 45, m4 = 348.5.
    assert skewness == pytest.approx(45 / 12.5**1.5 * np.sqrt(4 * 3) / 2)
    assert kurtosis == pytest.approx(3 / (2 * 1) * (5 * (348.5 / 12.5**2) - 3 * 3))
    drawn = np.random.default_rng(1).gamma(2.0, size=70)
    theirs = (stats.skew(drawn, bias=False), stats.kurtosis(drawn, bias=False))
    assert moments_of(drawn)[2:] == pytest.approx(theirs)
    assert moments_of(np.array([0.1] * 9))[2:] == (None, None)
    assert moments_of(np.array([5.0])) == (5.0, None, None, None)


def test_moments_are_taken_by_class_and_split() -> None:
    coordinates = np.array([[0.0], [2.0], [10.0], [14.0]])
    rows = moments_by_class("map", ["x"], coordinates, ["a", "a", "b", "b"], ["train", "test"] * 2, ["a", "b", "c"])
    means = {(row.split, row.label): row.mean for row in rows}
    assert means == {
        ("all", "all"): 6.5, ("all", "a"): 1.0, ("all", "b"): 12.0,
        ("train", "all"): 5.0, ("train", "a"): 0.0, ("train", "b"): 10.0,
        ("test", "all"): 8.0, ("test", "a"): 2.0, ("test", "b"): 14.0,
    }  # fmt: skip


def test_distances_are_to_the_centre_of_the_own_class() -> None:
    vectors = np.array([[0, 0], [6, 8], [100, 0]], dtype=np.float32)
    assert distances_to_centre(vectors, ["a", "a", "b"]) == pytest.approx([5, 5, 0])


def test_tsne_parts_two_clumps_and_a_seed_repeats_it() -> None:
    vectors = np.random.default_rng(0).normal(size=(60, 80)).astype(np.float32)
    vectors[:30] += 6
    plane = project(vectors, 2, seed=5)
    assert plane.coordinates.shape == (60, 2)
    assert np.array_equal(plane.coordinates, project(vectors, 2, seed=5).coordinates)
    middle = [plane.coordinates[half].mean(0) for half in (slice(30), slice(30, 60))]
    spread = max(plane.coordinates[half].std() for half in (slice(30), slice(30, 60)))
    assert np.linalg.norm(middle[0] - middle[1]) > 2 * spread
    assert project(vectors, 3, seed=5).coordinates.shape == (60, 3)
    with pytest.raises(DataError, match="too few"):
        project(vectors[:9], 2, seed=5)
    vectors[4, 4] = np.nan
    with pytest.raises(DataError, match="not all finite"):
        project(vectors, 2, seed=5)


def test_points_are_drawn_by_seed_in_the_order_of_the_tables(varied_dataset: Path) -> None:
    dataset = load_dataset(varied_dataset)
    assert choose_points(dataset, 60, seed=0) == dataset.splits
    drawn = choose_points(dataset, 20, seed=0)
    assert sum(map(len, drawn.values())) == 20
    assert drawn == choose_points(dataset, 20, seed=0)
    assert drawn != choose_points(dataset, 20, seed=1)
    for split, rows in drawn.items():
        places = [dataset.splits[split].index(row) for row in rows]
        assert places == sorted(places)


def test_it_counts_by_split_and_class_and_says_that_source_tells_the_class(
    varied_dataset: Path, tmp_path: Path
) -> None:
    description = describe(varied_dataset, tmp_path / "out")

    assert description.images == {"train": 36, "valid": 12, "test": 12}
    counted = {
        (c.attribute, c.split, c.label, c.value): c.images
        for c in description.counts
        if c.attribute in ("source", "age")
    }
    assert counted["source", "train", "COVID-19", "far"] == 12
    assert ("source", "train", "COVID-19", "near") not in counted
    # An age that is no number is not known.
    assert counted["age", "valid", "normal", "not known"] == 1
    assert sum(n for (name, *_), n in counted.items() if name == "age") == 60
    source = next(a for a in description.associations if a.attribute == "source")
    assert source.guess == pytest.approx(2 / 3, abs=1e-3)
    assert source.guess_without == pytest.approx(1 / 3, abs=1e-3)
    assert any("confounded" in f and "far (COVID-19)" in f for f in description.findings)
    assert all(check.passed for check in description.checks)
    width = next(n for n in description.numbers if (n.attribute, n.split, n.label) == ("width", "all", "all"))
    assert (width.minimum, width.known) == (64, 60)


def test_it_finds_what_leaks(varied_dataset: Path, tmp_path: Path) -> None:
    images = varied_dataset / "images"
    first = load_dataset(varied_dataset).splits["train"][0]

    def change(splits: dict[str, list[Row]]) -> None:
        # The same radiograph again in the test split: as another patient, and smaller as yet another.
        copy = images / "copy.png"
        with Image.open(images / first.filename) as opened:
            opened.save(copy, compress_level=0)
            opened.resize((48, 54), Image.Resampling.BILINEAR).save(images / "smaller.png")
        splits["test"].append(replace(first, filename="copy.png", patient_id="new-1", sha256=file_sha256(copy)))
        smaller = file_sha256(images / "smaller.png")
        splits["test"].append(
            replace(first, filename="smaller.png", patient_id="new-2", label="pneumonia", sha256=smaller)
        )
        splits["valid"][0] = replace(splits["valid"][0], patient_id=first.patient_id, source=first.source)

    rewrite(varied_dataset, change)
    description = describe(varied_dataset, tmp_path / "out")

    patients = check_named(description, "patients")
    assert not patients.passed
    assert [(pair.split, pair.other_split, pair.detail) for pair in patients.pairs] == [
        ("train", "valid", first.patient)
    ]
    same = check_named(description, "same pixels").pairs
    assert [(pair.filename, pair.other_filename) for pair in same] == [(first.filename, "copy.png")]
    alike = check_named(description, "look-alike images").pairs
    assert {(pair.filename, pair.other_filename) for pair in alike} == {
        (first.filename, "copy.png"), (first.filename, "smaller.png"),
    }  # fmt: skip
    assert any(pair.detail.endswith("other class") for pair in alike)
    with (tmp_path / "out" / "leakage.csv").open(newline="") as file:
        assert {line["check"] for line in csv.DictReader(file)} == {"patients", "same pixels", "look-alike images"}


def test_what_dataset_json_says_of_look_alikes_is_compared(varied_dataset: Path, tmp_path: Path) -> None:
    dataset = load_dataset(varied_dataset)
    assert dataset.record is not None
    record = msgspec.structs.replace(dataset.record, options={"near_duplicate_hash": "phash"})
    write_dataset(varied_dataset, dataset.splits, record)
    assert check_named(describe(varied_dataset, tmp_path / "out"), "dataset.json agrees").passed


def test_an_image_that_is_gone_or_changed_is_named_and_nothing_is_written(varied_dataset: Path, tmp_path: Path) -> None:
    gone, changed = load_dataset(varied_dataset).splits["train"][:2]
    (varied_dataset / "images" / gone.filename).unlink()
    (varied_dataset / "images" / changed.filename).write_bytes(b"not an image")
    with pytest.raises(DataError) as error:
        describe(varied_dataset, tmp_path / "out")
    assert gone.filename in str(error.value)
    assert changed.filename in str(error.value)
    assert not (tmp_path / "out").exists()


def test_the_command_prints_the_json_that_it_writes(varied_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = CliRunner().invoke(describe_command, ["--data", str(varied_dataset), "--out", str(out), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout) == json.loads((out / "description.json").read_bytes())
    assert sorted(path.name for path in out.iterdir()) == [
        "associations.csv", "counts.csv", "description.html", "description.json", "leakage.csv", "numbers.csv",
    ]  # fmt: skip
    assert str(tmp_path) not in (out / "description.json").read_text() + (out / "description.html").read_text()


def test_the_same_inputs_give_the_same_bytes(varied_dataset: Path, tmp_path: Path) -> None:
    for name in ("one", "two"):
        describe(varied_dataset, tmp_path / name)
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_tables_of_an_earlier_run_do_not_stay(
    varied_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    describe(varied_dataset, out)
    (out / "points.csv").write_text("of another run")
    describe(varied_dataset, out)
    assert not (out / "points.csv").exists()


def test_a_run_that_cannot_be_read_ends_it_before_the_images_are(
    varied_dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("the images were read")

    monkeypatch.setattr(describing, "read_images", never)
    options = ["--data", str(varied_dataset), "--out", str(tmp_path / "out"), "--run", str(tmp_path / "no-run")]
    result = CliRunner().invoke(describe_command, options)
    assert "not a finished run" in str(result.exception)
    assert not (tmp_path / "out").exists()
