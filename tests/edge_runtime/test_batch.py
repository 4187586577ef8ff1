"""Many files: order kept, bad ones in between, decoders that can be killed, runs that can be resumed."""

from __future__ import annotations

import csv
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from edge_runtime.decoding import DecodingPool
from edge_runtime.errors import InputError, Refusal
from edge_runtime.reading import read_radiograph
from tests.edge_runtime.conftest import write_dicom
from tests.edge_runtime.tiny_bundle import gradient

Run = Callable[..., Result]


@pytest.fixture
def pool() -> Iterator[DecodingPool]:
    with DecodingPool(1) as opened:
        yield opened


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twenty-one files, every third of them bad in its own way."""
    folder = tmp_path / "films"
    folder.mkdir()
    for number in range(7):
        Image.fromarray(gradient(220 + number, 200, number)).save(folder / f"{number}a.png")
        write_dicom(folder / f"{number}b.dcm", PixelData=gradient(320, 288, number).tobytes())
    (folder / "0c.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    (folder / "1c.dcm").write_bytes(b"")
    (folder / "2c.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(100))
    (folder / "3c.dcm").write_bytes(bytes(128) + b"DICM" + os.urandom(500))
    Image.fromarray(gradient(20, 20)).save(folder / "4c.png")
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (300, 300, 3), np.uint8)).save(folder / "5c.png")
    (folder / "6c.tif").write_text("no picture")
    return folder


def rows(path: Path) -> list[dict[str, object]]:
    found = [json.loads(line) for line in path.read_text().splitlines()]
    for row in found:
        row.pop("timings_ms")
    return found


def test_a_worker_reads_what_the_reader_reads(pool: DecodingPool, chest_dicom: Path, tmp_path: Path) -> None:
    here, there = read_radiograph(chest_dicom), pool.read(chest_dicom)
    np.testing.assert_array_equal(there.pixels, here.pixels)
    assert (there.facts, there.notes, there.source_format) == (here.facts, here.notes, here.source_format)
    (tmp_path / "no.dcm").write_text("no")
    with pytest.raises(Refusal) as refusal:
        pool.read(tmp_path / "no.dcm")
    assert refusal.value.reason == "unreadable"
    with pytest.raises(InputError, match="does not exist"):
        pool.read(tmp_path / "absent.dcm")


def test_a_slow_file_costs_its_worker_and_no_more(pool: DecodingPool, tmp_path: Path, chest_png: Path) -> None:
    pool.read(chest_png)  # started
    slow = tmp_path / "slow.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (6000, 6000), np.uint8)).save(slow, compress_level=1)
    pool._seconds = 0.01
    with pytest.raises(Refusal, match="took too long"):
        pool.read(slow)
    pool._seconds = 30.0
    assert pool.read(chest_png).source_format == "PNG"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
def test_a_dead_worker_is_replaced(pool: DecodingPool, chest_png: Path) -> None:
    pool.read(chest_png)
    worker = pool._free.queue[0]
    assert worker is not None
    assert worker._process.pid is not None
    os.kill(worker._process.pid, signal.SIGSTOP)  # a worker that hangs in a decoder's loop
    pool._seconds = 0.2
    with pytest.raises(Refusal, match="took too long"):
        pool.read(chest_png)
    pool._seconds = 30.0
    assert pool.read(chest_png).source_format == "PNG"
    worker = pool._free.queue[0]
    assert worker is not None
    worker._process.kill()
    worker._process.join()
    assert pool.read(chest_png).source_format == "PNG"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space")
def test_a_worker_may_not_take_all_memory(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.fromarray(np.zeros((7000, 7000), np.uint8)).save(large)
    with DecodingPool(1, memory_bytes=24 * 2**20) as pool, pytest.raises(Refusal):
        pool.read(large)


def test_jobs_give_the_same_answers_in_the_same_order(
    tiny_bundle: Path, folder: Path, tmp_path: Path, run_command: Run
) -> None:
    for jobs, name in ((1, "one.jsonl"), (3, "three.jsonl")):
        result = run_command("predict", tiny_bundle, folder, "--jsonl", tmp_path / name, "--jobs", jobs)
        assert result.exit_code == 0, result.stderr
    one, three = rows(tmp_path / "one.jsonl"), rows(tmp_path / "three.jsonl")
    assert len(one) == 21
    assert [(r["file"], r["status"], r["reason"], r["label"]) for r in one] == [
        (r["file"], r["status"], r["reason"], r["label"]) for r in three
    ]
    assert sum(r["status"] == "refused" for r in one) == 7
    for a, b in zip(one, three, strict=True):
        assert a["probabilities"] == (None if b["probabilities"] is None else pytest.approx(b["probabilities"]))


@pytest.mark.parametrize("end", ["csv", "jsonl"])
def test_a_run_goes_on_where_it_was_interrupted(
    tiny_bundle: Path, folder: Path, tmp_path: Path, run_command: Run, end: str
) -> None:
    option, out = f"--{end}", tmp_path / f"out.{end}"
    whole = tmp_path / f"whole.{end}"
    assert run_command("predict", tiny_bundle, folder, option, whole, "--jobs", 1).exit_code == 0
    lines = whole.read_bytes().splitlines(keepends=True)
    part = out.with_name(f"{out.name}.part")
    part.write_bytes(b"".join(lines[:9]) + lines[9][:17])  # killed in the middle of a row
    held = 9 - (end == "csv")
    result = run_command("predict", tiny_bundle, folder, option, out, "--resume", "--jobs", 1)
    assert result.exit_code == 0, result.stderr
    assert f"{held} files are in the output already; {21 - held} are left" in result.stderr
    assert not part.exists()
    if end == "csv":
        names = [row["file"] for row in csv.DictReader(out.open(newline=""))]
        assert names == [row["file"] for row in csv.DictReader(whole.open(newline=""))]
    else:
        assert rows(out) == rows(whole)
    again = run_command("predict", tiny_bundle, folder, option, out, "--resume", "--jobs", 1)
    assert "21 files are in the output already; 0 are left" in again.stderr


def test_resuming_does_not_mix_artifacts_or_foreign_files(
    tiny_bundle: Path, chest_png: Path, tmp_path: Path, run_command: Run
) -> None:
    out = tmp_path / "out.jsonl"
    run_command("predict", tiny_bundle, chest_png, "--jsonl", out)
    out.write_text(out.read_text().replace("onnx-fp32", "onnx-int8"))
    other = run_command("predict", tiny_bundle, chest_png, "--jsonl", out, "--resume")
    assert other.exit_code == 2
    assert "another artifact" in other.stderr
    table = tmp_path / "out.csv"
    table.write_text("name,age\nJane,7\n")
    foreign = run_command("predict", tiny_bundle, chest_png, "--csv", table, "--resume")
    assert foreign.exit_code == 1
    assert "cannot be resumed" in foreign.stderr or "not an output that can be resumed" in foreign.stderr
    assert table.read_text() == "name,age\nJane,7\n"
    assert run_command("predict", tiny_bundle, chest_png, "--resume").exit_code == 2
