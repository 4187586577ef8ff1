"""A run evaluated whole: the three files, what they agree on, and what is refused."""

from __future__ import annotations

import csv
import errno
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from edge_runtime.errors import EdgeRuntimeError
from tests.train.conftest import write_tiny_dataset
from train.calibration import softmax
from train.data.record import NearDuplicate
from train.data.tables import LABELS, file_sha256, load_dataset, split_sha256, write_dataset
from train.evaluate import EvaluateOptions, evaluate
from train.evaluate_command import evaluate_command
from train.evaluation.files import write_files
from train.evaluation.predictions import Classifier, EvaluationError
from train.evaluation.record import Evaluation
from train.model import build_classifier, count_parameters
from train.run import RunSpec, save_run_spec

FAST = EvaluateOptions(resamples=100, top=3, workers=1)


def write_run(folder: Path, data: Path, labels: tuple[str, ...] = LABELS) -> Path:
    """A run folder around an untrained network: everything is there but the knowledge."""
    torch.manual_seed(0)
    model = build_classifier("mobilenetv2_wd4", len(labels)).eval()
    folder.mkdir(parents=True)
    path = folder / "checkpoint.safetensors"
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, path)
    point = {"threshold": 0.3, "wanted_sensitivity": 0.95, "sensitivity": {"value": 1.0}, "specificity": {"value": 0.5}}
    spec = RunSpec(
        schema_version=1,
        labels=labels,
        architecture="mobilenetv2_wd4",
        head_dropout=0.5,
        image_size=48,
        normalization="per_image",
        recipe={"name": "tiny"},
        starting_weights="none",
        seed=0,
        synthetic=True,
        data_sha256=split_sha256(data),
        epochs=0,
        history=(),
        temperature=1.7,
        temperature_fitted_on="valid",
        operating_thresholds={labels[-1]: 0.3},
        operating_points={labels[-1]: point},
        checkpoint_sha256=file_sha256(path),
        package_versions={},
        git_commit=None,
        created="2020-01-01T00:00:00+00:00",
    )
    save_run_spec(folder, spec)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 radiographs of two sources, two patients with several, one near copy in the test split."""
    root = write_tiny_dataset(tmp_path_factory.mktemp("evaluate") / "data", per_class=20)
    dataset = load_dataset(root)
    assert dataset.record is not None
    splits = {
        split: [replace(row, source="here" if i % 2 else "there") for i, row in enumerate(rows)]
        for split, rows in dataset.splits.items()
    }
    copy = NearDuplicate("COVID-19-4.png", "test", "COVID-19-0.png", "train", 3, False)
    in_valid = NearDuplicate("COVID-19-3.png", "valid", "COVID-19-9.png", "test", 3, False)
    record = msgspec.structs.replace(dataset.record, near_duplicates=(copy, in_valid))
    write_dataset(root, splits, record, dataset.boxes)
    return root


@pytest.fixture(scope="module")
def run(data: Path) -> Path:
    return write_run(data.parent / "run", data)


@pytest.fixture(scope="module")
def evaluation(run: Path, data: Path) -> Evaluation:
    """One evaluation with everything on, in ``out`` beside the data."""
    return evaluate(run, data, replace(FAST, tta=True, out=data.parent / "out"))


def test_the_three_files_agree(evaluation: Evaluation, data: Path) -> None:
    out = data.parent / "out"
    assert sorted(path.name for path in out.iterdir()) == ["evaluation.json", "predictions.csv", "report.html"]

    stored = json.loads((out / "evaluation.json").read_text())
    assert stored == json.loads(evaluation.to_json())
    assert "NaN" not in (out / "evaluation.json").read_text()
    assert [row["ours"] for row in stored["comparison"]] == [False] * 5 + [True]
    assert stored["comparison"][-1]["parameters_m"] == pytest.approx(
        count_parameters(build_classifier("mobilenetv2_wd4", 3)) / 1e6
    )

    with (out / "predictions.csv").open(newline="") as stream:
        lines = list(csv.DictReader(stream))
    assert [line["filename"] for line in lines] == [row.filename for row in load_dataset(data).splits["test"]]
    confusion = np.zeros((3, 3), dtype=int)
    for line in lines:
        confusion[LABELS.index(line["label"]), LABELS.index(line["called"])] += 1
        logits = np.array([[float(line[f"logit_{label}"]) for label in LABELS]])
        probabilities = [float(line[f"probability_{label}"]) for label in LABELS]
        assert softmax(logits, 1.7)[0] == pytest.approx(probabilities, abs=1e-5)
        assert sum(float(line[f"tta_probability_{label}"]) for label in LABELS) == pytest.approx(1, abs=1e-5)
    assert confusion.tolist() == stored["result"]["confusion"]
    losses = sorted((float(line["loss"]) for line in lines), reverse=True)
    assert [found["loss"] for found in stored["top_losses"]] == pytest.approx(losses[:3], abs=1e-5)

    # Only the copy of a training radiograph counts, not that of a validation one.
    assert stored["near_copies"]["filenames"] == ["COVID-19-4.png"]
    assert stored["near_copies"]["without"]["images"] == stored["result"]["images"] - 1
    assert stored["source_probe"]["accuracy"]["value"] is not None
    assert {found["name"] for found in stored["masked"]} == {"lungs_blacked", "border_only", "border_blacked"}
    assert stored["thresholds"][0]["threshold"] == 0.3
    assert stored["calibration"]["temperature"] == 1.7
    assert stored["warnings"] == []


class _Links(HTMLParser):
    """Everything a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.found += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]


