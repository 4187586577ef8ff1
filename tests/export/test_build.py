"""Building a bundle, and what stays when a build goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from edge_runtime.bundle import open_bundle
from edge_runtime.manifest import Manifest
from edge_runtime.selftest import ArtifactTest, run_selftest
from export import ExportError, ParityFailure, build_bundle
from export.agreement import check_golden, recommend_by_device
from export.calibration import choose_calibration_rows
from export.cli import main
from export.cpu import cpu_features, cpu_model
from export.golden_vectors import SHAPES
from train.data.tables import load_dataset


def manifest_of(bundle: Path) -> Manifest:
    with open_bundle(bundle) as opened:
        return opened.manifest


def run_cli(*arguments: object, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["export", *(str(a) for a in arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    return int(stopped.value.code or 0)


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_the_whole_bundle(bundle_folder: Path, run_folder: Path) -> None:
    with open_bundle(bundle_folder) as bundle:
        manifest = bundle.manifest
        bundle.check_files(manifest.all_files())
        assert [a.name for a in manifest.artifacts] == [
            "onnx-fp32", "openvino-fp32", "torchscript-fp32", "lite-fp32", "onnx-int8", "openvino-int8",
        ]  # fmt: skip
        assert manifest.recommended == {"cpu": "onnx-fp32", "phone": "lite-fp32", "browser": "onnx-fp32"}
        assert manifest.golden.synthetic and len(manifest.golden.inputs) == len(SHAPES) >= 12
        assert manifest.provenance.trained_on_synthetic_data
        assert any("synthetic" in sentence for sentence in manifest.limitations)
        assert manifest.calibration.temperature == 1.3
        for artifact in manifest.artifacts:
            assert artifact.validated_on.runtime_versions and artifact.parity is None
            if artifact.precision == "fp32":
                assert artifact.golden_agreement.max_abs_probability_difference == 1e-4
                assert artifact.golden_agreement.differing_decisions == 0
        assert run_selftest(bundle).passed
    assert str(Path.home()).encode() not in (bundle_folder / "manifest.json").read_bytes()
    report = json.loads((bundle_folder / "reports/build.json").read_text())
    assert report["calibration_set"]["by_label"] == {"COVID-19": 3, "normal": 3, "pneumonia": 3}
    assert report["calibration_set"]["patients"] == 9


def test_nothing_reaches_out_when_something_is_wrong(
    run_folder: Path, data_folder: Path, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """Every wrong input: exit 1, one message, the bundle that was there as it was, no leftovers."""
    out = tmp_path / "bundle"
    shutil.copytree(bundle_folder, out)
    before = snapshot(out)

    no_checkpoint = tmp_path / "no-checkpoint"
    no_checkpoint.mkdir()
    shutil.copy(run_folder / "run.json", no_checkpoint)
    wrong_checkpoint = tmp_path / "wrong-checkpoint"
    shutil.copytree(run_folder, wrong_checkpoint)
    with (wrong_checkpoint / "checkpoint.safetensors").open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(b"\1\2\3\4")
    one_class_less = tmp_path / "one-class-less"
    shutil.copytree(data_folder, one_class_less)
    lines = (one_class_less / "train.csv").read_text().splitlines()
    (one_class_less / "train.csv").write_text("\n".join(x for x in lines if ",pneumonia," not in x) + "\n")
    other = tmp_path / "notes"
    other.mkdir()
    (other / "thesis.txt").write_text("mine")

    cases = [
        (["--run", tmp_path / "nothing", "--data", data_folder, "--out", out], "not a finished run"),
        (["--run", no_checkpoint, "--data", data_folder, "--out", out], "checkpoint.safetensors is missing"),
        (["--run", wrong_checkpoint, "--data", data_folder, "--out", out], "is not the checkpoint"),
        (["--run", run_folder, "--data", one_class_less, "--out", out], "no radiograph of class 'pneumonia'"),
        (["--run", run_folder, "--data", tmp_path / "nothing", "--out", out], "no dataset folder"),
        (["--run", run_folder, "--out", out], "no data folder"),
        (["--run", run_folder, "--data", data_folder, "--out", out, "--calibration", "3"], "too small"),
        (["--run", run_folder, "--data", data_folder, "--out", other, "--no-int8"], "not a bundle"),
    ]
    for arguments, message in cases:
        assert run_cli("build", *arguments, monkeypatch=monkeypatch) == 1, message
        said = capsys.readouterr()
        assert message in said.err and "Traceback" not in said.err and "unexpected" not in said.err
    assert snapshot(out) == before
    assert snapshot(other) == {"thesis.txt": b"mine"}
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []
    assert run_cli("build", "--run", run_folder, monkeypatch=monkeypatch) == 2
    assert run_cli("build", "--run", run_folder, "--out", out, "--formats", "tflite", monkeypatch=monkeypatch) == 2


def test_a_build_that_breaks_half_way_leaves_the_old_bundle(
    run_folder: Path, bundle_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(bundle_folder, out)
    before = snapshot(out)

    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("export.golden_vectors.write_golden", full_disk)
    with pytest.raises(ExportError, match="No space left"):
        build_bundle(run_folder, None, out, formats=["torchscript"], int8=False)
    assert snapshot(out) == before
    assert [p.name for p in tmp_path.iterdir()] == ["bundle"]


def test_a_new_build_replaces_the_bundle(run_folder: Path, bundle_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle"
    shutil.copytree(bundle_folder, out)
    steps: list[tuple[str, int, int]] = []
    result = build_bundle(
        run_folder, None, out, formats=["torchscript", "lite"], int8=False, name="again",
        on_step=lambda *step: steps.append(step),
    )  # fmt: skip
    assert manifest_of(out) == result.manifest and result.manifest.name == "again"
    assert sorted(p.name for p in (out / "artifacts").iterdir()) == ["lite-fp32.ptl", "torchscript-fp32.pt"]
    assert result.manifest.recommended["cpu"] in ("lite-fp32", "torchscript-fp32")
    assert [done for _, done, _ in steps] == list(range(len(steps))) and steps[-1][2] == len(steps)


def test_real_golden_inputs_are_marked(run_folder: Path, data_folder: Path, tmp_path: Path) -> None:
    real = tmp_path / "data"
    shutil.copytree(data_folder, real)
    record = json.loads((real / "dataset.json").read_text())
    (real / "dataset.json").write_text(json.dumps({**record, "synthetic": False}))
    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    spec = json.loads((run / "run.json").read_text())
    with pytest.raises(ExportError, match="another kind"):
        build_bundle(run, real, tmp_path / "bundle", formats=["torchscript"], int8=False, golden_real=2)
    (run / "run.json").write_text(json.dumps({**spec, "synthetic": False}))
    result = build_bundle(run, real, tmp_path / "bundle", formats=["torchscript"], int8=False, golden_real=2)
    assert not result.manifest.golden.synthetic
    assert len(result.manifest.golden.inputs) == len(SHAPES) + 2
    assert any("real radiographs" in note for note in result.notes)


def test_fp32_that_differs_fails_the_build() -> None:
    def tested(**values: object) -> ArtifactTest:
        return ArtifactTest(**{"artifact": "onnx-fp32", "backend": "onnxruntime", "precision": "fp32", **values})  # type: ignore[arg-type]

    good = {"status": "agrees", "max_abs_probability_difference": 1e-6, "differing_decisions": 0}
    check_golden([tested(**good)])
    with pytest.raises(ParityFailure, match="onnx-fp32 does not answer"):
        check_golden([tested(status="differs", max_abs_probability_difference=2e-4, differing_decisions=0)])
    with pytest.raises(ExportError, match="cannot be run"):
        check_golden([tested(status="not_installed", why="onnxruntime is not installed")])
    slow_onnx = tested(**good, p50_ms=20.0)
    quick = tested(**good, artifact="openvino-fp32", backend="openvino", p50_ms=5.0)
    int8 = tested(**good, artifact="onnx-int8", precision="int8", p50_ms=1.0)
    chosen = recommend_by_device([quick, int8, slow_onnx], {})
    assert chosen == {"cpu": "onnx-fp32", "browser": "onnx-fp32"}, "what the base install opens comes first"
    plain = recommend_by_device([quick, int8], {})
    assert plain["cpu"] == "openvino-fp32", "int8 at plain settings is never recommended"


def test_calibration_rows_are_training_patients_of_every_class(data_folder: Path) -> None:
    dataset = load_dataset(data_folder)
    rows = choose_calibration_rows(dataset, dataset.labels, 9)
    train = {row.filename for row in dataset.splits["train"]}
    assert {row.filename for row in rows} <= train and len({row.patient for row in rows}) == 9
    assert [row.label for row in rows[:3]] == list(dataset.labels)
    assert rows == choose_calibration_rows(dataset, dataset.labels, 9)
    assert len(choose_calibration_rows(dataset, dataset.labels, 1000)) == len(train)


def test_cpu_facts(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t: amx_int8\n"
    )
    assert cpu_model(info) == "Some CPU" and cpu_features(info) == ("fma", "avx2")
    assert cpu_features(tmp_path / "absent") == ()
