"""A site's records: what was answered, what readers said of it, who changed what. One folder, SQLite inside.

``Records`` is the way in; see its methods. The hot folder, the DICOM node and the page may have the same site open
at once, in several processes.
"""

from __future__ import annotations

from edge_runtime.records.audit import AuditEntry, AuditReport
from edge_runtime.records.database import RecordsError
from edge_runtime.records.store import Records
from edge_runtime.records.study import Note, Setting, SimilarStudy, Study, StudyPage, Verdict
from edge_runtime.records.worklist import SORT_KEYS, StudyQuery

__all__ = [
    "SORT_KEYS",
    "AuditEntry",
    "AuditReport",
    "Note",
    "Records",
    "RecordsError",
    "Setting",
    "SimilarStudy",
    "Study",
    "StudyPage",
    "StudyQuery",
    "Verdict",
]
