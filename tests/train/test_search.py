"""The search: every curve from the same weights, repeatable, one suggestion."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from tests.train.conftest import TINY
from train.data.tables import load_dataset
from train.loading import ImageStore
from train.model import build_classifier
from train.recipe import load_recipe
from train.search import Curve, Suggestion, search_learning_rates, suggest
from train.search_command import search_command


def test_every_curve_starts_from_the_same_weights_and_leaves_them(tiny_dataset: Path, tmp_path: Path) -> None:
    # bf16, which some CPUs compute in, would round each repetition otherwise
    recipe = load_recipe("quick", (*TINY, "precision=fp32"))
    store = ImageStore(load_dataset(tiny_dataset), tmp_path / "cache")
    model = build_classifier(recipe.architecture, 3)
    before = copy.deepcopy(model.state_dict())
    first, second, again = search_learning_rates(store, model, recipe, recipe.stages[0], (0.0, 5.0, 0.0), 30)
    assert first.learning_rates == pytest.approx(again.learning_rates)
    assert first.losses == pytest.approx(again.losses, rel=1e-4)
    # The first steps are too small for the weight decay to tell, the last ones are not.
    assert second.losses[:5] == pytest.approx(first.losses[:5], rel=1e-3)
    assert second.losses[-5:] != pytest.approx(first.losses[-5:], rel=1e-2)
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any(type(module).__name__ == "MemorySavingSwish" for module in model.modules())


def test_the_lowest_valley_is_suggested() -> None:
    curves = [
        Curve(0.1, (), (), valley=1e-3, lowest_loss=0.7),
        Curve(0.2, (), (), valley=2e-3, lowest_loss=0.5),
        Curve(0.3, (), (), valley=None, lowest_loss=0.1),
    ]
    assert suggest(curves) == Suggestion(0.2, 2e-3)
    assert suggest(curves[2:]) is None


def test_the_command_leaves_figure_and_curves(tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["--data", str(tiny_dataset), "--recipe", "quick", "--out", str(tmp_path / "out"), "--iterations", "30"]
    overrides = [part for item in TINY for part in ("--set", item)]
    result = CliRunner().invoke(search_command, [*options, "--wd", "0.01", "--wd", "0.1", *overrides])
    assert result.exit_code == 0, result.output
    written = json.loads((tmp_path / "out" / "search.json").read_text())
    assert [curve["weight_decay"] for curve in written["curves"]] == [0.01, 0.1]
    assert all(len(curve["losses"]) == len(curve["learning_rates"]) > 10 for curve in written["curves"])
    suggestion = written["suggestion"]
    assert f"stages.0.lr={suggestion['learning_rate']:.2e} --set stages.0.wd={suggestion['weight_decay']:g}" in (
        result.output
    )
    assert Image.open(tmp_path / "out" / "search.png").width > 400
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"search.json", "search.png"}


def test_a_stage_that_is_not_there_is_wrong_usage(tiny_dataset: Path, tmp_path: Path) -> None:
    options = ["--data", str(tiny_dataset), "--recipe", "quick", "--out", str(tmp_path), "--stage", "9"]
    assert CliRunner().invoke(search_command, options).exit_code == 2