@pytest.mark.usefixtures("evaluation")
def test_the_page_needs_no_network_and_no_script(data: Path) -> None:
    page = (data.parent / "out" / "report.html").read_text()
    links = _Links()
    links.feed(page)
    assert not links.tags & {"script", "link", "iframe", "object"}
    assert len(links.found) == 9  # three views of three radiographs
    assert all(link.startswith("data:image/jpeg;base64,") for link in links.found)
    assert not re.search(r"url\(|@import", page)
    assert "not a medical device" in page
    assert "SYNTHETIC" in page
    assert str(data.parent) not in page


def test_a_file_name_cannot_write_into_the_page(run: Path, tmp_path: Path) -> None:
    root = write_tiny_dataset(tmp_path / "data", per_class=5)
    dataset = load_dataset(root)
    assert dataset.record is not None
    name = "<script>alert(1)<.png"
    row = dataset.splits["test"][0]
    (root / "images" / row.filename).rename(root / "images" / name)
    dataset.splits["test"][0] = replace(row, filename=name, source="<b>x")
    write_dataset(root, dataset.splits, dataset.record)
    evaluate(run, root, replace(FAST, out=tmp_path / "out"))
    page = (tmp_path / "out" / "report.html").read_text()
    assert "<script" not in page and "<b>x" not in page
    assert "&lt;script&gt;" in page


def test_the_answers_are_those_of_the_network(run: Path, data: Path) -> None:
    """Embedding and heat map against what they are by definition."""
    model = build_classifier("mobilenetv2_wd4", 3).eval()
    classifier = Classifier(model, "per_image", torch.device("cpu"), batch=4)
    images = np.random.default_rng(0).integers(0, 256, (6, 48, 48), dtype=np.uint8)
    answers = classifier.answer(images, "test")
    last = [m for m in model[1].modules() if isinstance(m, torch.nn.Linear)][-1]
    again = torch.from_numpy(answers.embeddings) @ last.weight.T
    if last.bias is not None:
        again = again + last.bias
    assert answers.logits == pytest.approx(again.detach().double().numpy(), abs=1e-4)
    maps = classifier.grad_cam(images[0], [0, 2])
    assert maps.shape[0] == 2 and maps.dtype == np.float32
    assert maps.min() >= 0
    assert all(peak in (0.0, 1.0) for peak in maps.max(axis=(1, 2)))
    flipped = classifier.answer(images, "test", lambda x: x.flip(-1)).logits
    assert np.abs(flipped - answers.logits).max() > 0


