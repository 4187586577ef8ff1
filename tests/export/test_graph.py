"""The deployable graph and its closed-form heat map."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from export import DeployableGraph, ExportError
from export.gradcam import GradCamHead
from export.graph import OUTPUT_NAMES, output_shapes
from tests.export.making import ARCHITECTURE, SIZE, make_classifier, random_image
from train.preprocessing import Normalization, squish


def graph_of(classifier: nn.Module, temperature: float = 1.0) -> DeployableGraph:
    return DeployableGraph(classifier, size=SIZE, normalization="per_image", temperature=temperature)


def autograd_gradcam(classifier: nn.Sequential, image: torch.Tensor, label: int) -> torch.Tensor:
    """Grad-CAM as the paper writes it, by autograd."""
    features = classifier[0](Normalization("per_image")(squish(image, SIZE))).detach().requires_grad_()
    classifier[1](features)[0, label].backward()
    assert features.grad is not None
    weights = features.grad.mean((2, 3), keepdim=True)
    cam = (weights * features).sum(1).relu()[0].detach()
    return cam / cam.max() if cam.max() > 0 else cam


def pixels(height: int = 150, width: int = 90, seed: int = 3) -> torch.Tensor:
    return torch.from_numpy(random_image(height, width, seed))[None, None]


@pytest.mark.parametrize("architecture", ["mobilenetv2_wd4", ARCHITECTURE])
def test_heatmap_is_grad_cam_by_autograd(architecture: str) -> None:
    classifier = make_classifier(architecture)
    graph = graph_of(classifier)
    seen = 0
    for seed in range(3):
        image = pixels(seed=seed)
        heatmap = graph(image).heatmap[0]
        for label in range(3):
            expected = autograd_gradcam(copy.deepcopy(classifier), image, label)
            torch.testing.assert_close(heatmap[label], expected, atol=1e-5, rtol=0)
            seen += bool(expected.max() > 0)
    assert seen, "no class had a heat map: the comparison showed nothing"


@pytest.mark.parametrize("pool", [nn.AdaptiveAvgPool2d(1), nn.AdaptiveMaxPool2d(1)])
def test_heatmap_of_other_heads(pool: nn.Module) -> None:
    torch.manual_seed(0)
    head = nn.Sequential(pool, nn.Flatten(), nn.Linear(8, 6), nn.ReLU(inplace=True), nn.Dropout(), nn.Linear(6, 3))
    classifier = nn.Sequential(nn.Conv2d(3, 8, 3, stride=8), head).eval()
    image = pixels()
    heatmap = graph_of(classifier)(image).heatmap[0]
    for label in range(3):
        expected = autograd_gradcam(copy.deepcopy(classifier), image, label)
        torch.testing.assert_close(heatmap[label], expected, atol=1e-5, rtol=0)


def test_outputs_are_those_of_the_model(classifier: nn.Sequential) -> None:
    image = pixels()
    outputs = graph_of(classifier, temperature=2.0)(image)
    with torch.no_grad():
        logits = classifier(Normalization("per_image")(squish(image, SIZE)))
        before_last = classifier[1][:-1](classifier[0](Normalization("per_image")(squish(image, SIZE))))
    torch.testing.assert_close(outputs.logits, logits, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(outputs.probabilities, torch.softmax(logits / 2.0, 1), atol=1e-6, rtol=0)
    torch.testing.assert_close(outputs.embedding, before_last, atol=1e-4, rtol=1e-4)
    assert outputs.gate_score.tolist() == [0.0]
    assert tuple(outputs._fields) == OUTPUT_NAMES
    assert all(value.dtype == torch.float32 for value in outputs)


def test_callers_model_is_not_changed(classifier: nn.Sequential) -> None:
    before = copy.deepcopy(classifier.state_dict())
    classifier.train()
    graph = graph_of(classifier)
    graph.train()
    graph(pixels())
    assert classifier.training and not graph.training
    assert any(isinstance(m, nn.Dropout) for m in classifier.modules())
    assert not any(isinstance(m, nn.Dropout) for m in graph.modules())
    classifier.eval()
    for name, value in classifier.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_black_image_and_a_silent_class_give_numbers() -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    with torch.no_grad():
        head[2].weight.copy_(torch.tensor([[1.0, 1, 1, 1], [-1, -1, -1, -1]]))
    features = torch.rand(1, 4, 3, 3)
    _, heatmap, _ = GradCamHead(head)(features)
    assert heatmap[0, 0].max() == 1.0
    assert torch.equal(heatmap[0, 1], torch.zeros(3, 3))
    black = graph_of(make_classifier(ARCHITECTURE))(torch.zeros(1, 1, 40, 50, dtype=torch.uint8))
    assert all(torch.isfinite(value).all() for value in black)


def test_another_head_is_named() -> None:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 6), nn.GELU(), nn.Linear(6, 3))
    with pytest.raises(ExportError, match=r"head\.3: GELU"):
        graph_of(nn.Sequential(nn.Conv2d(3, 8, 3), head))
    with pytest.raises(ExportError, match=r"head\.0: Conv2d"):
        graph_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.Conv2d(8, 8, 1), nn.Linear(6, 3))))
    with pytest.raises(ExportError, match="ReLU"):
        graph_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.ReLU())))
    with pytest.raises(ExportError, match="body and a head"):
        graph_of(nn.Linear(3, 3))


def test_output_shapes(classifier: nn.Sequential) -> None:
    shapes = output_shapes(graph_of(classifier))
    assert shapes["probabilities"] == shapes["logits"] == (1, 3)
    assert shapes["heatmap"][:2] == (1, 3) and shapes["embedding"] == (1, 512) and shapes["gate_score"] == (1,)
