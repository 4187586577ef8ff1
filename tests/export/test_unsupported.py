"""An operator that a format has not: the error names it, and the module of the network that it came from."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from export import DeployableGraph, ExportError
from export.formats import WRITERS
from tests.export.making import SIZE


class Strange(nn.Module):
    """Eigenvalues: in torch and TorchScript, and in nothing else."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, :, :4, :4]
        return torch.linalg.eigvals(x).real[..., None] + x.mean(1, keepdim=True)


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: object, x: torch.Tensor) -> torch.Tensor:
        return x * 2


class PythonOnly(nn.Module):
    """A function of Python, which no file of torch can hold."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = Doubled.apply(x[:, :, :4, :4])
        return result


class Broken(nn.Module):
    """Fails from when it is told to."""

    broken = False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.broken:
            raise ValueError("no such case")
        return x


class Choosing(nn.Module):
    """Control flow that depends on values."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if x.mean() > 0 else x


def graph_with(module: nn.Module) -> DeployableGraph:
    body = nn.Sequential()
    body.add_module("stage1", nn.Sequential())
    body.stage1.add_module("first", nn.Identity())
    body.stage1.add_module("foo", module)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 3))
    return DeployableGraph(nn.Sequential(body, head), size=SIZE, normalization="imagenet")


@pytest.mark.parametrize(
    ("format_", "module", "operator"),
    [
        ("onnx", Strange(), "aten.linalg_eig"),
        ("openvino", Strange(), "aten::linalg_eigvals"),
        ("torchscript", PythonOnly(), "Python function Doubled"),
        ("lite", PythonOnly(), "Python function Doubled"),
    ],
)
def test_operator_and_module_are_named(format_: str, module: nn.Module, operator: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="no counterpart") as raised:
        WRITERS[format_].write(graph_with(module), tmp_path / f"model{WRITERS[format_].suffixes[0]}")
    assert raised.value.got == f"{operator} in body.stage1.foo ({type(module).__name__})"
    assert raised.value.remedy and not list(tmp_path.iterdir())


def test_an_operator_of_a_library_of_its_own_reaches_no_torch_file(tmp_path: Path) -> None:
    """A file with it would open here, where the library is loaded, and nowhere else."""
    library = torch.library.Library("elsewhere", "DEF")
    library.define("twice(Tensor x) -> Tensor")
    library.impl("twice", lambda x: x * 2, "CompositeExplicitAutograd")

    class Twice(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = torch.ops.elsewhere.twice(x)
            return result

    with pytest.raises(ExportError, match=r"elsewhere::twice in body\.stage1\.foo \(Twice\)"):
        WRITERS["torchscript"].write(graph_with(Twice()), tmp_path / "model.pt")


@pytest.mark.parametrize("format_", ["onnx", "openvino", "torchscript", "lite"])
def test_a_module_that_fails_is_named(format_: str, tmp_path: Path) -> None:
    graph = graph_with(Broken())
    graph.get_submodule("body.stage1.foo").broken = True  # type: ignore[assignment]
    with pytest.raises(ExportError, match=r"no such case, in body\.stage1\.foo \(Broken\)"):
        WRITERS[format_].write(graph, tmp_path / f"model{WRITERS[format_].suffixes[0]}")


def test_control_flow_on_values_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"in body\.stage1\.foo \(Choosing\)"):
        WRITERS["onnx"].write(graph_with(Choosing()), tmp_path / "model.onnx")
