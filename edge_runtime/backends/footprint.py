"""How much memory and disk a backend may use beyond what the model needs; for the whole process."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from edge_runtime.errors import BackendError

__all__ = ["engine_cache", "low_memory", "model_cache", "use_low_memory"]

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


def engine_cache(backend: str, key: Mapping[str, str]) -> Path:
    """Return the folder for the engines of one key, made where it is absent: below ``EDGE_RUNTIME_MODEL_CACHE``, else
    in the user's own cache folder (mode 0700), for a backend that takes minutes to build one.

    The folder is named after a hash of the key, and says in ``key.json`` what it was built for.

    Parameters
    ----------
    key
        All that an engine depends on, by name: another value of any gives another folder.

    Raises
    ------
    BackendError
        It cannot be made.
    """
    from edge_runtime.tuned import cache_folder

    text = json.dumps(dict(sorted(key.items())), indent=2)
    named = os.environ.get(_MODEL_CACHE)
    base = Path(named) if named else cache_folder() / "models"
    folder = base / backend / hashlib.sha256(text.encode()).hexdigest()[:32]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / "key.json").write_text(text + "\n")
    except OSError as error:
        raise BackendError(
            f"engines of {backend} cannot be kept in {folder}", got=error.strerror or str(error),
            remedy="name a folder that you can write to in EDGE_RUNTIME_MODEL_CACHE",
        ) from error  # fmt: skip
    return folder
