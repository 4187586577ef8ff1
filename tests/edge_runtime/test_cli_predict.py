"""``edge-runtime predict`` as a program and a person see it."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result
from PIL import Image

from tests.edge_runtime.conftest import write_dicom
from tests.edge_runtime.tiny_bundle import LABELS, gradient

Run = Callable[..., Result]
KEYS = {
    *("file", "status", "reason", "label", "probabilities", "artifact", "backend", "precision", "timings_ms"),
    *("message", "remedy", "notes", "heatmap_file", "prediction_set", "refer", "gate_score"),
}


def _lines(result: Result) -> list[dict[str, object]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_json_lines_come_in_the_order_given_with_every_key(
    tiny_bundle: Path, chest_png: Path, chest_dicom: Path, tmp_path: Path, run_command: Run
) -> None:
    text = tmp_path / "text.dcm"
    text.write_text("not a radiograph")
    (tmp_path / "empty.png").touch()
    whole = chest_dicom.read_bytes()
    (tmp_path / "cut.dcm").write_bytes(whole[: len(whole) // 2])
    named = [chest_dicom, tmp_path / "no.dcm", text, tmp_path / "empty.png", tmp_path / "cut.dcm", chest_png]
    result = run_command("predict", tiny_bundle, *named, chest_png, "--json")
    answers = _lines(result)
    assert [a["file"] for a in answers] == [str(n) for n in [*named, chest_png]]
    assert [a["status"] for a in answers] == ["ok", "error", *["refused"] * 3, "ok", "ok"]
    assert result.exit_code == 1, "an absent file is an error"
    for answer in answers:
        assert set(answer) == KEYS
        assert (answer["label"] is None) == (answer["status"] != "ok")
        assert (answer["reason"] is None) == (answer["status"] == "ok")
        assert (answer["message"] is None) == (answer["status"] == "ok")
    first = answers[0]
    assert list(first["probabilities"]) == list(LABELS)  # type: ignore[call-overload]
    assert (first["artifact"], first["backend"], first["precision"]) == ("onnx-fp32", "onnxruntime", "fp32")
    assert set(first["timings_ms"]) == {"read", "predict", "total"}  # type: ignore[call-overload]
    assert answers[-1]["probabilities"] == answers[-2]["probabilities"], "the same file twice is answered twice"


def test_refused_alone_is_no_failure(tiny_bundle: Path, tmp_path: Path, run_command: Run) -> None:
    Image.new("RGB", (300, 300), (200, 30, 30)).save(tmp_path / "photo.jpg")
    result = run_command("predict", tiny_bundle, tmp_path / "photo.jpg", "--json")
    assert result.exit_code == 0
    assert _lines(result)[0]["status"] == "refused"


def test_folders_are_walked_in_order_and_patterns_expanded(tiny_bundle: Path, tmp_path: Path, run_command: Run) -> None:
    folder = tmp_path / "study"
    for name in ("b/2.png", "b/1.png", "a.png", ".hidden.png", "c.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(gradient(200, 200)).save(folder / name)
    write_dicom(folder / "b/IM0001")
    (folder / "notes.txt").write_text("x")
    (tmp_path / "bare").mkdir()
    result = run_command(
        "predict", tiny_bundle, folder, f"{folder}/*.png", tmp_path / "bare", f"{folder}/*.tif", "--json"
    )
    answers = _lines(result)
    walked = ["a.png", "c.png", "b/1.png", "b/2.png", "b/IM0001"]
    matched = ["a.png", "c.png"]
    wanted = [str(folder / n) for n in (*walked, *matched)]
    assert [a["file"] for a in answers] == [*wanted, str(tmp_path / "bare"), f"{folder}/*.tif"]
    assert [a["status"] for a in answers] == ["ok"] * 7 + ["error"] * 2
    assert [a["reason"] for a in answers[-2:]] == ["no_images", "unreachable"]
    assert result.exit_code == 1


def test_csv_and_heat_maps(tiny_bundle: Path, chest_png: Path, tmp_path: Path, run_command: Run) -> None:
    (tmp_path / "other").mkdir()
    Image.fromarray(gradient(300, 260, seed=1)).save(tmp_path / "other/chest.png")
    table, maps = tmp_path / "out.csv", tmp_path / "maps"
    result = run_command(
        "predict", tiny_bundle, chest_png, tmp_path / "other/chest.png", tmp_path / "no.png", "--json",
        "--csv", table, "--heatmaps", maps,
    )  # fmt: skip
    answers = _lines(result)
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [r["file"] for r in rows] == [a["file"] for a in answers]
    for row, answer in zip(rows[:2], answers, strict=False):
        for label in LABELS:
            assert float(row[f"probability_{label}"]) == answer["probabilities"][label]  # type: ignore[index]
    assert rows[2]["label"] == rows[2]["probability_normal"] == ""
    assert sorted(p.name for p in maps.iterdir()) == ["chest-2.png", "chest.png"]
    assert [a["heatmap_file"] for a in answers] == [str(maps / "chest.png"), str(maps / "chest-2.png"), None]
    with Image.open(maps / "chest.png") as picture:
        assert (picture.mode, picture.size) == ("RGB", (260, 300))
        red, _, blue = picture.split()
        assert red.tobytes() != blue.tobytes(), "it is coloured"


@pytest.mark.parametrize("option", ["--csv", "--heatmaps"])
def test_a_place_that_cannot_be_written_is_told_before_the_work(
    tiny_bundle: Path, chest_png: Path, tmp_path: Path, run_command: Run, option: str
) -> None:
    (tmp_path / "file").touch()
    result = run_command("predict", tiny_bundle, chest_png, "--json", option, tmp_path / "file" / "below")
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "cannot be written" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--artifact", "onnx-int4", "x.png"],
        ["--backend", "tensorflow", "x.png"],
        ["--artifact", "onnx-fp32", "--backend", "openvino", "x.png"],
        ["--threads", "0", "x.png"],
        ["--no-such-option", "x.png"],
    ],
)
def test_wrong_usage_exits_2(tiny_bundle: Path, run_command: Run, arguments: list[str]) -> None:
    result = run_command("predict", tiny_bundle, *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr


@pytest.mark.parametrize("command", ["predict", "info", "selftest", "serve"])
def test_a_wrong_bundle_is_one_message(tmp_path: Path, run_command: Run, command: str) -> None:
    result = run_command(command, tmp_path, *(["x.png"] if command == "predict" else []))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "is not a bundle" in result.stderr
    assert "remedy:" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_tampered_artifact_is_one_message(own_bundle: Path, chest_png: Path, run_command: Run) -> None:
    path = own_bundle / "artifacts/onnx-fp32.onnx"
    path.write_bytes(path.read_bytes()[::-1])
    result = run_command("predict", own_bundle, chest_png, "--csv", own_bundle.parent / "t.csv")
    assert result.exit_code == 1
    assert "damaged or was changed" in result.stderr
    assert not [p for p in own_bundle.parent.iterdir() if "t.csv" in p.name]


def test_people_get_a_table_and_the_disclaimer(
    tiny_bundle: Path, chest_png: Path, tmp_path: Path, run_command: Run
) -> None:
    result = run_command("predict", tiny_bundle, chest_png, tmp_path / "no\x1bc.dcm")
    assert result.exit_code == 1
    for words in (str(chest_png), *LABELS, "does not exist", "1 ok, 1 error", "Not a medical device"):
        assert "".join(words.split()) in "".join(result.stdout.split())
    assert "\x1b" not in result.stdout, "a file name cannot steer the terminal"


def test_info_and_selftest_for_programs_and_people(tiny_bundle: Path, run_command: Run) -> None:
    info = json.loads(run_command("info", tiny_bundle, "--json").stdout)
    (artifact,) = info["artifacts"]
    assert artifact["name"] == "onnx-fp32"
    assert artifact["available"] is True
    assert artifact["bytes"] == (tiny_bundle / "artifacts/onnx-fp32.onnx").stat().st_size
    assert info["labels"] == list(LABELS)
    people = run_command("info", tiny_bundle)
    assert people.exit_code == 0
    assert "onnx-fp32" in people.stdout
    assert "Not a medical device" in people.stdout
    result = run_command("selftest", tiny_bundle, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["passed"] is True
    assert report["artifacts"][0]["status"] == "agrees"
    assert "agrees" in run_command("selftest", tiny_bundle).stdout


def test_a_failed_self_test_exits_1(own_bundle: Path, run_command: Run) -> None:
    (own_bundle / "artifacts/onnx-fp32.onnx").write_bytes(b"")
    result = run_command("selftest", own_bundle)
    assert result.exit_code == 1
    assert "damaged" in result.stdout


def _start(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edge_runtime", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)  # type: ignore[call-overload]


def test_a_closed_pipe_ends_quietly(tiny_bundle: Path, chest_png: Path) -> None:
    process = _start("predict", tiny_bundle, *[chest_png] * 300, "--json")
    assert process.stdout is not None
    assert process.stderr is not None
    assert json.loads(process.stdout.readline())["status"] == "ok"
    process.stdout.close()
    assert process.wait(60) == 1
    assert process.stderr.read() == b""
    process.stderr.close()


@pytest.mark.skipif(sys.platform == "win32", reason="sends signals")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_run_leaves_no_half_written_file(
    tiny_bundle: Path, chest_png: Path, tmp_path: Path, number: int, code: int
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    # A test run that was started in the background ignores Ctrl-C, and its children would inherit that.
    heard = {"preexec_fn": lambda: signal.signal(number, signal.SIG_DFL)}
    process = _start("predict", tiny_bundle, *[chest_png] * 3000, "--json", "--csv", out / "t.csv", **heard)
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    lines, errors = process.communicate(timeout=60)
    assert process.returncode == code
    assert b"Traceback" not in errors
    assert len(lines.splitlines()) < 2999
    assert list(out.iterdir()) == []


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="file names there are text")
def test_a_file_name_that_is_no_text_is_answered(tiny_bundle: Path, tmp_path: Path) -> None:
    path = os.fsencode(tmp_path) + b"/r\xf6ntgen.png"
    Image.fromarray(gradient(200, 200)).save(tmp_path / "x.png")
    os.rename(tmp_path / "x.png", path)  # noqa: PTH104 - bytes
    for extra in (["--json", "--csv", str(tmp_path / "t.csv")], []):
        command = [sys.executable, "-m", "edge_runtime", "predict", str(tiny_bundle), path, *extra]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        assert b"ntgen.png" in done.stdout


def test_lines_are_flushed_as_they_come(tiny_bundle: Path, chest_png: Path, tmp_path: Path) -> None:
    if sys.platform == "win32":
        pytest.skip("needs a named pipe")
    later = tmp_path / "later.png"
    os.mkfifo(later)  # the reader refuses or waits; either way the first line must be there before
    process = _start("predict", tiny_bundle, chest_png, later, "--json")
    assert process.stdout is not None
    start = time.monotonic()
    assert json.loads(process.stdout.readline())["status"] == "ok"
    assert time.monotonic() - start < 30
    process.kill()
    process.communicate()
