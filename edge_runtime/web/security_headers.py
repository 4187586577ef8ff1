"""Response headers: the browser runs our own files only, talks to nobody else, and keeps nothing."""

from __future__ import annotations

from flask import Flask, Response, request

from edge_runtime.web.station import current_station

__all__ = ["CONTENT_SECURITY_POLICY", "install"]

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data: blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'self'",
        "manifest-src 'self'",
        "worker-src 'self'",
        "frame-ancestors 'none'",
        # Text from a file can never become markup: the page has no sink for it.
        "require-trusted-types-for 'script'",
        # The one policy there is lets the address of our own service worker through, nothing else.
        "trusted-types service-worker",
    )
)

HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=()",
    "Server": "edge-runtime",
}


def install(app: Flask) -> None:
    """Set the headers on every response of ``app``."""

    @app.after_request
    def add_headers(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers[name] = value
        # Our own files bear their content's hash in their address; answers and pages are never stored.
        kept = request.endpoint == "static" and response.status_code < 400
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable" if kept else "no-store"
        station = current_station()
        if station.config.encrypted:
            response.headers["Strict-Transport-Security"] = "max-age=31536000"
        if not kept:
            response.headers["Vary"] = "Cookie, Accept-Language"
        station.metrics.responses.labels(f"{response.status_code // 100}xx").inc()
        return response
