"""``dataset.json``: how a dataset folder came to be, and what is in it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

__all__ = ["RECORD_SCHEMA_VERSION", "DatasetRecord", "Dropped", "Missing", "NearDuplicate"]

RECORD_SCHEMA_VERSION = 1


class Missing(Struct, frozen=True, forbid_unknown_fields=True):
    """An image that a source's table lists and the rules take, but that is not on disk."""

    source: str
    file: str


class Dropped(Struct, frozen=True, forbid_unknown_fields=True):
    """A listed image that is not in the dataset, and why."""

    source: str
    file: str
    why: str


class NearDuplicate(Struct, frozen=True, forbid_unknown_fields=True):
    """Two images of different splits that look alike."""

    filename: str
    split: str
    other_filename: str
    other_split: str
    distance: int
    """Hamming distance of the perceptual hashes, in bits."""
    other_label_differs: bool


class DatasetRecord(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``dataset.json``. It holds no time and no path, so that the same inputs give the same file."""

    schema_version: Literal[1] = 1
    labels: Annotated[tuple[str, ...], Meta(min_length=2)]
    synthetic: bool
    """The images are drawn by a program, not taken of people."""
    created_by: dict[str, str]
    """Name and version of what wrote the folder and of the packages that decide the pixels."""
    seed: int
    options: dict[str, Any] = {}
    """What the folder was built with: rules, fractions, thresholds."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    """split -> label -> source -> images. Filled in by ``write_dataset``."""
    tables: dict[str, str] = {}
    """SHA-256 of each table that was written. Filled in by ``write_dataset``."""
    inputs: dict[str, str] = {}
    """SHA-256 of each table that was read, by ``<source>/<file name>``."""
    missing: tuple[Missing, ...] = ()
    dropped: tuple[Dropped, ...] = ()
    near_duplicates: tuple[NearDuplicate, ...] = ()
    published: dict[str, Any] | None = None
    """Agreement with the published split tables; None where none were given."""
    notes: tuple[str, ...] = ()
