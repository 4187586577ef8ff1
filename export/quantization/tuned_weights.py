"""The file of fine-tuned weights: what fine-tuning changed, in half precision, and what it was made from and for.

Differences from the checkpoint rather than weights: they are small, so that float16 keeps them to 2**-11 of
themselves, far below an int8 step, in half the bytes.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from msgspec import Struct
from torch import Tensor

from export.errors import ExportError
from export.graph import DeployableGraph
from export.quantization.settings import QuantizationSettings

__all__ = ["Tuned", "TunedFor", "apply_differences", "differences_of", "load_tuned", "save_tuned"]

_METADATA = "fine_tuning"


@dataclass(frozen=True)
class Tuned:
    """A fine-tuned graph, on the CPU, and how it came about.

    Attributes
    ----------
    settings
        Which layers were rounded, and for how many epochs.
    learning_rate
        Largest of the one cycle.
    loss
        Mean of the last epoch.
    device
        Where it was trained, in words.
    """

    graph: DeployableGraph
    settings: QuantizationSettings
    learning_rate: float
    loss: float
    device: str


class TunedFor(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The description in a file of fine-tuned weights: of which checkpoint, and the rest as :class:`Tuned` has it."""

    checkpoint_sha256: str
    settings: QuantizationSettings
    learning_rate: float
    loss: float
    device: str
    torch_version: str


def apply_differences(graph: DeployableGraph, differences: dict[str, Tensor]) -> DeployableGraph:
    """Return a copy of the graph with the differences added.

    Parameters
    ----------
    graph
        With the run's own weights; not changed.
    differences
        float16, by the name of a parameter or buffer; what is not named stays.

    Raises
    ------
    ExportError
        They are another network's.
    """
    tuned = copy.deepcopy(graph)
    state = tuned.state_dict()
    for name, difference in differences.items():
        if name not in state or state[name].shape != difference.shape:
            raise ExportError(
                "the fine-tuned weights are another network's",
                got=f"{name} {tuple(difference.shape)}",
                expected=f"{tuple(state[name].shape)}" if name in state else "a weight of this run",
                remedy="fine-tune this run: python -m export fine-tune",
            )
        state[name] += difference.float()
    return tuned


def differences_of(graph: DeployableGraph, tuned: DeployableGraph) -> dict[str, Tensor]:
    """Return what fine-tuning changed, float16 by name."""
    before = graph.state_dict()
    after = tuned.state_dict()
    return {
        name: (after[name] - value).half().contiguous()
        for name, value in before.items()
        if value.is_floating_point() and not torch.equal(after[name], value)
    }


def save_tuned(path: Path, graph: DeployableGraph, tuned: Tuned, checkpoint_sha256: str) -> None:
    """Write a file of fine-tuned weights (safetensors) through a temporary name."""
    from safetensors.torch import save_file

    made_for = TunedFor(
        checkpoint_sha256=checkpoint_sha256, settings=tuned.settings, learning_rate=tuned.learning_rate,
        loss=tuned.loss, device=tuned.device, torch_version=str(torch.__version__),
    )  # fmt: skip
    temporary = path.with_name(path.name + ".part")
    try:
        save_file(
            differences_of(graph, tuned.graph), temporary,
            metadata={_METADATA: msgspec.json.encode(made_for, order="deterministic").decode()},
        )  # fmt: skip
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def load_tuned(path: Path, graph: DeployableGraph, checkpoint_sha256: str) -> Tuned:
    """Read a file of fine-tuned weights for a graph with the run's own.

    Raises
    ------
    ExportError
        Missing, not such a file, or made from another checkpoint.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    made_for = _read_description(path)
    if made_for.checkpoint_sha256 != checkpoint_sha256:
        raise ExportError(
            f"{path} was fine-tuned from another checkpoint",
            got=made_for.checkpoint_sha256[:16],
            expected=checkpoint_sha256[:16],
            remedy="fine-tune this run: python -m export fine-tune",
        )
    try:
        differences = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ExportError(f"{path} cannot be read", got=str(error)[:200]) from error
    return Tuned(
        apply_differences(graph, differences), made_for.settings, made_for.learning_rate, made_for.loss, made_for.device
    )


def _read_description(path: Path) -> TunedFor:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_METADATA, "")
        return msgspec.json.decode(text, type=TunedFor)
    except (OSError, SafetensorError, msgspec.DecodeError) as error:
        raise ExportError(
            f"{path} is no file of fine-tuned weights",
            got=str(error)[:200],
            expected="what `python -m export fine-tune` wrote",
        ) from error
