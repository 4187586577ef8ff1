"""fastai callbacks that train one model in several processes: torch's DistributedDataParallel round the model.

fastai's own support is not used: its ``DistributedDL`` broadcasts indices through ``.cuda()`` (no gloo), pads an epoch
with repeated radiographs, and its trainer brings another package in to do what these lines do. Nothing has to be
broadcast here: the draw of an epoch is a function of seed and epoch (:mod:`train.loading`), known to every process.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch.nn.parallel import DistributedDataParallel

from train.processes import Processes
from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

from fastai.callback.core import Callback  # noqa: E402

__all__ = ["SharedMetrics", "SharedTraining"]

# Renamed in torch 2.13.
_PARAMETERS = inspect.signature(DistributedDataParallel).parameters
_SYNC_BUFFERS = "forward_sync_buffers" if "forward_sync_buffers" in _PARAMETERS else "broadcast_buffers"


class SharedTraining(Callback):  # type: ignore[misc] # fastai is untyped
    """Average gradients over the processes; validate on the bare model, with batch-norm statistics averaged."""

    order = 66  # after WeightAveraging: it copies the bare model, and may put its own in place for validation

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    def before_fit(self) -> None:
        """Wrap the model."""
        self.bare = self.learn.model
        # Running statistics are averaged once an epoch, below: torch would copy process 0's before every batch.
        options: dict[str, Any] = {_SYNC_BUFFERS: False}
        if self.processes.device.type == "cuda":
            options["device_ids"] = [self.processes.device.index]
        self.wrapped: Any = DistributedDataParallel(self.bare, **options)
        self.learn.model = self.wrapped

    def before_validate(self) -> None:
        """Average the running statistics; take the wrapping off."""
        self.processes.average_(list(self.bare.buffers()))
        if self.learn.model is self.wrapped:
            self.learn.model = self.bare
        else:
            self.processes.average_(list(self.learn.model.buffers()))

    def after_validate(self) -> None:
        """Train on with the wrapped model."""
        self.learn.model = self.wrapped

    def after_fit(self) -> None:
        """Leave the bare model to whoever comes next."""
        self.learn.model = self.bare


class SharedMetrics(Callback):  # type: ignore[misc] # fastai is untyped
    """Sum the validation metrics' ``total`` and ``count`` over the processes: they hold for the whole split."""

    order = 45  # before fastai's recorder reads them

    def __init__(self, processes: Processes) -> None:
        self.processes = processes

    def after_validate(self) -> None:
        """Sum."""
        for metric in (self.recorder.loss, *self.recorder.metrics):
            metric.total, metric.count = self.processes.sum([float(metric.total), float(metric.count)])
