"""Answers as JSON lines on stdout, each flushed as it comes."""

from __future__ import annotations

import sys
from typing import Any

import msgspec

from edge_runtime.answer import Answer

__all__ = ["json_line", "write_line"]


def json_line(value: Any) -> bytes:
    """Return a value as one line of UTF-8 JSON.

    A file name that is no text (bytes of another encoding) has its odd bytes written as ``\\udcxx``.
    """
    try:
        return msgspec.json.encode(value) + b"\n"
    except UnicodeEncodeError:
        return msgspec.json.encode(_clean(value)) + b"\n"


def write_line(answer: Answer) -> None:
    """Write an answer to stdout and flush."""
    stream = sys.stdout.buffer
    stream.write(json_line(answer.to_json_object()))
    stream.flush()


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_clean(k): _clean(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(v) for v in value]
    return value
