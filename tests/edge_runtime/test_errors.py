"""Errors cross process boundaries whole."""

from __future__ import annotations

import pickle

import pytest

from edge_runtime.errors import BundleError, EdgeRuntimeError, Reason, Refusal


@pytest.mark.parametrize(
    "error",
    [
        BundleError("broken", got="a", expected="b", remedy="c"),
        Refusal(Reason.TOO_SMALL, "small", got="3 px", expected="128 px", remedy="a larger one"),
    ],
)
def test_an_error_survives_pickling(error: EdgeRuntimeError) -> None:
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert vars(again) == vars(error)
