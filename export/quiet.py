"""Tools that print, log and warn about their own progress, kept quiet; what matters comes as an exception."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet(*loggers: str, stdout: bool = True) -> Iterator[None]:
    """While entered, let no warning through and of the loggers errors only.

    Parameters
    ----------
    loggers
        Names; the root logger by default.
    stdout
        Also keep what is printed.
    """
    quieted = [logging.getLogger(name) for name in loggers] or [logging.getLogger()]
    levels = [logger.level for logger in quieted]
    for logger in quieted:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.ExitStack() as stack:
            if stdout:
                stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(quieted, levels, strict=True):
            logger.setLevel(level)
