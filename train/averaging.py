"""Weight averaging while training: an exponential moving average that validates and is kept."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from train.torchvision_ops import declare_missing_operators

declare_missing_operators()

from fastai.callback.core import Callback  # noqa: E402

__all__ = ["WeightAveraging"]


class WeightAveraging(Callback):  # type: ignore[misc] # fastai is untyped
    """Keep an exponential moving average of weights and buffers (Polyak averaging; torch's ``AveragedModel``).

    Validation runs on the average. The decay warms up, ``min(decay, (1 + n) / (10 + n))`` after n steps, so that the
    random start does not linger.
    """

    order = 65

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.averaged: Any = None
        self.steps = 0

    def before_fit(self) -> None:
        if self.averaged is None:
            self.averaged = AveragedModel(self.learn.model, multi_avg_fn=self._average, use_buffers=True)

    def _average(self, averaged: Any, current: Any, count: Any) -> None:
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        get_ema_multi_avg_fn(decay)(averaged, current, count)  # type: ignore[no-untyped-call]

    def after_step(self) -> None:
        self.steps += 1
        self.averaged.update_parameters(self.learn.model)

    def before_validate(self) -> None:
        self.trained = self.learn.model
        self.learn.model = self.averaged.module.eval()

    def after_validate(self) -> None:
        self.learn.model = self.trained

    def state(self) -> dict[str, Any]:
        """What a resumed run needs."""
        return {
            "module": self.averaged.module.state_dict(),
            "steps": self.steps,
            "n": int(self.averaged.n_averaged),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from :meth:`state`."""
        self.before_fit()
        self.averaged.module.load_state_dict(state["module"])
        self.averaged.n_averaged.fill_(torch.tensor(state["n"]))
        self.steps = state["steps"]
