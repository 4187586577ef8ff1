"""``train fit``: a fastai Learner through the recipe's stages, resumable, to a run folder."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from train.averaging import WeightAveraging
from train.calibration import fit_temperature, operating_points, softmax
from train.curves import draw_curves
from train.data.tables import Dataset, check_dataset, file_sha256, load_dataset, split_sha256
from train.environment import git_commit, package_versions
from train.epoch_log import EpochLog, EpochSeed, StopOnNonFinite
from train.learner import build_learner
from train.loading import ImageStore, build_loaders
from train.model import build_classifier
from train.preprocessing import Normalization
from train.processes import Processes, open_processes
from train.recipe import Recipe
from train.resume import clear_state, load_state, save_state
from train.run import CHECKPOINT_NAME, RUN_NAME, Run, RunError, RunSpec, load_run, save_run_spec
from train.swish import memory_saving_swish
from train.weights import load_starting_weights

from fastai.callback.core import Callback  # isort: skip

__all__ = ["FitOptions", "fit", "predict_logits"]


@dataclass(frozen=True)
class FitOptions:
    """What decides a run beside the recipe and the data.

    ``cache`` is the folder of decoded images (default: ``cache`` in the data folder); ``restart`` throws an unfinished
    or finished run in ``out`` away.
    """

    weights: str | None = None
    seed: int = 0
    device: str = "auto"
    cache: Path | None = None
    workers: int = 2
    restart: bool = False


def fit(data: Path, recipe: Recipe, out: Path, options: FitOptions | None = None) -> Run:
    """Train a classifier and leave a run folder.

    Parameters
    ----------
    data
        Folder that ``data build`` or ``data phantom`` has written; its ``train`` and ``valid`` splits are used.
    recipe
        What to do; see :mod:`train.recipe`.
    out
        The run folder. An unfinished run of the same recipe, data, seed and weights goes on from its last epoch; a
        finished one is returned as it is.
    options
        See :class:`FitOptions`.

    Under ``torchrun`` every process calls this with the same arguments and gets the same run; process 0 writes.

    Raises
    ------
    EdgeRuntimeError
        Of one kind or another, before any training: data that does not hold, weights that cannot be had, another run
        in ``out``. While training: a loss that is not a number.
    """
    options = options or FitOptions()
    with open_processes(options.device) as processes:
        dataset = load_dataset(data)
        check_dataset(dataset, splits=("train", "valid"))
        starting = options.weights or recipe.starting_weights
        identity = _identity(recipe, data, options.seed, starting)
        with processes.first_writes():
            out.mkdir(parents=True, exist_ok=True)
            if options.restart and processes.writes:
                clear_state(out)
                (out / RUN_NAME).unlink(missing_ok=True)
            if (out / RUN_NAME).is_file():
                return _finished(out, recipe, data, options.seed)
        return _Training(dataset, recipe, out, options, starting, identity, processes).run()


class _Training:
    """One run from its first or its last finished epoch to the end."""

    def __init__(
        self,
        dataset: Dataset,
        recipe: Recipe,
        out: Path,
        options: FitOptions,
        starting: str,
        identity: str,
        processes: Processes,
    ) -> None:
        self.dataset, self.recipe, self.out, self.options = dataset, recipe, out, options
        self.identity, self.processes = identity, processes
        self.store = ImageStore(dataset, options.cache or dataset.root / "cache", options.workers, processes)
        torch.manual_seed(options.seed)
        self.model = build_classifier(recipe.architecture, len(dataset.labels), recipe.head_dropout)
        state = load_state(out, identity)
        with processes.first_writes():
            # A resumed run has its weights in the state: do not ask for the starting ones (or the network) again.
            self.starting = (
                state["starting"] if state else load_starting_weights(self.model, starting, recipe.architecture)
            )
        self.model.to(processes.device)
        self.averaging = WeightAveraging(recipe.weight_averaging) if recipe.weight_averaging > 0 else None
        self.history: list[dict[str, float]] = []
        self.next_stage, self.next_epoch = 0, 0
        self.optimizer_state: Any = None
        if state:
            self._restore(state)
        processes.check_same(len(self.history), "the epochs that are done")

    def run(self) -> Run:
        """Train what is left and finish the folder."""
        with memory_saving_swish(self.model, self.recipe.memory_saving_swish):
            for index in range(self.next_stage, len(self.recipe.stages)):
                self._train_stage(index)
        if self.processes.writes:
            final: nn.Module = self.averaging.averaged.module if self.averaging else self.model
            self._finish(final.to("cpu").float().eval())
        self.processes.wait()
        return load_run(self.out)

    def _train_stage(self, index: int) -> None:
        recipe, stage = self.recipe, self.recipe.stages[index]
        before = sum(s.epochs for s in recipe.stages[:index])
        learner = build_learner(
            build_loaders(self.store, recipe, stage.size, self.options.seed),
            self.model,
            recipe,
            stage,
            self.dataset.labels,
            self.out,
            [
                EpochSeed(self.options.seed, before, self.processes.rank),
                StopOnNonFinite(index),
                *([self.averaging] if self.averaging else []),
            ],
            self.processes,
        )
        start = self.next_epoch if index == self.next_stage else 0
        if start and self.optimizer_state is not None:
            _restore_optimizer(learner, self.optimizer_state, self.processes.device)
        save = _SaveEpoch(partial(self._save, learner, index))
        log = EpochLog(index, before, recipe.epochs, stage.size, save.note, self.processes)
        learner.fit_one_cycle(
            stage.epochs,
            lr_max=slice(stage.lr_body, stage.lr),
            wd=stage.wd,
            pct_start=stage.pct_start,
            cbs=[log, save],
            start_epoch=start,
        )
        learner.remove_cbs(list(learner.cbs))

    def _save(self, learner: Any, index: int, epoch: int, row: dict[str, float]) -> None:
        self.history.append(row)
        if not self.processes.writes:
            return
        done = epoch + 1 == self.recipe.stages[index].epochs
        save_state(
            self.out,
            self.identity,
            {
                "stage": index + 1 if done else index,
                "epoch": 0 if done else epoch + 1,
                "model": self.model.state_dict(),
                "optimizer": None if done else [dict(s) for s in learner.opt.state_dict()["state"]],
                "averaging": self.averaging.state() if self.averaging else None,
                "history": self.history,
                "starting": self.starting,
            },
        )
        _write_log(self.out / "log.csv", self.history)
        draw_curves(self.history, self.out / "curves.png")

    def _restore(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        if self.averaging:
            self.averaging.learn = _Holder(self.model)
            self.averaging.load_state(state["averaging"])
        self.history = list(state["history"])
        self.next_stage, self.next_epoch = state["stage"], state["epoch"]
        self.optimizer_state = state["optimizer"]

    def _finish(self, classifier: nn.Module) -> None:
        from safetensors.torch import save_file

        recipe, labels = self.recipe, self.dataset.labels
        size = recipe.stages[-1].size
        alone = ImageStore(self.dataset, self.store.cache, self.options.workers)
        valid = alone.radiographs("valid", size)
        logits = predict_logits(classifier, Normalization(recipe.normalization), valid.images)
        temperature = fit_temperature(logits, valid.targets)
        points = operating_points(softmax(logits, temperature), valid.targets, labels)
        path = self.out / CHECKPOINT_NAME
        temporary = path.with_suffix(".part")
        save_file({k: v.contiguous() for k, v in classifier.state_dict().items()}, temporary)
        os.replace(temporary, path)
        spec = RunSpec(
            schema_version=1,
            labels=tuple(labels),
            architecture=recipe.architecture,
            head_dropout=recipe.head_dropout,
            image_size=size,
            normalization=recipe.normalization,
            recipe=msgspec.to_builtins(recipe),
            starting_weights=self.starting,
            seed=self.options.seed,
            synthetic=self.dataset.synthetic,
            data_sha256=split_sha256(self.dataset.root),
            epochs=recipe.epochs,
            history=tuple(self.history),
            temperature=temperature,
            temperature_fitted_on="valid",
            operating_thresholds={label: point["threshold"] for label, point in points.items()} or None,
            operating_points=points or None,
            checkpoint_sha256=file_sha256(path),
            package_versions=package_versions(),
            git_commit=git_commit(),
            created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        )
        save_run_spec(self.out, spec)
        clear_state(self.out)


@torch.no_grad()
def predict_logits(
    classifier: nn.Module, normalization: Normalization, images: NDArray[np.uint8], batch: int = 32
) -> NDArray[np.float64]:
    """Logits of cached radiographs, in fp32 on the model's device.

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
    NDArray
        float64 [N, C].
    """
    device = next(classifier.parameters()).device
    normalization = normalization.to(device)
    parts = []
    for start in range(0, len(images), batch):
        pixels = torch.from_numpy(np.array(images[start : start + batch]))[:, None]
        parts.append(classifier(normalization(pixels.to(device).float())).double().cpu().numpy())
    return np.concatenate(parts)


class _SaveEpoch(Callback):  # type: ignore[misc] # fastai is untyped
    """Save the state after the log has its row; the row comes through :meth:`note`."""

    order = 90

    def __init__(self, save: Any) -> None:
        self.save = save
        self.row: dict[str, float] | None = None

    def note(self, row: dict[str, float]) -> None:
        self.row = row

    def after_epoch(self) -> None:
        if self.row is not None:
            row, self.row = self.row, None
            self.save(self.epoch, row)


class _Holder:
    """Stands for a learner where only its model is needed."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model


