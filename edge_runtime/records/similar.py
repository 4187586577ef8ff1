"""Similar cases: the nearest of a site's own confirmed studies, by embedding."""

from __future__ import annotations

import sqlite3

import numpy as np
from numpy.typing import NDArray

from edge_runtime.records.study import SimilarStudy, Study
from edge_runtime.records.worklist import one_study

__all__ = ["nearest"]

_BATCH = 1000


def nearest(connection: sqlite3.Connection, study: Study, count: int, same_patient: bool) -> list[SimilarStudy]:
    """Return up to ``count`` confirmed studies, nearest first; empty where the study has no embedding.

    Memory holds a thousand embeddings at a time.
    """
    own = connection.execute(
        "SELECT a.embedding FROM studies s JOIN answers a ON a.id = s.answer_id WHERE s.key = ?", (study.key,)
    ).fetchone()
    if own is None or own["embedding"] is None:
        return []
    wanted = _unit(np.frombuffer(own["embedding"], "<f4")[np.newaxis])[0]
    rows = connection.execute(
        """
        SELECT s.key, a.embedding, v.label FROM studies s
        JOIN answers a ON a.id = s.answer_id
        JOIN verdicts v ON v.id = (SELECT max(id) FROM verdicts WHERE study = s.key)
        WHERE s.key != ?1 AND v.label IS NOT NULL AND v.verdict IN ('agree', 'disagree')
          AND a.embedding IS NOT NULL AND length(a.embedding) = ?2 AND a.checkpoint_sha256 = ?3
          AND (?4 OR ?5 IS NULL OR s.patient_id IS NULL OR s.patient_id != ?5)
        """,
        (study.key, wanted.nbytes, study.checkpoint_sha256, same_patient, study.facts.patient_id),
    )
    best: list[tuple[float, str, str]] = []
    while batch := rows.fetchmany(_BATCH):
        matrix = np.stack([np.frombuffer(row["embedding"], "<f4") for row in batch])
        cosines = _unit(matrix) @ wanted
        best += [(float(c), row["key"], row["label"]) for c, row in zip(cosines, batch, strict=True)]
        best = sorted(best, reverse=True)[:count]
    found = ((one_study(connection, "key", key), cosine, label) for cosine, key, label in best)
    return [SimilarStudy(other, cosine, label) for other, cosine, label in found if other is not None]


def _unit(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    unit: NDArray[np.float32] = (matrix / np.maximum(lengths, 1e-12)).astype(np.float32)
    return unit
