"""An adapter: a short Python function that says how somebody else's classifier is made of a body and a head.

It is code, so it is named by whoever runs a command (``--adapter FILE.py:FUNCTION``) and never found in a run folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_runtime.errors import EdgeRuntimeError
from train.torchvision_ops import declare_missing_operators

__all__ = ["Adapter", "AdapterError", "load_adapter"]

_EXPECTED = "(body, head) or (model, body, head), each an nn.Module"
_TOLERANCE = 1e-4


class AdapterError(EdgeRuntimeError):
    """An adapter is missing, fails, or does not fit the checkpoint."""


@dataclass(frozen=True)
class Adapter:
    """A function in a file.

    The function takes nothing and returns ``(body, head)``, or ``(model, body, head)`` with body and head parts of the
    model: float [N, 3, S, S] -> body -> feature map [N, K, h, w] -> head -> logits [N, C]. A checkpoint's names are
    those of ``model``, or of ``nn.Sequential(body, head)`` where there is none.

    Attributes
    ----------
    sha256
        Of the file, when it was loaded.
    """

    path: Path
    function: str
    sha256: str

    @property
    def title(self) -> str:
        """How the manifest names what stands for an architecture."""
        return f"{self.function} of adapter {self.path.name}, SHA-256 {self.sha256[:16]}"

    def build_classifier(self, weights: Mapping[str, Tensor], classes: int, size: int) -> nn.Sequential:
        """Call the function, load weights, and check that body and head are what they should be.

        Parameters
        ----------
        weights
            The checkpoint: name -> tensor, every name of the model and no other.
        classes
            Number C of logits.
        size
            Edge S of the network's input, in pixels.

        Returns
        -------
        nn.Sequential
            ``[body, head]``, float32, on the CPU, in evaluation mode.

        Raises
        ------
        AdapterError
            The function fails or returns something else; the weights do not fit; the feature map is none; the logits
            are not C; body and head do not answer as the model.
        """
        model, body, head = self._parts()
        try:
            model.load_state_dict(dict(weights))
        except RuntimeError as error:
            raise AdapterError(
                f"the checkpoint does not fit the model of {self.path}:{self.function}", got=str(error)[:500]
            ) from error
        model.cpu().float().eval()
        classifier = nn.Sequential(body, head).cpu().float().eval()
        self._check(model, classifier, classes, size)
        return classifier

    def _parts(self) -> tuple[nn.Module, nn.Module, nn.Module]:
        function = getattr(_import(self.path, self.sha256), self.function, None)
        if not callable(function):
            raise AdapterError(f"{self.path} has no function {self.function}", remedy="name it as FILE.py:FUNCTION")
        try:
            made = function()
        except Exception as error:  # whatever somebody's code raises
            raise AdapterError(f"{self.path}:{self.function} failed", got=_said(error)) from error
        parts = list(made) if isinstance(made, tuple | list) else []
        if len(parts) not in (2, 3) or not all(isinstance(part, nn.Module) for part in parts):
            raise AdapterError(
                f"{self.path}:{self.function} returned something else",
                got=f"({', '.join(type(part).__name__ for part in parts)})" if parts else type(made).__name__,
                expected=_EXPECTED,
            )
        body, head = parts[-2:]
        return (parts[0] if len(parts) == 3 else nn.Sequential(body, head)), body, head

    @torch.no_grad()
    def _check(self, model: nn.Module, classifier: nn.Sequential, classes: int, size: int) -> None:
        x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
        try:
            features = classifier[0](x)
            logits = classifier[1](features)
            whole = model(x)
        except Exception as error:
            raise AdapterError(
                f"the model of {self.path}:{self.function} does not run at {size} px", got=_said(error)
            ) from error
        if not isinstance(features, Tensor) or features.ndim != 4 or len(features) != 2:
            shape = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise AdapterError(
                f"the body of {self.path}:{self.function} gives no feature map",
                got=str(shape),
                expected="[2, K, h, w] for two images: global pooling is the head's",
            )
        if not isinstance(logits, Tensor) or logits.shape != (2, classes):
            shape = list(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise AdapterError(
                f"the head of {self.path}:{self.function} gives no logits of the run's classes",
                got=str(shape),
                expected=f"[2, {classes}]",
            )
        difference = float((whole - logits).abs().max())
        if not difference <= _TOLERANCE * max(1.0, float(whole.abs().max())):
            raise AdapterError(
                f"body and head of {self.path}:{self.function} do not answer as the whole model",
                got=f"logits that differ by {difference:.2g}",
                expected="the same logits",
                remedy="look for what the model does between its features and its classifier, such as an activation",
            )


def load_adapter(named: str | Adapter) -> Adapter:
    """Find an adapter by ``FILE.py:FUNCTION``. Its code runs when a classifier is built, not before.

    Raises
    ------
    AdapterError
        Not of that form, or no such file.
    """
    if isinstance(named, Adapter):
        return named
    file, _, function = named.rpartition(":")
    if not file or not function.isidentifier():
        raise AdapterError("an adapter is named as FILE.py:FUNCTION", got=named, expected="adapter.py:build")
    path = Path(file)
    if not path.is_file():
        raise AdapterError(f"there is no adapter {path}", expected="a Python file")
    return Adapter(path, function, hashlib.sha256(path.read_bytes()).hexdigest())


def _import(path: Path, sha256: str) -> Any:
    name = f"_adapter_{sha256[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    declare_missing_operators()  # an adapter may import torchvision, or what does
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    sys.path.insert(0, str(path.resolve().parent))  # what lies beside it can be imported
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if not isinstance(error, Exception):
            raise
        raise AdapterError(f"the adapter {path} cannot be imported", got=_said(error)) from error
    finally:
        sys.path.remove(str(path.resolve().parent))
    return module


def _said(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:300]}"
