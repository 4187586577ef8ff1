"""The dataset folder: written, read back, and refused where it would waste a training run."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.train.covidx_sources import write_image
from train.data.record import DatasetRecord
from train.data.tables import (
    LABELS,
    Box,
    DataError,
    Dataset,
    Row,
    check_dataset,
    file_sha256,
    load_dataset,
    split_sha256,
    write_dataset,
)

RECORD = DatasetRecord(labels=LABELS, synthetic=True, created_by={"test": "1"}, seed=0)


def make_dataset(root: Path) -> Dataset:
    splits: dict[str, list[Row]] = {}
    for split in ("train", "valid", "test"):
        splits[split] = []
        for number, label in enumerate(LABELS):
            name = f"{split}-{number}.png"
            path = write_image(root / "images" / name, len(name) * 10 + number)
            row = Row(f"{split}{number}", name, label, "phantom", "PA", "52", "F", file_sha256(path))
            splits[split].append(row)
    write_dataset(root, splits, RECORD, {"train-1.png": [Box(0.1, 0.25, 0.5, 1 / 3)]})
    return load_dataset(root)


def with_row(dataset: Dataset, split: str, row: Row) -> Dataset:
    return dataclasses.replace(dataset, splits={**dataset.splits, split: [*dataset.splits[split], row]})


def test_a_folder_reads_back_as_it_was_written(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    check_dataset(dataset, splits=("train", "valid", "test"))
    assert dataset.labels == LABELS
    assert dataset.synthetic
    assert dataset.splits["valid"][2].label == "COVID-19"
    assert dataset.splits["train"][0].age == "52"
    (box,) = dataset.boxes["train-1.png"]
    assert dataclasses.astuple(box) == pytest.approx((0.1, 0.25, 0.5, 1 / 3), abs=1e-6)
    assert dataset.record is not None
    assert dataset.record.counts["test"]["normal"] == {"phantom": 1}
    assert dataset.record.tables.items() >= split_sha256(tmp_path).items()
    header = (tmp_path / "train.csv").read_text().splitlines()[0]
    assert header == "patient_id,filename,label,source,view,age,sex,sha256"
    assert not list(tmp_path.glob(".*"))


def test_no_boxes_is_a_header_alone(tmp_path: Path) -> None:
    write_dataset(tmp_path, {"train": []}, RECORD)
    assert (tmp_path / "boxes.csv").read_text() == "filename,x,y,width,height\n"
    assert load_dataset(tmp_path).boxes == {}


def test_loading_says_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no dataset folder"):
        load_dataset(tmp_path / "absent")
    with pytest.raises(DataError, match=r"not a dataset folder.*dataset\.json"):
        load_dataset(tmp_path)
    make_dataset(tmp_path)
    (tmp_path / "valid.csv").write_text("filename,label\nx.png,normal\n")
    with pytest.raises(DataError, match=r"valid\.csv lacks columns.*patient_id"):
        load_dataset(tmp_path)
    (tmp_path / "valid.csv").write_text((tmp_path / "train.csv").read_text().replace("train-0.png", "../x.png"))
    with pytest.raises(DataError, match=r"line 2: not a file name"):
        load_dataset(tmp_path)
    (tmp_path / "dataset.json").write_text('{"labels": 3}')
    with pytest.raises(DataError, match=r"dataset\.json cannot be read"):
        load_dataset(tmp_path)


def test_an_unknown_label_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    with pytest.raises(DataError, match=r"x\.png has an unknown label.*'flu'"):
        check_dataset(with_row(dataset, "test", Row("new", "x.png", "flu", "phantom")))


def test_a_patient_in_two_splits_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    again = Row("train0", "x.png", "normal", "phantom")
    with pytest.raises(DataError, match=r"patient phantom:train0 is in two splits.*train.*test"):
        check_dataset(with_row(dataset, "test", again))
    other_source = dataclasses.replace(again, source="cohen")
    check_dataset(with_row(dataset, "test", other_source))


def test_an_image_listed_twice_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    with pytest.raises(DataError, match=r"train-0\.png is listed twice"):
        check_dataset(with_row(dataset, "train", dataset.splits["train"][0]))


def test_an_empty_split_or_class_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    without = dataclasses.replace(dataset, splits={**dataset.splits, "valid": []})
    with pytest.raises(DataError, match=r"split valid .* is empty"):
        check_dataset(without)
    check_dataset(without, splits=("train", "test"))
    rows = [row for row in dataset.splits["train"] if row.label != "pneumonia"]
    with pytest.raises(DataError, match=r"no training image .* 'pneumonia'"):
        check_dataset(dataclasses.replace(dataset, splits={**dataset.splits, "train": rows}))


def test_a_missing_changed_or_unreadable_image_is_refused(tmp_path: Path) -> None:
    dataset = make_dataset(tmp_path)
    path = tmp_path / "images" / "train-0.png"
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(DataError, match=r"1 of 6 images .*train-0\.png is missing"):
        check_dataset(dataset)
    path.write_bytes(content[:200])
    with pytest.raises(DataError, match=r"train-0\.png is not the file"):
        check_dataset(dataset)
    check_dataset(dataset, images=False)
    rows = [dataclasses.replace(row, sha256="") for row in dataset.splits["train"]]
    with pytest.raises(DataError, match=r"train-0\.png is unreadable"):
        check_dataset(dataclasses.replace(dataset, splits={**dataset.splits, "train": rows}))
