"""Learning-rate searches over several weight decays, as the seed's grid: one figure, one suggestion."""

from __future__ import annotations

import copy
import math
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import nn

from train.data.tables import write_atomically
from train.epoch_log import EpochSeed
from train.learner import build_learner
from train.loading import ImageStore, build_loaders
from train.recipe import Recipe, Stage
from train.swish import memory_saving_swish
from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

from fastai.callback.schedule import valley  # noqa: E402

__all__ = ["Curve", "Search", "Suggestion", "draw_search", "save_search", "search_learning_rates", "suggest"]

# fastai leaves out the first tenth and the last five steps when it looks for the valley.
_SKIPPED_END = 5


@dataclass(frozen=True)
class Curve:
    """The smoothed training loss while the learning rate grows from step to step, at one weight decay.

    ``valley`` is fastai's suggestion, the middle of the longest fall of the curve; None where the curve is too short.
    ``lowest_loss`` is the lowest smoothed loss of the part that the valley is looked for in.
    """

    weight_decay: float
    learning_rates: tuple[float, ...]
    losses: tuple[float, ...]
    valley: float | None
    lowest_loss: float


@dataclass(frozen=True)
class Suggestion:
    """What to train with."""

    weight_decay: float
    learning_rate: float


@dataclass(frozen=True)
class Search:
    """A search as it is written to ``search.json``."""

    recipe: str
    stage: int
    size: int
    seed: int
    iterations: int
    starting_weights: str
    synthetic: bool
    curves: tuple[Curve, ...]
    suggestion: Suggestion | None


def search_learning_rates(
    store: ImageStore,
    model: nn.Sequential,
    recipe: Recipe,
    stage: Stage,
    weight_decays: Sequence[float],
    iterations: int = 100,
    seed: int = 0,
    range_: tuple[float, float] = (1e-7, 10.0),
) -> Iterator[Curve]:
    """Run fastai's ``lr_find`` once for each weight decay, from the same weights over the same batches.

    Parameters
    ----------
    store
        The data set's images; the training split is used.
    model
        ``[body, head]`` with its starting weights; left as it was found.
    recipe, stage
        What the search imitates; its number of epochs, rates and weight decay are not used.
    weight_decays
        One curve each.
    iterations
        Steps of a curve; it ends before where the loss diverges.
    seed
        Of batches, augmentation and dropout: the same for every curve.
    range_
        First and last learning rate.

    Yields
    ------
    Curve
        As soon as each is done.
    """
    loaders = build_loaders(store, recipe, stage.size, seed)
    weights = copy.deepcopy(model.state_dict())
    first, last = range_
    for weight_decay in weight_decays:
        model.load_state_dict(weights)
        torch.manual_seed(seed)
        labels, processes = store.dataset.labels, store.processes
        with tempfile.TemporaryDirectory() as folder, memory_saving_swish(model, recipe.memory_saving_swish):
            path = Path(folder)
            learner = build_learner(loaders, model, recipe, stage, labels, path, [EpochSeed(seed, 0)], processes)
            learner.wd = weight_decay
            learner.lr_find(first, last, iterations, show_plot=False, suggest_funcs=None)
            rates = [float(rate) for rate in learner.recorder.lrs]
            losses = [float(loss) for loss in learner.recorder.losses]
        yield _curve(weight_decay, rates, losses, iterations)
    model.load_state_dict(weights)


def suggest(curves: Sequence[Curve]) -> Suggestion | None:
    """Suggest the weight decay of the curve that falls lowest, with its valley. None where no curve has a valley."""
    best = min((c for c in curves if c.valley is not None), key=lambda c: c.lowest_loss, default=None)
    return Suggestion(best.weight_decay, best.valley) if best is not None and best.valley is not None else None


def save_search(search: Search, path: Path) -> None:
    """Write a search as JSON, through a temporary name."""
    write_atomically(path, msgspec.json.format(msgspec.json.encode(search), indent=1) + b"\n")


def draw_search(search: Search, path: Path) -> None:
    """Draw all curves in one figure, the suggestion marked; replaces the file as a whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    best = search.suggestion
    for curve in search.curves:
        chosen = best is not None and curve.weight_decay == best.weight_decay
        width = 2.2 if chosen else 1.2
        line = axes.plot(curve.learning_rates, curve.losses, linewidth=width, label=f"{curve.weight_decay:g}")[0]
        if curve.valley is not None:
            loss = curve.losses[curve.learning_rates.index(curve.valley)]
            axes.plot([curve.valley], [loss], "o", markersize=8 if chosen else 5, color=line.get_color())
    finite = sorted(loss for curve in search.curves for loss in curve.losses)
    if finite:
        # A curve ends where its loss has grown fourfold: without a limit the valleys would be flat in the figure.
        axes.set_ylim(finite[0] * 0.95, min(finite[-1], 1.6 * finite[len(finite) // 2]))
    axes.set(xscale="log", xlabel="learning rate", ylabel="training loss, smoothed")
    title = f"{search.recipe}, {search.size} px" + (", SYNTHETIC radiographs" if search.synthetic else "")
    if best is not None:
        title += f"; suggested: rate {best.learning_rate:.1e}, weight decay {best.weight_decay:g}"
    axes.set_title(title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(title="weight decay (dot: valley)", frameon=False, fontsize=8)
    temporary = path.with_suffix(".part.png")
    figure.savefig(temporary, dpi=110)
    os.replace(temporary, path)


def _curve(weight_decay: float, rates: list[float], losses: list[float], iterations: int) -> Curve:
    end = next((i for i, loss in enumerate(losses) if not math.isfinite(loss)), len(losses))
    rates, losses = rates[:end], losses[:end]
    inner = slice(iterations // 10, len(rates) - _SKIPPED_END)
    considered = losses[inner]
    found = None
    if len(considered) >= 3:
        rate = valley(rates[inner], considered, iterations)[0]
        found = min(rates, key=lambda r: abs(r - rate))
    lowest = min(considered or losses, default=math.inf)
    return Curve(weight_decay, tuple(rates), tuple(losses), found, lowest)
