"""OpenVINO's converter and NNCF report their use to a web analytics service unless told otherwise. Tell them.

``openvino_telemetry`` takes a missing consent file for consent, writes an identifier to the home folder and
sends. Nothing here opens an outbound connection, so the answer it gets in this process is "declined"; the
user's own setting on disk is neither read nor changed.
"""

from __future__ import annotations

from importlib import import_module

__all__ = ["decline_telemetry"]


def decline_telemetry() -> None:
    """Decline for this process; call it before a converter of OpenVINO or NNCF is imported. Idempotent."""
    try:
        main = import_module("openvino_telemetry.main")
    except ImportError:  # then the tools use a stub that sends nothing
        return

    def declined(*_arguments: object, **_settings: object) -> object:
        return main.ConsentCheckResult.DECLINED

    main.OptInChecker.check = declined
