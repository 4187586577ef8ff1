"""Layer by layer: how far a quantized graph's tensors are from float's, summed over radiographs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from math import inf, log10, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["ActivationCut", "LayerError", "Quantizer", "TracedPair", "measure_layers"]

Tensors = dict[str, NDArray[Any]]


@dataclasses.dataclass(frozen=True)
class Quantizer:
    """Where a graph rounds an activation: the range that it can hold, ends included, and the step within."""

    tensor: str
    low: float
    high: float
    step: float


@dataclasses.dataclass(frozen=True)
class TracedPair:
    """A float graph and its quantized one, both opened so that the tensors inside can be seen.

    Attributes
    ----------
    layers
        (name of the tensor, operator) of the layers' outputs that both have, in the quantized graph's order.
    quantizers
        Where the quantized graph rounds activations that the float graph has too.
    weights
        Layer -> signal to quantization noise of its weights in decibels, where it could be told.
    run
        Runs a radiograph, uint8 [H, W], and returns the tensors of the float graph and of the quantized one, by name.
    unmatched
        Layers of the quantized graph that the float graph has under no such name.
    """

    layers: tuple[tuple[str, str], ...]
    quantizers: tuple[Quantizer, ...]
    weights: dict[str, float]
    run: Callable[[NDArray[np.uint8]], tuple[Tensors, Tensors]]
    unmatched: int


@dataclasses.dataclass(frozen=True)
class LayerError:
    """One layer's output against float's.

    Attributes
    ----------
    sqnr_db
        Signal to quantization noise in decibels, everything before it quantized too; inf where nothing differs.
    cosine
        Cosine similarity of the two outputs.
    own_sqnr_db
        Of rounding this very tensor alone, from float values; None where it is not rounded.
    weight_sqnr_db
        Of the layer's weights; None where it could not be told.
    """

    name: str
    op: str
    sqnr_db: float
    cosine: float
    own_sqnr_db: float | None
    weight_sqnr_db: float | None


@dataclasses.dataclass(frozen=True)
class ActivationCut:
    """What calibration made of an activation: the range that is kept, and what float would need.

    Attributes
    ----------
    low, high
        What the quantizer can hold.
    smallest, largest
        What the float graph gives on these radiographs.
    cut_share
        Share of the values that lie outside and are cut.
    used_share
        Share of the quantizer's range between the smallest and the largest value: little is steps wasted.
    own_sqnr_db
        Signal to noise of the rounding, cut included.
    """

    name: str
    low: float
    high: float
    smallest: float
    largest: float
    cut_share: float
    used_share: float
    own_sqnr_db: float


@dataclasses.dataclass
class _Sums:
    signal: float = 0.0
    other: float = 0.0
    noise: float = 0.0
    product: float = 0.0
    smallest: float = inf
    largest: float = -inf
    cut: int = 0
    count: int = 0

    def add(self, reference: NDArray[Any], value: NDArray[Any]) -> None:
        a, b = reference.astype(np.float64).ravel(), value.astype(np.float64).ravel()
        self.signal += float(a @ a)
        self.other += float(b @ b)
        self.product += float(a @ b)
        self.noise += float(((a - b) ** 2).sum())
        self.smallest, self.largest = min(self.smallest, float(a.min())), max(self.largest, float(a.max()))
        self.count += a.size

    @property
    def sqnr_db(self) -> float:
        if self.noise == 0:
            return inf
        return 10 * log10(max(self.signal, 1e-30) / self.noise)

    @property
    def cosine(self) -> float:
        return self.product / sqrt(self.signal * self.other) if self.signal and self.other else 1.0


def measure_layers(
    pair: TracedPair,
    images: Sequence[NDArray[np.uint8]],
    on_image: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[tuple[LayerError, ...], tuple[ActivationCut, ...]]:
    """Run radiographs, uint8 [H, W], through both graphs and sum up signal and noise of every tensor."""
    layers = {name: _Sums() for name, _ in pair.layers}
    rounded = {quantizer.tensor: _Sums() for quantizer in pair.quantizers}
    for done, image in enumerate(images):
        on_image(done, len(images))
        reference, quantized = pair.run(image)
        for name, sums in layers.items():
            sums.add(reference[name], quantized[name])
        for quantizer in pair.quantizers:
            values = reference[quantizer.tensor]
            sums = rounded[quantizer.tensor]
            sums.cut += int(((values < quantizer.low) | (values > quantizer.high)).sum())
            sums.add(values, _rounded(values, quantizer))
    on_image(len(images), len(images))
    return (
        tuple(
            LayerError(name, op, layers[name].sqnr_db, layers[name].cosine,
                       rounded[name].sqnr_db if name in rounded else None, pair.weights.get(name))
            for name, op in pair.layers
        ),
        tuple(
            ActivationCut(
                name=quantizer.tensor,
                low=quantizer.low,
                high=quantizer.high,
                smallest=sums.smallest,
                largest=sums.largest,
                cut_share=sums.cut / sums.count,
                used_share=max(0.0, min(quantizer.high, sums.largest) - max(quantizer.low, sums.smallest))
                / max(quantizer.high - quantizer.low, 1e-30),
                own_sqnr_db=sums.sqnr_db,
            )
            for quantizer in pair.quantizers
            for sums in [rounded[quantizer.tensor]]
        ),
    )  # fmt: skip


def _rounded(values: NDArray[Any], quantizer: Quantizer) -> NDArray[np.float64]:
    steps = np.rint((np.clip(values, quantizer.low, quantizer.high) - quantizer.low) / quantizer.step)
    return np.asarray(quantizer.low + steps * quantizer.step, np.float64)
