"""``train fit`` that notes what its process trains on and what it writes; started by torchrun in the tests.

torchrun ... tests/train/recorded_fit.py NOTES fit --data ... --out ...
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from train.cli import main
from train.loading import CachedRadiographs

notes = Path(sys.argv.pop(1)) / f"{os.environ['RANK']}.jsonl"
saved: list[Any] = []
take_batch, replace = CachedRadiographs.batch, os.replace


def note(**fields: Any) -> None:
    with notes.open("a") as stream:
        stream.write(json.dumps(fields) + "\n")


def noted_batch(self: CachedRadiographs, indices: Sequence[int]) -> tuple[Any, Any]:
    note(kind="batch", of=len(self), size=self.images.shape[1], indices=[int(i) for i in indices])
    return take_batch(self, indices)


def noted_replace(source: Any, target: Any, **more: Any) -> None:
    note(kind="write", name=Path(target).name)
    replace(source, target, **more)
    if Path(target).name == "state.pt":
        saved.append(target)
        if len(saved) == int(os.environ.get("KILL_AFTER_EPOCH", "-1")):
            os.kill(os.getpid(), signal.SIGKILL)


CachedRadiographs.batch = noted_batch  # type: ignore[method-assign]
os.replace = noted_replace  # type: ignore[assignment]
main()
