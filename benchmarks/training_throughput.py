"""Training throughput of `train fit` against plain fastai with its default loaders: same files, same network, one run.

Each contender is a fresh process, run in turn (A B A B ...) so that a busy machine is unfair to both alike. It trains
an epoch to warm up, then some that are timed (training only), then runs its loader alone, augmentation included. Plain
fastai is what its documentation shows: `ImageDataLoaders.from_df`, `Resize` by squishing, `aug_transforms`, Adam, the
default number of workers. Exit code 1 when the ratio is below --target, or when our loader alone is less than twice
as fast as our training.

    python benchmarks/training_throughput.py --data DIR --size 96 --images 256
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

CONTENDERS = ("plain fastai", "train fit")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="dataset folder")
    parser.add_argument(
        "--recipe", default="scratch", help="what `train fit` would run; its batch size counts for both"
    )
    parser.add_argument("--size", type=int, default=96, help="edge of the network's input in pixels")
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--epochs", type=int, default=2, help="timed epochs of each repeat")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--target", type=float, default=1.5)
    parser.add_argument("--json", type=Path, dest="json_path")
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)
    parser.add_argument("--cache", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        measure = plain_fastai if options.contender == "plain fastai" else train_fit
        print(json.dumps(measure(options)))
        return 0

    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    with tempfile.TemporaryDirectory() as cache:
        for repeat in range(options.repeats):
            for name in CONTENDERS:
                command = [sys.executable, __file__, *sys.argv[1:], "--contender", name, "--cache", cache]
                answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                runs[name].append(json.loads(answer.stdout.splitlines()[-1]))
                rate = runs[name][-1]["training_images_per_second"]
                print(f"repeat {repeat + 1}, {name}: {rate:.1f} images/s", file=sys.stderr)
    return report(options, runs)


def report(options: argparse.Namespace, runs: dict[str, list[dict[str, Any]]]) -> int:
    keys = ("training_images_per_second", "loader_images_per_second")
    table = {name: {key: median(run[key] for run in of_name) for key in keys} for name, of_name in runs.items()}
    plain, ours = (table[name] for name in CONTENDERS)
    ratio = ours[keys[0]] / plain[keys[0]]
    headroom = ours[keys[1]] / ours[keys[0]]
    first = runs["train fit"][0]
    print(
        f"{options.images} images, {options.size} px, batch {first['batch']}, {os.cpu_count()} cores, {first['device']}"
    )
    print("                training [images/s]   loader alone [images/s]   number format   loader processes")
    for name, row in table.items():
        run = runs[name][0]
        print(f"{name:<14} {row[keys[0]]:21.1f} {row[keys[1]]:25.1f}   {run['precision']:<13}   {run['workers']}")
    print(f"ratio {ratio:.2f} (target {options.target:g}); our loader is {headroom:.1f} times as fast as our training")
    print(f"decoding into the cache, once before the first epoch: {first['cache_seconds']:.1f} s")
    passed = ratio >= options.target and headroom >= 2
    if options.json_path:
        summary = {
            "images": options.images,
            "size": options.size,
            "cores": os.cpu_count(),
            "machine": platform.machine(),
            "median": table,
            "ratio": ratio,
            "loader_headroom": headroom,
            "target": options.target,
            "passed": passed,
            "runs": runs,
        }
        options.json_path.write_text(json.dumps(summary, indent=1) + "\n")
    return 0 if passed else 1


def subset(options: argparse.Namespace) -> Any:
    """The dataset with ``--images`` of its training rows, evenly spread; a few for validation, which is not run."""
    from dataclasses import replace

    from train.data.tables import load_dataset

    dataset = load_dataset(options.data)
    rows = dataset.splits["train"]
    if len(rows) < options.images:
        sys.exit(f"{options.data} has {len(rows)} training images, --images asks for {options.images}")
    chosen = [rows[i * len(rows) // options.images] for i in range(options.images)]
    return replace(dataset, splits={"train": chosen, "valid": chosen[:8], "test": []})


def train_fit(options: argparse.Namespace) -> dict[str, Any]:
    """Loaders and Learner as `train fit` builds them."""
    from dataclasses import replace

    import torch
    from msgspec.structs import replace as change

    from train.epoch_log import EpochSeed
    from train.learner import build_learner
    from train.loading import ImageStore, build_loaders
    from train.model import build_classifier
    from train.precision import choose_precision
    from train.processes import Processes, choose_device
    from train.recipe import load_recipe
    from train.swish import memory_saving_swish

    recipe = load_recipe(options.recipe)
    stage = change(recipe.stages[0], size=options.size)
    processes = Processes(device=choose_device(options.device))
    dataset = subset(options)
    started = time.perf_counter()
    store = ImageStore(dataset, options.cache, 2, processes)
    store.radiographs("train", options.size)
    cache_seconds = time.perf_counter() - started
    loaders = build_loaders(replace(store), recipe, options.size)
    torch.manual_seed(0)
    model = build_classifier(recipe.architecture, 3, recipe.head_dropout)
    with tempfile.TemporaryDirectory() as folder, memory_saving_swish(model, recipe.memory_saving_swish):
        learner = build_learner(
            loaders, model, recipe, stage, dataset.labels, Path(folder), [EpochSeed(0, 0)], processes
        )
        training = time_training(learner, options.epochs)
    return {
        "device": device_name(processes.device),
        "batch": recipe.batch_size,
        "precision": choose_precision(recipe.precision, processes.device),
        "workers": 0,
        "cache_seconds": cache_seconds,
        "training_images_per_second": training,
        "loader_images_per_second": time_loader(loaders.train, options.epochs),
    }


def plain_fastai(options: argparse.Namespace) -> dict[str, Any]:
    """The same files and network as fastai's documentation has it."""
    from train.torchvision_ops import declare_missing_operators

    declare_missing_operators()
    import pandas
    import torch
    from fastai.vision.all import (
        CrossEntropyLossFlat,
        ImageDataLoaders,
        Learner,
        Normalize,
        Resize,
        ResizeMethod,
        aug_transforms,
        imagenet_stats,
    )

    from train.model import build_classifier
    from train.processes import choose_device
    from train.recipe import load_recipe

    recipe = load_recipe(options.recipe)
    device = choose_device(options.device)
    dataset = subset(options)
    splits = [(row, False) for row in dataset.splits["train"]] + [(row, True) for row in dataset.splits["valid"]]
    table = pandas.DataFrame(
        [{"filename": row.filename, "label": row.label, "is_valid": valid} for row, valid in splits]
    )
    loaders = ImageDataLoaders.from_df(
        table,
        path=dataset.root,
        folder="images",
        valid_col="is_valid",
        bs=recipe.batch_size,
        item_tfms=Resize(options.size, ResizeMethod.Squish),
        batch_tfms=[*aug_transforms(), Normalize.from_stats(*imagenet_stats)],
        device=device,
    )
    torch.manual_seed(0)
    model = build_classifier(recipe.architecture, 3, recipe.head_dropout).to(device)
    with tempfile.TemporaryDirectory() as folder:
        learner = Learner(loaders, model, loss_func=CrossEntropyLossFlat(), path=Path(folder))
        training = time_training(learner, options.epochs)
    return {
        "device": device_name(device),
        "batch": recipe.batch_size,
        "precision": "fp32",
        "workers": loaders.train.fake_l.num_workers,
        "training_images_per_second": training,
        "loader_images_per_second": time_loader(loaders.train, options.epochs),
    }


