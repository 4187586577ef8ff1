"""The answers of a study: written, hashed into the audit log, and told apart by the bundle that gave them."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from typing import Any

import msgspec

from edge_runtime.answer import Outcome
from edge_runtime.manifest import Manifest
from edge_runtime.records import audit
from edge_runtime.records.database import utc_now

__all__ = ["answered_by", "insert_answer", "storable"]


def answered_by(connection: sqlite3.Connection, key: str, manifest: Manifest) -> bool:
    """Tell whether a study's newest answer is of exactly this bundle."""
    row = connection.execute(
        "SELECT a.bundle_sha256 FROM studies s JOIN answers a ON a.id = s.answer_id WHERE s.key = ?", (key,)
    ).fetchone()
    return row is not None and row[0] == _bundle_sha256(manifest)


def _bundle_sha256(manifest: Manifest) -> str:
    # the manifest holds the hashes of everything that answers
    return hashlib.sha256(msgspec.json.encode(manifest)).hexdigest()


def insert_answer(connection: sqlite3.Connection, key: str, outcome: Outcome, manifest: Manifest, actor: str) -> None:
    """Add an answer, which is the newest from now on, with its entry in the audit log."""
    answer, prediction = outcome.answer, outcome.prediction
    body = storable(msgspec.json.encode(_clean(answer.to_json_object())).decode())
    probability = None if answer.label is None else (answer.probabilities or {}).get(answer.label)
    checkpoint = manifest.provenance.checkpoint_sha256
    values: tuple[Any, ...] = (None, None, None)
    if prediction is not None:
        values = (
            prediction.embedding.astype("<f4").tobytes(),
            prediction.heatmap.astype("<f2").tobytes(),
            json.dumps(prediction.heatmap.shape),
        )
    row = (
        *(None, key, utc_now(), answer.status, answer.reason, answer.label, probability, body),
        *(manifest.name, checkpoint, answer.gate_score, *values, _bundle_sha256(manifest)),
    )
    cursor = connection.execute(f"INSERT INTO answers VALUES ({', '.join('?' * len(row))})", row)
    connection.execute("UPDATE studies SET answer_id = ? WHERE key = ?", (cursor.lastrowid, key))
    assert cursor.lastrowid is not None
    audit.append_row(connection, actor, "study answered", key, cursor.lastrowid, {"checkpoint_sha256": checkpoint})


def storable(text: str) -> str:
    """Return a text as UTF-8 can hold it."""
    # a file name of bytes that are no text cannot be stored as UTF-8
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _clean(body: dict[str, Any]) -> dict[str, Any]:
    return {name: storable(value) if isinstance(value, str) else value for name, value in body.items()}