def _identity(recipe: Recipe, data: Path, seed: int, starting: str) -> str:
    parts = {
        "recipe": msgspec.to_builtins(recipe),
        "data": split_sha256(data),
        "seed": seed,
        "weights": starting,
    }
    return hashlib.sha256(msgspec.json.encode(parts, order="deterministic")).hexdigest()


def _finished(out: Path, recipe: Recipe, data: Path, seed: int) -> Run:
    run = load_run(out)
    same = (
        run.spec.recipe == msgspec.json.decode(msgspec.json.encode(recipe))
        and run.spec.data_sha256 == split_sha256(data)
        and run.spec.seed == seed
    )
    if not same:
        raise RunError(
            f"{out} holds a finished run of another recipe, data or seed",
            got=f"recipe {run.spec.recipe.get('name')}, seed {run.spec.seed}",
            remedy="name another --out, or give --restart to throw it away",
        )
    return run


def _restore_optimizer(learner: Any, state: list[dict[str, Any]], device: torch.device) -> None:
    for parameter, saved in zip(learner.opt.all_params().itemgot(0), state, strict=True):
        learner.opt.state[parameter] = {k: v.to(device) if isinstance(v, torch.Tensor) else v for k, v in saved.items()}


def _write_log(path: Path, history: Sequence[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    temporary = path.with_suffix(".part")
    temporary.write_text(text.getvalue(), encoding="utf-8")
    os.replace(temporary, path)
