"""Golden vectors: inputs and the full model's outputs on them, carried by the bundle.

``golden/vectors.json``::

    {"schema_version": 1, "labels": [...],
     "vectors": [{"input": "golden/0001.png",
                  "outputs": {"probabilities": [...], "logits": [...], "heatmap": [[[...]]],
                              "embedding": [...], "gate_score": [...]}}]}

Arrays are without the leading batch axis; numbers are decimal float32 that read back to the same bits.
Inputs are 8-bit grey PNG, the pixels exactly as the graph gets them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime.bundle import Bundle, file_entry
from edge_runtime.errors import BundleError
from edge_runtime.manifest import Golden

__all__ = ["GoldenVector", "load_golden", "write_golden"]

_VECTORS = "golden/vectors.json"


@dataclass(frozen=True)
class GoldenVector:
    """One input, uint8 [H, W], and the full model's outputs on it, float32, with the leading batch axis."""

    name: str
    pixels: NDArray[np.uint8]
    outputs: dict[str, NDArray[np.float32]]


class _Outputs(msgspec.Struct, forbid_unknown_fields=True):
    probabilities: list[float]
    logits: list[float]
    heatmap: list[list[list[float]]]
    embedding: list[float]
    gate_score: list[float]


class _Vector(msgspec.Struct, forbid_unknown_fields=True):
    input: str
    outputs: _Outputs


class _File(msgspec.Struct, forbid_unknown_fields=True):
    schema_version: Literal[1]
    labels: tuple[str, ...]
    vectors: list[_Vector]


def load_golden(bundle: Bundle) -> list[GoldenVector]:
    """Load a bundle's golden vectors, hashes checked.

    Raises
    ------
    BundleError
        A file was changed, or does not fit the manifest.
    """
    golden = bundle.manifest.golden
    shapes = {spec.name: spec.shape for spec in bundle.manifest.outputs}
    entries = {entry.path: entry for entry in golden.inputs}
    try:
        content = msgspec.json.decode(bundle.path(golden.vectors).read_bytes(), type=_File)
    except msgspec.DecodeError as error:
        raise _misfit(bundle, str(error)) from error
    if content.labels != bundle.manifest.labels:
        raise _misfit(bundle, f"labels {', '.join(content.labels)}")
    vectors = []
    for vector in content.vectors:
        if vector.input not in entries:
            raise _misfit(bundle, f"input {vector.input}, which the manifest does not list")
        outputs: dict[str, NDArray[np.float32]] = {}
        for name, shape in shapes.items():
            try:
                array = np.asarray(getattr(vector.outputs, name), np.float32)[np.newaxis]
            except ValueError as error:
                raise _misfit(bundle, f"{name} of {vector.input}: {error}") from error
            # gate_score is [1] itself: the only output whose batch axis is its only one
            outputs[name] = array[0] if name == "gate_score" else array
            if outputs[name].shape != shape:
                raise _misfit(bundle, f"{name} of {vector.input} of shape {list(outputs[name].shape)}")
        pixels = _load_png(bundle.path(entries[vector.input]), bundle)
        vectors.append(GoldenVector(vector.input, pixels, outputs))
    return vectors


def write_golden(
    root: Path,
    labels: tuple[str, ...],
    vectors: Iterable[tuple[NDArray[np.uint8], Mapping[str, NDArray[np.float32]]]],
    *,
    synthetic: bool,
) -> Golden:
    """Write golden vectors into a bundle folder that is being built, and return the manifest's section.

    Parameters
    ----------
    root
        :attr:`BundleWriter.root <edge_runtime.bundle.BundleWriter.root>`.
    vectors
        Pairs of pixels, uint8 [H, W], and the full model's five outputs on them with their batch axis.
    synthetic
        Whether the inputs are synthetic radiographs: only such may be shipped or committed.
    """
    from PIL import Image

    (root / "golden").mkdir(parents=True, exist_ok=True)
    inputs, written = [], []
    for number, (pixels, outputs) in enumerate(vectors, start=1):
        relative = f"golden/{number:04d}.png"
        Image.fromarray(pixels, mode="L").save(root / relative, format="PNG")
        inputs.append(file_entry(root, relative))
        plain: dict[str, Any] = {
            name: _decimal(outputs[name] if name == "gate_score" else outputs[name][0])
            for name in _Outputs.__struct_fields__
        }
        written.append(_Vector(relative, _Outputs(**plain)))
    text = msgspec.json.encode(_File(1, labels, written))
    (root / _VECTORS).write_bytes(text)
    return Golden(synthetic=synthetic, vectors=file_entry(root, _VECTORS), inputs=tuple(inputs))


def _decimal(array: NDArray[np.float32]) -> Any:
    """Turn float32 into the float whose short decimal form reads back to the same float32."""
    if array.ndim:
        return [_decimal(part) for part in array]
    exact = np.float32(array)
    short = float(str(exact))
    return short if np.float32(short) == exact else float(exact)


def _load_png(path: Path, bundle: Bundle) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as image:
        if image.mode != "L":
            raise _misfit(bundle, f"{path.name} of mode {image.mode}")
        return np.array(image, np.uint8)


def _misfit(bundle: Bundle, got: str) -> BundleError:
    return BundleError(
        f"the golden vectors of {bundle.source} do not fit its manifest",
        got=got,
        expected="the manifest's labels, inputs and output shapes",
        remedy="build the bundle anew",
    )
