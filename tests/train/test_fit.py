"""A run from the first epoch to the run folder: complete, repeatable, resumable, honest about failure."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from edge_runtime.errors import EdgeRuntimeError
from tests.train.conftest import TINY, write_tiny_dataset
from train.epoch_log import TrainingDivergedError
from train.fit import FitOptions, fit, predict_logits
from train.image_cache import cached_images
from train.model import build_classifier, count_parameters
from train.preprocessing import Normalization
from train.recipe import load_recipe
from train.run import RunError, load_run

ROOT = Path(__file__).resolve().parents[2]


def test_efficientnet_b1_has_the_seeds_number_of_parameters() -> None:
    assert count_parameters(build_classifier("efficientnet_b1", 3)) == 7_831_584


def test_a_run_leaves_all_that_export_needs(tiny_dataset: Path, tmp_path: Path) -> None:
    recipe = load_recipe("quick", (*TINY, "weight_averaging=0.9", "mixup=0.2"))
    run = fit(tiny_dataset, recipe, tmp_path / "run", FitOptions(seed=3))

    assert [row["epoch"] for row in run.spec.history] == [1, 2, 3]
    assert run.spec.image_size == 64
    assert run.spec.labels == ("normal", "pneumonia", "COVID-19")
    assert run.spec.synthetic
    assert set(run.spec.operating_thresholds or {}) == set(run.spec.labels)
    assert not (run.folder / "state").exists()
    for name in ("log.csv", "curves.png", "run.json", "checkpoint.safetensors"):
        assert (run.folder / name).stat().st_size > 0
    model = run.load_model()
    assert not any(module.training for module in model.modules())
    # Nothing of training stays in the checkpoint.
    assert {name.split(".")[0] for name in model.state_dict()} == {"0", "1"}


def test_it_learns(tmp_path: Path) -> None:
    data = write_tiny_dataset(tmp_path / "data", per_class=30)
    stages = "stages=[{size=48, epochs=6, lr=2e-3, lr_body=2e-3, wd=1e-2, pct_start=0.3, frozen=false}]"
    recipe = load_recipe("quick", (*TINY, stages, "architecture=resnet10"))
    run = fit(data, recipe, tmp_path / "run")
    assert run.spec.history[-1]["train_loss"] < 0.7 * run.spec.history[0]["train_loss"]
    assert run.spec.history[-1]["accuracy"] > 0.8


def test_a_finished_run_is_not_trained_again_and_not_overwritten(tiny_dataset: Path, tmp_path: Path) -> None:
    recipe = load_recipe("quick", TINY)
    first = fit(tiny_dataset, recipe, tmp_path / "run")
    before = (tmp_path / "run" / "checkpoint.safetensors").stat().st_mtime_ns
    assert fit(tiny_dataset, recipe, tmp_path / "run").spec == first.spec
    assert (tmp_path / "run" / "checkpoint.safetensors").stat().st_mtime_ns == before
    with pytest.raises(RunError, match="another recipe"):
        fit(tiny_dataset, recipe, tmp_path / "run", FitOptions(seed=9))


def _command(data: Path, out: Path) -> list[str]:
    overrides = [part for item in TINY for part in ("--set", item)]
    return [
        sys.executable,
        "-m",
        "train",
        "fit",
        "--data",
        str(data),
        "--recipe",
        "quick",
        "--out",
        str(out),
        *overrides,
    ]


def test_killed_and_started_again_it_ends_as_the_uninterrupted_run(tiny_dataset: Path, tmp_path: Path) -> None:
    recipe = load_recipe("quick", TINY)
    whole = fit(tiny_dataset, recipe, tmp_path / "whole")

    out = tmp_path / "killed"
    process = subprocess.Popen(
        _command(tiny_dataset, out), cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while not (out / "state" / "state.pt").is_file() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if process.returncode == 0:
        pytest.skip("the run was over before it could be killed")
    assert not (out / "run.json").exists()

    subprocess.run(_command(tiny_dataset, out), cwd=ROOT, check=True, capture_output=True)
    resumed = load_run(out)
    assert [row["epoch"] for row in resumed.spec.history] == [1, 2, 3]
    for key in ("train_loss", "valid_loss", "accuracy"):
        expected = [row[key] for row in whole.spec.history]
        assert [row[key] for row in resumed.spec.history] == pytest.approx(expected, rel=1e-3)


def test_an_unfinished_run_of_another_recipe_is_not_mixed_in(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    recipe = load_recipe("quick", TINY)
    from train.fit import _identity
    from train.resume import save_state

    save_state(out, _identity(recipe, tiny_dataset, 0, "none"), {"stage": 0})
    with pytest.raises(RunError, match="unfinished run"):
        fit(tiny_dataset, load_recipe("quick", (*TINY, "batch_size=4")), out)


def test_a_loss_that_is_not_a_number_stops_the_run_and_says_where(tiny_dataset: Path, tmp_path: Path) -> None:
    stages = "stages=[{size=48, epochs=2, lr=1e30, lr_body=1e30, wd=0.0, pct_start=0.3, frozen=false}]"
    recipe = load_recipe("quick", (*TINY, stages, "precision=fp32"))
    with pytest.raises(TrainingDivergedError, match=r"stage 1, epoch \d, batch \d"):
        fit(tiny_dataset, recipe, tmp_path / "run")
    assert not (tmp_path / "run" / "run.json").exists()


def test_data_is_checked_before_training(tiny_dataset: Path, tmp_path: Path) -> None:
    (tiny_dataset / "images" / "normal-0.png").write_bytes(b"not an image")
    with pytest.raises(EdgeRuntimeError, match=r"normal-0\.png"):
        fit(tiny_dataset, load_recipe("quick", TINY), tmp_path / "run")


def test_a_damaged_checkpoint_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    run = fit(tiny_dataset, load_recipe("quick", TINY), tmp_path / "run")
    path = run.folder / "checkpoint.safetensors"
    damaged = bytearray(path.read_bytes())
    damaged[-1] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(RunError, match="not the checkpoint"):
        run.load_model()


def test_run_json_with_an_unknown_or_missing_key_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    run = fit(tiny_dataset, load_recipe("quick", TINY), tmp_path / "run")
    fields = msgspec.json.decode((run.folder / "run.json").read_bytes())
    for change in ({"surprise": 1}, {"temperature": 0.0}):
        (run.folder / "run.json").write_bytes(msgspec.json.encode({**fields, **change}))
        with pytest.raises(RunError, match="does not follow"):
            load_run(run.folder)


def test_training_sees_the_pixels_the_exported_graph_sees(tiny_dataset: Path, tmp_path: Path) -> None:
    """The cache rounds to whole grey levels; nothing else may differ from the graph's own preprocessing."""
    from train.image_cache import load_grey
    from train.preprocessing import squish

    name = "pneumonia-3.png"
    cached = cached_images(tiny_dataset / "images", [name], ["x"], 48, tmp_path / "cache", workers=1)
    image = torch.from_numpy(load_grey(tiny_dataset / "images" / name).copy())[None, None]
    exact = squish(image, 48)
    assert np.abs(cached[0] - exact[0, 0].numpy()).max() <= 0.5
    model = build_classifier("mobilenetv2_wd4", 3).eval()
    normalization = Normalization("per_image")
    with torch.no_grad():
        direct = model(normalization(exact.round())).double().numpy()
    assert predict_logits(model, normalization, cached) == pytest.approx(direct, abs=1e-4)
