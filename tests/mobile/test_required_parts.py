"""CXR_REQUIRE: what CI must not skip is a failure there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest

@pytest.mark.mobile
def test_missing_tool():
    pytest.skip("no javac here")

@pytest.mark.mobile
def test_not_asked_for():
    pytest.skip("opt-in: VARIABLE names nothing")

@pytest.mark.mobile
@pytest.mark.real_data
def test_without_data():
    pytest.skip("no data here")

def test_unmarked():
    pytest.skip("not today")

@pytest.mark.browser
def test_of_another_part():
    pytest.skip("no browser here")
"""


def outcome(folder: Path, parts: str) -> tuple[int, str]:
    (folder / "conftest.py").write_text("from tests.conftest import pytest_configure, pytest_runtest_makereport\n")
    (folder / "test_some.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "-q"]
    environment = {**os.environ, "CXR_REQUIRE": parts, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [*command, str(folder)], capture_output=True, text=True, timeout=120, env=environment, cwd=folder
    )
    return done.returncode, done.stdout + done.stderr


def test_only_what_is_asked_for_fails(tmp_path: Path) -> None:
    code, said = outcome(tmp_path, "")
    assert (code, "5 skipped" in said) == (0, True), said
    code, said = outcome(tmp_path, "mobile")
    assert (code, "1 failed, 4 skipped" in said) == (1, True), said
    assert "no javac here" in said and "CXR_REQUIRE asks for mobile" in said
    code, said = outcome(tmp_path, "mobile, browser,real_data")
    assert (code, "3 failed, 2 skipped" in said) == (1, True), said


def test_a_part_that_there_is_not_is_named(tmp_path: Path) -> None:
    code, said = outcome(tmp_path, "mobiles")
    assert code != 0 and "mobiles" in said and "browser" in said
