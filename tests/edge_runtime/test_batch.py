"""Many files: order kept, bad ones in between, decoders that can be killed, runs that can be resumed."""

from __future__ import annotations

import csv
import faulthandler
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from PIL import Image

from edge_runtime import decoding
from edge_runtime.answer import error_answer
from edge_runtime.answer_view import AnswerView
from edge_runtime.bundle import open_bundle
from edge_runtime.decoding import DecodingPool
from edge_runtime.decoding_messages import receive_radiograph
from edge_runtime.errors import DecoderError, Fault, InputError, Refusal
from edge_runtime.predictor import Predictor
from edge_runtime.reading import read_radiograph
from edge_runtime.reading.limits import DEFAULT_LIMITS
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


def pid_of(pool: DecodingPool) -> int:
    worker = pool._free.queue[0]
    assert worker is not None
    assert worker._process.pid is not None
    return int(worker._process.pid)


def test_a_slow_file_costs_its_worker_and_no_more(pool: DecodingPool, tmp_path: Path, chest_png: Path) -> None:
    pool.read(chest_png)  # started
    slow = tmp_path / "slow.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (6000, 6000), np.uint8)).save(slow, compress_level=1)
    pool._seconds = 0.01
    with pytest.raises(DecoderError, match="took too long") as caught:
        pool.read(slow)
    assert caught.value.fault is Fault.DECODER_TIMED_OUT
    pool._seconds = 30.0
    assert pool.read(chest_png).source_format == "PNG"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signal")
@pytest.mark.parametrize("fork_first", [False, True])
def test_a_worker_that_hangs_or_dies_is_replaced(chest_png: Path, fork_first: bool) -> None:
    with DecodingPool(1, fork_first=fork_first) as pool:
        pool.start()
        pool.read(chest_png)
        os.kill(pid_of(pool), signal.SIGSTOP)  # a worker that hangs in a decoder's loop, deaf to any handler
        pool._seconds = 0.2
        with pytest.raises(DecoderError, match="took too long") as hung:
            pool.read(chest_png)
        assert hung.value.fault is Fault.DECODER_TIMED_OUT
        pool._seconds = 30.0
        assert pool.read(chest_png).source_format == "PNG"
        dead = pid_of(pool)
        worker = pool._free.queue[0]
        assert worker is not None
        worker._process.kill()
        worker._process.join()
        assert pool.read(chest_png).source_format == "PNG", "a worker that died before its turn costs nothing"
        assert pid_of(pool) != dead


@pytest.mark.skipif(sys.platform != "linux", reason="a worker that was forked keeps what is put in place of the reader")
def test_a_decoder_that_crashes_is_an_error_of_its_file_alone(
    tiny_bundle: Path, chest_png: Path, tmp_path: Path, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Path(shutil.copy(chest_png, tmp_path / "crash.png"))
    after = Path(shutil.copy(chest_png, tmp_path / "after.png"))

    def read(path: str, *arguments: object, **options: object) -> object:
        if path == str(bad):
            faulthandler.disable()  # its report would be the test run's own
            os.kill(os.getpid(), signal.SIGSEGV)
        return read_radiograph(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(decoding, "read_radiograph", read)
    result = run_command("predict", tiny_bundle, chest_png, bad, after, "--json", "--window", 1)
    assert result.exit_code == 1
    answers = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(a["status"], a["reason"]) for a in answers] == [("ok", None), ("error", "decoder_died"), ("ok", None)]
    assert "crash.png" in answers[1]["message"] and "SIGSEGV" in answers[1]["message"]
    assert answers[1]["remedy"]


def test_frame_and_window_reach_the_worker(pool: DecodingPool, tmp_path: Path) -> None:
    pages = [Image.fromarray(gradient(200, 200, seed)) for seed in (1, 2)]
    pages[0].save(tmp_path / "two.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(Refusal) as refusal:
        pool.read(tmp_path / "two.tif")
    assert refusal.value.reason == "multi_frame"
    np.testing.assert_array_equal(pool.read(tmp_path / "two.tif", frame=2).pixels, gradient(200, 200, 2))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's address space")
def test_a_worker_may_not_take_all_memory(tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    noise = np.random.default_rng(1).integers(0, 255, (7000, 7000), np.uint8)
    Image.fromarray(noise).save(large, compress_level=0)
    with DecodingPool(1) as pool:
        np.testing.assert_array_equal(pool.read(large).pixels, noise)
    with DecodingPool(1, memory_bytes=24 * 2**20) as pool:
        with pytest.raises(Refusal) as caught:
            pool.read(large)
        assert caught.value.reason == "too_large"
        small = tmp_path / "small.png"
        Image.fromarray(gradient(200, 200)).save(small)
        assert pool.read(small).source_format == "PNG", "the worker goes on"


@pytest.mark.parametrize(
    "sent",
    [
        [b"no JSON"],
        [b"{}"],
        [b'{"picture":{"shape":[2,2],"source_format":"PNG","facts":{},"notes":[],"more":1}}'],
        [b'{"picture":{"shape":[99999,99999],"source_format":"PNG","facts":{},"notes":[]}}', b"1234"],
        [b'{"picture":{"shape":[2,2],"source_format":"PNG","facts":{},"notes":[]}}', b"123"],
        [b'{"picture":{"shape":[2,2],"source_format":"PNG","facts":{},"notes":[]}}', b"12345"],
        [b'{"failure":{"what":"w","got":null,"expected":null,"remedy":null,"reason":"because"}}'],
    ],
)
def test_what_a_hostile_decoder_says_is_not_believed(sent: list[bytes]) -> None:
    ours, theirs = multiprocessing.Pipe()
    for message in sent:
        theirs.send_bytes(message)
    with ours, theirs, pytest.raises(OSError, match="decoder"):
        receive_radiograph(ours, DEFAULT_LIMITS)


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
    out.write_bytes(b"\xff\xfe no text\n")
    assert run_command("predict", tiny_bundle, chest_png, "--jsonl", out, "--resume").exit_code == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["chest.png", "out.csv", "out.jsonl"], "nothing half-written"
    assert run_command("predict", tiny_bundle, chest_png, "--resume").exit_code == 2


def test_many_files_are_lines_or_counts_and_none_is_kept(
    tiny_bundle: Path, tmp_path: Path, run_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    films = tmp_path / "many"
    films.mkdir()
    for number in range(45):
        Image.fromarray(gradient(200, 200, number)).save(films / f"{number:02}.png")
    (films / "30.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    result = run_command("predict", tiny_bundle, films, "--jobs", 1)
    lines = [line for line in result.stdout.splitlines() if "\t" in line]
    assert [line.partition("\t")[2] for line in lines] == [str(films / f"{number:02}.png") for number in range(45)]
    assert lines[30].startswith("refused: unreadable")
    assert "45 files: 44 ok, 1 refused" in result.stdout
    with open_bundle(tiny_bundle) as bundle, Predictor.open(bundle) as predictor:
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
        view = AnswerView(predictor)
        for number in range(2000):
            view.add(error_answer(f"{number}.png", Fault.UNREACHABLE, f"{number}.png is away"))
            view.add(error_answer(f"{number}.dcm", Fault.INTERNAL_ERROR, f"the fault {number}"))
        assert len(view._table) <= 40
        assert len(view._remarks) <= 20
        assert all(len(files) <= 3 for files in view._remarks.values())
        assert view._statuses["error"] == 4000
