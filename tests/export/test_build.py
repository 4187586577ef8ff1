"""Building a bundle, and what stays when a build goes wrong."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
import torch

from edge_runtime.bundle import open_bundle
from edge_runtime.manifest import Manifest, ParityResult
from edge_runtime.selftest import ArtifactTest, run_selftest
from export import DeployableGraph, ExportError, ParityFailure, add_artifact, build_bundle
from export.agreement import check_golden, recommend_after_parity, recommend_by_device
from export.calibration import choose_calibration_rows, load_calibration_set
from export.cli import main
from export.cpu import cpu_features, cpu_model
from export.formats import WRITERS
from export.golden_vectors import SHAPES
from export.label_order import better_order
from export.quantization.judging import Figures, Target
from export.quantization.plan import FormatPlan, QuantizationPlan, save_plan
from export.quantization.settings import PLAIN
from train.data.tables import load_dataset
from train.run import load_run


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
    half = tested(status="as_built", artifact="onnx-fp16", precision="fp16", p50_ms=20.0)
    assert recommend_by_device([int8, half], {}) == {"cpu": "onnx-fp16", "gpu": "onnx-fp16"}
    assert recommend_by_device([int8], {}) == {}, "nothing is recommended rather than what passed nothing"


def test_calibration_rows_are_training_patients_of_every_class(data_folder: Path) -> None:
    dataset = load_dataset(data_folder)
    rows = choose_calibration_rows(dataset, dataset.labels, 9)
    train = {row.filename for row in dataset.splits["train"]}
    assert {row.filename for row in rows} <= train and len({row.patient for row in rows}) == 9
    assert [row.label for row in rows[:3]] == list(dataset.labels)
    assert rows == choose_calibration_rows(dataset, dataset.labels, 9)
    assert len(choose_calibration_rows(dataset, dataset.labels, 1000)) == len(train)


def copy_with_broken_images(data: Path, target: Path, names: list[str]) -> Path:
    """A data set some of whose files are no pictures: the reader refuses them."""
    shutil.copytree(data, target)
    for name in names:
        (target / "images" / name).write_bytes(b"not a picture")
    return target


def test_a_calibration_set_counts_after_refusals(data_folder: Path, tmp_path: Path) -> None:
    dataset = load_dataset(data_folder)
    first = choose_calibration_rows(dataset, dataset.labels, 9)
    whole = load_calibration_set(dataset, dataset.labels, 9)
    assert whole.rows == tuple(first) and (whole.asked, whole.refused, whole.notes) == (9, 0, ())
    refused = load_dataset(copy_with_broken_images(data_folder, tmp_path / "data", [first[0].filename]))
    images = load_calibration_set(refused, dataset.labels, 9)
    assert len(images.rows) == 9 and first[0] not in images.rows, "the next one takes a refused one's place"
    assert images.refused == 1 and any("refused 1 radiograph" in note for note in images.notes)
    short = load_calibration_set(dataset, dataset.labels, 40)
    assert len(short.rows) == 15 and any("15 radiographs, not the 40" in note for note in short.notes)
    pneumonia = [row.filename for row in dataset.splits["train"] if row.label == "pneumonia"]
    one_left = load_dataset(copy_with_broken_images(data_folder, tmp_path / "one", pneumonia[1:]))
    with pytest.raises(ExportError, match="too few radiographs of a class") as raised:
        load_calibration_set(one_left, dataset.labels, 9)
    assert raised.value.got is not None and "1 of pneumonia; the reader refused 4" in raised.value.got


def plan_for(run: Path, dataset_sha256: str, *, reached: bool) -> QuantizationPlan:
    ones = dict.fromkeys(Figures.__dataclass_fields__, 1)
    figures = Figures(**{**ones, "agreement": 1.0 if reached else 0.9, "fp32_p50_ms": 2.0})
    return QuantizationPlan(
        schema_version=1, checkpoint_sha256=load_run(run).spec.checkpoint_sha256, calibration_radiographs=9,
        calibration_sha256=dataset_sha256, search_radiographs=6, search_patients=6, search_sha256="0" * 64,
        target=Target(), cpu="test",
        formats={"onnx": FormatPlan(reached=reached, settings=PLAIN, figures=figures, weights_file="",
                                    weights_sha256="")},
    )  # fmt: skip


def test_a_plan_binds_its_calibration_set(
    run_folder: Path, data_folder: Path, bundle_folder: Path, tmp_path: Path
) -> None:
    """And of each int8 artifact the manifest says what vouches for it."""
    run = shutil.copytree(run_folder, tmp_path / "run")
    dataset = load_dataset(data_folder)
    images = load_calibration_set(dataset, dataset.labels, 9)
    save_plan(run, plan_for(run, "1" * 64, reached=False))
    with pytest.raises(ExportError, match=r"not the one that quantization\.toml was made with"):
        build_bundle(run, data_folder, tmp_path / "bundle", formats=["onnx"])
    assert not (tmp_path / "bundle").exists()
    save_plan(run, plan_for(run, images.sha256, reached=False))
    result = build_bundle(run, data_folder, tmp_path / "bundle", formats=["onnx", "openvino"])
    plain = [line for line in result.manifest.limitations if "plain settings" in line]
    missed = [line for line in result.manifest.limitations if "missed its target" in line]
    assert len(plain) == len(missed) == 1
    assert "openvino-int8" in plain[0] and "onnx-int8" not in plain[0] and "onnx-int8" in missed[0]
    assert "onnx-int8" not in result.manifest.recommended.values()
    both = [line for line in manifest_of(bundle_folder).limitations if "plain settings" in line]
    assert "onnx-int8, openvino-int8" in both[0]
    build_bundle(run, data_folder, tmp_path / "bundle", formats=["onnx", "openvino"], keep=["onnx-fp32"])
    assert not any("int8" in line for line in manifest_of(tmp_path / "bundle").limitations)


def test_what_failed_parity_is_not_recommended(bundle_folder: Path) -> None:
    manifest = manifest_of(bundle_folder)

    def judged(**verdicts: str) -> dict[str, str]:
        result = ParityResult(
            split="test", radiographs=300, data_sha256="0" * 64, max_abs_probability_difference=0.1,
            mean_abs_probability_difference=0.01, differing_decisions=9, limit_abs_probability_difference=None,
            limit_differing_decisions=None, verdict="passed",
        )  # fmt: skip
        known = {name.replace("_", "-"): verdict for name, verdict in verdicts.items()}
        artifacts = tuple(
            msgspec.structs.replace(a, parity=msgspec.structs.replace(result, verdict=known[a.name]))
            if a.name in known
            else a
            for a in manifest.artifacts
        )
        recommended = {"cpu": "onnx-int8", "phone": "lite-fp32", "browser": "onnx-int8"}
        return recommend_after_parity(msgspec.structs.replace(manifest, artifacts=artifacts, recommended=recommended))

    kept = {"cpu": "onnx-int8", "phone": "lite-fp32", "browser": "onnx-int8"}
    assert judged() == judged(onnx_int8="passed") == judged(onnx_int8="not_shown") == kept
    assert judged(openvino_int8="failed") == kept, "what was not recommended changes nothing"
    floats = {"cpu": "onnx-fp32", "phone": "lite-fp32", "browser": "onnx-fp32"}
    assert judged(onnx_int8="failed") == floats
    assert judged(onnx_int8="failed", onnx_fp32="failed") == {"cpu": "openvino-fp32", "phone": "lite-fp32"}
    every = dict.fromkeys(("onnx_fp32", "openvino_fp32", "torchscript_fp32", "lite_fp32", "onnx_int8"), "failed")
    assert judged(**every) == {}, "int8 takes a float artifact's place only where its own parity passed"
    assert judged(**every, openvino_int8="passed") == {"cpu": "openvino-int8"}


def test_label_order_by_hand() -> None:
    rng = np.random.default_rng(3)
    wanted = rng.normal(size=(12, 3)) * 2
    assert better_order(wanted + rng.normal(size=(12, 3)) * 0.8, wanted) is None, "bad quantization is no other order"
    assert better_order(wanted + 100 * rng.normal(size=(12, 1)), wanted) is None, "a constant changes nothing"
    assert better_order(wanted[:, [1, 0, 2]] + rng.normal(size=(12, 3)) * 0.3, wanted) == (1, 0, 2)
    assert better_order(wanted[:, [2, 0, 1]], wanted) == (2, 0, 1)
    assert better_order(-wanted[:, :2], wanted[:, :2]) == (1, 0)
    assert better_order(rng.normal(size=(12, 3)) * 0.01, wanted) is None, "one that says nothing has no order"
    assert better_order(np.full((12, 3), np.nan), wanted) is None


def test_swapped_classes_do_not_pass_as_bad_quantization(run_folder: Path, bundle_folder: Path, tmp_path: Path) -> None:
    """A whole graph, its two first classes swapped, given out as int8 or float16."""
    bundle = shutil.copytree(bundle_folder, tmp_path / "bundle")
    before = snapshot(bundle)
    model = load_run(run_folder).load_model()
    last = model[1][-1]
    with torch.no_grad():
        last.weight[:2] = last.weight[[1, 0]]
    spec = load_run(run_folder).spec
    swapped = DeployableGraph(
        model, size=spec.image_size, normalization=spec.normalization, temperature=spec.temperature
    )
    for format_, suffix in (("onnx", ".onnx"), ("torchscript", ".pt")):
        theirs = tmp_path / f"theirs{suffix}"
        WRITERS[format_].write(swapped, theirs)
        with pytest.raises(ParityFailure, match="classes in another order") as raised:
            add_artifact(bundle, theirs, format_, "int8", replace=True)
        assert raised.value.got == "pneumonia, normal, COVID-19"
    with pytest.raises(ParityFailure, match="classes in another order"):
        add_artifact(bundle, tmp_path / "theirs.onnx", "onnx", "fp16")
    assert snapshot(bundle) == before


def test_add_checks_a_file_as_a_build_does(bundle_folder: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(bundle_folder, tmp_path / "bundle")
    before = snapshot(bundle)
    model = onnx.load(str(bundle / "artifacts/onnx-int8.onnx"))
    model.graph.output[2].type.tensor_type.shape.dim[2].dim_value += 1
    del model.graph.value_info[:]
    onnx.save_model(model, str(tmp_path / "theirs.onnx"))
    with pytest.raises(ExportError, match=r"onnx-int8\.onnx"):
        add_artifact(bundle, tmp_path / "theirs.onnx", "onnx", "int8", replace=True)
    shutil.copy(bundle / "artifacts/torchscript-fp32.pt", tmp_path / "theirs.ptl")
    with pytest.raises(ExportError, match="is not a file for the lite interpreter"):
        add_artifact(bundle, tmp_path / "theirs.ptl", "lite", "int8")
    assert snapshot(bundle) == before


def test_cpu_facts(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(
        "processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 fma\n\nprocessor\t: 1\nflags\t: amx_int8\n"
    )
    assert cpu_model(info) == "Some CPU" and cpu_features(info) == ("fma", "avx2")
    assert cpu_features(tmp_path / "absent") == ()
