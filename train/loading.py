"""fastai data loaders over the image cache: whole batches by index, oversampling, seeded by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

from fastai.data.core import TfmdDL  # noqa: E402
from fastai.torch_core import TensorCategory, TensorImage  # noqa: E402
from fastcore.basics import chunked  # noqa: E402

__all__ = ["CachedLoader", "CachedRadiographs", "class_weights"]


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
    """

    def __init__(
        self,
        dataset: CachedRadiographs,
        bs: int = 16,
        weights: NDArray[np.float64] | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> None:
        self.draw_weights = weights
        self.seed = seed
        self.epoch = 0
        super().__init__(dataset=dataset, bs=bs, num_workers=0, **kwargs)

    def set_epoch(self, epoch: int) -> None:
        """Choose the draw: ``epoch`` counts over all stages."""
        self.epoch = epoch

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
            yield self.dataset.batch(indices)


def class_weights(targets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return for each radiograph 1 / count of its class, scaled to sum to 1: float64 [N]."""
    counts = np.bincount(targets)
    weights = 1.0 / counts[targets]
    return np.asarray(weights / weights.sum(), dtype=np.float64)
