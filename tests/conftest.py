"""Fixtures that every part's tests share."""

from __future__ import annotations

import os
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
