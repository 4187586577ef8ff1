"""Climbing the ladder: every rung is built, run through ``edge_runtime`` on the search set, and timed beside fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_runtime.manifest import Format, Manifest, Precision
from export.errors import ExportError
from export.formats import WRITERS
from export.graph import DeployableGraph
from export.quantization.judging import Figures, Judge, Target
from export.quantization.ladder import FINE_TUNING_EPOCHS, TUNED, controlled, fine_tuned, rungs
from export.quantization.layers import Layer, find_layers
from export.quantization.quantizers import Quantizer, open_quantizer
from export.quantization.sensitivity import LayerNoise, mean_inputs
from export.quantization.sets import SearchSet
from export.quantization.settings import NAIVE, QuantizationSettings
from export.quantization.tuned_weights import Tuned
from export.quantization.variants import Variant, judge_variants

__all__ = ["Climb", "FineTuning", "Materials", "Rung", "choose", "climb", "pareto"]

FineTuning = Literal["needed", "always", "never"]
"""``needed``: where no other rung reaches the target. ``always``: for a quicker file too."""

_SAME_TIME = 1.05
"""Times closer than this factor are not told apart."""
_TUNED_RUNGS = 4
"""Settings that are tried on fine-tuned weights, where it is always tried: files cost little beside the training."""

OnRung = Callable[[Format, str, "Figures | None", int, int], None]
"""Told of each rung before (None) and after it was judged, with how many are done of how many."""


@dataclass(frozen=True)
class Materials:
    """What all formats share.

    ``images`` and ``search`` are the calibration and the search set at the network's size; ``activations`` and
    ``weights`` the layers' rankings; ``fine_tune`` trains for int8, ``tuned`` is what was fine-tuned before.
    """

    graph: DeployableGraph
    layers: tuple[Layer, ...]
    images: tuple[NDArray[np.uint8], ...]
    mean_inputs: dict[str, NDArray[np.float32]]
    activations: Sequence[LayerNoise]
    weights: Sequence[LayerNoise]
    search: SearchSet
    skeleton: Manifest
    fine_tune: Callable[[QuantizationSettings], Tuned]
    tuned: Tuned | None = None
    fine_tuning_epochs: int = FINE_TUNING_EPOCHS


@dataclass(frozen=True)
class Rung:
    """One candidate: its settings, its figures, or why it could not be made."""

    settings: QuantizationSettings
    figures: Figures | None
    failure: str | None = None


@dataclass(frozen=True)
class Climb:
    """All candidates of a format, and the chosen one.

    Attributes
    ----------
    tuned
        The fine-tuned graph, where the chosen one is made from it.
    variants
        The fp32 file and the chosen rung's on other backends of this CPU; none of them is chosen, for they need no
        file.
    untried
        Rungs that were not tried, and what tries them, in sentences.
    """

    format: Format
    rungs: tuple[Rung, ...]
    chosen: Rung
    reached: bool
    tuned: Tuned | None = None
    variants: tuple[Variant, ...] = ()
    untried: tuple[str, ...] = ()


def climb(
    format_: Format,
    materials: Materials,
    target: Target,
    *,
    stop_at_first: bool = False,
    fine_tuning: FineTuning = "needed",
    control_seconds: float = 0.0,
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
        Stop at the first rung that reaches the target. Otherwise all are tried, and the fastest of those that do is
        chosen.
    fine_tuning
        When the top rung is tried.
    control_seconds
        How long NNCF's accuracy control may search, for OpenVINO; 0: it is not tried.
    on_rung
        Progress.

    Raises
    ------
    ExportError
        No rung of the format could be built and run.
    """
    with tempfile.TemporaryDirectory(prefix="quantize-") as name:
        climber = _Climber(format_, materials, target, Path(name), on_rung)
        try:
            climber.climb(stop_at_first=stop_at_first, control_seconds=control_seconds)
            tuned = climber.fine_tune(fine_tuning)
            chosen, reached = choose(climber.tried, target)
            if chosen.settings.fine_tuning_epochs == 0:
                tuned = None
            variants = climber.variants(chosen, tuned.graph if tuned else materials.graph)
        finally:
            climber.judge.close()
    return Climb(
        format_, tuple(climber.tried), chosen, reached, tuned, variants,
        _untried(format_, climber.tried, fine_tuning, control_seconds),
    )  # fmt: skip


