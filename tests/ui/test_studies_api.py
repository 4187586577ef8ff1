"""The records through the API: worklist, verdicts, notes, similar cases, exports, operating point; hostile input."""

from __future__ import annotations

import csv
import json
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from edge_runtime.records import Records
from edge_runtime.web.operating import wilson
from tests.ui.scripted import LABELS, ScriptedPredictor, dicom_bytes, png_bytes
from tests.ui.site import ADMINISTRATOR, READER, log_in, send

Client = tuple[FlaskClient, dict[str, str]]


@pytest.fixture
def administrator(site_app: Flask) -> Client:
    return log_in(site_app, ADMINISTRATOR)


@pytest.fixture
def reader(site_app: Flask) -> Client:
    return log_in(site_app, READER)


def study(client: Client, content: bytes | None = None, name: str = "chest.dcm") -> str:
    return str(send(client[0], content, name, headers=client[1]).get_json()["study"])


def say(client: Client, key: str, **verdict: Any) -> Any:
    return client[0].post(f"/api/v1/studies/{key}/verdict", json=verdict, headers=client[1])


def test_what_is_uploaded_is_in_the_worklist(reader: Client) -> None:
    key = study(reader)
    refused = study(reader, b"Dear colleague", "letter.dcm")
    listed = reader[0].get("/api/v1/studies").get_json()
    assert [each["key"] for each in listed["studies"]] == [refused, key]
    newest, first = listed["studies"]
    assert (newest["answer"]["status"], newest["answer"]["reason"]) == ("refused", "unreadable")
    assert (first["answer"]["label"], first["source"], first["facts"]["view"]) == ("COVID-19", "upload", "PA")
    for query, expected in (
        ("status=refused", [refused]),
        ("label=COVID-19", [key]),
        ("verdict=none", [refused, key]),
        ("search=letter", [refused]),
        ("sort=received&order=ascending&limit=1", [key]),
        ("limit=1&offset=1", [key]),
        ("source=watch", []),
    ):
        found = reader[0].get(f"/api/v1/studies?{query}").get_json()
        assert [each["key"] for each in found["studies"]] == expected, query
    for wrong in ("sort=secret", "limit=0", "limit=x", "offset=-1", "status=good", "verdict=maybe", "order=up"):
        assert reader[0].get(f"/api/v1/studies?{wrong}").status_code == 400


def test_names_are_hidden_until_asked_for_and_the_log_keeps_that(reader: Client, records: Records) -> None:
    key = study(reader, name="Smith_Jane.dcm")
    for path in (f"/api/v1/studies/{key}", "/api/v1/studies", f"/studies/{key}/report"):
        text = reader[0].get(path).text
        assert "SYN-0042" not in text and "Smith_Jane" not in text
        assert "SYN-0042" in reader[0].get(f"{path}?identity=1").text
    shown = [entry for entry in records.audit_entries() if entry.action == "identity shown"]
    assert len(shown) == 3 and {entry.actor for entry in shown} == {READER}


def test_image_and_heat_map_of_a_study(reader: Client) -> None:
    key = study(reader)
    image = Image.open(BytesIO(reader[0].get(f"/api/v1/studies/{key}/image").data))
    assert (image.size, image.mode) == ((360, 400), "L")
    small = Image.open(BytesIO(reader[0].get(f"/api/v1/studies/{key}/image?edge=100").data))
    assert small.size == (90, 100)
    maps = reader[0].get(f"/api/v1/studies/{key}/heatmap").get_json()
    assert maps["labels"] == list(LABELS) and np.shape(maps["values"]) == (3, 8, 8)
    overlay = Image.open(BytesIO(reader[0].get(f"/studies/{key}/overlay.png").data))
    assert (overlay.size, overlay.mode) == ((360, 400), "RGB")
    refused = study(reader, b"no image")
    assert reader[0].get(f"/api/v1/studies/{refused}/image").status_code == 404


