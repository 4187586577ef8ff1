"""A run folder: what training leaves, and what export and evaluation read.

``checkpoint.safetensors`` (weights, batch-norm statistics), ``run.json`` (this module's :class:`RunSpec`), ``log.csv``
(one row an epoch), ``curves.png``. ``state/`` holds what is needed to go on after a kill and is removed at the end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from torch import nn

from edge_runtime.errors import EdgeRuntimeError
from train.data.tables import file_sha256
from train.model import build_classifier

__all__ = [
    "CHECKPOINT_NAME",
    "RUN_NAME",
    "RUN_SCHEMA_VERSION",
    "Run",
    "RunError",
    "RunSpec",
    "load_run",
    "save_run_spec",
]

RUN_SCHEMA_VERSION = 1
RUN_NAME = "run.json"
CHECKPOINT_NAME = "checkpoint.safetensors"


class RunError(EdgeRuntimeError):
    """A run folder is missing, incomplete, damaged, or of another schema."""


class RunSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``run.json``: everything that is needed to rebuild the classifier and to say where it came from."""

    schema_version: Literal[1]
    labels: Annotated[tuple[str, ...], Meta(min_length=2)]
    architecture: str
    head_dropout: float
    image_size: Annotated[int, Meta(ge=16)]
    """Edge S of the network's input in pixels: the last stage's."""
    normalization: Literal["imagenet", "per_image"]
    recipe: dict[str, Any]
    """The recipe as it was run, overrides included; its key ``name`` names it."""
    starting_weights: str
    seed: int
    synthetic: bool
    """Trained on synthetic radiographs."""
    data_sha256: dict[str, str]
    epochs: int
    history: tuple[dict[str, float], ...]
    """One object an epoch, as in ``log.csv``."""
    temperature: Annotated[float, Meta(gt=0)]
    temperature_fitted_on: str | None
    operating_thresholds: dict[str, float] | None
    operating_points: dict[str, Any] | None
    checkpoint_sha256: str
    package_versions: dict[str, str]
    git_commit: str | None
    created: str


@dataclass(frozen=True)
class Run:
    """A loaded run folder."""

    folder: Path
    spec: RunSpec

    def load_model(self) -> nn.Sequential:
        """Build the classifier and load its weights: float32, on the CPU, in evaluation mode.

        Raises
        ------
        RunError
            The checkpoint is missing, is not the one ``run.json`` names, or does not fit the architecture.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        path = self.folder / CHECKPOINT_NAME
        if not path.is_file():
            raise RunError(f"{path} is missing", remedy="train to the end: `python -m train fit ... --out RUN`")
        got = file_sha256(path)
        if got != self.spec.checkpoint_sha256:
            raise RunError(
                f"{path} is not the checkpoint that {RUN_NAME} names",
                got=f"SHA-256 {got}",
                expected=self.spec.checkpoint_sha256,
                remedy="restore the run folder, or train again",
            )
        model = build_classifier(self.spec.architecture, len(self.spec.labels), self.spec.head_dropout)
        try:
            model.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError) as error:
            raise RunError(f"{path} does not fit {self.spec.architecture}", got=str(error)[:500]) from error
        return model.eval()


def load_run(folder: str | Path) -> Run:
    """Read a run folder's ``run.json``; the weights are read by :meth:`Run.load_model`.

    Raises
    ------
    RunError
        No such folder, no ``run.json``, or one that does not follow the schema.
    """
    folder = Path(folder)
    path = folder / RUN_NAME
    if not path.is_file():
        raise RunError(
            f"{folder} is not a finished run",
            got="no run.json",
            expected="a folder that `python -m train fit --out` has left",
            remedy="train first, or go on with the same `fit` command if it was interrupted",
        )
    try:
        spec = msgspec.json.decode(path.read_bytes(), type=RunSpec)
    except msgspec.DecodeError as error:
        raise RunError(
            f"{path} does not follow run schema {RUN_SCHEMA_VERSION}", got=str(error), remedy="train again"
        ) from error
    return Run(folder, spec)


def save_run_spec(folder: Path, spec: RunSpec) -> None:
    """Write ``run.json`` through a temporary name."""
    temporary = folder / (RUN_NAME + ".part")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n")
    os.replace(temporary, folder / RUN_NAME)
