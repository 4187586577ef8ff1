"""Starting weights: ImageNet's through pytorchcv, a file, another run, or none."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from edge_runtime.errors import EdgeRuntimeError
from train.lite_weights import LITE1_PACKAGE, LITE1_SHA256, load_lite1, transplant_lite1
from train.run import RUN_NAME, load_run

__all__ = ["WeightsError", "load_starting_weights"]


class WeightsError(EdgeRuntimeError):
    """Starting weights cannot be had, or do not fit."""


def load_starting_weights(classifier: nn.Sequential, source: str, architecture: str) -> str:
    """Load starting weights into a classifier's body (and head, from a run with the same classes).

    Parameters
    ----------
    classifier
        ``[body, head]``, changed in place.
    source
        ``none``; ``imagenet`` (pytorchcv downloads them once, checks their SHA-1, and keeps them in
        ``~/.torch/models``); ``imagenet-lite`` (EfficientNet-b1 alone: :mod:`train.lite_weights`); a run folder; or a
        file: ``.safetensors``, or a ``.pth`` state dict of pytorchcv.
    architecture
        pytorchcv's name.

    Returns
    -------
    str
        What was loaded, for ``run.json``.

    Raises
    ------
    WeightsError
        No network and nothing cached; no such file; tensors that do not fit.
    """
    if source == "none":
        return "none: random initialisation"
    if source == "imagenet":
        return _load_imagenet(classifier, architecture)
    if source == "imagenet-lite":
        if architecture != "efficientnet_b1":
            raise WeightsError(
                "EfficientNet-Lite1's weights are for EfficientNet-b1", got=architecture, expected="efficientnet_b1"
            )
        taken = transplant_lite1(classifier[0], load_lite1())  # type: ignore[arg-type]
        return f"imagenet-lite: {taken} tensors of EfficientNet-Lite1, {LITE1_PACKAGE}, SHA-256 {LITE1_SHA256}"
    path = Path(source)
    if (path / RUN_NAME).is_file():
        run = load_run(path)
        if run.spec.architecture != architecture:
            raise WeightsError(
                f"run {path} is of another architecture", got=run.spec.architecture, expected=architecture
            )
        donor = run.load_model()
        if len(run.spec.labels) == _classes(classifier):
            classifier.load_state_dict(donor.state_dict())
            return f"run {path.name}, checkpoint {run.spec.checkpoint_sha256}"
        classifier[0].load_state_dict(donor[0].state_dict())
        return f"run {path.name} (body), checkpoint {run.spec.checkpoint_sha256}"
    if path.is_file():
        return _load_file(classifier[0], path)
    raise WeightsError(
        f"there are no starting weights {source!r}",
        expected="imagenet, imagenet-lite, none, a weights file, or a run folder",
    )


def _load_imagenet(classifier: nn.Sequential, architecture: str) -> str:
    from pytorchcv.model_provider import get_model

    try:
        donor = get_model(architecture, pretrained=True)
    except Exception as error:  # pytorchcv lets through whatever urllib, zipfile or its hash check raise
        raise WeightsError(
            f"ImageNet weights of {architecture} cannot be had",
            got=f"{type(error).__name__}: {error}",
            expected="a network, or the weights in ~/.torch/models from an earlier run",
            remedy="use --weights FILE with a local copy, or --weights none to train from scratch",
        ) from error
    _load_body(classifier[0], donor.features.state_dict(), "imagenet")
    return f"imagenet: pytorchcv {architecture}"


def _load_file(body: nn.Module, path: Path) -> str:
    import torch
    from safetensors.torch import load_file

    from train.data.tables import file_sha256

    try:
        if path.suffix == ".safetensors":
            tensors: dict[str, Tensor] = load_file(path)
        else:
            tensors = torch.load(path, map_location="cpu", weights_only=True)
            tensors = tensors.get("state_dict", tensors)  # type: ignore[assignment]
    except Exception as error:  # torch and safetensors raise many kinds here
        raise WeightsError(
            f"{path} cannot be read as weights", got=str(error)[:300], expected=".safetensors or a state dict"
        ) from error
    _load_body(body, tensors, str(path))
    return f"file {path.name}, SHA-256 {file_sha256(path)}"


def _load_body(body: nn.Module, tensors: dict[str, Tensor], name: str) -> None:
    """Take what belongs to the body; pytorchcv calls it ``features.``, our checkpoints ``0.``."""
    for prefix in ("features.", "0."):
        if any(key.startswith(prefix) for key in tensors):
            tensors = {key[len(prefix) :]: value for key, value in tensors.items() if key.startswith(prefix)}
            break
    wanted = body.state_dict()
    tensors = {key: value for key, value in tensors.items() if key in wanted}
    missing = sorted(set(wanted) - set(tensors))
    wrong = [key for key, value in tensors.items() if value.shape != wanted[key].shape]
    if missing or wrong:
        raise WeightsError(
            f"the weights {name} do not fit the network",
            got=f"{len(missing)} tensors missing, {len(wrong)} of another shape, first {(missing + wrong)[0]}",
            expected="weights of the same architecture",
        )
    body.load_state_dict(tensors)


def _classes(classifier: nn.Sequential) -> int:
    linear = [m for m in classifier[1].modules() if isinstance(m, nn.Linear)]
    return linear[-1].out_features
