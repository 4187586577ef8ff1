"""Who a study is of: null until asked for, and whoever asks stands in the log, whatever the request says of itself."""

from __future__ import annotations

from io import BytesIO

import pytest
from flask import Flask

from edge_runtime.records import Records
from edge_runtime.web import WebConfig, create_app
from tests.ui.scripted import ScriptedPredictor, dicom_bytes, png_bytes, scripted_bundle
from tests.ui.site import READER, log_in, send


def shown(records: Records) -> list[tuple[str, str | None]]:
    entries = records.audit_entries()
    return [(entry.actor, entry.subject) for entry in entries if entry.action == "identity shown"]


def test_an_upload_names_nobody_and_its_sender_may_ask(site_app: Flask, records: Records) -> None:
    client, header = log_in(site_app, READER)
    response = send(client, headers=header)
    answer = response.get_json()
    assert "SYN-0042" not in response.text
    assert answer["identity_hidden"] is True
    assert shown(records) == []
    named = client.get(f"/api/v1/studies/{answer['study']}?identity=1").get_json()
    assert named["facts"]["patient_id"] == "SYN-0042"
    assert shown(records) == [(READER, answer["study"])]
    assert send(client, png_bytes(), headers=header).get_json()["identity_hidden"] is False


def test_a_program_may_ask_with_the_upload(site_app: Flask, records: Records) -> None:
    client, header = log_in(site_app, READER)
    content = {"file": (BytesIO(dicom_bytes()), "chest.dcm")}
    answer = client.post("/api/v1/predict?identity=1", data=content, headers=header).get_json()
    assert (answer["facts"]["patient_id"], answer["identity_hidden"]) == ("SYN-0042", False)
    assert shown(records) == [(READER, answer["study"])]


def test_where_no_log_is_kept_nobody_is_named(app: Flask) -> None:
    content = {"file": (BytesIO(dicom_bytes()), "chest.dcm")}
    answer = app.test_client().post("/api/v1/predict?identity=1", data=content).get_json()
    assert (answer["facts"]["patient_id"], answer["identity_hidden"]) == (None, True)


@pytest.mark.parametrize("path", ["/api/v1/studies", "/api/v1/studies/{key}", "/api/v1/studies/{key}/similar"])
def test_no_header_keeps_names_out_of_the_log(site_app: Flask, records: Records, path: str) -> None:
    client, header = log_in(site_app, READER)
    key = send(client, headers=header).get_json()["study"]
    client.get(path.format(key=key) + "?identity=1", headers={"X-Background": "1"})
    assert len(shown(records)) == 1


def test_a_refusal_does_not_tell_the_files_name(site_app: Flask, records: Records) -> None:
    client, header = log_in(site_app, READER)
    answer = send(client, b"Dear colleague", "Smith_Jane.dcm", headers=header).get_json()
    assert "Smith_Jane.dcm" in answer["message"]  # to who sent it
    key = answer["study"]
    assert records.study(key).answer["message"].startswith("Smith_Jane.dcm ")  # not the name of a temporary file
    for path in (f"/api/v1/studies/{key}", "/api/v1/studies", f"/studies/{key}/report", "/summary"):
        assert "Smith_Jane" not in client.get(path).text, path
    assert "Smith_Jane" in client.get(f"/studies/{key}/report?identity=1").text


def test_without_login_the_one_person_there_is_logged_too(predictor: ScriptedPredictor, records: Records) -> None:
    client = create_app(scripted_bundle(), predictor.as_predictor(), WebConfig(), records).test_client()
    key = send(client).get_json()["study"]
    client.get(f"/api/v1/studies/{key}?identity=1")
    assert shown(records) == [("local", key)]
