"""The bundle's manifest: every field written down, none with a default.

Unknown and missing keys are errors, so that a runtime never guesses what a bundle meant. Sections that a
bundle can lack are ``null``, not absent.
"""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from edge_runtime.errors import BundleError

__all__ = [
    "FORMATS",
    "MANIFEST_NAME",
    "SCHEMA_VERSION",
    "Artifact",
    "Calibration",
    "Conformal",
    "FileEntry",
    "Gate",
    "Golden",
    "GoldenAgreement",
    "InputSpec",
    "LiteFacts",
    "Manifest",
    "OutputSpec",
    "ParityResult",
    "Preprocessing",
    "Provenance",
    "Signature",
    "Validation",
    "encode_manifest",
    "parse_manifest",
]

SCHEMA_VERSION = 1
MANIFEST_NAME = "manifest.json"

Format = Literal["onnx", "openvino", "torchscript", "lite", "executorch"]
Precision = Literal["fp32", "fp16", "int8"]
FORMATS: tuple[Format, ...] = ("onnx", "openvino", "torchscript", "lite", "executorch")

Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$", description="SHA-256, lower-case hexadecimal")]
RelativePath = Annotated[
    str, Meta(min_length=1, max_length=255, description="path inside the bundle, '/' between parts")
]
NonNegative = Annotated[float, Meta(ge=0)]
Count = Annotated[int, Meta(ge=0)]