def time_training(learner: Any, epochs: int) -> float:
    """Images a second of the training part of the epochs after the first."""
    from fastai.callback.core import Callback, CancelValidException

    class Clock(Callback):
        """Sums images and seconds; leaves validation out."""

        order = 1000
        images, seconds = 0, 0.0

        def before_train(self) -> None:
            self.started = time.perf_counter()

        def after_batch(self) -> None:
            if self.training and self.epoch > 0:
                self.images += len(self.yb[0])

        def after_train(self) -> None:
            if self.epoch > 0:
                synchronize()
                self.seconds += time.perf_counter() - self.started

        def before_validate(self) -> None:
            raise CancelValidException

    clock = Clock()
    with learner.no_bar(), learner.no_logging():
        learner.fit(1 + epochs, 1e-4, cbs=clock)
    return clock.images / clock.seconds


def time_loader(loader: Any, epochs: int) -> float:
    """Images a second of the loader alone, batch transforms included, after one epoch to warm up."""
    images = 0
    for epoch in range(1 + epochs):
        if epoch == 1:
            images, started = 0, time.perf_counter()
        for batch in loader:
            images += len(batch[0])
    synchronize()
    return images / (time.perf_counter() - started)


def synchronize() -> None:
    """Let the GPU, if there is one, finish what it was given."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def device_name(device: Any) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


if __name__ == "__main__":
    sys.exit(main())
