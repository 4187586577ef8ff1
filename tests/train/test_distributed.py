"""Several processes train one model: each radiograph once, one writer, the same curve, resumable."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from tests.train.conftest import TINY
from tests.train.plain_steps import train_plainly
from train.fit import fit
from train.loading import CachedLoader, CachedRadiographs, ImageStore, build_loaders
from train.processes import ProcessError, Processes
from train.recipe import load_recipe
from train.run import load_run

ROOT = Path(__file__).resolve().parents[2]


def _radiographs(count: int) -> CachedRadiographs:
    return CachedRadiographs(np.zeros((count, 8, 8), np.uint8), np.arange(count, dtype=np.int64))


@pytest.mark.parametrize("count", [1, 2, 4])
def test_together_the_processes_draw_what_one_draws(count: int) -> None:
    data = _radiographs(50)
    weights = np.arange(1, 51) / np.arange(1, 51).sum()
    parts = []
    for rank in range(count):
        loader = CachedLoader(
            data, bs=8, weights=weights, seed=3, processes=Processes(rank, count), shuffle=True, drop_last=True
        )
        loader.set_epoch(2)
        parts.append([targets.tolist() for _, targets in loader])
    # The same number of steps, the same parts of a batch for all, and their union is the batch of one process.
    assert {len(part) for part in parts} == {6}
    assert {len(batch) for part in parts for batch in part} == {8 // count}
    alone = CachedLoader(data, bs=8, weights=weights, seed=3, shuffle=True, drop_last=True)
    alone.set_epoch(2)
    for step, (_, targets) in enumerate(alone):
        assert Counter(targets.tolist()) == Counter(i for part in parts for i in part[step])


def test_validation_is_shared_out_whole_even_where_it_does_not_divide() -> None:
    seen = []
    for rank in range(4):
        loader = CachedLoader(_radiographs(17), bs=8, processes=Processes(rank, 4), shuffle=False)
        seen += [i for _, targets in loader for i in targets.tolist()]
    assert sorted(seen) == list(range(17))


def test_a_batch_that_cannot_be_shared_out_is_refused(tiny_dataset: Path, tmp_path: Path) -> None:
    from train.data.tables import load_dataset

    store = ImageStore(load_dataset(tiny_dataset), tmp_path, processes=Processes(0, 3))
    with pytest.raises(ProcessError, match="batch_size 8, 3 processes"):
        build_loaders(store, load_recipe("quick", TINY), 48)


def _torchrun(script: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    return subprocess.run(
        [*launcher, str(ROOT / "tests" / "train" / script), *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=500,
    )


def _fit(data: Path, out: Path, notes: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    notes.mkdir()
    overrides = [part for item in TINY for part in ("--set", item)]
    options = ["--data", data, "--recipe", "quick", "--out", out, "--device", "cpu", *overrides]
    return _torchrun("recorded_fit.py", notes, "fit", *options, **environment)


def _notes(folder: Path, rank: int, kind: str) -> list[dict]:
    lines = (folder / f"{rank}.jsonl").read_text().splitlines()
    return [note for note in map(json.loads, lines) if note["kind"] == kind]


def test_two_processes_train_as_one_and_go_on_after_a_kill(tiny_dataset: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    killed = _fit(tiny_dataset, out, tmp_path / "killed", KILL_AFTER_EPOCH="1")
    assert killed.returncode != 0
    assert (out / "state" / "state.pt").is_file(), killed.stderr
    assert not (out / "run.json").exists()

    resumed = _fit(tiny_dataset, out, tmp_path / "resumed")
    assert resumed.returncode == 0, resumed.stderr
    assert resumed.stdout.count("3 epochs of recipe quick") == 1
    history = load_run(out).spec.history
    assert [row["epoch"] for row in history] == [1, 2, 3]

    # One writer.
    for notes in (tmp_path / "killed", tmp_path / "resumed"):
        assert _notes(notes, 0, "write")
        assert _notes(notes, 1, "write") == []
    assert not list(out.rglob("*.part"))

    # Each drawn radiograph once, half of them in each process; every validation radiograph once an epoch.
    notes = [note for rank in (0, 1) for note in _notes(tmp_path / "resumed", rank, "batch")]
    both = [note for note in notes if len(note["indices"]) > 1]  # fastai looks at radiograph 0 to learn its type
    training = Counter(i for note in both if note["of"] == 18 for i in note["indices"])
    alone = fit(tiny_dataset, load_recipe("quick", TINY), tmp_path / "alone")
    loader = _loader_of_one(tiny_dataset, tmp_path)
    expected: Counter[int] = Counter()
    for epoch in range(1, 3):
        loader.set_epoch(epoch)
        expected.update(loader.get_idxs()[:16])
    assert training == expected
    validation = Counter(i for note in both if note["of"] == 6 for i in note["indices"])
    assert validation == Counter(dict.fromkeys(range(6), 2))

    # The same loss, but for smaller batch norms, other dropout and augmentation; 18 radiographs part ways soon after.
    assert history[0]["train_loss"] == pytest.approx(alone.spec.history[0]["train_loss"], rel=0.3)
    assert all(row["valid_loss"] < 10 for row in history)


def test_without_chance_two_processes_give_the_numbers_of_one(tiny_dataset: Path, tmp_path: Path) -> None:
    """Gradients, steps, validation loss and metrics are those of the whole batch and the whole split."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    train_plainly(tiny_dataset, one, Processes())
    shared = _torchrun("plain_steps.py", tiny_dataset, two)
    assert shared.returncode == 0, shared.stderr
    expected, result = (json.loads((folder / "result.json").read_text()) for folder in (one, two))
    assert result["weights"] == pytest.approx(expected["weights"], abs=1e-4)
    assert expected["rows"][-1]["train_loss"] < 0.9 * expected["rows"][0]["train_loss"]
    assert len(result["rows"]) == 4
    for row, wanted in zip(result["rows"], expected["rows"], strict=True):
        for key in ("train_loss", "valid_loss", "accuracy", *(k for k in wanted if k.startswith("sensitivity_"))):
            assert row[key] == pytest.approx(wanted[key], rel=1e-3)


def _loader_of_one(data: Path, tmp_path: Path) -> CachedLoader:
    """The training loader of one process."""
    from train.data.tables import load_dataset

    store = ImageStore(load_dataset(data), tmp_path / "cache")
    return build_loaders(store, load_recipe("quick", TINY), 48).train
