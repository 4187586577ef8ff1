"""Why there is no answer, in the language of who asks."""

from __future__ import annotations

import pytest
from flask import Flask

from edge_runtime.errors import Fault, Reason
from edge_runtime.web.explanations import explained, sentence
from edge_runtime.web.language import LANGUAGES
from tests.ui.scripted import ScriptedPredictor, png_bytes
from tests.ui.site import READER, log_in, send

FRENCH = {"Accept-Language": "fr"}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_is_explained(app: Flask, language: str) -> None:
    codes = [*((reason.value, "refused") for reason in Reason), *((fault.value, "error") for fault in Fault)]
    codes.remove(("no_images", "error"))  # of a folder on the command line; an upload is a file
    seen = set()
    for code, status in codes:
        with app.test_request_context(headers={"Accept-Language": language}):
            answer = {"status": status, "reason": code, "message": "x.dcm is empty", "remedy": "export it again"}
            found = explained(answer)
        assert found is not None and found["language"] == language
        seen.add((found["title"], found["message"]))
        if language == "en":
            assert (found["message"], found["remedy"]) == ("x.dcm is empty.", "Export it again.")
            assert found["detail"] is None
        else:
            assert found["detail"] == "x.dcm is empty."
            assert "export it again" not in str(found["remedy"])
    if language != "en":
        assert len(seen) == len(codes)


def test_a_code_of_a_newer_runtime_is_shown_as_it_comes(app: Flask) -> None:
    with app.test_request_context(headers=FRENCH):
        answer = {"status": "refused", "reason": "of_tomorrow", "message": "it is odd", "remedy": None}
        assert explained(answer) == {
            "title": "Non jugé", "message": "It is odd.", "remedy": None, "language": "en", "detail": None,
        }  # fmt: skip
        assert explained({"status": "ok", "reason": None}) is None


def test_sentences() -> None:
    assert sentence("it failed") == "It failed."
    assert sentence("letter.dcm is no image!") == "letter.dcm is no image!"
    assert sentence("") is sentence(None) is None


def test_a_refusal_and_a_failure_in_french(site_app: Flask, predictor: ScriptedPredictor) -> None:
    client, header = log_in(site_app, READER)
    refused = send(client, b"Dear colleague", "lettre.dcm", headers={**header, **FRENCH}).get_json()
    assert refused["explanation"]["language"] == "fr"
    assert refused["explanation"]["title"].startswith("Non jugé")
    assert refused["message"].startswith("lettre.dcm is no image")  # for programs: always the runtime's own
    report = client.get(f"/studies/{refused['study']}/report", headers=FRENCH).text
    assert refused["explanation"]["message"].replace("'", "&#39;") in report
    predictor.fails = True
    failed = send(client, png_bytes(), headers={**header, **FRENCH}).get_json()
    assert failed["explanation"]["message"] == "Le modèle a échoué sur ce fichier."


@pytest.mark.parametrize(
    ("path", "status", "english"),
    [
        ("/api/v1/studies/" + "0" * 32, 404, "There is no such study"),
        ("/nowhere", 404, "There is no such page"),
        ("/people", 403, "Only an administrator"),
    ],
)
def test_failures_speak_the_readers_language(site_app: Flask, path: str, status: int, english: str) -> None:
    client, _ = log_in(site_app, READER)
    plain = client.get(path)
    assert plain.status_code == status and english in plain.text
    french = client.get(path, headers=FRENCH)
    told = french.text.partition("<main")[2] or french.text  # the page's head carries the whole catalogue
    assert french.status_code == status and english not in told
    if not path.startswith("/api"):
        assert '<html lang="fr"' in french.text