class _Section(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the manifest: immutable, complete, closed."""


class FileEntry(_Section, frozen=True):
    """One file of the bundle: its path inside the bundle, size in bytes, and SHA-256."""

    path: RelativePath
    bytes: Count
    sha256: Sha256


class Preprocessing(_Section, frozen=True):
    """What the graph does to the pixels before the network. Information only: no host repeats it.

    ``size`` is the network's input edge S in pixels; the radiograph is squished to S x S by antialiased
    bilinear interpolation, divided by 255 and normalised: ``imagenet`` subtracts ``mean`` and divides by
    ``std`` (three channels, the grey value repeated), and so does ``mean_std`` with those of a classifier trained
    elsewhere; ``per_image`` subtracts the image's own mean and divides by its own standard deviation, and ``mean``
    and ``std`` are null.
    """

    size: Annotated[int, Meta(ge=16, le=4096)]
    resize: Literal["antialiased_bilinear_squish"]
    normalization: Literal["imagenet", "per_image", "mean_std"]
    mean: tuple[float, float, float] | None
    std: tuple[float, float, float] | None


class InputSpec(_Section, frozen=True):
    """The graph's only input: uint8 [1, 1, H, W], a displayable radiograph, 0 black, any H and W."""

    name: Literal["image"]
    dtype: Literal["uint8"]
    shape: tuple[Literal[1], Literal[1], Literal["H"], Literal["W"]]
    preprocessing_in_graph: Preprocessing


class OutputSpec(_Section, frozen=True):
    """One output of the graph: name, dtype, and shape (all fixed; the leading 1 is the batch)."""

    name: Literal["probabilities", "logits", "heatmap", "embedding", "gate_score"]
    dtype: Literal["float32"]
    shape: tuple[Annotated[int, Meta(ge=1)], ...]
    meaning: str


class Calibration(_Section, frozen=True):
    """Temperature T of the softmax in the graph: probabilities = softmax(logits / T). 1 is uncalibrated."""

    temperature: Annotated[float, Meta(gt=0)]
    fitted_on: str | None
    """Split the temperature was fitted on; null where it was not fitted."""


GateReason = Literal["not_a_radiograph", "inverted", "rotated", "lateral_view"]
"""What a gate can refuse a picture as; values of :class:`edge_runtime.errors.Reason`."""


class Gate(_Section, frozen=True):
    """Which ``gate_score`` is refused, and which patients the model was not made for.

    A score below ``threshold`` is let through. A score s from ``threshold`` on is refused for
    ``reasons[int(s) - 1]``; its fraction tells how far the limit is exceeded.
    """

    threshold: Annotated[float, Meta(ge=1, le=1)]
    reasons: Annotated[tuple[GateReason, ...], Meta(min_length=1)]
    minimum_age_years: NonNegative | None
    """Younger patients are refused where the header tells the age; null: none are."""
    training_radiographs: Count
    other_pictures: dict[GateReason, Count]
    """So many pictures of each reason it was fitted on."""
    validation_radiographs: Count
    validation_refused: Count
    """Of the validation radiographs, which set the limits: too good by a little."""
    data_sha256: Sha256
    """SHA-256 over the sorted SHA-256 of the training and validation radiographs' files."""


class Conformal(_Section, frozen=True):
    """Split-conformal prediction sets, class by class: the labels whose probability reaches their threshold.

    Of new radiographs of any one class, exchangeable with the calibration ones, at least ``coverage`` get a set
    that holds it (Vovk, 2012, "Conditional validity of inductive conformal predictors").
    """

    coverage: Annotated[float, Meta(gt=0, lt=1)]
    thresholds: dict[str, Annotated[float, Meta(ge=0, le=1)]]
    """By label: the smallest calibrated probability with which it is in the set."""
    split: str
    radiographs: dict[str, Count]
    """By label: radiographs that set its threshold."""
    data_sha256: Sha256


class ParityResult(_Section, frozen=True):
    """One artifact against the eager model on radiographs, run through ``edge_runtime``."""

    split: str
    radiographs: Count
    data_sha256: Sha256
    """SHA-256 over the sorted SHA-256 of the radiographs' files."""
    max_abs_probability_difference: NonNegative
    mean_abs_probability_difference: NonNegative
    differing_decisions: Count
    limit_abs_probability_difference: NonNegative | None
    limit_differing_decisions: Count | None
    verdict: Literal["passed", "failed", "not_shown", "reported"]
    """``not_shown``: too few radiographs to tell; ``reported``: measured, no limit applied."""


class GoldenAgreement(_Section, frozen=True):
    """What ``selftest`` accepts of this artifact on the golden vectors."""

    max_abs_probability_difference: NonNegative
    differing_decisions: Count


class Validation(_Section, frozen=True):
    """Where the artifact was validated: CPU, its features, and the versions that ran it."""

    cpu: str
    machine: str
    cpu_features: tuple[str, ...]
    runtime_versions: dict[str, str]


class LiteFacts(_Section, frozen=True):
    """What a build of PyTorch Mobile needs to run a ``.ptl`` file."""

    bytecode_version: Count
    operators: tuple[str, ...]
    """``namespace::name.overload``, sorted: what a selective build must hold."""


class Artifact(_Section, frozen=True):
    """One model file (or pair of files) of the bundle. ``name`` is ``<format>-<precision>``."""

    name: Annotated[str, Meta(pattern="^[a-z0-9]+-[a-z0-9]+$")]
    format: Format
    precision: Precision
    files: Annotated[tuple[FileEntry, ...], Meta(min_length=1)]
    """The first file is the one that is opened."""
    golden_agreement: GoldenAgreement
    parity: ParityResult | None
    validated_on: Validation
    lite: LiteFacts | None
    """Of the format ``lite``; null for others."""


class Golden(_Section, frozen=True):
    """Inputs and the full model's outputs on them, for the device to test itself."""

    synthetic: bool
    vectors: FileEntry
    inputs: tuple[FileEntry, ...]


class Provenance(_Section, frozen=True):
    """Where the model comes from."""

    created: str
    """UTC, ISO 8601."""
    checkpoint_sha256: Sha256
    architecture: str
    recipe: str
    trained_on_synthetic_data: bool
    data_sha256: dict[str, Sha256]
    """Of ``train.csv``, ``valid.csv``, ``test.csv`` that the run was trained with."""
    package_versions: dict[str, str]
    git_commit: str | None


class Signature(_Section, frozen=True):
    """Who vouches for the manifest, and through its hashes for every file: see ``bundle/signing.py``."""

    algorithm: Literal["ed25519"]
    key_id: Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]
    """The first 16 digits of the SHA-256 of the raw public key."""
    signed: str
    """UTC, ISO 8601: what the signer's clock said."""
    value: Annotated[str, Meta(pattern="^([0-9a-f]{128})?$")]
    """The signature in hexadecimal."""


class Manifest(_Section, frozen=True):
    """The whole manifest."""

    schema_version: Literal[1]
    name: str
    labels: Annotated[tuple[str, ...], Meta(min_length=2)]
    """Class names; their order is the order of every output's class axis."""
    input: InputSpec
    outputs: tuple[OutputSpec, ...]
    calibration: Calibration
    operating_thresholds: dict[str, float] | None
    operating_curve: dict[str, Any] | None
    """``split``, ``radiographs``, and ``curves``: label -> points of ``threshold``, ``true_positives``,
    ``false_negatives``, ``false_positives``, ``true_negatives``; the last point at or below a threshold holds there."""
    gate: Gate | None
    conformal: Conformal | None
    signature: Signature | None
    artifacts: Annotated[tuple[Artifact, ...], Meta(min_length=1)]
    recommended: dict[str, str]
    """Kind of device (``cpu``, ``phone``, ``browser``, ``gpu``) -> artifact name; a kind for which the bundle has
    nothing to recommend is left out."""
    golden: Golden
    reports: tuple[FileEntry, ...]
    provenance: Provenance
    licence: str
    intended_use: str
    limitations: tuple[str, ...]

    def artifact(self, name: str) -> Artifact | None:
        """Return the artifact called ``name``, or None."""
        return next((a for a in self.artifacts if a.name == name), None)

    def all_files(self) -> tuple[FileEntry, ...]:
        """Every file the manifest vouches for."""
        return (
            *(f for a in self.artifacts for f in a.files),
            self.golden.vectors,
            *self.golden.inputs,
            *self.reports,
        )


