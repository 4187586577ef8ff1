"""Fixtures that every part's tests share, and the parts that a run must not skip.

A skip names what is missing, so a run where everything is missing passes. ``CXR_REQUIRE=mobile,browser``, as CI has
it, turns the skips of tests with these marks into failures; not of those that are opt-in by a variable of their own.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def cxr_data() -> Path:
    """The folder of real radiographs that the environment variable CXR_DATA names; skips where there is none."""
    value = os.environ.get("CXR_DATA")
    if not value:
        pytest.skip("CXR_DATA is not set: no real radiographs here")
    folder = Path(value)
    if not (folder / "sources").is_dir():
        pytest.fail(f"CXR_DATA={value} holds no folder 'sources'")
    return folder


@pytest.fixture(autouse=True)
def torch_as_found() -> Iterator[None]:
    """Put back what a test changed of torch for the whole process: a training run depends on the number of threads."""
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return
    threads, engine = torch.get_num_threads(), torch.backends.quantized.engine
    yield
    torch.set_num_threads(threads)
    torch.backends.quantized.engine = engine


PARTS = frozenset({"mobile", "browser", "executorch", "real_data"})
"""Marks of tests that need what not every machine has; CXR_REQUIRE names some of them."""
OPT_IN = "opt-in: "
"""How the reason begins of a skip that no run has to do without being asked."""


def required_parts() -> frozenset[str]:
    """Return the marks that CXR_REQUIRE names."""
    asked = frozenset(filter(None, os.environ.get("CXR_REQUIRE", "").replace(" ", "").split(",")))
    if asked - PARTS:
        raise pytest.UsageError(
            f"CXR_REQUIRE names {', '.join(sorted(asked - PARTS))}; expected: some of {', '.join(sorted(PARTS))}"
        )
    return asked


def pytest_configure() -> None:
    required_parts()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    parts = {mark.name for mark in item.iter_markers()} & PARTS
    if report.skipped and not hasattr(report, "wasxfail") and parts and parts <= required_parts():
        reason = str(report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr)
        if OPT_IN not in reason:
            report.outcome = "failed"
            report.longrepr = f"{reason}\nCXR_REQUIRE asks for {' and '.join(sorted(parts))}: not to be skipped"
    return report
