"""``data build``: from small sources to the folder that training takes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

import train.data.covidx as covidx
from tests.train.covidx_sources import (
    cohen_row,
    picture,
    write_cohen,
    write_image,
    write_published,
    write_rsna,
    write_table,
)
from train.data.build_command import build
from train.data.covidx import BuildOptions, BuildResult, build_covidx
from train.data.rows import SPLITS, DataError, Row, file_sha256
from train.data.tables import check_dataset, load_dataset


@pytest.fixture
def cohen(tmp_path: Path) -> Path:
    rows = [cohen_row(f"{n}", f"covid-{n}.jpg", age="40.0", sex="M") for n in range(40)]
    rows += [
        cohen_row("p", "sars.png", "SARS"),
        cohen_row("q", "gone.png", "SARS"),
        cohen_row("r", "x.png", "todo"),
    ]
    return write_cohen(tmp_path / "cohen", rows, absent=["gone.png"])


@pytest.fixture
def rsna(tmp_path: Path) -> Path:
    images = {f"n{n}": ("Normal", f"P{n // 2}") for n in range(20)}
    images |= {f"o{n}": ("Lung Opacity", f"Q{n // 2}") for n in range(20)}
    return write_rsna(tmp_path / "rsna", images, boxes={"o3": [(16.0, 32.0, 80.0, 40.0)], "o4": [(0, 0, 160, 160)]})


def rows_by_name(out: Path) -> dict[str, tuple[str, Row]]:
    dataset = load_dataset(out)
    return {row.filename: (split, row) for split in SPLITS for row in dataset.splits[split]}


def run(out: Path, **options: object) -> BuildResult:
    return build_covidx(BuildOptions(out=out, workers=1, **options))  # type: ignore[arg-type]


def table_bytes(out: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (*out.glob("*.csv"), out / "dataset.json")}


def test_the_folder_holds_what_the_rules_take(tmp_path: Path, cohen: Path, rsna: Path) -> None:
    out = tmp_path / "covidx"
    result = run(out, cohen=cohen, rsna=rsna)
    assert (result.written, result.kept, result.removed) == (81, 0, 0)
    check_dataset(load_dataset(out), splits=SPLITS)
    rows = rows_by_name(out)
    assert set(rows) == {path.name for path in (out / "images").iterdir()}
    _, covid = rows["covid-3.png"]
    assert (covid.patient_id, covid.label, covid.source, covid.view, covid.age, covid.sex) == (
        *("3", "COVID-19", "cohen", "PA", "40", "M"),
    )
    _, normal = rows["n4.png"]
    assert (normal.patient_id, normal.label, normal.source) == ("P2", "normal", "rsna")
    assert (normal.view, normal.age, normal.sex) == ("AP", "58", "F")
    record = result.record
    assert [(entry.source, entry.file) for entry in record.missing] == [("cohen", "gone.png")]
    assert [(entry.file, entry.why) for entry in record.dropped] == [("x.png", "finding 'todo' has no label in COVIDx")]
    assert sum(n for by in record.counts.values() for of in by.values() for n in of.values()) == len(rows)
    assert any("confounded" in note for note in record.notes)


def test_dicom_goes_through_the_runtimes_reader(tmp_path: Path, rsna: Path) -> None:
    run(tmp_path / "out", rsna=rsna)
    with Image.open(tmp_path / "out" / "images" / "n5.png") as image:
        assert image.mode == "L"
        # The file is MONOCHROME1: unread, it would be the negative.
        expected = picture(1005).astype(float)
        assert np.abs(
            np.asarray(image) - np.interp(expected, (expected.min(), expected.max()), (0, 255))
        ).max() <= 1 or (np.abs(np.asarray(image) - expected).max() <= 1)


def test_boxes_are_fractions_and_a_box_around_everything_is_left_out(tmp_path: Path, rsna: Path) -> None:
    result = run(tmp_path / "out", rsna=rsna)
    boxes = load_dataset(tmp_path / "out").boxes
    assert set(boxes) == {"o3.png"}
    (box,) = boxes["o3.png"]
    assert (box.x, box.y, box.width, box.height) == pytest.approx((0.1, 0.2, 0.5, 0.25))
    assert result.record.options["boxes_left_out_that_cover_the_whole_image"] == 1


def test_a_second_run_does_nothing_and_a_changed_source_does_only_its_own(
    tmp_path: Path, cohen: Path, rsna: Path
) -> None:
    out = tmp_path / "out"
    run(out, cohen=cohen, rsna=rsna)
    before = table_bytes(out)
    times = {path.name: path.stat().st_mtime_ns for path in (out / "images").iterdir()}
    again = run(out, cohen=cohen, rsna=rsna)
    assert (again.written, again.kept) == (0, 81)
    assert table_bytes(out) == before
    assert {path.name: path.stat().st_mtime_ns for path in (out / "images").iterdir()} == times

    write_image(cohen / "images" / "covid-3.jpg", seed=777)
    (cohen / "images" / "covid-4.jpg").unlink()
    (out / "images" / "covid-5.png").unlink()
    (out / "images" / "covid-6.png").write_bytes(b"spoilt")
    changed = run(out, cohen=cohen, rsna=rsna)
    assert (changed.written, changed.removed) == (3, 1)
    assert not (out / "images" / "covid-4.png").exists()
    check_dataset(load_dataset(out), splits=SPLITS)

    fewer = run(out, rsna=rsna)
    assert (fewer.written, fewer.removed) == (0, 40)
    assert len(list((out / "images").iterdir())) == 40


def test_a_killed_build_goes_on_where_it_stopped(tmp_path: Path, cohen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, out = tmp_path / "whole", tmp_path / "out"
    run(whole, cohen=cohen)
    convert = covidx.convert_images

    def killed(*arguments: object) -> object:
        for number, entry in enumerate(convert(*arguments)):  # type: ignore[arg-type]
            if number == 25:
                raise KeyboardInterrupt
            yield entry

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(covidx, "convert_images", killed)
        run(out, cohen=cohen)
    assert not (out / "dataset.json").exists()
    with (out / ".build-index.jsonl").open("ab") as index:
        index.write(b'{"filename": "half a li')
    (out / "images" / ".covid-9.png.partial").write_bytes(b"half")
    resumed = run(out, cohen=cohen)
    assert (resumed.written, resumed.kept) == (16, 25)
    assert table_bytes(out) == table_bytes(whole)
    assert not list((out / "images").glob(".*"))


def test_many_workers_write_the_same_folder(tmp_path: Path, cohen: Path) -> None:
    run(tmp_path / "one", cohen=cohen)
    build_covidx(BuildOptions(out=tmp_path / "two", cohen=cohen, workers=2))
    assert table_bytes(tmp_path / "one") == table_bytes(tmp_path / "two")


def test_published_labels_and_splits_are_met_and_counted(tmp_path: Path, cohen: Path, rsna: Path) -> None:
    test = [(n, f"covid-{n}.jpeg", "COVID-19", "cohen") for n in range(5)]
    train = [(n, f"covid-{n}.jpeg", "COVID-19", "cohen") for n in range(5, 30)]
    train += [("z", "not-here.png", "COVID-19", "cohen"), ("p", "sars.png", "normal", "cohen")]
    splits = write_published(tmp_path / "splits", train, test)
    result = run(tmp_path / "out", cohen=cohen, rsna=rsna, splits=splits)
    rows = rows_by_name(tmp_path / "out")
    assert {name for name, (split, row) in rows.items() if split == "test" and row.source == "cohen"} == {
        f"covid-{n}.png" for n in range(5)
    }
    assert result.record.published == {
        "listed": {"cohen": 32},
        "listed_and_here": {"cohen": 31},
        "differences": [{"filename": "sars.png", "published": "normal in train", "here": "pneumonia in train"}],
    }


def test_copies_are_kept_once_and_never_on_both_sides(tmp_path: Path) -> None:
    rows = [cohen_row(f"{n}", f"{n}.png") for n in range(60)]
    folder = write_cohen(tmp_path / "cohen", rows)
    images = folder / "images"
    # 50..59 are copies of 0..9 under other patients; 40..44 are smaller copies of 30..34.
    for n in range(10):
        (images / f"{n}.png").replace(images / f"{50 + n}.png")
        Image.open(images / f"{50 + n}.png").save(images / f"{n}.png", compress_level=0)
    for n in range(5):
        Image.open(images / f"{30 + n}.png").resize((140, 140)).save(images / f"{40 + n}.png")
    out = tmp_path / "out"
    result = run(out, cohen=folder)
    built = rows_by_name(out)
    assert len(built) == 50
    assert not {f"{n}.png" for n in range(50, 60)} & set(built)
    assert all(built[f"{30 + n}.png"][0] == built[f"{40 + n}.png"][0] for n in range(5))
    assert result.record.near_duplicates == ()
    assert sum("the same pixels as" in entry.why for entry in result.record.dropped) == 10
    assert run(out, cohen=folder).written == 0

    # The original goes: its copy comes in.
    (images / "0.png").unlink()
    assert run(out, cohen=folder).written == 1
    rows = rows_by_name(out)
    assert "50.png" in rows
    assert all(file_sha256(out / "images" / name) == row.sha256 for name, (_, row) in rows.items())


def test_published_copies_across_splits_are_reported_and_learnt_from_never(tmp_path: Path) -> None:
    folder = write_cohen(tmp_path / "cohen", [cohen_row(f"{n}", f"{n}.png") for n in range(6)])
    images = folder / "images"
    Image.open(images / "0.png").save(images / "1.png", compress_level=0)
    Image.open(images / "2.png").resize((150, 150)).save(images / "3.png")
    test = [(n, f"{n}.png", "COVID-19", "cohen") for n in (0, 2)]
    train = [(n, f"{n}.png", "COVID-19", "cohen") for n in (1, 3, 4, 5)]
    splits = write_published(tmp_path / "splits", train, test)
    record = run(tmp_path / "out", cohen=folder, splits=splits).record
    (pair,) = record.near_duplicates
    assert {pair.filename, pair.other_filename} == {"2.png", "3.png"}
    assert (pair.split, pair.other_split in ("train", "valid")) == ("test", True)
    assert [(entry.file, entry.why) for entry in record.dropped] == [("1.png", "the same pixels as 0.png (test)")]
    assert sum("look alike" in note for note in record.notes) == 2


def test_equal_stems_of_two_sources_get_two_names(tmp_path: Path) -> None:
    cohen = write_cohen(tmp_path / "cohen", [cohen_row("1", "image.png"), cohen_row("2", "Image.jpg")])
    write_table(
        tmp_path / "act" / "metadata.csv",
        [{"patientid": "1", "finding": "COVID-19", "imagename": "image.png"}],
    )
    write_image(tmp_path / "act" / "images" / "image.png", 500)
    run(tmp_path / "out", cohen=cohen, actualmed=tmp_path / "act")
    assert set(rows_by_name(tmp_path / "out")) == {"image.png", "Image__cohen.png", "image__actmed.png"}


def test_images_the_reader_refuses_are_named_and_the_build_goes_on(tmp_path: Path, cohen: Path) -> None:
    images = cohen / "images"
    (images / "covid-0.jpg").write_bytes(b"")
    (images / "covid-1.jpg").write_bytes((images / "covid-2.jpg").read_bytes()[:900])
    (images / "covid-2.jpg").write_text("<html>404</html>")
    result = run(tmp_path / "out", cohen=cohen)
    assert {entry.file for entry in result.refused} == {"covid-0.jpg", "covid-1.jpg", "covid-2.jpg"}
    assert set(result.refused) <= set(result.record.dropped)
    assert len(rows_by_name(tmp_path / "out")) == 38
    assert run(tmp_path / "out", cohen=cohen).written == 0
    for path in images.iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="refused all 41 images"):
        run(tmp_path / "out", cohen=cohen)


def test_rsna_patients_come_from_the_header_where_no_column_tells_them(tmp_path: Path) -> None:
    images = {f"n{n}": ("Normal", f"P{n // 4}") for n in range(40)}
    rsna = write_rsna(tmp_path / "rsna", images, patient_column=False)
    run(tmp_path / "out", rsna=rsna)
    rows = rows_by_name(tmp_path / "out")
    assert {row.patient_id for _, row in rows.values()} == {f"P{n}" for n in range(10)}


def test_a_folder_of_someone_else_is_left_alone(tmp_path: Path, cohen: Path) -> None:
    mine = write_image(tmp_path / "photos" / "images" / "holiday.png", 1)
    with pytest.raises(DataError, match="not made by `data build`"):
        run(tmp_path / "photos", cohen=cohen)
    assert mine.is_file()
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["images"]


def test_the_command_prints_a_table_or_json(tmp_path: Path, cohen: Path, rsna: Path) -> None:
    out = str(tmp_path / "out")
    runner = CliRunner()
    options = ["--cohen", str(cohen), "--rsna", str(rsna), "--out", out, "--workers", "1"]
    shown = runner.invoke(build, options, catch_exceptions=False)
    assert shown.exit_code == 0
    assert "1 listed images are missing" in shown.stdout
    assert "COVID-19" in shown.stdout
    printed = runner.invoke(build, [*options, "--json"], catch_exceptions=False)
    summary = json.loads(printed.stdout)
    assert (summary["written"], summary["unchanged"], summary["missing"]) == (0, 81, 1)
    assert summary["published"] is None


def test_no_source_is_wrong_usage(tmp_path: Path) -> None:
    result = CliRunner().invoke(build, ["--out", str(tmp_path / "out")])
    assert result.exit_code == 2
    assert "--cohen" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.real_data
def test_every_published_image_gets_its_published_label_and_split(cxr_data: Path, tmp_path: Path) -> None:
    sources, out = cxr_data / "sources", tmp_path / "covidx"
    result = build_covidx(
        BuildOptions(
            out=out,
            cohen=sources / "cohen",
            figure1=sources / "figure1",
            actualmed=sources / "actualmed",
            rsna=sources / "rsna",
            splits=cxr_data / "covidx_v3",
        )
    )
    dataset = load_dataset(out)
    check_dataset(dataset, splits=SPLITS)
    built = {
        (row.source, Path(row.filename).stem): ("test" if split == "test" else "train", row.label)
        for split in SPLITS
        for row in dataset.splits[split]
    }
    # Read the published tables and the source folders without the builder's own code.
    folders = {"cohen": "cohen", "fig1": "figure1", "actmed": "actualmed"}
    listed = {}
    for split in ("train", "test"):
        with (cxr_data / "covidx_v3" / f"{split}_split_v3.csv").open(newline="") as file:
            for row in csv.DictReader(file):
                folder = folders.get(row["label_short"])
                if folder and (sources / folder / "images" / row["fname"]).is_file():
                    listed[row["label_short"], Path(row["fname"]).stem] = (split, row["label"])
    assert len(listed) == 393 + 35 + 26  # 394 rows of cohen; one image is listed twice
    assert {key: built.get(key) for key in listed} == listed
    assert result.record.published is not None
    assert result.record.published["differences"] == []
    assert not result.refused
    counts = {label: sum(row.label == label for _, row in rows_by_name(out).values()) for label in dataset.labels}
    assert counts == {"normal": 439, "pneumonia": 475, "COVID-19": 422}
    # Known leaks of the published split: the same radiographs on both sides.
    assert ("16660_5_1.png", 0) in {(pair.other_filename, pair.distance) for pair in result.record.near_duplicates}
    assert len(result.record.near_duplicates) == 5
    again = build_covidx(
        BuildOptions(out=out, rsna=sources / "rsna", cohen=sources / "cohen", splits=cxr_data / "covidx_v3")
    )
    assert (again.written, again.removed) == (0, 61)
