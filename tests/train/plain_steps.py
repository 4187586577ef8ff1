"""A few epochs of a network without batch norm, dropout or augmentation: several processes must give one's numbers.

torchrun ... tests/train/plain_steps.py DATA OUT
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from torch import nn

from tests.train.conftest import TINY
from train.data.tables import load_dataset
from train.epoch_log import EpochLog, EpochSeed
from train.learner import build_learner
from train.loading import ImageStore, build_loaders
from train.processes import Processes, open_processes
from train.recipe import load_recipe

PLAIN = (
    *TINY,
    "precision=fp32",
    "augmentation.zoom_p=0",
    "augmentation.contrast_p=0",
    "augmentation.rotate_degrees=0",
    "augmentation.shift=0",
)


def train_plainly(data: Path, out: Path, processes: Processes) -> None:
    recipe = load_recipe("quick", PLAIN)
    dataset = load_dataset(data)
    loaders = build_loaders(ImageStore(dataset, out / "cache", 1, processes), recipe, 32)
    torch.manual_seed(processes.rank)  # process 0's weights count
    body = nn.Sequential(nn.Conv2d(3, 8, 5, 4), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    model = nn.Sequential(body, nn.Sequential(nn.Flatten(), nn.Linear(8 * 25, 3)))
    rows: list[dict[str, float]] = []
    stage = recipe.stages[0]
    callbacks = [EpochSeed(0, 0, processes.rank), EpochLog(0, 0, 4, 32, rows.append, processes)]
    learner = build_learner(loaders, model, recipe, stage, dataset.labels, out, callbacks, processes)
    learner.fit_one_cycle(4, 1e-2)
    if processes.writes:
        weights = torch.cat([p.detach().flatten() for p in model.parameters()]).tolist()
        (out / "result.json").write_text(json.dumps({"weights": weights, "rows": rows}))


if __name__ == "__main__":
    with open_processes("cpu") as joined:
        train_plainly(Path(sys.argv[1]), Path(sys.argv[2]), joined)
