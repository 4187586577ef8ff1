"""Recipes: how a run is trained, as small TOML files that can be overridden field by field."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from edge_runtime.errors import EdgeRuntimeError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found,unused-ignore]

__all__ = ["Augmentation", "Recipe", "RecipeError", "Stage", "load_recipe", "recipe_names"]

_FOLDER = Path(__file__).parent / "recipes"

Fraction = Annotated[float, Meta(ge=0, le=1)]
Positive = Annotated[float, Meta(gt=0)]


class RecipeError(EdgeRuntimeError):
    """A recipe does not exist, or a field of it is wrong."""


class _Part(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of a recipe: immutable, complete, closed."""


class Stage(_Part, frozen=True):
    """One one-cycle run at one image size."""

    size: Annotated[int, Meta(ge=32, le=2048)]
    """Edge of the network's input in pixels."""
    epochs: Annotated[int, Meta(ge=1)]
    lr: Positive
    """Largest learning rate of the cycle, of the head."""
    lr_body: Positive
    """The same for the body's first layers; the layers between lie between (discriminative rates)."""
    wd: Annotated[float, Meta(ge=0)]
    """Decoupled weight decay."""
    pct_start: Annotated[float, Meta(gt=0, lt=1)]
    """Share of the cycle in which the rate rises."""
    frozen: bool
    """Train the head and the batch norms only."""


class Augmentation(_Part, frozen=True):
    """Random changes of the training images, on the batch; geometry first, then contrast."""

    contrast_min: Positive
    contrast_max: Positive
    """Contrast factor in logit space, drawn uniformly (1 changes nothing)."""
    contrast_p: Fraction
    zoom_min: Positive
    zoom_max: Positive
    """Zoom factor about a random centre; below 1 the image is padded, above 1 it is cropped."""
    zoom_p: Fraction
    rotate_degrees: Annotated[float, Meta(ge=0, le=180)]
    stretch: Annotated[float, Meta(ge=0, lt=1)]
    """Largest relative change of the aspect."""
    shift: Annotated[float, Meta(ge=0, le=0.5)]
    """Largest shift, as a share of the edge (crop and pad)."""
    flip_p: Fraction
    """Left-right flip; anatomically wrong for the heart, right for the lungs."""
    erase_p: Fraction
    """Random erasing of a rectangle."""
    noise: Annotated[float, Meta(ge=0, le=64)]
    """Standard deviation of added Gaussian noise, in grey levels."""


class Recipe(_Part, frozen=True):
    """Everything that decides a run but the data, the starting weights and the seed."""

    name: str
    description: str
    architecture: str
    head_dropout: Fraction
    normalization: Literal["imagenet", "per_image"]
    starting_weights: str
    """``imagenet`` (downloaded by pytorchcv), ``none``, a weights file, or a run folder."""
    batch_size: Annotated[int, Meta(ge=2)]
    oversample: bool
    """Draw training images with weights 1 / count of their class, with replacement."""
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    """``auto``: fp16 on CUDA, bf16 on CPUs that compute in it, else fp32."""
    channels_last: bool
    memory_saving_swish: bool
    label_smoothing: Fraction
    mixup: Annotated[float, Meta(ge=0)]
    """Alpha of the Beta distribution (Zhang et al. 2018); 0 is off."""
    weight_averaging: Annotated[float, Meta(ge=0, lt=1)]
    """Decay of the exponential moving average of the weights, per step; 0 is off."""
    augmentation: Augmentation
    stages: Annotated[tuple[Stage, ...], Meta(min_length=1)]

    @property
    def epochs(self) -> int:
        """Epochs of all stages together."""
        return sum(stage.epochs for stage in self.stages)


def recipe_names() -> tuple[str, ...]:
    """Names of the recipes that come with the project."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.toml")))


def load_recipe(name_or_path: str, overrides: tuple[str, ...] = ()) -> Recipe:
    """Read a recipe by name, or from a TOML file, and apply overrides.

    Parameters
    ----------
    name_or_path
        One of :func:`recipe_names`, or a path ending in ``.toml``.
    overrides
        ``field=value`` each, the value in TOML, dots into parts and stages: ``batch_size=32``,
        ``stages.0.epochs=2``, ``augmentation.flip_p=0.5``.

    Raises
    ------
    RecipeError
        No such recipe; TOML that does not parse; a field unknown, missing or out of range.
    """
    path = Path(name_or_path) if name_or_path.endswith(".toml") else _FOLDER / f"{name_or_path}.toml"
    if not path.is_file():
        raise RecipeError(
            f"there is no recipe {name_or_path!r}",
            expected=", ".join(recipe_names()) + ", or a path to a .toml file",
        )
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path.name} is not TOML", got=str(error)) from error
    for override in overrides:
        _apply(fields, override)
    try:
        return msgspec.convert(fields, type=Recipe)
    except msgspec.ValidationError as error:
        raise RecipeError(
            f"recipe {name_or_path} is not right", got=str(error), expected="the fields of train/recipe.py"
        ) from error


def _apply(fields: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator:
        raise RecipeError(f"override {override!r} has no '='", expected="field=value, such as stages.0.epochs=2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string: architecture=efficientnet_b0
    *parents, last = key.strip().split(".")
    target: Any = fields
    try:
        for part in parents:
            target = target[int(part)] if isinstance(target, list) else target[part]
        place: Any = int(last) if isinstance(target, list) else last
        old = target[place]
    except (KeyError, IndexError, ValueError, TypeError) as error:
        known = ", ".join(field.name for field in msgspec.structs.fields(Recipe))
        raise RecipeError(f"there is no recipe field {key.strip()!r}", expected=f"one of {known}") from error
    # TOML tells 1 from 1.0; a field that is a float takes both.
    target[place] = float(value) if isinstance(old, float) and isinstance(value, int) else value
