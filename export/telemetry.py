"""OpenVINO and NNCF report their use to a web analytics service unless told otherwise. Tell them.

``import openvino`` alone sends an event: ``openvino_telemetry`` takes a missing consent file for consent, and writes an
identifier to the home folder. Nothing here opens an outbound connection, so the package is taken away from them in this
process, as the runtime's backend does; they then use stubs that send nothing.
"""

from __future__ import annotations

import sys

__all__ = ["decline_telemetry"]

_PACKAGE = "openvino_telemetry"


def decline_telemetry() -> None:
    """Decline for this process; call it before OpenVINO or NNCF is imported. Idempotent.

    Where the caller has imported the package already, its consent is withdrawn for what is still to come.
    """
    if _PACKAGE not in sys.modules:
        sys.modules[_PACKAGE] = None  # type: ignore[assignment]  # makes its import fail
        return
    package = sys.modules[_PACKAGE]
    main = getattr(package, "main", None)
    if main is None:
        return

    def declined(*_arguments: object, **_settings: object) -> object:
        return main.ConsentCheckResult.DECLINED

    main.OptInChecker.check = declined
    # The one instance there is: made by the import, or made now.
    main.Telemetry("export", "0", "none", "ga4", enable_opt_in_dialog=False, disable_in_ci=True).consent = False