def parse_manifest(text: bytes, where: str) -> Manifest:
    """Parse and check a manifest.

    Parameters
    ----------
    text
        The file's bytes (UTF-8 JSON).
    where
        What to call it in an error message.

    Raises
    ------
    BundleError
        Not JSON, another schema version, an unknown or a missing key, a value out of range, an artifact whose
        name is not ``<format>-<precision>``, a path that leaves the bundle.
    """
    try:
        version = msgspec.json.decode(text, type=_VersionOnly).schema_version
    except msgspec.DecodeError as error:
        raise BundleError(
            f"{where} is not a bundle manifest", got=str(error), expected="JSON with a schema_version",
            remedy="check that the path names a bundle folder or zip made by `python -m export build`",
        ) from error  # fmt: skip
    if version != SCHEMA_VERSION:
        raise BundleError(
            f"{where} has another schema version", got=str(version), expected=str(SCHEMA_VERSION),
            remedy="use the runtime that belongs to the bundle, or build the bundle anew",
        )  # fmt: skip
    try:
        manifest = msgspec.json.decode(text, type=Manifest)
    except msgspec.ValidationError as error:
        raise BundleError(
            f"{where} does not follow schema {SCHEMA_VERSION}", got=str(error),
            expected="every key, and no other",
            remedy="get the bundle again from where it was built",
        ) from error  # fmt: skip
    _check_consistency(manifest, where)
    return manifest


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest as indented UTF-8 JSON; the same manifest gives the same bytes."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n"


class _VersionOnly(Struct):
    schema_version: int


def _check_consistency(manifest: Manifest, where: str) -> None:
    def fail(what: str, got: str, expected: str) -> None:
        raise BundleError(f"{where}: {what}", got=got, expected=expected, remedy="build the bundle anew")

    names = [a.name for a in manifest.artifacts]
    if len(set(names)) != len(names):
        fail("two artifacts share a name", str(names), "each name once")
    if manifest.conformal is not None and set(manifest.conformal.thresholds) != set(manifest.labels):
        fail("the prediction set's labels are others", str(list(manifest.conformal.thresholds)), str(manifest.labels))
    if len(set(manifest.labels)) != len(manifest.labels):
        fail("two classes share a label", str(manifest.labels), "each label once")
    for a in manifest.artifacts:
        if a.name != f"{a.format}-{a.precision}":
            fail("an artifact's name is not <format>-<precision>", a.name, f"{a.format}-{a.precision}")
    for device, name in manifest.recommended.items():
        if name not in names:
            fail(f"the artifact recommended for {device} is not in the bundle", name, " or ".join(names))
    output_names = [o.name for o in manifest.outputs]
    wanted = ["probabilities", "logits", "heatmap", "embedding", "gate_score"]
    if sorted(output_names) != sorted(wanted):
        fail("the outputs are not the five of the deployable graph", str(output_names), str(wanted))
    classes = len(manifest.labels)
    for output in manifest.outputs:
        by_class = output.name in ("probabilities", "logits", "heatmap")
        axes = {"probabilities": 2, "logits": 2, "heatmap": 4, "embedding": 2, "gate_score": 1}[output.name]
        shape = output.shape
        if len(shape) != axes or shape[0] != 1 or (by_class and shape[1] != classes):
            fail(
                f"the shape of {output.name} does not fit",
                str(list(shape)),
                f"1 and {classes} classes in {axes} axes",
            )
    paths = [f.path for f in manifest.all_files()]
    if len(set(paths)) != len(paths):
        fail("a file is listed twice", str(sorted({p for p in paths if paths.count(p) > 1})), "each file once")
    for path in paths:
        parts = PurePosixPath(path).parts
        if path.startswith("/") or "\\" in path or ":" in path or ".." in parts or path != "/".join(parts):
            fail(
                "a path leaves the bundle or is not plain",
                path,
                "a relative path such as artifacts/onnx-fp32.onnx",
            )
