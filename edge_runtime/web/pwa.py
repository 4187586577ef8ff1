"""What makes the page an app: its manifest, its service worker, and what it says when the server is away."""

from __future__ import annotations

from pathlib import Path

from flask import Blueprint, Flask, Response, current_app, jsonify, render_template, url_for

from edge_runtime.web.access import public
from edge_runtime.web.language import current_language, direction, gettext

__all__ = ["blueprint", "static_version"]

blueprint = Blueprint("pwa", __name__)
for _name in ("manifest", "service_worker", "away"):
    public(f"pwa.{_name}")


def static_version(app: Flask) -> str:
    """Return a name for the static files' present content; part of their addresses, so they may be kept for good."""
    import hashlib

    digest = hashlib.sha256()
    for path in sorted(Path(str(app.static_folder)).iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


@blueprint.get("/app.webmanifest")
def manifest() -> Response:
    """Name, icons and colours of the installed app."""
    language = current_language()
    response = jsonify(
        {
            "name": gettext("Chest radiograph reader"),
            "short_name": gettext("Radiographs"),
            "description": gettext("Research use only. Not a medical device."),
            "lang": language,
            "dir": direction(language),
            "id": "/",
            "start_url": url_for("pages.read"),
            "scope": "/",
            "display": "standalone",
            "background_color": "#f4f6f7",
            "theme_color": "#0b6e75",
            "icons": [
                {"src": url_for("static", filename="icon.svg"), "sizes": "any", "type": "image/svg+xml"},
                {"src": url_for("static", filename="icon-512.png"), "sizes": "512x512", "type": "image/png"},
            ],
        }
    )
    response.mimetype = "application/manifest+json"
    return response


@blueprint.get("/service-worker.js")
def service_worker() -> Response:
    """The service worker: keeps the page's own files, and nothing of a patient."""
    folder = Path(str(current_app.static_folder))
    files = [url_for("static", filename=path.name) for path in sorted(folder.iterdir())]
    body = render_template("service_worker.js", files=files, away=url_for("pwa.away"), language=current_language())
    return Response(body, mimetype="text/javascript", headers={"Service-Worker-Allowed": "/"})


@blueprint.get("/away")
def away() -> str:
    """Shown by the service worker while the server cannot be reached; the browser keeps it, so it knows nobody."""
    return render_template("away.html", person=None, inside=False, administrator=False, with_accounts=False)
