"""What a killed run leaves so that the same command goes on from its last epoch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from train.run import RunError

__all__ = ["clear_state", "load_state", "save_state"]

_NAME = "state.pt"
_VERSION = 1


def save_state(folder: Path, identity: str, state: dict[str, Any]) -> None:
    """Write the state of a run after an epoch, through a temporary name.

    Parameters
    ----------
    folder
        The run folder.
    identity
        Hash over everything that decides the run (recipe, data, seed, starting weights).
    state
        Tensors, numbers, strings and containers of them: it is read back without Python's unpickler of arbitrary
        objects (``weights_only``).
    """
    path = folder / "state" / _NAME
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    try:
        with temporary.open("wb") as stream:
            torch.save({"version": _VERSION, "identity": identity, **state}, stream)
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise RunError(
            f"the state of the run cannot be written to {path.parent}",
            got=str(error),
            remedy="free some space and start the same command again: it goes on from the last epoch saved",
        ) from error
    os.replace(temporary, path)


def load_state(folder: Path, identity: str) -> dict[str, Any] | None:
    """Return the state to go on from, or None where there is none.

    Raises
    ------
    RunError
        The state is another run's (recipe, data or seed were changed), or cannot be read.
    """
    path = folder / "state" / _NAME
    if not path.is_file():
        return None
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds here
        raise RunError(
            f"{path} cannot be read", got=str(error)[:300], remedy=f"remove {path.parent} to start anew"
        ) from error
    if state.get("version") != _VERSION or state.get("identity") != identity:
        raise RunError(
            f"{folder} holds an unfinished run with another recipe, data, seed or starting weights",
            expected="the command that started it",
            remedy="give the same options to go on, or another --out, or --restart to begin anew",
        )
    return state


def clear_state(folder: Path) -> None:
    """Remove the state once the run is finished."""
    state = folder / "state"
    for path in (state / _NAME, state / (Path(_NAME).stem + ".part")):
        path.unlink(missing_ok=True)
    if state.is_dir() and not any(state.iterdir()):
        state.rmdir()
