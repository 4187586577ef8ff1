"""The page's words: every message is translated, placeholders survive, the compiled catalogues are current."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from edge_runtime.web.language import direction, words

pytest.importorskip("babel", reason="Babel is not installed: the catalogues are not checked")
from tests.ui import languages

PLACEHOLDER = re.compile(r"%\(\w+\)s|\{\w+\}|%%")


@pytest.mark.parametrize("language", languages.OTHERS)
def test_every_message_has_a_translation_with_the_same_placeholders(language: str) -> None:
    template, catalog = languages.collected(), languages.read(language)
    for message in template:
        if not message.id:
            continue
        found = catalog.get(message.id)
        assert found is not None and found.string, f"{message.id!r}: run python -m tests.ui.languages, then translate"
        sources = message.id if isinstance(message.id, tuple) else (message.id,)
        texts = found.string if isinstance(found.string, tuple) else (found.string,)
        for source, text in zip(sources, texts, strict=True):
            assert sorted(PLACEHOLDER.findall(source)) == sorted(PLACEHOLDER.findall(text)), source


@pytest.mark.parametrize("language", languages.OTHERS)
def test_the_compiled_catalogue_is_the_edited_one(language: str) -> None:
    assert languages.po_file(language).with_suffix(".mo").read_bytes() == languages.compiled(languages.read(language))


@pytest.mark.parametrize("language", languages.OTHERS)
def test_medical_sentences_are_marked_for_review(language: str) -> None:
    catalog = languages.read(language)
    message = catalog.get("Research use only. Not a medical device.")
    assert message is not None and "to be reviewed by a native medical reader" in message.user_comments


def test_the_browsers_language_and_the_chosen_one(app: Flask) -> None:
    client = app.test_client()
    french = client.get("/", headers={"Accept-Language": "fr-CH, en;q=0.5"}).text
    assert '<html lang="fr" dir="ltr"' in french
    assert "Lire une radiographie thoracique" in french
    assert client.get("/", headers={"Accept-Language": "de"}).text.count('lang="en"')
    response = client.post("/appearance", data={"language": "es", "scheme": "dark", "next": "//evil.example"})
    assert response.location == "/"
    spanish = client.get("/").text
    assert '<html lang="es" dir="ltr" data-scheme="dark"' in spanish and "Leer una radiografía" in spanish
    client.post("/appearance", data={"language": "xx", "scheme": "<b>"})
    assert '<html lang="es"' in client.get("/").text


def test_right_to_left_is_ready() -> None:
    assert (direction("ar"), direction("fr")) == ("rtl", "ltr")
    assert words("en") == {}


def test_each_page_carries_what_its_scripts_say_and_little_else() -> None:
    said = {
        message.id
        for message in languages.collected()
        if message.id and any(name.endswith(".js") for name, _ in message.locations)
    }
    assert len(said) > 50
    carried = words("fr")
    assert said <= set(carried)
    assert len(carried) < 1.5 * len(said)  # not the server's own messages
