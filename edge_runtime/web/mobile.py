"""The phone's page at ``/mobile``: a folder of static files that ``python -m mobile_demo.web`` wrote.

The page classifies on the phone; this machine only hands out its files. They hold no patient's data, so no
login is asked for: a phone fetches them once, checks their SHA-256, and keeps them.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from flask import Blueprint, Flask, Response, request, send_from_directory

from edge_runtime.errors import BundleError
from edge_runtime.web.access import public

__all__ = ["HEADERS", "MEDIA_TYPES", "install"]

HEADERS = {
    "Content-Security-Policy": "; ".join(
        (
            "default-src 'none'",
            "script-src 'self' 'wasm-unsafe-eval'",  # the model runs in WebAssembly
            "style-src 'self'",
            "img-src 'self'",
            "connect-src 'self'",  # no image can be sent to anybody else, and the page sends none at all
            "worker-src 'self'",
            "manifest-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    ),
    # These two let the browser give the page shared memory, which the model's threads need.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
}
"""What every file of the phone's page is served with; its service worker says the same on other servers."""

MEDIA_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
}
"""By suffix; the operating system's own table does not know all of them."""

_ENDPOINT = "mobile.file"
_NEEDED = ("index.html", "service_worker.js", "site.json")


def install(app: Flask, folder: Path | None) -> None:
    """Serve ``folder`` under ``/mobile/``; does nothing where it is None.

    Call it before the other parts set their headers: what is registered first is applied last, and these
    files have a policy of their own.

    Raises
    ------
    BundleError
        The folder is not one that ``python -m mobile_demo.web`` wrote.
    """
    if folder is None:
        return
    root = folder.resolve()
    missing = [name for name in _NEEDED if not (root / name).is_file()]
    if missing:
        raise BundleError(
            f"{folder} is not a phone page",
            got=f"no {missing[0]}",
            expected="a folder that `python -m mobile_demo.web BUNDLE OUT` wrote",
            remedy="write it from the bundle, or leave --mobile out",
        )
    blueprint = Blueprint("mobile", __name__, url_prefix="/mobile")

    @blueprint.get("/", defaults={"path": "index.html"})
    @blueprint.get("/<path:path>")
    def file(path: str) -> Response:
        """One file; the compressed twin beside it where the browser takes such."""
        packed = f"{path}.gz"
        gzip = bool(request.accept_encodings["gzip"]) and (root / PurePosixPath(packed)).is_file()
        response = send_from_directory(root, packed if gzip else path, conditional=True)
        response.headers["Content-Type"] = MEDIA_TYPES.get(PurePosixPath(path).suffix, "application/octet-stream")
        if gzip:
            response.headers["Content-Encoding"] = "gzip"
        return response

    @app.after_request
    def set_headers(response: Response) -> Response:
        if request.endpoint == _ENDPOINT:
            for name, value in HEADERS.items():
                response.headers[name] = value
            # asked after each time (ETag); the page itself keeps what it has checked
            response.headers["Cache-Control"] = "no-cache"
            response.headers["Vary"] = "Accept-Encoding"
        return response

    public(_ENDPOINT)
    app.register_blueprint(blueprint)
