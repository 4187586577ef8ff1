"""Batches before and after resampling, as one figure: class counts, radiographs as stored and as trained on."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from train.augmentation import batch_transforms
from train.loading import CachedLoader, CachedRadiographs, ImageStore, class_weights
from train.preprocessing import Normalization
from train.recipe import Recipe
from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

from fastai.torch_core import TensorImage  # noqa: E402
from fasttransform import Pipeline  # noqa: E402

__all__ = ["Batch", "Batches", "draw_batches", "sample_batches"]

_COLOURS = ("#4c78a8", "#f2a541", "#c44e52", "#7a6a9b", "#6b8e6b")


@dataclass(frozen=True)
class Batch:
    """Images float32 [B, S, S] in 0..1, and their classes int64 [B]."""

    images: NDArray[np.float32]
    targets: NDArray[np.int64]


@dataclass(frozen=True)
class Batches:
    """The first batch of an epoch without and with the recipe's resampling, and what the whole epoch draws.

    Attributes
    ----------
    before
        Drawn evenly, as stored.
    after
        Drawn and augmented by the recipe (MixUp and normalisation left out: they do not show).
    counts
        Radiographs of each class in the training split.
    drawn
        Draws of each class in one epoch.
    distinct
        Different radiographs among them.
    """

    labels: tuple[str, ...]
    before: Batch
    after: Batch
    counts: tuple[int, ...]
    drawn: tuple[int, ...]
    distinct: tuple[int, ...]


def sample_batches(store: ImageStore, recipe: Recipe, size: int, seed: int = 0, epoch: int = 0) -> Batches:
    """Draw the batches that ``fit`` would begin an epoch with.

    Parameters
    ----------
    store
        The data set's images; the training split is used.
    recipe
        Decides batch size, resampling and augmentation.
    size
        Edge in pixels.
    seed, epoch
        Decide the draw, as they do for ``fit``.
    """
    data = store.radiographs("train", size)
    classes = len(store.dataset.labels)
    plain = _epoch(data, None, seed, epoch)
    drawn = _epoch(data, class_weights(data.targets), seed, epoch) if recipe.oversample else plain
    random.seed(seed)
    torch.manual_seed(seed)
    transforms = Pipeline(batch_transforms(recipe.augmentation, Normalization(recipe.normalization))[:-1])
    transforms.split_idx = 0
    first = drawn[: recipe.batch_size]
    augmented = transforms(TensorImage(torch.from_numpy(data.images[first])[:, None]))
    stored = plain[: recipe.batch_size]
    return Batches(
        labels=tuple(store.dataset.labels),
        before=Batch(data.images[stored].astype(np.float32) / 255.0, data.targets[stored]),
        after=Batch(augmented.as_subclass(torch.Tensor)[:, 0].clamp(0, 1).numpy(), data.targets[first]),
        counts=_count(data.targets, classes),
        drawn=_count(data.targets[drawn], classes),
        distinct=_count(data.targets[np.unique(drawn)], classes),
    )


def draw_batches(batches: Batches, path: Path, title: str) -> None:
    """Draw both batches over bars of the class counts; the suffix of ``path`` decides the format."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure: Any = Figure(figsize=(11, 8.4), layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title, fontsize=11)
    top, bottom = figure.subfigures(2, 1, height_ratios=(1, 2.6))
    columns = (
        ("before resampling: the training split", batches.counts, batches.before),
        ("after resampling: one epoch of training", batches.drawn, batches.after),
    )
    highest = max(*batches.counts, *batches.drawn)
    for axes, (name, counts, _) in zip(top.subplots(1, 2), columns, strict=True):
        bars = axes.bar(batches.labels, counts, color=_colours(range(len(counts))))
        texts = [f"{count:,}" for count in counts]
        if counts is batches.drawn:
            texts = [f"{count:,} ({n:,} different)" for count, n in zip(counts, batches.distinct, strict=True)]
        axes.bar_label(bars, texts, fontsize=8)
        axes.set_title(name, fontsize=10)
        axes.set_ylim(0, 1.15 * highest)
        axes.spines[["top", "right"]].set_visible(False)
    for half, (_, _, batch) in zip(bottom.subfigures(1, 2), columns, strict=True):
        _draw_grid(half, batch, batches.labels)
    temporary = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        figure.savefig(temporary, dpi=110)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _draw_grid(figure: Any, batch: Batch, labels: Sequence[str]) -> None:
    edge = int(np.ceil(np.sqrt(len(batch.targets))))
    grid = np.atleast_1d(figure.subplots(edge, edge)).ravel()
    for axes in grid:
        axes.axis("off")
    for axes, image, target in zip(grid, batch.images, batch.targets, strict=False):
        axes.imshow(image, cmap="gray", vmin=0, vmax=1)
        axes.set_title(labels[target], fontsize=7, color=_colours([int(target)])[0], pad=2)


def _epoch(data: CachedRadiographs, weights: NDArray[np.float64] | None, seed: int, epoch: int) -> NDArray[np.int64]:
    loader = CachedLoader(data, weights=weights, seed=seed, shuffle=True)
    loader.set_epoch(epoch)
    return np.array(loader.get_idxs(), dtype=np.int64)


def _count(targets: NDArray[np.int64], classes: int) -> tuple[int, ...]:
    return tuple(int(n) for n in np.bincount(targets, minlength=classes))


def _colours(classes: Sequence[int] | range) -> list[str]:
    return [_COLOURS[index % len(_COLOURS)] for index in classes]
