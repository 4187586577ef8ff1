"""The embeddings of a run, laid out by t-SNE on a plane and in space."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from train.data.rows import DataError, Dataset, Row

__all__ = ["Layout", "ProjectedRun", "choose_points", "project", "project_run"]

FEWEST_POINTS = 10
"""Below this t-SNE's neighbourhoods mean nothing."""

_PERPLEXITY = 30.0
_COMPONENTS = 50


@dataclass(frozen=True)
class Layout:
    """Coordinates and what t-SNE made of its goal."""

    coordinates: NDArray[np.float64]
    """float64 [N, 2 or 3]."""
    perplexity: float
    kl_divergence: float


@dataclass(frozen=True)
class ProjectedRun:
    """A run's view of some radiographs, in the order of ``rows``."""

    checkpoint_sha256: str
    architecture: str
    image_size: int
    run_is_synthetic: bool
    run_data_sha256: dict[str, str]
    """Of the tables that the run was trained on, by file name."""
    rows: tuple[Row, ...]
    splits: tuple[str, ...]
    vectors: NDArray[np.float32]
    """float32 [N, D]."""
    probabilities: NDArray[np.float64]
    """float64 [N, C], calibrated, in the order of the run's labels."""
    called: tuple[str, ...]
    plane: Layout
    space: Layout


def choose_points(dataset: Dataset, limit: int, seed: int) -> dict[str, list[Row]]:
    """At most ``limit`` radiographs, drawn by hash: the same ones whatever else is in the data set.

    Rows keep their order. A data set that fits whole is returned whole, so that decoded images can be shared.
    """
    total = sum(len(rows) for rows in dataset.splits.values())
    if total <= limit:
        return {split: list(rows) for split, rows in dataset.splits.items() if rows}

    def key(row: Row) -> str:
        return hashlib.sha256(f"{seed}:{row.source}:{row.filename}".encode()).hexdigest()

    last = sorted(key(row) for rows in dataset.splits.values() for row in rows)[limit - 1]
    chosen = {split: [row for row in rows if key(row) <= last] for split, rows in dataset.splits.items()}
    return {split: rows for split, rows in chosen.items() if rows}


def project(vectors: NDArray[np.float32], dimensions: int, seed: int) -> Layout:
    """Lay embeddings out by t-SNE, from their first principal components.

    Parameters
    ----------
    vectors
        float32 [N, D]; more than 50 dimensions are first brought down to 50 by PCA (van der Maaten and Hinton 2008).
    dimensions
        2 or 3.
    seed
        The same seed and versions give the same layout, on any number of cores: it is computed by one thread.

    Raises
    ------
    DataError
        Fewer than ten radiographs, or embeddings that are not finite.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped,import-not-found,unused-ignore]

    count = len(vectors)
    if count < FEWEST_POINTS:
        raise DataError(
            "there are too few radiographs for t-SNE",
            got=str(count),
            expected=f"{FEWEST_POINTS} or more",
            remedy="describe a larger data set, or leave --run out",
        )
    if not np.isfinite(vectors).all():
        raise DataError("the run's embeddings are not all finite", remedy="train again")
    points = vectors.astype(np.float64)
    perplexity = min(_PERPLEXITY, (count - 1) / 3)
    tsne = TSNE(dimensions, perplexity=perplexity, init="pca", random_state=seed)
    with threadpool_limits(1):
        if min(points.shape) > _COMPONENTS:
            points = PCA(_COMPONENTS, random_state=seed).fit_transform(points)
        coordinates = tsne.fit_transform(points)
    return Layout(coordinates.astype(np.float64), perplexity, float(tsne.kl_divergence_))


def project_run(
    folder: Path,
    dataset: Dataset,
    chosen: dict[str, list[Row]],
    seed: int,
    cache: Path | None,
    workers: int,
    device: str,
) -> ProjectedRun:
    """Embed the chosen radiographs with a run and lay them out.

    Raises
    ------
    RunError, CacheError, DataError
        The run cannot be loaded or does not fit; images cannot be read; too few of them.
    """
    import torch

    from train.embedding import check_labels, embed_rows
    from train.progress import track
    from train.run import RunError, load_run

    run = load_run(folder)
    check_labels(run, dataset)
    if device == "cuda" and not torch.cuda.is_available():
        raise RunError("there is no CUDA device", expected="a GPU and a CUDA build of torch", remedy="--device cpu")
    classifier = run.load_model()
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        classifier = classifier.to("cuda")
    parts = [embed_rows(run, classifier, dataset, rows, cache, workers) for rows in chosen.values()]
    logits = np.concatenate([part.logits for part in parts]) / run.spec.temperature
    powers = np.exp(logits - logits.max(1, keepdims=True))
    vectors = np.concatenate([part.vectors for part in parts])
    plane, space = (project(vectors, count, seed) for count in track((2, 3), "t-SNE", 2))
    return ProjectedRun(
        checkpoint_sha256=run.spec.checkpoint_sha256,
        architecture=run.spec.architecture,
        image_size=run.spec.image_size,
        run_is_synthetic=run.spec.synthetic,
        run_data_sha256=run.spec.data_sha256,
        rows=tuple(row for part in parts for row in part.rows),
        splits=tuple(split for split, rows in chosen.items() for _ in rows),
        vectors=vectors,
        probabilities=powers / powers.sum(1, keepdims=True),
        called=tuple(run.spec.labels[index] for index in logits.argmax(1)),
        plane=plane,
        space=space,
    )
