"""More than one process: who writes, who waits, and numbers summed over all.

``torchrun`` starts the processes and tells each its place in the environment; without it there is one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta

import torch
from torch import Tensor, distributed

from edge_runtime.errors import EdgeRuntimeError

__all__ = ["ONE_PROCESS", "ProcessError", "Processes", "choose_device", "open_processes"]

# Others wait while the first decodes a whole data set or calibrates: far longer than a collective ever takes.
_TIMEOUT = timedelta(hours=4)


class ProcessError(EdgeRuntimeError):
    """The processes of a run do not go together, or a device is not there."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train one model together.

    Attributes
    ----------
    rank
        Its number, from 0; process 0 alone writes.
    count
        How many there are.
    device
        Where it computes.
    """

    rank: int = 0
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def writes(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            distributed.barrier()

    @contextmanager
    def first_writes(self) -> Iterator[None]:
        """Process 0 goes through the block while the others wait, then they do: what it wrote is there for them."""
        if not self.writes:
            self.wait()
        yield
        if self.writes:
            self.wait()

    def share(self, indices: Sequence[int]) -> Sequence[int]:
        """This process's part of a batch; the parts are disjoint, make up the whole, and differ by one at most."""
        return indices[self.rank :: self.count]

    def sum(self, values: Sequence[float]) -> list[float]:
        """Sums of numbers over the processes, in float64; every process must call it."""
        if self.count == 1:
            return [float(value) for value in values]
        total = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.all_reduce(total)
        return [float(value) for value in total]

    def average_(self, tensors: Sequence[Tensor]) -> None:
        """Replace each floating-point tensor by its mean over the processes, in place."""
        if self.count == 1:
            return
        for tensor in tensors:
            if tensor.is_floating_point():
                distributed.all_reduce(tensor)
                tensor /= self.count

    def check_same(self, value: int, what: str) -> None:
        """Raise :class:`ProcessError` in every process unless all have the same ``value`` (below 2**53)."""
        total, squares = self.sum([value, value * value])
        if self.count * squares != total * total:
            raise ProcessError(
                f"the processes do not agree on {what}",
                got=f"{value} in process {self.rank}",
                expected="the same data and run folder for all",
                remedy="put --data and --out on storage that every machine sees",
            )


ONE_PROCESS = Processes()


def choose_device(name: str) -> torch.device:
    """Resolve ``auto``, ``cpu`` or ``cuda``; under ``torchrun`` every process of a machine takes a GPU of its own.

    Raises
    ------
    ProcessError
        No CUDA device, or fewer than there are processes on this machine.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu":
        return torch.device("cpu")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    if not torch.cuda.is_available():
        raise ProcessError("there is no CUDA device", expected="a GPU and a CUDA build of torch", remedy="--device cpu")
    if local >= torch.cuda.device_count():
        raise ProcessError(
            "there are more processes than GPUs on this machine",
            got=f"process {local + 1}, {torch.cuda.device_count()} GPUs",
            remedy="give torchrun a smaller --nproc_per_node",
        )
    return torch.device("cuda", local)


@contextmanager
def open_processes(device: str) -> Iterator[Processes]:
    """Join the processes that ``torchrun`` has started (gloo on CPUs, NCCL on GPUs), and leave them at the end.

    Yields
    ------
    Processes
        With a count of 1 where there is no ``torchrun``.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    chosen = choose_device(device)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if count == 1:
        yield Processes(device=chosen)
        return
    joined = not distributed.is_initialized()
    if joined:
        distributed.init_process_group("nccl" if chosen.type == "cuda" else "gloo", timeout=_TIMEOUT)
    try:
        yield Processes(distributed.get_rank(), count, chosen)
    finally:
        if joined:
            distributed.destroy_process_group()