def test_verdicts_make_the_confusion_table(reader: Client, administrator: Client) -> None:
    keys = [study(reader, png_bytes(np.full((300, 300), 90 + i, np.uint8) + noise(i))) for i in range(4)]
    assert say(reader, keys[0], verdict="agree").get_json()["verdict"]["label"] == "COVID-19"
    say(reader, keys[1], verdict="disagree", label="normal", comment="clear lungs")
    say(administrator, keys[2], verdict="other")
    say(reader, keys[3], verdict="agree")
    say(reader, keys[3], verdict="withdrawn")
    table = reader[0].get("/api/v1/confusion").get_json()
    assert table["rows"]["COVID-19"] == {"normal": 1, "pneumonia": 0, "COVID-19": 1, "other": 1}
    assert table["total"] == 3
    assert table["of"]["COVID-19"]["sensitivity"] == pytest.approx(wilson(1, 1))
    assert table["of"]["COVID-19"]["specificity"] == pytest.approx(wilson(0, 2))
    assert "clear lungs" in reader[0].get(f"/api/v1/studies/{keys[1]}").text
    for wrong in ({"verdict": "maybe"}, {}, {"verdict": "disagree", "label": "COVID-19"}, {"verdict": 3}):
        assert say(reader, keys[0], **wrong).status_code == 400
    page = reader[0].get("/here").text
    assert "3 studies with a verdict" in page


def noise(seed: int) -> Any:
    return np.random.default_rng(seed).integers(0, 120, (300, 300)).astype(np.uint8)


