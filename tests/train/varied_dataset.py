"""A data set that has something to describe, and a stand-in for a run that looked at it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from tests.train.conftest import write_tiny_dataset
from train.data.description.projection import Layout, ProjectedRun
from train.data.tables import Dataset, Row, file_sha256, load_dataset, write_dataset


def rewrite(root: Path, change: Callable[[dict[str, list[Row]]], None]) -> None:
    """Change the tables of a data set as a careless hand would."""
    dataset = load_dataset(root)
    assert dataset.record is not None
    change(dataset.splits)
    write_dataset(root, dataset.splits, dataset.record, dataset.boxes)


def write_varied_dataset(root: Path) -> Path:
    """The tiny data set with noise that no two images share, and ages, sexes, views and sources."""
    write_tiny_dataset(root, per_class=20)
    generator = np.random.default_rng(3)

    def change(splits: dict[str, list[Row]]) -> None:
        for rows in splits.values():
            for index, row in enumerate(rows):
                path = root / "images" / row.filename
                coarse = Image.fromarray(generator.integers(0, 255, (9, 9), dtype=np.uint8))
                coarse.resize((64 + index, 72), Image.Resampling.BICUBIC).save(path)
                rows[index] = replace(
                    row,
                    source="far" if row.label == "COVID-19" else "near",
                    view="AP" if index % 2 else "",
                    age=("", "7", "34", "61", "not a number")[index % 5],
                    sex="FM"[index % 2],
                    sha256=file_sha256(path),
                )

    rewrite(root, change)
    return root


def fake_projection(dataset: Dataset) -> ProjectedRun:
    """A run that calls everything normal, laid out at random."""
    rows = [(split, row) for split, of_split in dataset.splits.items() for row in of_split]
    generator = np.random.default_rng(0)
    plane, space = (Layout(generator.normal(size=(len(rows), d)), 5.0, 0.5) for d in (2, 3))
    return ProjectedRun(
        checkpoint_sha256="0" * 64,
        architecture="none",
        image_size=64,
        run_is_synthetic=True,
        run_data_sha256={},
        rows=tuple(row for _, row in rows),
        splits=tuple(split for split, _ in rows),
        vectors=generator.normal(size=(len(rows), 6)).astype(np.float32),
        probabilities=np.tile([0.5, 0.3, 0.2], (len(rows), 1)),
        called=("normal",) * len(rows),
        plane=plane,
        space=space,
    )
