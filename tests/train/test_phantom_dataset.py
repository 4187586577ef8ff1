"""Folders of phantoms: real DICOM, the dataset contract, the same bytes again, splits by patient."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from click.testing import CliRunner
from PIL import Image

from edge_runtime.reading import read_radiograph
from train.data.phantom import INVERTED_SHARE, SIGMOID_SHARE, Phantom, build_phantom
from train.data.phantom_command import phantom as command
from train.data.phantom_dataset import build_phantom_dataset, plan_studies
from train.data.phantom_dicom import Identity, write_dicom
from train.data.phantom_exposure import display
from train.data.phantom_patient import draw_positioning
from train.data.tables import LABELS, SPLITS, DataError, check_dataset, load_dataset

SIZE = 128


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("phantoms") / "data"
    build_phantom_dataset(root, 5, SIZE, 2, workers=1)
    return root


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_it_is_a_dataset_that_fit_can_take(folder: Path) -> None:
    dataset = load_dataset(folder)
    check_dataset(dataset, splits=SPLITS)
    assert dataset.synthetic
    rows = [row for split in SPLITS for row in dataset.splits[split]]
    assert Counter(row.label for row in rows) == dict.fromkeys(LABELS, 5)
    assert {row.source for row in rows} == {"phantom"}
    assert {row.view for row in rows} <= {"PA", "AP"}
    assert all(re.fullmatch(r"\d{2}", row.age) and row.sex in "FM" for row in rows)
    ill = {row.filename for row in rows if row.label != "normal"}
    assert set(dataset.boxes) == ill
    assert all("SYNTHETIC" in note for note in dataset.record.notes)


def test_the_same_seed_gives_the_same_bytes_with_more_processes(folder: Path, tmp_path: Path) -> None:
    build_phantom_dataset(tmp_path / "again", 5, SIZE, 2, workers=2)
    assert contents(tmp_path / "again") == contents(folder)


def test_another_seed_gives_other_pictures(folder: Path, tmp_path: Path) -> None:
    other = build_phantom_dataset(tmp_path / "other", 3, SIZE, 3, workers=1)
    hashes = {row.sha256 for split in SPLITS for row in other.splits[split]}
    assert not hashes & {row.sha256 for rows in load_dataset(folder).splits.values() for row in rows}


def test_dicom_headers(folder: Path) -> None:
    paths = sorted((folder / "dicom").glob("*.dcm"))
    assert len(paths) == 15
    uids = set()
    for path in paths:
        data = pydicom.dcmread(path)
        assert data.file_meta.MediaStorageSOPInstanceUID == data.SOPInstanceUID
        assert (data.Modality, data.SOPClassUID.name.split(" Image Storage")[0]) in {
            ("DX", "Digital X-Ray"),
            ("CR", "Computed Radiography"),
        }
        assert data.ViewPosition in {"PA", "AP"}
        assert data.BodyPartExamined == "CHEST"
        assert data.PatientName == "Phantom^Synthetic"
        assert re.fullmatch(r"PHANTOM-\d{4}", data.PatientID)
        assert re.fullmatch(r"0\d\dY", data.PatientAge)
        assert data.PatientSex in {"F", "M"}
        assert data.PatientIdentityRemoved == "YES"
        assert "SYNTHETIC" in data.ImageComments
        assert data.PhotometricInterpretation in {"MONOCHROME1", "MONOCHROME2"}
        assert (data.BitsStored, data.HighBit, data.PixelRepresentation) == (12, 11, 0)
        assert float(data.WindowWidth) > 1
        assert data.pixel_array.max() <= 4095
        assert all(uid.is_valid for uid in (data.SOPInstanceUID, data.StudyInstanceUID, data.SeriesInstanceUID))
        uids.add(data.SOPInstanceUID)
        header = str(data).lower()
        assert not any(word in header for word in ("pneumonia", "covid", "normal\n")), "the label stays out"
    assert len(uids) == len(paths)


def shown_as(inverted: bool, sigmoid: bool) -> Phantom:
    phantom = build_phantom("normal", 9, SIZE)
    facts = replace(phantom.facts, inverted=inverted, sigmoid=sigmoid)
    pixels = display(phantom.stored, facts.window_centre, facts.window_width, sigmoid)
    return replace(phantom, facts=facts, pixels=pixels)


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("sigmoid", [False, True])
def test_the_runtime_reads_what_the_library_shows(tmp_path: Path, inverted: bool, sigmoid: bool) -> None:
    phantom = shown_as(inverted, sigmoid)
    write_dicom(tmp_path / "one.dcm", phantom, Identity("PHANTOM-0001", 1))
    data = pydicom.dcmread(tmp_path / "one.dcm")
    assert data.PhotometricInterpretation == ("MONOCHROME1" if inverted else "MONOCHROME2")
    read = read_radiograph(tmp_path / "one.dcm")
    assert read.facts.view == phantom.facts.view
    assert np.abs(read.pixels.astype(int) - phantom.pixels.astype(int)).max() <= 1


def test_images_are_the_dicom_files_as_the_runtime_reads_them(folder: Path) -> None:
    for path in sorted((folder / "dicom").glob("*.dcm"))[:4]:
        with Image.open(folder / "images" / f"{path.stem}.png") as image:
            assert image.mode == "L"
            assert np.array_equal(np.asarray(image), read_radiograph(path).pixels)


@pytest.mark.parametrize("count", [3, 4, 9, 10, 11, 37, 200])
def test_every_class_is_in_every_split_and_no_patient_in_two(count: int) -> None:
    for seed in range(5):
        studies = plan_studies(count, seed)
        assert Counter(study.label for study in studies) == dict.fromkeys(LABELS, count)
        assert {(s.label, s.split) for s in studies} == {(label, split) for label in LABELS for split in SPLITS}
        homes: dict[str, set[tuple[str, str]]] = {}
        for study in studies:
            homes.setdefault(study.identity.patient_id, set()).add((study.split, study.label))
        assert all(len(home) == 1 for home in homes.values())
        assert len({study.stem for study in studies}) == len(studies)
        shares = Counter(study.split for study in studies)
        if count >= 37:
            assert len(homes) < len(studies), "some patients have several studies"
            assert 0.55 < shares["train"] / len(studies) < 0.7


def test_numbers_give_no_class_away() -> None:
    studies = plan_studies(100, 0)
    numbers = {label: [int(s.identity.patient_id[-4:]) for s in studies if s.label == label] for label in LABELS}
    means = [float(np.mean(values)) for values in numbers.values()]
    assert max(means) - min(means) < 0.25 * max(max(values) for values in numbers.values())


def test_an_existing_dataset_is_kept_replaced_or_refused(tmp_path: Path) -> None:
    root = tmp_path / "data"
    build_phantom_dataset(root, 3, SIZE, 0, workers=1)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    build_phantom_dataset(root, 3, SIZE, 0, workers=1)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before, "asked again: left as it is"
    with pytest.raises(DataError, match="another dataset"):
        build_phantom_dataset(root, 3, SIZE, 1, workers=1)
    assert build_phantom_dataset(root, 3, SIZE, 1, workers=1, overwrite=True).record.seed == 1
    assert [path.name for path in tmp_path.iterdir()] == ["data"], "nothing half-written is left"


def test_foreign_files_are_never_touched(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(DataError, match="not a dataset of phantoms"):
        build_phantom_dataset(tmp_path, 3, SIZE, 0, workers=1, overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_some_are_monochrome1_and_some_sigmoid() -> None:
    drawn = [draw_positioning(np.random.default_rng(seed)) for seed in range(200)]
    assert 10 < sum(one.inverted < INVERTED_SHARE for one in drawn) < 60
    assert 30 < sum(one.window[2] < SIGMOID_SHARE for one in drawn) < 100


def test_too_few_are_refused() -> None:
    with pytest.raises(DataError, match="too few phantoms"):
        plan_studies(2, 0)


@pytest.mark.parametrize("options", [["--count", "2"], ["--size", "100"], ["--seed", "-1"], ["--workers", "0"]])
def test_wrong_usage_exits_2(tmp_path: Path, options: list[str]) -> None:
    result = CliRunner().invoke(command, ["--out", str(tmp_path / "out"), *options])
    assert result.exit_code == 2
    assert options[0] in result.output
    assert not (tmp_path / "out").exists()


def test_the_command_writes_a_dataset(tmp_path: Path) -> None:
    arguments = ["--out", str(tmp_path / "out"), "--count", "3", "--size", str(SIZE), "--workers", "1"]
    result = CliRunner().invoke(command, arguments)
    assert result.exit_code == 0, result.output
    assert "SYNTHETIC" in result.output
    assert len(load_dataset(tmp_path / "out").splits["test"]) == 3
