"""Embeddings of a run: what enters the classifier's last layer, for every radiograph of a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from train.data.rows import Dataset, Row
from train.image_cache import cached_images
from train.preprocessing import Normalization
from train.progress import track
from train.run import Run, RunError

__all__ = ["Embeddings", "check_labels", "embed_images", "embed_rows", "embed_split"]


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of radiographs, in the order of ``rows``.

    Attributes
    ----------
    vectors
        float32 [N, D]: the input of the head's last Linear (D is 512 with fastai's head), after its batch norm;
        the ``embedding`` output of the exported graph.
    logits
        float64 [N, C], in the order of the run's labels.
    """

    rows: tuple[Row, ...]
    vectors: NDArray[np.float32]
    logits: NDArray[np.float64]


def embed_split(run: Run, dataset: Dataset, split: str, cache: Path | None = None, workers: int = 2) -> Embeddings:
    """Embeddings of one split, on the CPU. See :func:`embed_rows`."""
    return embed_rows(run, run.load_model(), dataset, dataset.splits[split], cache, workers)


def embed_rows(
    run: Run,
    classifier: nn.Module,
    dataset: Dataset,
    rows: Sequence[Row],
    cache: Path | None = None,
    workers: int = 2,
) -> Embeddings:
    """Embeddings of some radiographs of a data set, at the run's image size.

    Parameters
    ----------
    run
        Gives image size, normalisation and labels.
    classifier
        ``run.load_model()``, on any device.
    dataset, rows
        The radiographs. A whole split in its own order shares the decoded images that ``fit`` left.
    cache
        Folder of decoded images; default ``cache`` in the data set's folder, as for ``fit``.
    workers
        Processes that decode.

    Raises
    ------
    RunError
        The run does not know a label of the data set, or its classifier has no Linear layer.
    CacheError
        A radiograph cannot be read, or the cache not be written.
    """
    check_labels(run, dataset)
    names = [row.filename for row in rows]
    if not names:
        raise RunError("there are no radiographs to embed", got="no rows", remedy="choose a split that has some")
    images = cached_images(
        dataset.image_path(rows[0]).parent,
        names,
        [row.sha256 for row in rows],
        run.spec.image_size,
        cache or dataset.root / "cache",
        workers,
    )
    vectors, logits = embed_images(classifier, run.build_normalization(), images)
    return Embeddings(tuple(rows), vectors, logits)


@torch.no_grad()
def embed_images(
    classifier: nn.Module, normalization: Normalization, images: NDArray[np.uint8], batch: int = 32
) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Embeddings and logits of decoded radiographs, in fp32 on the classifier's device.

    Parameters
    ----------
    classifier
        In evaluation mode.
    normalization
        The run's.
    images
        uint8 [N, S, S].
    batch
        Radiographs at a time.

    Returns
    -------
    vectors
        float32 [N, D].
    logits
        float64 [N, C].
    """
    linear = [module for module in classifier.modules() if isinstance(module, nn.Linear)]
    if not linear:
        raise RunError("the classifier has no Linear layer to take embeddings from", expected="fastai's head")
    device = next(classifier.parameters()).device
    normalization = normalization.to(device)
    vectors: list[NDArray[np.float32]] = []
    logits: list[NDArray[np.float64]] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        vectors.append(inputs[0].float().cpu().numpy())

    hook = linear[-1].register_forward_pre_hook(keep)
    try:
        for start in track(range(0, len(images), batch), "embedding", (len(images) + batch - 1) // batch):
            pixels = torch.from_numpy(np.array(images[start : start + batch]))[:, None]
            logits.append(classifier(normalization(pixels.to(device).float())).double().cpu().numpy())
    finally:
        hook.remove()
    return np.concatenate(vectors), np.concatenate(logits)


def check_labels(run: Run, dataset: Dataset) -> None:
    """Raise RunError unless the run and the data set have the same labels; their order may differ."""
    if set(run.spec.labels) != set(dataset.labels):
        raise RunError(
            "the run and the data set have different labels",
            got=f"data set: {', '.join(dataset.labels)}",
            expected=f"run: {', '.join(run.spec.labels)}",
        )
