"""What the tests of export are made from: random but seeded weights, phantoms."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from train.data.phantom import phantom_pixels
from train.data.record import DatasetRecord
from train.data.rows import Row, file_sha256
from train.data.tables import split_sha256, write_dataset
from train.model import build_classifier
from train.run import RunSpec, save_run_spec

LABELS = ("normal", "pneumonia", "COVID-19")
SIZE = 64
ARCHITECTURE = "resnet18_wd4"
"""Small, so that a bundle of it is built in seconds."""


def make_classifier(architecture: str, size: int = SIZE) -> nn.Sequential:
    """A classifier with random weights, sane batch-norm statistics, and decisions that depend on the image."""
    return copy.deepcopy(_build_once(architecture, size))


@cache
def _build_once(architecture: str, size: int) -> nn.Sequential:
    torch.manual_seed(7)
    model = build_classifier(architecture, len(LABELS))
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None  # a plain average: two batches give sane statistics
    model.train()
    with torch.no_grad():
        for _ in range(2):
            model(torch.randn(8, 3, size, size))
        # A spread of logits as a trained network has it: otherwise every probability is near 1/3.
        model[1][-1].weight.mul_(3.0)
    return model.eval()


def make_dataset(folder: Path, per_class: tuple[int, int, int] = (5, 2, 5)) -> Path:
    """Phantoms, so many of each class in train, valid and test; one patient each."""
    (folder / "images").mkdir(parents=True)
    splits: dict[str, list[Row]] = {}
    seed = 0
    for split, count in zip(("train", "valid", "test"), per_class, strict=True):
        rows = []
        for label in LABELS:
            for _ in range(count):
                seed += 1
                name = f"phantom-{seed:03d}.png"
                Image.fromarray(phantom_pixels(label, seed, 128 + 8 * (seed % 5))).save(folder / "images" / name)
                sha256 = file_sha256(folder / "images" / name)
                rows.append(Row(str(seed), name, label, "phantom", "PA", "50", "F", sha256))
        splits[split] = rows
    record = DatasetRecord(labels=LABELS, synthetic=True, created_by={"tests": "0"}, seed=0)
    write_dataset(folder, splits, record)
    return folder


def make_run(folder: Path, model: nn.Sequential, architecture: str, data: Path, temperature: float = 1.3) -> Path:
    """A run folder as `train fit` leaves it."""
    folder.mkdir(parents=True)
    checkpoint = folder / "checkpoint.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, checkpoint)
    save_run_spec(
        folder,
        RunSpec(
            schema_version=1,
            labels=LABELS,
            architecture=architecture,
            head_dropout=0.5,
            image_size=SIZE,
            normalization="per_image",
            recipe={"name": "random"},
            starting_weights="random",
            seed=7,
            synthetic=True,
            data_sha256=split_sha256(data),
            epochs=0,
            history=(),
            temperature=temperature,
            temperature_fitted_on=None,
            operating_thresholds=None,
            operating_points=None,
            checkpoint_sha256=file_sha256(checkpoint),
            package_versions={"torch": str(torch.__version__)},
            git_commit=None,
            created="2026-01-01T00:00:00Z",
        ),
    )
    return folder


def random_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """uint8 [H, W]: coarse random patches, smooth between them."""
    rng = np.random.default_rng(seed)
    patches = Image.fromarray(rng.integers(0, 256, (9, 7), dtype=np.uint8))
    return np.asarray(patches.resize((width, height), Image.Resampling.BICUBIC), np.uint8).copy()
