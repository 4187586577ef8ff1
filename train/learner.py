"""The fastai Learner of a stage: network, loss, optimiser, metrics, number format."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from train.loss import TrainingLoss
from train.precision import choose_precision, precision_callback
from train.processes import ONE_PROCESS, Processes
from train.recipe import Recipe, Stage
from train.shared_training import SharedMetrics, SharedTraining
from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

import fastai.callback.schedule  # noqa: E402, F401 - gives Learner its fit_one_cycle and lr_find
from fastai.callback.channelslast import ChannelsLast  # noqa: E402
from fastai.callback.mixup import MixUp  # noqa: E402
from fastai.callback.progress import ProgressCallback  # noqa: E402
from fastai.learner import AvgMetric, Learner, Metric  # noqa: E402
from fastai.metrics import accuracy  # noqa: E402
from fastai.optimizer import Adam  # noqa: E402
from fastcore.basics import noop  # noqa: E402

__all__ = ["build_learner", "split_parameters"]


def build_learner(
    loaders: Any,
    model: nn.Sequential,
    recipe: Recipe,
    stage: Stage,
    labels: Sequence[str],
    path: Path,
    callbacks: Sequence[Any] = (),
    processes: Processes = ONE_PROCESS,
) -> Any:
    """Build the Learner of a stage, frozen or not, with a new optimiser.

    Parameters
    ----------
    loaders
        Of :func:`train.loading.build_loaders`.
    model
        ``[body, head]``; moved to the processes' device.
    recipe, stage
        What decides loss, number format, memory layout, MixUp; the stage says whether the body is frozen.
    labels
        Classes, for the metrics' names.
    path
        Where fastai writes, if it must.
    callbacks
        More of them.
    processes
        Those that train together.
    """
    precision = precision_callback(choose_precision(recipe.precision, processes.device), processes.device)
    shared = [SharedTraining(processes), SharedMetrics(processes)] if processes.count > 1 else []
    learner = Learner(
        loaders,
        model.to(processes.device),
        loss_func=TrainingLoss(recipe.label_smoothing),
        opt_func=partial(Adam, decouple_wd=True),
        splitter=split_parameters,
        metrics=[AvgMetric(accuracy), *(_Sensitivity(c, name) for c, name in enumerate(labels))],
        cbs=[
            *([ChannelsLast()] if recipe.channels_last else []),
            *([precision] if precision else []),
            *([MixUp(recipe.mixup)] if recipe.mixup > 0 else []),
            *shared,
            *callbacks,
        ],
        path=path,
    )
    learner.remove_cbs([cb for cb in learner.cbs if isinstance(cb, ProgressCallback)])
    learner.logger = noop  # the log prints its own line
    learner.create_opt()
    if stage.frozen:
        learner.freeze_to(-1)
    else:
        learner.unfreeze()
    return learner


def split_parameters(model: nn.Sequential) -> list[list[nn.Parameter]]:
    """Parameter groups for discriminative rates: early body, late body, head."""
    body, head = model
    children = list(body.children())
    half = len(children) // 2
    early = [p for child in children[:half] for p in child.parameters()]
    late = [p for child in children[half:] for p in child.parameters()]
    return [early, late, list(head.parameters())]


class _Sensitivity(Metric):  # type: ignore[misc] # fastai is untyped
    """Share of a class's radiographs that are called so, over the whole validation split."""

    def __init__(self, index: int, label: str) -> None:
        self.index, self.label = index, label

    def reset(self) -> None:
        self.total = self.count = 0.0

    def accumulate(self, learn: Any) -> None:
        cases = learn.y == self.index
        self.count += int(cases.sum())
        self.total += int((cases & (learn.pred.argmax(dim=-1) == self.index)).sum())

    @property
    def value(self) -> float:
        return self.total / self.count if self.count else float("nan")

    @property
    def name(self) -> str:
        return f"sensitivity_{self.label}"