class _Climber:
    """One climb's files and what was tried."""

    def __init__(
        self, format_: Format, materials: Materials, target: Target, folder: Path, on_rung: OnRung
    ) -> None:  # fmt: skip
        self.format, self.materials, self.target, self.folder, self.on_rung = (
            format_, materials, target, folder, on_rung,
        )  # fmt: skip
        self.suffix = WRITERS[format_].suffixes[0]
        self.fp32 = folder / f"{format_}-fp32{self.suffix}"
        WRITERS[format_].write(materials.graph, self.fp32)
        self.judge = Judge(materials.skeleton, materials.search, format_, self.fp32)
        self.tried: list[Rung] = []

    def climb(self, *, stop_at_first: bool, control_seconds: float) -> None:
        ranked = (self.materials.layers, self.materials.activations, self.materials.weights)
        planned = [*rungs(self.format, *ranked), NAIVE]
        control = self.format == "openvino" and control_seconds > 0
        quantizer = self._quantizer()
        total = len(planned) + control
        for settings in planned:
            self._try(quantizer, settings, total)
            if stop_at_first and self._reaching():
                return
        if control:
            start = controlled(self.format, *ranked)
            self.on_rung(self.format, start.rung, None, len(self.tried), total)
            try:
                self._try(quantizer, self._control(start, control_seconds), total)
            except ExportError as error:  # it took too long; the other rungs stand
                self.tried.append(Rung(start, None, str(error)))

    def fine_tune(self, when: FineTuning) -> Tuned | None:
        """Try the top rung where it is due; return the graph that it left."""
        tuned = self.materials.tuned
        if tuned is None and (when == "never" or (when == "needed" and self._reaching())):
            return None
        starts = [self._as_tuned(tuned) if tuned else _most_int8(self.tried).settings]
        if tuned or when == "always":
            starts += [one.settings for one in _static(pareto(self.tried))]
        epochs = tuned.settings.fine_tuning_epochs if tuned else self.materials.fine_tuning_epochs
        named = {one.rung: one for one in (fine_tuned(start, epochs) for start in starts)}
        settings = list(named.values())[:_TUNED_RUNGS]
        total = len(self.tried) + len(settings)
        self.on_rung(self.format, settings[0].rung, None, len(self.tried), total)
        if tuned is None:
            tuned = self.materials.fine_tune(settings[0])
        folder = self.folder / "fine-tuned"
        folder.mkdir()
        # by its own weights: those of the full model no longer tell which operation is which layer
        quantizer = open_quantizer(
            self.format, tuned.graph, find_layers(tuned.graph), self.materials.images,
            mean_inputs(tuned.graph, self.materials.images), None, folder,
        )  # fmt: skip
        for one in settings:
            self._try(quantizer, one, total)
        return tuned

    def _as_tuned(self, tuned: Tuned) -> QuantizationSettings:
        """This format's rung of the name that was fine-tuned for: another's has ranges that its tool does not know."""
        name = tuned.settings.rung.removeprefix(TUNED)
        same = [rung.settings for rung in self.tried if rung.settings.rung == name]
        return same[0] if same else _most_int8(self.tried).settings

    def variants(self, chosen: Rung, graph: DeployableGraph) -> tuple[Variant, ...]:
        """Run the fp32 file and the chosen one on the other backends of this CPU."""
        files: dict[str, tuple[Path, Precision]] = {"fp32": (self.fp32, "fp32")}
        if self.format == "openvino":  # the one format with such a backend
            folder = self.folder / "chosen"
            folder.mkdir()
            path = folder / f"{self.format}-int8{self.suffix}"
            materials = self.materials
            means = materials.mean_inputs
            if graph is not materials.graph:
                means = mean_inputs(graph, materials.images)
            open_quantizer(self.format, graph, find_layers(graph), materials.images, means, None, folder).write(
                path, chosen.settings
            )
            files[chosen.settings.rung] = (path, "int8")
        return judge_variants(self.judge, files, self.target)

    def _quantizer(self) -> Quantizer:
        m = self.materials
        return open_quantizer(self.format, m.graph, m.layers, m.images, m.mean_inputs, self.fp32, self.folder)

    def _control(self, start: QuantizationSettings, seconds: float) -> QuantizationSettings:
        from export.quantization.accuracy_control import control_accuracy

        m = self.materials
        return control_accuracy(
            self.fp32, m.layers, m.images, m.search, start, self.target,
            temperature=m.skeleton.calibration.temperature, seconds=seconds,
        )  # fmt: skip

    def _try(self, quantizer: Quantizer, settings: QuantizationSettings, total: int) -> None:
        self.on_rung(self.format, settings.rung, None, len(self.tried), total)
        path = self.folder / f"{self.format}-int8{self.suffix}"
        try:
            quantizer.write(path, settings)
            rung = Rung(settings, self.judge.judge(path, "int8", self.target))
        except ExportError as error:  # one rung that a tool cannot make does not end the climb
            rung = Rung(settings, None, str(error))
        self.tried.append(rung)
        self.on_rung(self.format, settings.rung, rung.figures, len(self.tried), total)

    def _reaching(self) -> bool:
        return any(rung.figures is not None and rung.figures.reaches(self.target) for rung in self.tried)


def _untried(
    format_: Format, tried: Sequence[Rung], fine_tuning: FineTuning, control_seconds: float
) -> tuple[str, ...]:  # fmt: skip
    found = []
    if not any(rung.settings.fine_tuning_epochs for rung in tried):
        why = "--fine-tuning never" if fine_tuning == "never" else "another rung reaches the target"
        found.append(f"The top rung, fine-tuning, was not tried ({why}); --fine-tuning always tries it.")
    if format_ == "openvino" and control_seconds <= 0:
        found.append("NNCF's accuracy control was not tried; --accuracy-control SECONDS tries it.")
    return tuple(found)


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


def _most_int8(tried: Sequence[Rung]) -> Rung:
    """The best rung with int8 activations: what fine-tuning starts from."""
    return max(
        _static(tried) or [rung for rung in tried if rung.figures], key=lambda rung: _figures(rung).agreement
    )  # fmt: skip


def _static(tried: Sequence[Rung]) -> list[Rung]:
    return [r for r in tried if r.figures is not None and r.settings.activations == "int8" and r.settings.per_channel]


def _relative(rung: Rung) -> float:
    return _figures(rung).p50_ms / _figures(rung).fp32_p50_ms


def _figures(rung: Rung) -> Figures:
    assert rung.figures is not None
    return rung.figures
