"""The page's words in English, French and Spanish: gettext catalogues, chosen by a cookie or the browser.

The source is English. ``languages/<code>/LC_MESSAGES/page.po`` is edited, ``page.mo`` compiled from it
(``python -m tests.ui.languages``); JavaScript gets the same catalogue as JSON. Another language is another folder.
"""

from __future__ import annotations

import gettext as gnu
from functools import cache
from pathlib import Path
from typing import Any

from flask import Flask, g, request

__all__ = ["LANGUAGES", "SCHEMES", "current_language", "current_scheme", "direction", "gettext", "install"]

FOLDER = Path(__file__).with_name("languages")
SCRIPTS = Path(__file__).with_name("static")
LANGUAGES = {"en": "English", "fr": "Français", "es": "Español"}
RIGHT_TO_LEFT = {"ar", "fa", "he", "ps", "ur"}
SCHEMES = ("auto", "light", "dark", "contrast")


def current_language() -> str:
    """Return the code of this request's language: the one chosen, else the browser's first that there is."""
    if "language" not in g:
        chosen = request.cookies.get("language", "")
        # the browser's first that there is; "fr-CH" is content with "fr"
        wanted = (tag.partition("-")[0].lower() for tag in request.accept_languages.values())
        g.language = chosen if chosen in LANGUAGES else next((code for code in wanted if code in LANGUAGES), "en")
    return str(g.language)


def current_scheme() -> str:
    """Return the chosen colours, one of :data:`SCHEMES`."""
    chosen = request.cookies.get("scheme", "auto")
    return chosen if chosen in SCHEMES else "auto"


def direction(language: str) -> str:
    """Return ``rtl`` or ``ltr``."""
    return "rtl" if language in RIGHT_TO_LEFT else "ltr"


def gettext(message: str, **values: Any) -> str:
    """Return a message in this request's language, with ``%(name)s`` filled in."""
    found = _catalogue(current_language()).gettext(message)
    return found % values if values else found


@cache
def words(language: str) -> dict[str, str]:
    """Return the messages that the page's JavaScript says, translated; empty for the source language."""
    catalogue = getattr(_catalogue(language), "_catalog", {})
    scripts = "".join(path.read_text("utf-8") for path in sorted(SCRIPTS.glob("*.js")))
    return {message: text for message, text in catalogue.items() if message and text and str(message) in scripts}


@cache
def _catalogue(language: str) -> gnu.NullTranslations:
    return gnu.translation("page", FOLDER, [language], fallback=language == "en")


def install(app: Flask) -> None:
    """Make ``_`` and ``{% trans %}`` known to the templates."""
    app.jinja_env.add_extension("jinja2.ext.i18n")
    app.jinja_env.install_gettext_callables(  # type: ignore[attr-defined]  # of the extension
        lambda message: _catalogue(current_language()).gettext(message),
        lambda one, many, n: _catalogue(current_language()).ngettext(one, many, n),
        newstyle=True,
    )
    app.jinja_env.policies["ext.i18n.trimmed"] = True

    @app.context_processor
    def language_for_templates() -> dict[str, Any]:
        language = current_language()
        return {
            "language": language,
            "languages": LANGUAGES,
            "direction": direction(language),
            "scheme": current_scheme(),
            "words": words(language),
        }
