"""The rules of COVIDx on small tables of each source."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.train.covidx_sources import cohen_row, write_cohen, write_image, write_rsna, write_table
from train.data.rows import DataError
from train.data.sources import list_actualmed, list_cohen, list_figure1, list_radiography, list_rsna
from train.data.sources.findings import label_of_finding
from train.data.sources.listing import plain_age, plain_sex


@pytest.mark.parametrize(
    ("finding", "label"),
    [
        ("COVID-19", "COVID-19"),
        ("COVID-19, ARDS", "COVID-19"),
        ("ARDS, COVID-19", None),
        ("ARDS", None),
        ("SARS", "pneumonia"),
        ("MERS", "pneumonia"),
        ("Streptococcus", "pneumonia"),
        ("Klebsiella", "pneumonia"),
        ("Chlamydophila", "pneumonia"),
        ("Legionella", "pneumonia"),
        ("Pneumonia/Viral/COVID-19", "COVID-19"),
        ("Pneumonia/Bacterial/Streptococcus", "pneumonia"),
        ("Pneumonia", None),
        ("Pneumocystis", None),
        ("No Finding", None),
        ("todo", None),
        ("", None),
    ],
)
def test_the_first_finding_decides_the_label(finding: str, label: str | None) -> None:
    assert label_of_finding(finding) == label


@pytest.mark.parametrize(
    ("text", "age"), [("52.0", "52"), ("058Y", "58"), ("006M", "0.5"), ("50+", ""), ("", ""), ("700", "")]
)
def test_age_is_plain_years_or_empty(text: str, age: str) -> None:
    assert plain_age(text) == age


def test_sex_is_one_letter_or_empty() -> None:
    assert [plain_sex(text) for text in ("M", "female", "", "unknown")] == ["M", "F", "", ""]


def test_cohen_takes_frontal_radiographs_once(tmp_path: Path) -> None:
    rows = [
        cohen_row(1, "a.jpg", view="AP Supine", age="61.0", sex="F"),
        cohen_row(1, "lateral.jpg", view="L"),
        cohen_row(1, "no-view.jpg", view=""),
        cohen_row(2, "ct.jpg", view="PA", modality="CT"),
        cohen_row(3, "b.png", finding="Legionella"),
        cohen_row(4, "b.png", finding="Legionella"),
        cohen_row(5, "gone.png", finding="SARS"),
        cohen_row(6, "other.png", finding="Pneumocystis"),
        cohen_row(7, "../../etc/passwd"),
    ]
    folder = write_cohen(tmp_path / "cohen", rows, absent=["gone.png", "../../etc/passwd"])
    listing = list_cohen(folder)
    taken = [(c.patient_id, c.path.name, c.stem, c.label, c.view, c.age, c.sex) for c in listing.candidates]
    assert taken == [
        ("1", "a.jpg", "a", "COVID-19", "AP Supine", "61", "F"),
        ("3", "b.png", "b", "pneumonia", "PA", "", ""),
    ]
    assert [entry.file for entry in listing.missing] == ["gone.png", "../../etc/passwd"]
    assert listing.same_person == [("3", "4")]
    reasons = {entry.file: entry.why for entry in listing.dropped}
    assert set(reasons) == {"lateral.jpg", "no-view.jpg", "ct.jpg", "b.png", "other.png"}
    assert "not frontal" in reasons["lateral.jpg"]
    assert "Pneumocystis" in reasons["other.png"]


def test_figure1_finds_the_suffix_and_knows_two_images_of_one_person(tmp_path: Path) -> None:
    names = ("COVID-00015a", "COVID-00015b", "COVID-00016")
    rows = [{"patientid": name, "finding": "COVID-19", "view": "", "notes": "T 39.1°C"} for name in names]
    rows.append({"patientid": "COVID-00017", "finding": "", "view": "AP erect", "notes": ""})
    write_table(tmp_path / "metadata.csv", rows, encoding="iso-8859-1")
    write_image(tmp_path / "images" / "COVID-00015a.png", 1)
    write_image(tmp_path / "images" / "COVID-00015b.jpg", 2)
    listing = list_figure1(tmp_path)
    assert [(c.patient_id, c.path.suffix, c.person) for c in listing.candidates] == [
        ("COVID-00015a", ".png", "COVID-00015"),
        ("COVID-00015b", ".jpg", "COVID-00015"),
    ]
    assert [entry.file for entry in listing.missing] == ["COVID-00016.jpg"]
    assert [entry.file for entry in listing.dropped] == ["COVID-00017.jpg"]


def test_actualmed_is_not_filtered_by_view(tmp_path: Path) -> None:
    findings = ("COVID-19", "No finding", "")
    rows = [
        {"patientid": f"ANON{n}", "finding": finding, "view": "", "imagename": f"CR.1.2.{n}.png"}
        for n, finding in enumerate(findings)
    ]
    write_table(tmp_path / "metadata.csv", rows)
    write_image(tmp_path / "images" / "CR.1.2.0.png", 1)
    listing = list_actualmed(tmp_path)
    assert [(c.patient_id, c.stem, c.label) for c in listing.candidates] == [("ANON0", "CR.1.2.0", "COVID-19")]
    assert len(listing.dropped) == 2


@pytest.mark.parametrize("kind", ["csv", "xlsx"])
def test_radiography_overlaps_are_dropped_by_url_and_by_number(tmp_path: Path, kind: str) -> None:
    rows = [
        {
            "FILE NAME": "COVID-19(1)",
            "FORMAT": "PNG",
            "SIZE": "1024x1024",
            "URL": "https://www.sirm.org/case-1/",
        },
        {"FILE NAME": "COVID-19(2)", "FORMAT": "PNG", "SIZE": "1024x1024", "URL": "http://sirm.org/Case-2"},
        {"FILE NAME": "COVID-19 (3)", "FORMAT": "PNG", "SIZE": "1024x1024", "URL": "https://elsewhere.org/3"},
        {
            "FILE NAME": "COVID-19(100)",
            "FORMAT": "PNG",
            "SIZE": "1024x1024",
            "URL": "https://elsewhere.org/4",
        },
        {"FILE NAME": "COVID-19(4)", "FORMAT": "PNG", "SIZE": "1024x1024", "URL": "https://elsewhere.org/5"},
    ]
    if kind == "xlsx":
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        book.active.append(list(rows[0]))
        for row in rows:
            book.active.append(list(row.values()))
        book.save(tmp_path / "COVID-19.metadata.xlsx")
    else:
        write_table(tmp_path / "COVID-19.metadata.csv", rows)
    for name in ("COVID-19 (1)", "COVID-19(2)", "COVID-19 (3)", "COVID-19(100)"):
        write_image(tmp_path / "COVID-19" / f"{name}.png", 1)
    write_image(tmp_path / "NORMAL" / "NORMAL (1).png", 2)
    listing = list_radiography(tmp_path, known_urls={"https://www.sirm.org/case-2/", ""})
    assert [(c.patient_id, c.stem, c.path.name) for c in listing.candidates] == [
        ("COVID-19(1)", "COVID-19(1)", "COVID-19 (1).png"),
        ("COVID-19(3)", "COVID-19(3)", "COVID-19 (3).png"),
    ]
    assert [entry.file for entry in listing.dropped] == ["COVID-19(2).png", "COVID-19(100).png"]
    assert [entry.file for entry in listing.missing] == ["COVID-19(4).png"]


def test_cohen_urls_are_those_of_frontal_rows(tmp_path: Path) -> None:
    rows = [
        cohen_row(1, "a.png", url="https://x.org/1"),
        cohen_row(1, "l.png", view="L", url="https://x.org/2"),
    ]
    assert list_cohen(write_cohen(tmp_path, rows)).urls == {"https://x.org/1"}


def test_rsna_takes_normal_and_target_1_and_splits_boxes_by_image(tmp_path: Path) -> None:
    images = {
        "n1": ("Normal", "P1"),
        "o1": ("Lung Opacity", "P2"),
        "x1": ("No Lung Opacity / Not Normal", "P3"),
    }
    write_rsna(tmp_path, images, boxes={"o1": [(10.0, 20.0, 30.0, 40.0), (1.0, 2.0, 3.0, 4.0)]})
    listing = list_rsna(tmp_path)
    assert [(c.patient_id, c.stem, c.label, len(c.boxes)) for c in listing.candidates] == [
        ("P1", "n1", "normal", 0),
        ("P2", "o1", "pneumonia", 2),
    ]
    assert [entry.file for entry in listing.dropped] == ["x1.dcm"]
    assert not any(c.patient_in_header for c in listing.candidates)


def test_rsna_without_a_patient_column_asks_the_header(tmp_path: Path) -> None:
    listing = list_rsna(write_rsna(tmp_path, {"n1": ("Normal", "P1")}, patient_column=False))
    assert [(c.patient_id, c.patient_in_header) for c in listing.candidates] == [("n1", True)]


def test_a_wrong_folder_names_the_file_it_should_hold(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").touch()
    with pytest.raises(DataError, match=r"--rsna.*holiday\.jpg.*stage_2_detailed_class_info\.csv"):
        list_rsna(tmp_path)
    with pytest.raises(DataError, match=r"--cohen: there is no folder"):
        list_cohen(tmp_path / "nowhere")


def test_a_table_of_another_source_is_refused(tmp_path: Path) -> None:
    write_table(tmp_path / "metadata.csv", [{"patientid": "1", "finding": "COVID-19"}])
    (tmp_path / "images").mkdir()
    with pytest.raises(DataError, match=r"not the expected table.*imagename"):
        list_actualmed(tmp_path)


def test_a_damaged_sheet_is_refused(tmp_path: Path) -> None:
    pytest.importorskip("openpyxl")
    (tmp_path / "COVID-19.metadata.xlsx").write_bytes(b"not a zip")
    (tmp_path / "COVID-19").mkdir()
    with pytest.raises(DataError, match="Excel sheet"):
        list_radiography(tmp_path)
