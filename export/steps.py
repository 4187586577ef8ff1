"""Progress of a build: which of its steps is being done, and how many there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["OnStep", "Steps"]

OnStep = Callable[[str, int, int], None]
"""Told what is done next, how many steps are done, and how many there are."""


@dataclass
class Steps:
    """Counts steps and tells of them."""

    on_step: OnStep
    total: int
    done: int = -1

    def next(self, what: str) -> None:
        """Begin the next step."""
        self.done += 1
        self.on_step(what, self.done, self.total)

    def detail(self, what: str) -> None:
        """Say more of the step that is being done."""
        self.on_step(what, self.done, self.total)
