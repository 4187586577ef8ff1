"""``description.json``. It holds no time and no path: the same inputs give the same description."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = [
    "SCHEMA_VERSION",
    "Association",
    "Check",
    "Count",
    "Description",
    "EmbeddingMap",
    "Moments",
    "Numbers",
    "Pair",
    "SplitResult",
]

SCHEMA_VERSION = 1


class _Part(Struct, frozen=True, forbid_unknown_fields=True):
    """A part of the description: immutable, closed."""


class Count(_Part, frozen=True):
    """How many images of a split and a class have a value of an attribute."""

    attribute: str
    split: str
    label: str
    value: str
    images: int


class Numbers(_Part, frozen=True):
    """Spread of a number over the images of a split and a class; ``all`` stands for every split or class."""

    attribute: Literal["width", "height", "age"]
    """Pixels, pixels, years."""
    split: str
    label: str
    known: int
    unknown: int
    minimum: float | None
    quartile_1: float | None
    median: float | None
    quartile_3: float | None
    maximum: float | None
    mean: float | None
    standard_deviation: float | None


class Association(_Part, frozen=True):
    """How much an attribute gives the class away; see ``association.py``."""

    attribute: str
    values: int
    """Different values, "not known" counted as one."""
    values_compared: int
    """The same, with all values of fewer than ten patients taken as one."""
    cramers_v: float | None
    """0 (nothing) to 1 (everything), corrected for chance; None where there is one value or one class."""
    guess: float
    """Share of these images whose class is named right by taking the commonest class of their value."""
    guess_without: float
    """The same from nothing: the share of the commonest class."""
    words: str


class Pair(_Part, frozen=True):
    """Two images that a check is about."""

    split: str
    filename: str
    other_split: str
    other_filename: str
    detail: str


class Check(_Part, frozen=True):
    """One leakage check."""

    name: str
    passed: bool
    sentence: str
    pairs: tuple[Pair, ...] = ()


class Moments(_Part, frozen=True):
    """Moments of one coordinate over a group of radiographs."""

    space: str
    """``t-SNE 2-D``, ``t-SNE 3-D``, ``distance to class centre`` or ``embedding``."""
    axis: str
    split: str
    label: str
    count: int
    mean: float | None
    variance: float | None
    """Unbiased (n - 1)."""
    skewness: float | None
    """Unbiased (G1); None below 3 values or without spread."""
    excess_kurtosis: float | None
    """Unbiased (G2), 0 for a normal distribution; None below 4 values or without spread."""


class SplitResult(_Part, frozen=True):
    """How many of a split's shown radiographs the run calls right."""

    split: str
    shown: int
    right: int


class EmbeddingMap(_Part, frozen=True):
    """How the embeddings were taken and laid out."""

    checkpoint_sha256: str
    architecture: str
    image_size: int
    run_is_synthetic: bool
    same_tables: bool
    """The run was trained on the very tables of this data set: its split names mean the same."""
    dimensions: int
    shown: int
    left_out: int
    """Radiographs beyond ``--points``, left out by a seeded draw."""
    seed: int
    perplexity: float
    kl_divergence: dict[str, float]
    """What t-SNE minimised, by space: comparable between seeds, not between spaces."""
    results: tuple[SplitResult, ...]
    moments: tuple[Moments, ...]


class Description(_Part, frozen=True, kw_only=True):
    """All that ``data describe`` found."""

    schema_version: Literal[1] = 1
    purpose: str = "For research. Not a medical device."
    synthetic: bool
    labels: tuple[str, ...]
    images: dict[str, int]
    """By split."""
    patients: dict[str, int]
    """By split; a patient is the pair of source and patient number."""
    tables: dict[str, str]
    """SHA-256 of the split tables."""
    created_by: dict[str, str]
    findings: tuple[str, ...]
    """The main things in plain sentences, the most important first."""
    associations: tuple[Association, ...]
    checks: tuple[Check, ...]
    counts: tuple[Count, ...]
    numbers: tuple[Numbers, ...]
    embedding_map: EmbeddingMap | None
    notes: tuple[str, ...]
    """From ``dataset.json``."""
