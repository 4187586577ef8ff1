"""Batches drawn, validation untouched, and nothing of training's tricks left in the model."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from tests.train.conftest import TINY
from train.batch_figure import sample_batches
from train.data.batches_command import batches
from train.data.tables import load_dataset
from train.fit import FitOptions, fit
from train.loading import ImageStore, build_loaders
from train.preprocessing import Normalization
from train.processes import ProcessError
from train.recipe import load_recipe


def test_batches_after_resampling_are_even_and_are_those_of_fit(tiny_dataset: Path, tmp_path: Path) -> None:
    recipe = load_recipe("quick", TINY)
    store = ImageStore(load_dataset(tiny_dataset), tmp_path / "cache")
    sampled = sample_batches(store, recipe, 48, seed=5)
    assert sampled.counts == (6, 6, 6)
    assert sum(sampled.drawn) == 18
    assert sum(sampled.distinct) < 18
    assert sampled.before.images.shape == sampled.after.images.shape == (8, 48, 48)
    loader = build_loaders(store, recipe, 48, seed=5).train
    _, targets = next(iter(loader))
    assert targets.tolist() == sampled.after.targets.tolist()
    plain = sample_batches(store, load_recipe("quick", (*TINY, "oversample=false")), 48, seed=5)
    assert plain.drawn == plain.distinct == plain.counts


def test_the_command_draws_a_figure(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures" / "batches.png"
    overrides = [part for item in TINY for part in ("--set", item)]
    options = ["--data", str(tiny_dataset), "--recipe", "quick", "--out", str(out), "--json"]
    result = CliRunner().invoke(batches, [*options, *overrides])
    assert result.exit_code == 0, result.output
    assert json.loads(result.output)["classes"]["COVID-19"]["radiographs"] == 6
    assert Image.open(out).width > 800
    assert [path.name for path in out.parent.iterdir()] == ["batches.png"]
    wrong = CliRunner().invoke(batches, [*options[:-2], str(tmp_path / "figure.txt")])
    assert wrong.exit_code == 2


def test_a_figure_needs_no_validation_split(tiny_dataset: Path, tmp_path: Path) -> None:
    dataset = load_dataset(tiny_dataset)
    dataset.splits["valid"].clear()
    sampled = sample_batches(ImageStore(dataset, tmp_path / "cache"), load_recipe("quick", TINY), 48)
    assert sampled.labels == ("normal", "pneumonia", "COVID-19")


def test_fit_validates_on_radiographs_as_they_are(tiny_dataset: Path, tmp_path: Path) -> None:
    """Under fastai's own rule a data set without ``split_idx`` would have its validation augmented."""
    recipe = load_recipe("quick", (*TINY, "augmentation.noise=30", "augmentation.zoom_p=1"))
    store = ImageStore(load_dataset(tiny_dataset), tmp_path / "cache")
    loaders = build_loaders(store, recipe, 48)
    images = np.array(store.radiographs("valid", 48).images)
    expected = Normalization(recipe.normalization)(torch.from_numpy(images)[:, None].float())
    for _ in range(2):
        seen = torch.cat([batch.as_subclass(torch.Tensor) for batch, _ in loaders.valid])
        assert torch.allclose(seen, expected, atol=1e-3)
    augmented = next(iter(loaders.train))[0].as_subclass(torch.Tensor)
    again = next(iter(loaders.train))[0].as_subclass(torch.Tensor)
    assert not torch.allclose(augmented, again, atol=1e-1)


def test_the_memory_saving_swish_does_not_reach_the_finished_model(tiny_dataset: Path, tmp_path: Path) -> None:
    from pytorchcv.models.common.activ import Swish

    stages = "stages=[{size=48, epochs=1, lr=1e-3, lr_body=1e-3, wd=1e-2, pct_start=0.3, frozen=false}]"
    overrides = (*TINY, stages, "architecture=efficientnet_b0", "weight_averaging=0.9", "memory_saving_swish=true")
    run = fit(tiny_dataset, load_recipe("quick", overrides), tmp_path / "run")
    model = run.load_model()
    assert sum(isinstance(module, Swish) for module in model.modules()) > 40
    assert not any(type(module).__module__.startswith("train.") for module in model.modules())
    traced = torch.jit.trace(model, torch.zeros(1, 3, 48, 48))
    assert "PythonOp" not in str(traced.inlined_graph)


def test_the_log_holds_time_and_memory(tiny_dataset: Path, tmp_path: Path) -> None:
    run = fit(tiny_dataset, load_recipe("quick", TINY), tmp_path / "run")
    for row in run.spec.history:
        assert 0 < row["memory_used_mb"] <= row["memory_max_used_mb"]
        assert row["memory_used_mb"] <= row["memory_peak_mb"] * 1.01
        assert row["seconds"] > 0


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_named(tiny_dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(ProcessError, match="no CUDA device"):
        fit(tiny_dataset, load_recipe("quick", TINY), tmp_path / "run", FitOptions(device="cuda"))
