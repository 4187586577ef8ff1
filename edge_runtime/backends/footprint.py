"""How much memory and disk a backend may use beyond what the model needs; for the whole process."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["low_memory", "model_cache", "use_low_memory"]

_LOW_MEMORY = "EDGE_RUNTIME_LOW_MEMORY"
_MODEL_CACHE = "EDGE_RUNTIME_MODEL_CACHE"


def low_memory() -> bool:
    """Tell whether backends should give memory back rather than keep it for the next run."""
    return os.environ.get(_LOW_MEMORY, "") not in ("", "0")


def use_low_memory() -> None:
    """Let every backend that is opened from now on, here and in processes started from here, keep memory low."""
    os.environ[_LOW_MEMORY] = "1"


def model_cache(backend: str) -> Path | None:
    """Return the folder for a backend's compiled models, made where it is absent; None where the environment names none
    (``EDGE_RUNTIME_MODEL_CACHE``). What lies in it is trusted: it must be the user's own.
    """
    named = os.environ.get(_MODEL_CACHE)
    if not named:
        return None
    folder = Path(named) / backend
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder
