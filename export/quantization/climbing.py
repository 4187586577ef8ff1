"""Climbing the ladder: every rung is built, run through ``edge_runtime`` on the search set, and timed beside fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_runtime.manifest import Format, Manifest
from export.errors import ExportError
from export.formats import WRITERS
from export.graph import DeployableGraph
from export.quantization.judging import Figures, Judge, Target
from export.quantization.ladder import fine_tuned, rungs
from export.quantization.layers import Layer
from export.quantization.quantizers import Quantizer, open_quantizer
from export.quantization.sensitivity import LayerNoise
from export.quantization.sets import SearchSet
from export.quantization.settings import NAIVE, QuantizationSettings

__all__ = ["Climb", "Materials", "Rung", "choose", "climb", "pareto"]

_SAME_TIME = 1.05
"""Times closer than this factor are not told apart."""

OnRung = Callable[[Format, str, "Figures | None", int, int], None]
"""Told of each rung before (None) and after it was judged, with how many are done of how many."""


@dataclass(frozen=True)
class Materials:
    """What all formats share.

    ``images`` and ``search`` are the calibration and the search set at the network's size; ``activations`` and
    ``weights`` the layers' rankings; ``fine_tune`` returns the graph after quantization-aware fine-tuning, None where
    that is not wanted.
    """

    graph: DeployableGraph
    layers: tuple[Layer, ...]
    images: tuple[NDArray[np.uint8], ...]
    mean_inputs: dict[str, NDArray[np.float32]]
    activations: Sequence[LayerNoise]
    weights: Sequence[LayerNoise]
    search: SearchSet
    skeleton: Manifest
    fine_tune: Callable[[QuantizationSettings], DeployableGraph] | None


@dataclass(frozen=True)
class Rung:
    """One candidate: its settings, its figures, or why it could not be made."""

    settings: QuantizationSettings
    figures: Figures | None
    failure: str | None = None


@dataclass(frozen=True)
class Climb:
    """All candidates of a format, the chosen one, and the graph it is made from (another one after fine-tuning)."""

    format: Format
    rungs: tuple[Rung, ...]
    chosen: Rung
    reached: bool
    graph: DeployableGraph


def climb(
    format_: Format,
    materials: Materials,
    target: Target,
    *,
    stop_at_first: bool = False,
    on_rung: OnRung = lambda *_: None,
) -> Climb:
    """Try the rungs of a format.

    Parameters
    ----------
    format_
        One of :data:`export.quantization.ladder.QUANTIZED_FORMATS`.
    materials
        What is quantized, and on what.
    target
        What must be reached.
    stop_at_first
        Stop at the first rung that reaches the target. Otherwise all are tried (fine-tuning only where none
        reaches it), and the fastest of those that do is chosen.
    on_rung
        Progress.

    Raises
    ------
    ExportError
        No rung of the format could be built and run.
    """
    planned = [*rungs(format_, materials.layers, materials.activations, materials.weights), NAIVE]
    tried: list[Rung] = []
    graph = materials.graph
    with tempfile.TemporaryDirectory(prefix="quantize-") as name:
        folder = Path(name)
        suffix = WRITERS[format_].suffixes[0]
        fp32 = folder / f"{format_}-fp32{suffix}"
        WRITERS[format_].write(graph, fp32)
        judge = Judge(materials.skeleton, materials.search, format_, fp32)
        try:
            quantizer = open_quantizer(
                format_, graph, materials.layers, materials.images, materials.mean_inputs, fp32, folder,
            )  # fmt: skip
            for number, settings in enumerate(planned):
                on_rung(format_, settings.rung, None, number, len(planned))
                rung = _try(quantizer, judge, folder / f"{format_}-int8{suffix}", settings, target)
                tried.append(rung)
                on_rung(format_, settings.rung, rung.figures, number + 1, len(planned))
                if stop_at_first and rung.figures is not None and rung.figures.reaches(target):
                    break
            if materials.fine_tune is not None and not _reaching(tried, target):
                settings = fine_tuned(_most_int8(tried).settings)
                on_rung(format_, settings.rung, None, len(planned), len(planned) + 1)
                tuned = materials.fine_tune(settings)
                again = folder / "fine-tuned"
                again.mkdir()
                quantizer = open_quantizer(
                    format_, tuned, materials.layers, materials.images, {}, None, again,
                )  # fmt: skip
                rung = _try(quantizer, judge, again / f"{format_}-int8{suffix}", settings, target)
                tried.append(rung)
                on_rung(format_, settings.rung, rung.figures, len(planned) + 1, len(planned) + 1)
                graph = tuned
        finally:
            judge.close()
    chosen, reached = choose(tried, target)
    if chosen.settings.fine_tuning_epochs == 0:
        graph = materials.graph
    return Climb(format_, tuple(tried), chosen, reached, graph)


def choose(tried: Sequence[Rung], target: Target) -> tuple[Rung, bool]:
    """Choose the fastest rung that reaches the target; of equally fast ones, that with the least noise.

    Where none reaches it: the one with the highest agreement.

    Raises
    ------
    ExportError
        None could be built and run.
    """
    judged = [rung for rung in tried if rung.figures is not None and rung.settings.rung != NAIVE.rung]
    if not judged:
        raise ExportError(
            "no int8 candidate could be built", got="; ".join(sorted({r.failure or "" for r in tried}))[:500]
        )
    reaching = [rung for rung in judged if _figures(rung).reaches(target)]
    if not reaching:
        return max(judged, key=lambda rung: (_figures(rung).agreement, -_figures(rung).logit_noise)), False
    # Each was timed beside fp32 at another moment: the ratio, not the time, compares them.
    fastest = min(_relative(rung) for rung in reaching)
    alike = [rung for rung in reaching if _relative(rung) <= fastest * _SAME_TIME]
    return min(alike, key=lambda rung: _figures(rung).logit_noise), True


def pareto(tried: Sequence[Rung]) -> tuple[Rung, ...]:
    """Rungs that no other beats in agreement, time and size at once."""
    judged = [rung for rung in tried if rung.figures is not None]

    def key(rung: Rung) -> tuple[float, float, float]:
        return (-_figures(rung).agreement, _relative(rung), _figures(rung).megabytes)

    return tuple(
        rung
        for rung in judged
        if not any(
            other is not rung
            and key(other) != key(rung)
            and all(a <= b for a, b in zip(key(other), key(rung), strict=True))
            for other in judged
        )
    )


def _try(quantizer: Quantizer, judge: Judge, path: Path, settings: QuantizationSettings, target: Target) -> Rung:
    try:
        quantizer.write(path, settings)
        return Rung(settings, judge.judge(path, "int8", target))
    except ExportError as error:  # one rung that a tool cannot make does not end the climb
        return Rung(settings, None, str(error))


def _reaching(tried: Sequence[Rung], target: Target) -> list[Rung]:
    return [rung for rung in tried if rung.figures is not None and rung.figures.reaches(target)]


def _most_int8(tried: Sequence[Rung]) -> Rung:
    """The best rung with int8 activations: what fine-tuning starts from."""
    static = [r for r in tried if r.figures is not None and r.settings.activations == "int8" and r.settings.per_channel]
    return max(static or [r for r in tried if r.figures], key=lambda rung: _figures(rung).agreement)


def _relative(rung: Rung) -> float:
    return _figures(rung).p50_ms / _figures(rung).fp32_p50_ms


def _figures(rung: Rung) -> Figures:
    assert rung.figures is not None
    return rung.figures
