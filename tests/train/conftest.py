"""A tiny data set and a tiny recipe, so that a whole run takes seconds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from train.data.record import DatasetRecord
from train.data.tables import LABELS, Box, Row, file_sha256, write_dataset

TINY = (
    "architecture=mobilenetv2_wd4",
    "batch_size=8",
    "stages=[{size=48, epochs=2, lr=2e-3, lr_body=1e-3, wd=1e-2, pct_start=0.3, frozen=false}, "
    "{size=64, epochs=1, lr=1e-3, lr_body=1e-3, wd=1e-2, pct_start=0.3, frozen=true}]",
)


def write_tiny_dataset(root: Path, per_class: int = 10) -> Path:
    """Three classes that a stripe tells apart: none, upright, level."""
    generator = np.random.default_rng(7)
    (root / "images").mkdir(parents=True)
    splits: dict[str, list[Row]] = {"train": [], "valid": [], "test": []}
    boxes: dict[str, list[Box]] = {}
    for index, label in enumerate(LABELS):
        for number in range(per_class):
            pixels = generator.normal(90, 12, (72, 60))
            if index == 1:
                pixels[:, 20:32] += 90
            if index == 2:
                pixels[28:40, :] += 90
            name = f"{label}-{number}.png"
            path = root / "images" / name
            Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(path)
            split = ("train", "train", "train", "valid", "test")[number % 5]
            splits[split].append(Row(f"{label}-{number}", name, label, "phantom", sha256=file_sha256(path)))
            if index == 1:
                boxes[name] = [Box(20 / 60, 0.0, 12 / 60, 1.0)]
    record = DatasetRecord(labels=LABELS, synthetic=True, created_by={"tests": "1"}, seed=7)
    write_dataset(root, splits, record, boxes)
    return root


@pytest.fixture
def tiny_dataset(tmp_path: Path) -> Path:
    """A data set folder of 30 images."""
    return write_tiny_dataset(tmp_path / "data")
