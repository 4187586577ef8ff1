"""The tables of a site's records."""

from __future__ import annotations

__all__ = ["SCHEMA_VERSION", "TABLES", "UPGRADES"]

SCHEMA_VERSION = 2

_FILED = (
    # where files of a study lie outside the site's folder: done/, results/ and the like
    """
    CREATE TABLE filed (
        path BLOB NOT NULL,
        study TEXT NOT NULL REFERENCES studies (key) ON DELETE CASCADE,
        PRIMARY KEY (path, study)
    )
    """,
    "CREATE INDEX filed_study ON filed (study)",
    # files of deleted studies that are still to be removed
    "CREATE TABLE removals (path BLOB PRIMARY KEY)",
)

TABLES: tuple[str, ...] = (
    *_FILED,
    # one radiograph that came in; patient data stand here and nowhere else. The salt is random and goes with the study:
    # what the audit log says of it cannot be guessed back afterwards
    """
    CREATE TABLE studies (
        key TEXT PRIMARY KEY,
        revision INTEGER NOT NULL,
        received TEXT NOT NULL,
        source TEXT NOT NULL,
        file_name TEXT NOT NULL,
        identity TEXT NOT NULL,
        content_sha256 TEXT NOT NULL,
        source_format TEXT,
        width INTEGER,
        height INTEGER,
        has_original INTEGER NOT NULL,
        modality TEXT, view TEXT, body_part TEXT, sex TEXT, age TEXT, study_date TEXT,
        patient_id TEXT, patient_name TEXT, sop_instance_uid TEXT,
        answer_id INTEGER,
        salt TEXT
    )
    """,
    "CREATE INDEX studies_received ON studies (received)",
    "CREATE INDEX studies_revision ON studies (revision)",
    "CREATE INDEX studies_identity ON studies (identity)",
    "CREATE INDEX studies_content ON studies (content_sha256)",
    "CREATE INDEX studies_patient ON studies (patient_id)",
    # what a model said of it; the newest counts
    """
    CREATE TABLE answers (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        study TEXT NOT NULL REFERENCES studies (key) ON DELETE CASCADE,
        at TEXT NOT NULL,
        status TEXT NOT NULL,
        reason TEXT,
        label TEXT,
        probability REAL,
        body TEXT NOT NULL,
        model TEXT,
        checkpoint_sha256 TEXT,
        gate_score REAL,
        embedding BLOB,
        heatmap BLOB,
        heatmap_shape TEXT,
        bundle_sha256 TEXT
    )
    """,
    "CREATE INDEX answers_study ON answers (study)",
    # what a reader said of an answer; the newest counts, none is overwritten
    """
    CREATE TABLE verdicts (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        study TEXT NOT NULL REFERENCES studies (key) ON DELETE CASCADE,
        answer_id INTEGER NOT NULL,
        at TEXT NOT NULL,
        reader TEXT NOT NULL,
        verdict TEXT NOT NULL CHECK (verdict IN ('agree', 'disagree', 'other', 'withdrawn')),
        label TEXT,
        comment TEXT
    )
    """,
    "CREATE INDEX verdicts_study ON verdicts (study)",
    """
    CREATE TABLE notes (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        study TEXT NOT NULL REFERENCES studies (key) ON DELETE CASCADE,
        at TEXT NOT NULL,
        author TEXT NOT NULL,
        text TEXT NOT NULL
    )
    """,
    "CREATE INDEX notes_study ON notes (study)",
    # what a viewer of the worklist must take off its list
    "CREATE TABLE deletions (key TEXT PRIMARY KEY, revision INTEGER NOT NULL)",
    "CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL)",
    "INSERT INTO counter VALUES (1, 0)",
    # every value a setting ever had; the newest counts
    """
    CREATE TABLE settings (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        name TEXT NOT NULL,
        value TEXT NOT NULL,
        at TEXT NOT NULL,
        actor TEXT NOT NULL
    )
    """,
    "CREATE INDEX settings_name ON settings (name)",
    # who did what: each entry carries the hash of the one before it; no patient data
    """
    CREATE TABLE audit (
        seq INTEGER PRIMARY KEY,
        at TEXT NOT NULL,
        actor TEXT NOT NULL,
        action TEXT NOT NULL,
        subject TEXT,
        details TEXT NOT NULL,
        previous TEXT NOT NULL,
        hash TEXT NOT NULL
    )
    """,
    """
    CREATE TRIGGER audit_no_update BEFORE UPDATE ON audit
    BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END
    """,
    """
    CREATE TRIGGER audit_no_delete BEFORE DELETE ON audit
    BEGIN SELECT raise(ABORT, 'the audit log is append-only'); END
    """,
)

UPGRADES: dict[int, tuple[str, ...]] = {
    1: (
        *_FILED,
        "ALTER TABLE studies ADD COLUMN salt TEXT",
        "UPDATE studies SET salt = lower(hex(randomblob(16)))",
        "ALTER TABLE answers ADD COLUMN bundle_sha256 TEXT",
    ),
}
"""Statements that bring a database of this version up to the next."""
