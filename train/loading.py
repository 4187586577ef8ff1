"""fastai data loaders over the image cache: whole batches by index, oversampling, seeded by epoch, shared out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from train.augmentation import batch_transforms
from train.data.rows import Dataset
from train.image_cache import cached_images
from train.preprocessing import Normalization
from train.processes import ONE_PROCESS, ProcessError, Processes
from train.recipe import Recipe
from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

from fastai.data.core import DataLoaders, TfmdDL  # noqa: E402
from fastai.torch_core import TensorCategory, TensorImage, to_detach  # noqa: E402
from fastcore.basics import chunked  # noqa: E402

__all__ = ["CachedLoader", "CachedRadiographs", "ImageStore", "build_loaders", "class_weights"]


@dataclass(frozen=True)
class CachedRadiographs:
    """One split at one size, indexable as fastai wants it.

    Attributes
    ----------
    images
        uint8 [N, S, S], may be memory-mapped.
    targets
        int64 [N], class indices.
    """

    images: NDArray[np.uint8]
    targets: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        images, targets = self.batch([index])
        return images[0], targets[0]

    def batch(self, indices: Sequence[int]) -> tuple[Any, Any]:
        """Return uint8 [B, 1, S, S] and int64 [B]."""
        pixels = torch.from_numpy(self.images[list(indices)])[:, None]
        return TensorImage(pixels), TensorCategory(torch.from_numpy(self.targets[list(indices)]))


class CachedLoader(TfmdDL):  # type: ignore[misc] # fastai is untyped
    """A fastai loader that takes whole batches from the cache.

    With ``weights`` a training epoch draws as many radiographs as there are, with replacement, by those weights (the
    seed's oversampling). The draw depends on ``seed`` and the epoch set by :meth:`set_epoch` alone, so that a resumed
    run draws what the uninterrupted one would have drawn.

    With several ``processes`` each takes its part of every batch of ``bs``: together they see what one process would
    see. The loader's length is the same in all of them.
    """

    def __init__(
        self,
        dataset: CachedRadiographs,
        bs: int = 16,
        weights: NDArray[np.float64] | None = None,
        seed: int = 0,
        processes: Processes = ONE_PROCESS,
        **kwargs: Any,
    ) -> None:
        self.draw_weights = weights
        self.processes = processes
        self.seed = seed
        self.epoch = 0
        super().__init__(dataset=dataset, bs=bs, num_workers=0, **kwargs)
        # fastai learns the types from a first item, and draws random numbers for it. Now: within an epoch, a resumed
        # run and the uninterrupted one would part ways.
        self._one_pass()

    def set_epoch(self, epoch: int) -> None:
        """Choose the draw: ``epoch`` counts over all stages."""
        self.epoch = epoch

    def before_iter(self) -> None:
        """Keep the pipeline's own ``split_idx``: fastai takes the data set's, and without one augments every split."""
        chosen = self.after_batch.split_idx
        super().before_iter()
        self.after_batch.split_idx = chosen

    def get_idxs(self) -> list[int]:
        """Indices of this epoch, in order."""
        count = len(self.dataset)
        if not self.shuffle:
            return list(range(count))
        generator = np.random.default_rng([self.seed, self.epoch])
        if self.draw_weights is None:
            return [int(i) for i in generator.permutation(count)]
        return [int(i) for i in generator.choice(count, count, p=self.draw_weights)]

    def create_batches(self, samps: Iterable[int]) -> Iterator[tuple[Any, Any]]:
        """Yield batches straight from the array instead of item by item."""
        for indices in chunked(samps, self.bs, self.drop_last):
            mine = self.processes.share(indices)
            if len(mine):
                yield self.dataset.batch(mine)

    def to_detach(self, b: Any, cpu: bool = True, gather: bool = True) -> Any:  # noqa: ARG002 - fastai's signature
        """Detach without gathering: the parts of a last batch differ in size, sums are made once at the end."""
        return to_detach(b, cpu=cpu, gather=False)


def class_weights(targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each radiograph 1 / count of its class, scaled to sum to 1: float64 [N]."""
    counts = np.bincount(targets)
    weights = 1.0 / counts[targets]
    return np.asarray(weights / weights.sum(), dtype=np.float64)


@dataclass(frozen=True)
class ImageStore:
    """The decoded images of a data set: made once, by one process, then memory-mapped by all.

    Attributes
    ----------
    dataset
        The data set.
    cache
        Folder of the arrays.
    workers
        Processes that decode.
    processes
        Those that train together.
    """

    dataset: Dataset
    cache: Path
    workers: int = 2
    processes: Processes = ONE_PROCESS

    def radiographs(self, split: str, size: int) -> CachedRadiographs:
        """Decode a split at a size, or find it decoded; every process must call it."""
        rows, labels = self.dataset.splits[split], self.dataset.labels
        folder = self.dataset.image_path(rows[0]).parent
        names, hashes = [row.filename for row in rows], [row.sha256 for row in rows]
        with self.processes.first_writes():
            images = cached_images(folder, names, hashes, size, self.cache, self.workers)
        return CachedRadiographs(images, np.array([labels.index(row.label) for row in rows], dtype=np.int64))


def build_loaders(store: ImageStore, recipe: Recipe, size: int, seed: int = 0) -> Any:
    """Build fastai's ``DataLoaders`` of a stage: oversampled and augmented training, plain whole validation.

    Raises
    ------
    ProcessError
        A batch that cannot be shared out evenly.
    """
    processes = store.processes
    if recipe.batch_size % processes.count or recipe.batch_size < 2 * processes.count:
        raise ProcessError(
            "the batch cannot be shared out over the processes",
            got=f"batch_size {recipe.batch_size}, {processes.count} processes",
            expected="a multiple of the number of processes, with two radiographs or more for each",
            remedy=f"--set batch_size={recipe.batch_size * processes.count}, or fewer processes",
        )
    normalization = Normalization(recipe.normalization)
    loaders = []
    for split in ("train", "valid"):
        data = store.radiographs(split, size)
        training = split == "train"
        fitting = len(data) - len(data) % processes.count
        loader = CachedLoader(
            data,
            bs=min(recipe.batch_size, fitting) if training else 2 * recipe.batch_size,
            weights=class_weights(data.targets) if training and recipe.oversample else None,
            seed=seed,
            processes=processes,
            shuffle=training,
            drop_last=training,
            after_batch=batch_transforms(recipe.augmentation, normalization),
            device=processes.device,
        )
        loader.after_batch.split_idx = loader.split_idx = 0 if training else 1
        loaders.append(loader)
    return DataLoaders(*loaders, device=processes.device)
