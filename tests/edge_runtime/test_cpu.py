"""Which CPU an artifact was validated on, and what the self-test says on another kind."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest
from click.testing import Result

from edge_runtime.bundle import open_bundle, rewrite_manifest
from edge_runtime.cpu import cpu_features, cpu_model, why_not_validated_here
from edge_runtime.golden import load_golden, write_golden
from edge_runtime.manifest import Artifact, GoldenAgreement, Validation
from edge_runtime.selftest import run_selftest


def artifact(precision: str = "int8", format_: str = "onnx") -> Artifact:
    return Artifact(
        name=f"{format_}-{precision}",
        format=format_,  # type: ignore[arg-type]
        precision=precision,  # type: ignore[arg-type]
        files=(),
        golden_agreement=GoldenAgreement(max_abs_probability_difference=1, differing_decisions=1),
        parity=None,
        validated_on=Validation(cpu="x", machine="x86_64", cpu_features=("avx2", "avx512_vnni"), runtime_versions={}),
        lite=None,
    )


def test_the_same_kind_of_cpu_is_said_nothing_of() -> None:
    features = ("avx2", "avx512_vnni", "sse4_1")  # what changes no int8 kernel does not count
    assert why_not_validated_here(artifact(), machine="x86_64", features=features) is None


def test_another_kind_of_cpu_is_named() -> None:
    why = why_not_validated_here(artifact(), machine="x86_64", features=("avx2", "amx_int8"))
    assert why == "this CPU lacks avx512_vnni; this CPU also has amx_int8"
    assert "aarch64" in str(why_not_validated_here(artifact(), machine="aarch64", features=("asimd",)))
    assert "not known here" in str(why_not_validated_here(artifact(), machine="x86_64", features=()))
    fp32 = artifact("fp32")
    assert why_not_validated_here(fp32, machine="x86_64", features=("avx2",)) is None, "1e-4 holds on any of them"
    assert why_not_validated_here(fp32, machine="aarch64", features=("asimd",)) is not None


def test_a_mask_counts_for_the_runtime_that_heeds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    here = {"machine": "x86_64", "features": ("avx2", "avx512_vnni")}
    assert "ONEDNN_MAX_CPU_ISA=AVX2" in str(why_not_validated_here(artifact(format_="openvino"), **here))  # type: ignore[arg-type]
    assert why_not_validated_here(artifact(format_="onnx"), **here) is None  # type: ignore[arg-type]


def test_cpu_facts_of_arm(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\nCPU part\t: 0xd0c\n")
    assert cpu_features(info) == ("asimd", "asimddp", "i8mm") and cpu_model(info)


def test_another_cpu_is_said_in_the_self_test(own_bundle: Path, run_command: Callable[..., Result]) -> None:
    with open_bundle(own_bundle) as bundle:
        first = bundle.manifest.artifacts[0]
        elsewhere = msgspec.structs.replace(first.validated_on, machine="riscv64")
        changed = msgspec.structs.replace(first, validated_on=elsewhere)
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, artifacts=(changed,)))
        result = run_selftest(bundle)
    assert result.passed and result.artifacts[0].status == "agrees", "the golden vectors still vouch for it"
    assert "riscv64" in str(result.artifacts[0].not_validated_here)
    said = run_command("selftest", own_bundle)
    assert said.exit_code == 0 and "not validated here" in said.stdout


def test_an_artifact_that_flips_golden_vectors_as_built_does_not_agree(
    own_bundle: Path, run_command: Callable[..., Result]
) -> None:
    with open_bundle(own_bundle) as bundle:
        vectors = load_golden(bundle)
        turned = {**vectors[0].outputs, "probabilities": np.roll(vectors[0].outputs["probabilities"], 1, axis=1)}
        outputs = [(vectors[0].pixels, turned), *((v.pixels, v.outputs) for v in vectors[1:])]
        golden = write_golden(own_bundle, bundle.manifest.labels, outputs, synthetic=True)
        built = GoldenAgreement(max_abs_probability_difference=1.0, differing_decisions=2)
        artifact = msgspec.structs.replace(bundle.manifest.artifacts[0], golden_agreement=built)
        rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, golden=golden, artifacts=(artifact,)))
        result = run_selftest(bundle)
        assert result.passed and result.artifacts[0].status == "as_built"
        assert result.artifacts[0].differing_decisions == 1
    said = run_command("selftest", own_bundle)
    assert said.exit_code == 0 and "as built" in said.stdout and "agrees" not in said.stdout
    assert json.loads(run_command("selftest", own_bundle, "--json").stdout)["artifacts"][0]["status"] == "as_built"
