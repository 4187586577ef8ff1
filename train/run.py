"""A run folder: what training leaves, and what export and evaluation read.

``checkpoint.safetensors`` (weights, batch-norm statistics), ``run.json`` (this module's :class:`RunSpec`), ``log.csv``
(one row an epoch), ``curves.png``. ``state/`` holds what is needed to go on after a kill and is removed at the end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct
from torch import nn

from edge_runtime.errors import EdgeRuntimeError
from train.adapter import Adapter, load_adapter
from train.data.tables import file_sha256
from train.model import build_classifier
from train.preprocessing import Normalization

__all__ = [
    "CHECKPOINT_NAME",
    "RUN_NAME",
    "RUN_SCHEMA_VERSION",
    "AdoptedSpec",
    "Run",
    "RunError",
    "RunSpec",
    "load_run",
    "save_run_spec",
]

RUN_SCHEMA_VERSION = 1
RUN_NAME = "run.json"
CHECKPOINT_NAME = "checkpoint.safetensors"
_ADOPTED = "an adapter's"


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
    normalization: Literal["imagenet", "per_image", "mean_std"]
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
    mean: tuple[float, float, float] | None = None
    """Of the normalization ``mean_std``: for each channel, of grey values in 0..1; null for others."""
    std: tuple[float, float, float] | None = None


class AdoptedSpec(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The short ``run.json`` of a classifier that was trained elsewhere: what an adapter does not say."""

    schema_version: Literal[1]
    labels: Annotated[tuple[str, ...], Meta(min_length=2)]
    """In the order of the logits."""
    image_size: Annotated[int, Meta(ge=16)]
    normalization: Literal["imagenet", "per_image", "mean_std"]
    mean: tuple[float, float, float] | None = None
    std: tuple[float, float, float] | None = None
    synthetic: bool
    """Trained on synthetic radiographs."""
    checkpoint_sha256: str
    temperature: Annotated[float, Meta(gt=0)] = 1.0
    temperature_fitted_on: str | None = None
    operating_thresholds: dict[str, float] | None = None


@dataclass(frozen=True)
class Run(os.PathLike[str]):
    """A loaded run folder; a path to it wherever one is wanted.

    ``adapter`` makes the classifier where it is not the kit's own.
    """

    folder: Path
    spec: RunSpec
    adapter: Adapter | None = None

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    def build_normalization(self) -> Normalization:
        """Build what the network's input goes through."""
        return Normalization(self.spec.normalization, self.spec.mean, self.spec.std)

    def load_model(self) -> nn.Sequential:
        """Build the classifier and load its weights: float32, on the CPU, in evaluation mode.

        Raises
        ------
        RunError
            The checkpoint is missing, is not the one ``run.json`` names, or does not fit the architecture; the
            classifier was trained elsewhere, and no adapter was given.
        AdapterError
            The adapter fails, or does not fit the checkpoint.
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
        if self.adapter is not None:
            try:
                weights = load_file(path)
            except SafetensorError as error:
                raise RunError(f"{path} is not a safetensors file", got=str(error)[:500]) from error
            return self.adapter.build_classifier(weights, len(self.spec.labels), self.spec.image_size)
        if self.spec.architecture == _ADOPTED:
            raise RunError(
                f"the classifier of {self.folder} was trained elsewhere",
                expected="an adapter that builds it",
                remedy="give --adapter FILE.py:FUNCTION (docs/export.md)",
            )
        model = build_classifier(self.spec.architecture, len(self.spec.labels), self.spec.head_dropout)
        try:
            model.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError) as error:
            raise RunError(f"{path} does not fit {self.spec.architecture}", got=str(error)[:500]) from error
        return model.eval()


def load_run(folder: str | Path | Run, adapter: str | Adapter | None = None) -> Run:
    """Read a run folder's ``run.json``; the weights are read by :meth:`Run.load_model`.

    Parameters
    ----------
    folder
        The folder; or a run that was loaded already, which is returned as it is.
    adapter
        ``FILE.py:FUNCTION`` that builds a classifier which is not the kit's own (:mod:`train.adapter`). Then
        ``run.json`` may be short (:class:`AdoptedSpec`).

    Raises
    ------
    RunError
        No such folder, no ``run.json``, or one that does not follow the schema.
    AdapterError
        There is no such adapter.
    """
    if isinstance(folder, Run):
        return folder if adapter is None else replace(folder, adapter=load_adapter(adapter))
    folder = Path(folder)
    path = folder / RUN_NAME
    if not path.is_file():
        raise RunError(
            f"{folder} is not a finished run",
            got="no run.json",
            expected="a folder that `python -m train fit --out` has left",
            remedy="train first, or go on with the same `fit` command if it was interrupted",
        )
    found = None if adapter is None else load_adapter(adapter)
    text = path.read_bytes()
    try:
        # A short one is what somebody writes by hand: it says nothing of training.
        trained_here = "recipe" in msgspec.json.decode(text, type=dict[str, Any])
        spec = msgspec.json.decode(text, type=RunSpec) if trained_here else _adopted(text)
    except msgspec.DecodeError as error:
        raise RunError(
            f"{path} does not follow run schema {RUN_SCHEMA_VERSION}",
            got=str(error),
            remedy="train again; of a classifier that was trained elsewhere, see docs/export.md",
        ) from error
    if (spec.normalization == "mean_std") != (spec.mean is not None and spec.std is not None):
        raise RunError(
            f"{path}: normalization and mean do not fit",
            got=f"{spec.normalization}, mean {spec.mean}, std {spec.std}",
            expected="mean and std of three numbers each with mean_std, and with no other",
        )
    if found is not None:
        spec = msgspec.structs.replace(spec, architecture=found.title)
    return Run(folder, spec, found)


def _adopted(text: bytes) -> RunSpec:
    short = msgspec.json.decode(text, type=AdoptedSpec)
    given = {name: getattr(short, name) for name in AdoptedSpec.__struct_fields__}
    return RunSpec(
        **given,
        architecture=_ADOPTED,
        head_dropout=0.0,
        recipe={"name": "trained elsewhere"},
        starting_weights="unknown",
        seed=0,
        data_sha256={},
        epochs=0,
        history=(),
        operating_points=None,
        package_versions={},
        git_commit=None,
        created="",
    )


def save_run_spec(folder: Path, spec: RunSpec) -> None:
    """Write ``run.json`` through a temporary name."""
    temporary = folder / (RUN_NAME + ".part")
    temporary.write_bytes(msgspec.json.format(msgspec.json.encode(spec), indent=2) + b"\n")
    os.replace(temporary, folder / RUN_NAME)