def test_wilson_against_a_published_example() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81/263 and 15/148 (method 3)
    assert wilson(81, 263) == pytest.approx((0.3080, 0.2553, 0.3662), abs=1e-4)
    assert wilson(15, 148) == pytest.approx((0.1014, 0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 0) is None


def test_notes(reader: Client) -> None:
    key = study(reader)
    body = reader[0].post(f"/api/v1/studies/{key}/notes", json={"text": " Portable film. "}, headers=reader[1])
    assert [(note["author"], note["text"]) for note in body.get_json()["note_texts"]] == [(READER, "Portable film.")]
    for wrong in ({"text": ""}, {"text": 3}, {"text": "x" * 5000}, {"text": "\x00"}, {}):
        path = f"/api/v1/studies/{key}/notes"
        assert reader[0].post(path, json=wrong, headers=reader[1]).status_code == 400


def test_similar_cases_are_confirmed_ones_of_others(reader: Client, predictor: ScriptedPredictor) -> None:
    keys = []
    for angle in (0.0, 0.1, 1.5):
        predictor.embedding = np.array([np.cos(angle), np.sin(angle), 0, 0], np.float32)
        keys.append(study(reader, png_bytes(noise(int(angle * 10)))))
    near = reader[0].get(f"/api/v1/studies/{keys[0]}/similar").get_json()
    assert near["similar"] == []
    say(reader, keys[1], verdict="agree")
    say(reader, keys[2], verdict="disagree", label="normal")
    near = reader[0].get(f"/api/v1/studies/{keys[0]}/similar").get_json()["similar"]
    assert [(each["study"]["key"], each["label"]) for each in near] == [(keys[1], "COVID-19"), (keys[2], "normal")]
    assert near[0]["similarity"] == pytest.approx(np.cos(0.1), abs=1e-3)


def test_the_operating_point_is_chosen_with_a_name_and_logged(administrator: Client, records: Records) -> None:
    client, header = administrator
    for wrong in (
        {"label": "COVID-19", "threshold": 1.5, "reason": "x"},
        {"label": "COVID-19", "threshold": True, "reason": "x"},
        {"label": "flu", "threshold": 0.5, "reason": "x"},
        {"label": "COVID-19", "threshold": 0.5, "reason": "  "},
        {},
    ):
        assert client.put("/api/v1/operating-point", json=wrong, headers=header).status_code == 400, wrong
    point = {"label": "COVID-19", "threshold": 0.7, "reason": "Triage in ward 3"}
    body = client.put("/api/v1/operating-point", json=point, headers=header).get_json()
    assert (body["point"]["threshold"], body["point"]["actor"]) == (0.7, ADMINISTRATOR)
    assert body["curve"]["curves"]["COVID-19"][0]["sensitivity"][0] == 1
    answer = send(client, headers=header).get_json()
    assert answer["operating_point"] == {"label": "COVID-19", "threshold": 0.7, "reached": True}
    change = next(entry for entry in records.audit_entries() if entry.action == "setting changed")
    assert (change.actor, change.details["to"]["reason"]) == (ADMINISTRATOR, "Triage in ward 3")
    client.put("/api/v1/operating-point", json={"label": None}, headers=header)
    assert send(client, headers=header).get_json()["operating_point"] is None


def test_the_operating_point_of_another_model_is_void(administrator: Client, records: Records) -> None:
    value = {"label": "COVID-19", "threshold": 0.1, "checkpoint_sha256": "cd" * 32, "reason": "the old model"}
    records.set_setting("operating_point", value, actor=ADMINISTRATOR)
    assert send(administrator[0], headers=administrator[1]).get_json()["operating_point"] is None
    assert "another model" in administrator[0].get("/operating-point").text


def rows_of(client: Client, query: str) -> list[dict[str, str]]:
    return list(csv.DictReader(StringIO(client[0].get(f"/api/v1/studies.csv?{query}").text)))


def test_exports(reader: Client, records: Records) -> None:
    key = study(reader, dicom_bytes(PatientAge="093Y"), "=cmd.dcm")
    say(reader, key, verdict="disagree", label="normal", comment="@SUM(1)")
    (whole,) = rows_of(reader, "")
    assert (whole["case"], whole["patient_id"], whole["reader"]) == (key, "SYN-0042", READER)
    assert (whole["file_name"], whole["comment"]) == ("'=cmd.dcm", "'@SUM(1)")  # no formula for a spreadsheet
    (bare,) = rows_of(reader, "deidentified=1")
    text = json.dumps(bare)
    for secret in (key, "SYN-0042", "cmd.dcm", READER, "SUM", "2020", "2026", "093"):
        assert secret not in text.replace(bare["case"], "")
    assert (bare["age_years"], bare["sex"], bare["reader_label"]) == ("90", "F", "normal")
    assert float(bare["probability_COVID-19"]) == pytest.approx(0.72)
    (again,) = rows_of(reader, "deidentified=1")
    assert again["case"] != bare["case"]
    exports = [entry.details for entry in records.audit_entries() if entry.action == "worklist exported"]
    assert [each["deidentified"] for each in exports] == [True, True, False]


def test_deleting_is_logged_and_takes_the_files(administrator: Client, records: Records) -> None:
    client, header = administrator
    key = study(administrator)
    folder = records.files.folder(key)
    assert folder.is_dir()
    assert client.delete(f"/api/v1/studies/{key}", json={}, headers=header).status_code == 400
    assert client.delete(f"/api/v1/studies/{key}", json={"reason": "sent twice"}, headers=header).status_code == 204
    assert not folder.exists()
    assert client.get(f"/studies/{key}").status_code == client.get(f"/api/v1/studies/{key}").status_code == 404
    assert records.audit_entries(key)[0].details == {"reason": "sent twice"}
    assert records.verify_audit().problems == ()


def test_what_could_not_be_deleted_is_said(administrator: Client, records: Records, tmp_path: Path) -> None:
    client, header = administrator
    key = study(administrator)
    stubborn = tmp_path / "done" / "chest.dcm"
    (stubborn / "inside").mkdir(parents=True)  # a folder where the file was: it cannot be unlinked
    records.note_files(key, [stubborn])
    response = client.delete(f"/api/v1/studies/{key}", json={"reason": "sent twice"}, headers=header)
    assert (response.status_code, response.get_json()["left"]) == (200, [str(stubborn)])
    assert client.get(f"/api/v1/studies/{key}").status_code == 404


def test_the_report_is_one_page_with_the_disclaimer(reader: Client) -> None:
    key = study(reader)
    say(reader, key, verdict="agree")
    page = reader[0].get(f"/studies/{key}/report").text
    for text in ("Not a medical device", "This is no diagnosis", "72.0 %", "Agrees", "What weighed", "covidx-b1-test"):
        assert text in page
    summary = reader[0].get("/summary").text
    assert "Summary of 1 study<" in summary and "Not a medical device" in summary


EVIL = "<script>alert(1)</script><img src=x onerror=alert(1)>"


def test_text_from_a_header_is_never_markup(administrator: Client) -> None:
    key = study(administrator, dicom_bytes(PatientID=EVIL, PatientAge="<b>9", PatientSex="<i>"), f"{EVIL}.dcm")
    client, header = administrator
    client.post(f"/api/v1/studies/{key}/notes", json={"text": EVIL}, headers=header)
    say(administrator, key, verdict="other", comment=EVIL)
    for path in (f"/studies/{key}", f"/studies/{key}/report?identity=1", "/summary", "/log", "/worklist", "/here"):
        page = client.get(path).text
        assert "<script>alert" not in page and "<img src=x" not in page, path
    assert client.get(f"/api/v1/studies/{key}?identity=1").mimetype == "application/json"


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "..\\..\\boot.ini", "/etc/passwd", "a\x00b.dcm", "CON", "." * 300]
)
def test_names_never_become_paths(reader: Client, records: Records, name: str) -> None:
    key = study(reader, name=name)
    assert len(records.study(key).file_name) <= 160
    inside = {path.name for path in records.site.rglob("*") if path.is_file()}
    assert inside <= {
        "records.sqlite",
        "records.sqlite-wal",
        "records.sqlite-shm",
        "accounts.sqlite",
        "original",
        "pixels.png",
    }


