"""The list of operators that a smaller libtorch is built with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_runtime.bundle import open_bundle

pytestmark = pytest.mark.mobile


def run(*arguments: str | Path) -> tuple[int, str]:
    command = [sys.executable, "-m", "mobile_demo.operators", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout + done.stderr


def test_the_list_is_what_the_files_need(mobile_bundle: Path, tmp_path: Path) -> None:
    """Judged by torch's own reading of the files, not by the manifest that the list comes from."""
    from torch.jit.mobile import _export_operator_list, _load_for_lite_interpreter

    out = tmp_path / "selected_operators.yaml"
    for names in (["lite-fp32"], ["lite-int8"], ["lite-fp32", "lite-int8"]):
        code, said = run(mobile_bundle, out, *(part for name in names for part in ("--artifact", name)))
        assert code == 0, said
        needed = set()
        for name in names:
            needed |= _export_operator_list(_load_for_lite_interpreter(str(mobile_bundle / f"artifacts/{name}.ptl")))
        lines = out.read_text().splitlines()
        assert all(line.startswith("- ") for line in lines) and lines == sorted(lines)
        assert {line.removeprefix("- ") for line in lines} == needed
        assert f"{len(needed)} operators" in said
    assert any("quantized::" in line for line in lines)


def test_all_lite_artifacts_by_default(release_bundle: Path, tmp_path: Path) -> None:
    code, said = run(release_bundle, tmp_path / "list.yaml")
    assert code == 0, said
    with open_bundle(release_bundle) as bundle:
        lite = [a for a in bundle.manifest.artifacts if a.format == "lite"]
    wanted = {operator for artifact in lite if artifact.lite for operator in artifact.lite.operators}
    assert len((tmp_path / "list.yaml").read_text().splitlines()) == len(wanted)
    assert not list(tmp_path.glob(".*"))


def test_what_it_refuses(mobile_bundle: Path, tmp_path: Path) -> None:
    assert run(mobile_bundle, tmp_path / "x", "--artifact", "onnx-fp32")[0] == 2
    assert run(tmp_path, tmp_path / "x")[0] == 1
    assert run(mobile_bundle, tmp_path / "none" / "x")[0] == 1
    assert run(mobile_bundle)[0] == 2
    assert not (tmp_path / "x").exists()
