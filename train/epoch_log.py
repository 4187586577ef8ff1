"""fastai callbacks of a run: one log row an epoch, progress on the terminal, a stop at the first NaN."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from edge_runtime.errors import EdgeRuntimeError
from train.memory import read_memory, reset_peak
from train.processes import ONE_PROCESS, Processes
from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

from fastai.callback.core import Callback  # noqa: E402

__all__ = ["EpochLog", "EpochSeed", "StopOnNonFinite", "TrainingDivergedError"]


class TrainingDivergedError(EdgeRuntimeError):
    """The loss is no longer a number."""


class EpochSeed(Callback):  # type: ignore[misc] # fastai is untyped
    """Seed every generator anew before each epoch, so that a resumed run repeats the uninterrupted one.

    The draw of the radiographs is the same in all processes, their augmentation is not.
    """

    order = 75  # after fastai's SkipToEpoch: skipped epochs do nothing

    def __init__(self, seed: int, epochs_before: int, rank: int = 0) -> None:
        self.seed, self.epochs_before, self.rank = seed, epochs_before, rank

    def before_epoch(self) -> None:
        epoch = self.epochs_before + self.epoch
        place = [self.seed, epoch, self.rank] if self.rank else [self.seed, epoch]
        mixed = int(np.random.SeedSequence(place).generate_state(1)[0])
        random.seed(mixed)
        np.random.seed(mixed)
        torch.manual_seed(mixed)
        self.dls.train.set_epoch(epoch)


class StopOnNonFinite(Callback):  # type: ignore[misc] # fastai is untyped
    """Raise at the first loss that is NaN or infinite, and say where it was."""

    order = -8

    def __init__(self, stage: int) -> None:
        self.stage = stage

    def after_batch(self) -> None:
        if math.isfinite(float(self.loss.detach())):
            return
        part = "training" if self.training else "validation"
        raise TrainingDivergedError(
            f"the {part} loss is not a number",
            got=f"{float(self.loss.detach())} in stage {self.stage + 1}, epoch {self.epoch + 1}, "
            f"batch {self.iter + 1}, learning rate {self.opt.hypers[-1]['lr']:.2e}",
            remedy="lower the learning rate (--set stages.0.lr=...), or train in fp32 (--set precision=fp32); "
            "the same command goes on from the last finished epoch",
        )


class EpochLog(Callback):  # type: ignore[misc] # fastai is untyped
    """Collect one row an epoch and show how far the run is.

    Calls ``on_epoch(row)`` after each epoch, once fastai's recorder has its numbers. Process 0 alone prints; time and
    memory are its own, images a second are of all processes together.
    """

    order = 80

    def __init__(
        self,
        stage: int,
        epochs_before: int,
        epochs_total: int,
        size: int,
        on_epoch: Callable[[dict[str, float]], None],
        processes: Processes = ONE_PROCESS,
    ) -> None:
        self.stage, self.epochs_before, self.epochs_total = stage, epochs_before, epochs_total
        self.size, self.on_epoch, self.processes = size, on_epoch, processes
        self.max_used = 0.0

    def before_fit(self) -> None:
        self.console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
        )
        shown = self.console.is_terminal and self.processes.writes
        self.progress = Progress(*columns, console=self.console, transient=True, disable=not shown)
        self.progress.start()
        self.task = self.progress.add_task("training", total=None, note="")

    def before_epoch(self) -> None:
        self.started = time.perf_counter()
        self.seen = 0
        self.loss_sum = 0.0
        reset_peak(self.dls.device)
        text = f"epoch {self.epochs_before + self.epoch + 1}/{self.epochs_total} at {self.size} px"
        self.progress.reset(self.task, total=len(self.dls.train), description=text, note="")

    def after_batch(self) -> None:
        if self.training:
            self.seen += len(self.y)
            self.loss_sum += float(self.loss.detach()) * len(self.y)
            self.progress.update(self.task, advance=1, note=f"loss {float(self.smooth_loss):.3f}")

    def after_train(self) -> None:
        self.train_seconds = time.perf_counter() - self.started

    def after_epoch(self) -> None:
        if not hasattr(self, "started"):  # skipped by SkipToEpoch
            return
        names = self.recorder.metric_names[1:-1]
        values = self.recorder.log[1 : 1 + len(names)]
        used, peak = read_memory(self.dls.device)
        self.max_used = max(self.max_used, used)
        seen, loss_sum = self.processes.sum([self.seen, self.loss_sum])
        row = {
            "stage": float(self.stage + 1),
            "epoch": float(self.epochs_before + self.epoch + 1),
            "size": float(self.size),
            **{str(name): float(value) for name, value in zip(names, values, strict=True)},
            # The mean of this epoch; fastai's own is a moving average that runs on from epoch to epoch.
            "train_loss": loss_sum / seen,
            "seconds": time.perf_counter() - self.started,
            "images_per_second": seen / self.train_seconds,
            "memory_used_mb": used,
            "memory_max_used_mb": self.max_used,
            "memory_peak_mb": peak,
        }
        del self.started
        if self.processes.writes:
            self.progress.console.print(_line(row, self.epochs_total), highlight=False, soft_wrap=True)
        self.on_epoch(row)

    def after_fit(self) -> None:
        self.progress.stop()

    def after_cancel_fit(self) -> None:
        self.progress.stop()


def _line(row: dict[str, Any], total: int) -> str:
    recalls = " ".join(f"{key[12:]} {value:.2f}" for key, value in row.items() if key.startswith("sensitivity_"))
    return (
        f"epoch {row['epoch']:.0f}/{total}  {row['size']:.0f} px  train {row['train_loss']:.3f}  "
        f"valid {row['valid_loss']:.3f}  accuracy {row['accuracy']:.3f}  sensitivity: {recalls}  "
        f"{row['seconds']:.0f} s  {row['memory_peak_mb']:.0f} MB"
    )
