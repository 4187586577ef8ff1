"""The row of a radiograph that came in: written once, and completed where it could be read at a later attempt only."""

from __future__ import annotations

import hashlib
import secrets
import sqlite3
from typing import Any, Final

import numpy as np

from edge_runtime.answer import Outcome
from edge_runtime.radiograph import HeaderFacts, Radiograph
from edge_runtime.records import audit
from edge_runtime.records.answers import storable
from edge_runtime.records.database import utc_now

__all__ = ["complete_study", "identity_of", "insert_study"]

_READ: Final = (
    *("source_format", "width", "height", "modality", "view", "body_part", "sex", "age", "study_date", "patient_id"),
    "sop_instance_uid",
)


def identity_of(outcome: Outcome, content_sha256: str) -> str:
    """Return what makes a radiograph the same as one that came before.

    SOP Instance UID and pixels where both are known: a node that sends an object again may write another file
    around it, and devices that give two images one UID exist. Otherwise the file's SHA-256.
    """
    radiograph = outcome.radiograph
    if radiograph is None or radiograph.facts.sop_instance_uid is None:
        return f"sha256:{content_sha256}"
    pixels = hashlib.sha256(np.ascontiguousarray(radiograph.pixels).data).hexdigest()
    return f"uid:{radiograph.facts.sop_instance_uid}:{pixels}"


def insert_study(
    connection: sqlite3.Connection,
    key: str,
    revision: int,
    outcome: Outcome,
    *,
    source: str,
    actor: str,
    file_name: str,
    patient_name: str | None,
    content_sha256: str,
    has_original: bool,
    digests: dict[str, str],
) -> None:
    """Add a study's row, with its entry in the audit log; ``digests`` are the SHA-256 of its files by name."""
    row: dict[str, Any] = {
        "key": key,
        "revision": revision,
        "received": utc_now(),
        "source": source,
        "file_name": storable(file_name),
        "identity": identity_of(outcome, content_sha256),
        "content_sha256": content_sha256,
        "has_original": has_original,
        "patient_name": patient_name,
        "salt": secrets.token_hex(16),
        **_what_was_read(outcome.radiograph),
    }
    names = ", ".join(row)
    places = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO studies ({names}) VALUES ({places})", row)
    details = {"source": source, "content_sha256": content_sha256, "files": digests}
    audit.append_row(connection, actor, "study added", key, key, details)


def complete_study(
    connection: sqlite3.Connection, key: str, outcome: Outcome, content_sha256: str, actor: str, digests: dict[str, str]
) -> None:
    """Write down what a first attempt could not read: its decoder was killed, for instance."""
    row = {"identity": identity_of(outcome, content_sha256), **_what_was_read(outcome.radiograph)}
    changes = ", ".join(f"{name} = :{name}" for name in row)
    connection.execute(f"UPDATE studies SET {changes} WHERE key = :key", {**row, "key": key})
    audit.append_row(connection, actor, "study read", key, key, {"files": digests})


def _what_was_read(radiograph: Radiograph | None) -> dict[str, Any]:
    facts = HeaderFacts() if radiograph is None else radiograph.facts
    height, width = (None, None) if radiograph is None else radiograph.pixels.shape
    format_ = None if radiograph is None else radiograph.source_format
    found = {"source_format": format_, "width": width, "height": height}
    return {name: found[name] if name in found else getattr(facts, name) for name in _READ}