def test_a_class_missing_in_the_split_is_reported_and_not_nan(run: Path, tmp_path: Path) -> None:
    root = write_tiny_dataset(tmp_path / "data", per_class=10)
    dataset = load_dataset(root)
    assert dataset.record is not None
    dataset.splits["test"] = [row for row in dataset.splits["test"] if row.label != "COVID-19"]
    write_dataset(root, dataset.splits, dataset.record)
    evaluation = evaluate(run, root, replace(FAST, out=tmp_path / "out"))
    covid = evaluation.result.classes[2]
    assert covid.sensitivity.value is None and covid.sensitivity.reason
    assert any("no radiograph of: COVID-19" in line for line in evaluation.warnings)
    assert any("not those that the run was trained on" in line for line in evaluation.warnings)
    text = (tmp_path / "out" / "evaluation.json").read_text() + (tmp_path / "out" / "report.html").read_text()
    assert "NaN" not in text and ">nan" not in text


def test_what_cannot_be_evaluated_is_refused_and_leaves_nothing(run: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    other = write_run(tmp_path / "other", data, labels=("normal", "sick"))
    with pytest.raises(EvaluationError, match="different labels"):
        evaluate(other, data, replace(FAST, out=out))
    root = write_tiny_dataset(tmp_path / "data", per_class=5)
    dataset = load_dataset(root)
    assert dataset.record is not None
    write_dataset(root, {**dataset.splits, "test": []}, dataset.record)
    with pytest.raises(EdgeRuntimeError, match=r"test .*is empty"):
        evaluate(run, root, replace(FAST, out=out))
    with pytest.raises(EdgeRuntimeError, match="not a finished run"):
        evaluate(tmp_path / "nothing", data, replace(FAST, out=out))
    (root / "images" / "normal-3.png").write_bytes(b"not an image")
    with pytest.raises(EdgeRuntimeError, match=r"normal-3\.png"):
        evaluate(run, root, replace(FAST, out=out, split="valid"))
    assert not out.exists()


def test_a_full_disk_is_an_error_and_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_files(tmp_path, {"a": b"old", "b": b"old"})
    synced = []

    def full(descriptor: int) -> None:
        synced.append(descriptor)
        if len(synced) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EvaluationError, match="cannot be written"):
        write_files(tmp_path, {"a": b"new", "b": b"new"})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"old", "b": b"old"}


def test_data_without_training_split_is_evaluated_without_probes_and_pictures_if_asked(
    run: Path, tmp_path: Path
) -> None:
    root = write_tiny_dataset(tmp_path / "data", per_class=5)
    dataset = load_dataset(root)
    assert dataset.record is not None
    write_dataset(root, {"test": dataset.splits["test"]}, dataset.record)
    evaluation = evaluate(run, root, replace(FAST, out=tmp_path / "out", pictures=False))
    assert "data:image" not in (tmp_path / "out" / "report.html").read_text()
    assert evaluation.source_probe.accuracy.value is None
    assert all(found.refitted_accuracy.value is None for found in evaluation.masked)
    assert all(found.accuracy.value is not None for found in evaluation.masked)


def test_the_command_prints_json_and_names_the_report(
    run: Path, data: Path, evaluation: Evaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[EvaluateOptions] = []

    def instead(_run: Path, _data: Path, options: EvaluateOptions) -> Evaluation:
        asked.append(options)
        return evaluation

    monkeypatch.setattr("train.evaluate.evaluate", instead)
    arguments = [str(run), "--data", str(data), "--resamples", "300", "--split", "valid", "--no-pictures"]
    answer = CliRunner().invoke(evaluate_command, [*arguments, "--json"])
    assert answer.exit_code == 0, answer.output
    assert json.loads(answer.stdout) == json.loads(evaluation.to_json())
    assert asked == [EvaluateOptions(split="valid", resamples=300, pictures=False)]
    plain = CliRunner().invoke(evaluate_command, arguments)
    assert plain.exit_code == 0
    assert "evaluation-valid/report.html" in plain.stdout and "not a medical device" in plain.stdout
    assert CliRunner().invoke(evaluate_command, [*arguments, "--split", "holdout"]).exit_code == 2
