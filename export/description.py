"""The manifest's words and facts: what the model is, where it comes from, what it is not for."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version

from edge_runtime.backends import backend_for_format
from edge_runtime.manifest import (
    Calibration,
    Format,
    InputSpec,
    OutputSpec,
    Preprocessing,
    Provenance,
    Validation,
)
from export.cpu import cpu_features, cpu_model
from export.graph import OUTPUT_MEANINGS, DeployableGraph, output_shapes
from train.preprocessing import IMAGENET_MEAN, IMAGENET_STD
from train.run import RunSpec

__all__ = [
    "INTENDED_USE",
    "LICENCE",
    "describe_calibration",
    "describe_input",
    "describe_limitations",
    "describe_outputs",
    "describe_provenance",
    "describe_validation",
    "package_versions",
]

LICENCE = (
    "Code: Apache-2.0. Weights: for research and demonstration; the training radiographs carry licences of their own, "
    "some of them non-commercial."
)
INTENDED_USE = (
    "Research and demonstration of offline inference on frontal chest radiographs. Not a medical device: not for "
    "diagnosis, triage or any other decision about a patient."
)
_EXPORT_PACKAGES = ("torch", "onnx", "onnxscript", "onnxruntime", "openvino", "nncf", "pytorchcv", "numpy")


def describe_input(spec: RunSpec) -> InputSpec:
    """Describe the graph's input and what it does to it."""
    imagenet = spec.normalization == "imagenet"
    return InputSpec(
        name="image",
        dtype="uint8",
        shape=(1, 1, "H", "W"),
        preprocessing_in_graph=Preprocessing(
            size=spec.image_size,
            resize="antialiased_bilinear_squish",
            normalization=spec.normalization,
            mean=IMAGENET_MEAN if imagenet else spec.mean,
            std=IMAGENET_STD if imagenet else spec.std,
        ),
    )


def describe_outputs(graph: DeployableGraph) -> tuple[OutputSpec, ...]:
    """Describe the five outputs, in the order of every format."""
    shapes = output_shapes(graph)
    return (
        _output("probabilities", shapes),
        _output("logits", shapes),
        _output("heatmap", shapes),
        _output("embedding", shapes),
        _output("gate_score", shapes),
    )


def describe_calibration(spec: RunSpec) -> Calibration:
    """Describe the temperature inside the graph."""
    return Calibration(temperature=spec.temperature, fitted_on=spec.temperature_fitted_on)


def describe_provenance(spec: RunSpec) -> Provenance:
    """Describe where the weights come from. SOURCE_DATE_EPOCH fixes the time, as reproducible builds do."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    moment = datetime.fromtimestamp(int(epoch), timezone.utc) if epoch else datetime.now(timezone.utc)
    return Provenance(
        created=moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        checkpoint_sha256=spec.checkpoint_sha256,
        architecture=spec.architecture,
        recipe=str(spec.recipe.get("name", "unnamed")),
        trained_on_synthetic_data=spec.synthetic,
        data_sha256=dict(spec.data_sha256),
        package_versions={
            **{f"train:{name}": value for name, value in sorted(spec.package_versions.items())},
            **{f"export:{name}": value for name, value in package_versions(_EXPORT_PACKAGES).items()},
        },
        git_commit=spec.git_commit,
    )


def describe_validation(format_: Format) -> Validation:
    """Describe this machine as the place where an artifact of ``format_`` was validated."""
    return Validation(
        cpu=cpu_model(),
        machine=platform.machine(),
        cpu_features=cpu_features(),
        runtime_versions=package_versions([backend_for_format(format_).package]),
    )


def describe_limitations(
    spec: RunSpec,
    *,
    plain_int8: Sequence[str] = (),
    missed_int8: Sequence[str] = (),
    not_repeatable: Sequence[str] = (),
) -> tuple[str, ...]:
    """Say what the model and its artifacts cannot be trusted with.

    Parameters
    ----------
    plain_int8
        Names of int8 artifacts at the tools' plain settings.
    missed_int8
        Names of those whose settings were searched and missed the target.
    not_repeatable
        Names of artifacts that a second build writes in other bytes.
    """
    sentences = [
        "For research and demonstration only. Not a medical device.",
        "Frontal chest radiographs only: not lateral views, CT, other body parts or photographs of films.",
    ]
    if spec.synthetic:
        sentences.append(
            "Trained on synthetic radiographs drawn by a program: its answers about patients' radiographs mean nothing."
        )
    else:
        sentences.append(
            "In its training data class and source are confounded (COVID-19 from other hospitals than normal and "
            "pneumonia): it may recognise the hospital instead of the disease, and do far worse elsewhere."
        )
    if spec.temperature_fitted_on is None:
        sentences.append("The probabilities are not calibrated (temperature 1).")
    if plain_int8:
        sentences.append(
            f"Quantized at the tools' plain settings, not by a search: {', '.join(plain_int8)}. Such an artifact "
            "changes some decisions, had passed no parity gate when it was built, and is not recommended."
        )
    if missed_int8:
        sentences.append(
            f"Quantized by the best settings that a search found, which missed its target: {', '.join(missed_int8)}. "
            "Not recommended."
        )
    if not_repeatable:
        sentences.append(
            f"Not repeatable byte for byte: {', '.join(not_repeatable)}. The same inputs and versions give the same "
            "bytes for every other artifact."
        )
    return tuple(sentences)


def package_versions(names: Iterable[str]) -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _output(name: str, shapes: dict[str, tuple[int, ...]]) -> OutputSpec:
    return OutputSpec(name=name, dtype="float32", shape=shapes[name], meaning=OUTPUT_MEANINGS[name])  # type: ignore[arg-type]
