"""Every command line of the kit ends alike: one message, one exit code."""

from __future__ import annotations

import errno

import click
import pytest

from edge_runtime.errors import EdgeRuntimeError, UsageError
from edge_runtime.exit_codes import exit_code


def _raise(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (EdgeRuntimeError("it broke", got="a", expected="b", remedy="mend it"), 1, "Error: it broke\n  got:      a\n"),
        (UsageError("no such artifact"), 2, "Error: no such artifact"),
        (click.UsageError("no such option"), 2, "Error: no such option"),
        (click.ClickException("cannot"), 1, "Error: cannot"),
        (click.Abort(), 130, "Stopped."),
        (KeyboardInterrupt(), 130, "Stopped."),
        (OSError(errno.ENOSPC, "No space left on device", "/x/y"), 1, "/x/y: No space left on device"),
        (OSError("odd"), 1, "an unexpected error"),
        (RuntimeError("first line\nsecond line"), 1, "RuntimeError: first line\n"),
    ],
)
def test_every_failure_is_one_message_and_one_code(
    error: BaseException, code: int, words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("EDGE_RUNTIME_TRACEBACK", raising=False)
    assert exit_code(lambda: _raise(error)) == code
    printed = capsys.readouterr()
    assert words in printed.err and "second line" not in printed.err and printed.out == ""


def test_success_is_0_and_a_verdict_is_its_number() -> None:
    assert [exit_code(lambda value=value: value) for value in (None, 0, 10)] == [0, 0, 10]  # type: ignore[misc]


def test_a_stop_by_a_signal_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit):
        exit_code(lambda: _raise(SystemExit(143)))
    monkeypatch.setenv("EDGE_RUNTIME_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: 1 // 0)
