"""Collects the page's messages and compiles its catalogues: ``python -m tests.ui.languages``.

It rewrites ``edge_runtime/web/languages/<code>/LC_MESSAGES/page.po`` (translations kept, new messages empty) and
``page.mo`` beside it. Not a test; ``test_languages.py`` looks at what it left.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.extract import extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

WEB = Path(__file__).parents[2] / "edge_runtime" / "web"
METHODS = [("templates/*.html", "jinja2"), ("static/*.js", "javascript"), ("*.py", "python")]
OPTIONS = {
    "templates/*.html": {"trimmed": "true", "newstyle_gettext": "true"},
    "static/*.js": {"parse_template_string": "true"},
}
KEYWORDS = {"_": None, "gettext": None, "ngettext": (1, 2), "t": None}
OTHERS = ("fr", "es")


def collected() -> Catalog:
    """Every message of templates, scripts and Python modules."""
    catalog = Catalog(project="cxr-edge-runtime", charset="utf-8")
    for name, line, message, comments, context in extract_from_dir(
        WEB, METHODS, {key: dict(value) for key, value in OPTIONS.items()}, KEYWORDS
    ):
        catalog.add(message, None, [(name, line)], auto_comments=comments, context=context)
    return catalog


def po_file(language: str) -> Path:
    return WEB / "languages" / language / "LC_MESSAGES" / "page.po"


def read(language: str) -> Catalog:
    path = po_file(language)
    if not path.exists():
        return Catalog(locale=language)
    with path.open("rb") as stream:
        return read_po(stream, locale=language)


def compiled(catalog: Catalog) -> bytes:
    stream = BytesIO()
    write_mo(stream, catalog)
    return stream.getvalue()


def main() -> None:
    template = collected()
    for language in OTHERS:
        catalog = read(language)
        catalog.update(template, no_fuzzy_matching=True)
        catalog.obsolete.clear()
        catalog.fuzzy = False
        path = po_file(language)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as stream:
            write_po(stream, catalog, width=120, no_location=True, omit_header=False, sort_output=True)
        path.with_suffix(".mo").write_bytes(compiled(catalog))
        missing = [message.id for message in catalog if message.id and not message.string]
        print(f"{language}: {len(catalog)} messages, {len(missing)} without a translation")


if __name__ == "__main__":
    main()