@pytest.mark.parametrize(
    "key", ["../../accounts.sqlite", "0" * 31, "0" * 33, "%2e%2e%2f" * 4, "' OR 1=1 --" + "x" * 21]
)
def test_keys_never_become_paths_or_sql(reader: Client, key: str) -> None:
    for path in (f"/studies/{key}", f"/api/v1/studies/{key}", f"/api/v1/studies/{key}/image"):
        assert reader[0].get(path).status_code == 404


def test_hostile_searches_are_only_searches(reader: Client) -> None:
    study(reader)
    for text in ("' OR '1'='1", "%", "__", "\\", "x\x00y", "'; DROP TABLE studies; --", "a" * 10_000):
        response = reader[0].get("/api/v1/studies", query_string={"search": text})
        assert response.status_code == 200 and response.get_json()["total"] == 0, text
    assert reader[0].get("/api/v1/studies").get_json()["total"] == 1


def test_metrics_say_nothing_of_patients(reader: Client, site_app: Flask) -> None:
    study(reader)
    local = site_app.test_client().get("/metrics")
    assert 'edge_runtime_answers_total{reason="",status="ok"} 1.0' in local.text
    assert "SYN-0042" not in local.text
    far = site_app.test_client().get("/metrics", environ_base={"REMOTE_ADDR": "192.0.2.7"})
    assert far.status_code == 401


def test_a_full_disk_gives_the_answer_and_says_so(
    reader: Client, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge_runtime.records.files._copy", full)
    answer = send(reader[0], headers=reader[1]).get_json()
    assert (answer["status"], answer["study"]) == ("ok", None)
    assert any("not in the worklist" in note for note in answer["notes"])


def test_a_page_without_records_has_no_worklist(app: Flask) -> None:
    client = app.test_client()
    assert send(client).get_json()["study"] is None
    for path in ("/worklist", "/here", "/operating-point", "/api/v1/studies", "/api/v1/revision", "/log"):
        assert client.get(path).status_code == 404
    assert "Worklist" not in client.get("/").text


def test_without_originals_only_the_pixels_are_kept(
    predictor: ScriptedPredictor, records: Records, tmp_path: Path
) -> None:
    from edge_runtime.web import WebConfig, create_app
    from tests.ui.scripted import scripted_bundle

    app = create_app(scripted_bundle(), predictor.as_predictor(), WebConfig(keep_originals=False), records)
    key = send(app.test_client()).get_json()["study"]
    assert records.files.original(key) is None
    assert records.files.pixels_file(key) is not None
