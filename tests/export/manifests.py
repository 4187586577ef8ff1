"""A manifest around one artifact, for tests that open a backend without a bundle."""

from __future__ import annotations

from edge_runtime.manifest import (
    Artifact,
    Calibration,
    FileEntry,
    Golden,
    InputSpec,
    Manifest,
    Preprocessing,
    Provenance,
)
from export.description import describe_outputs
from export.graph import DeployableGraph
from tests.export.making import LABELS


def manifest_for(graph: DeployableGraph, artifact: Artifact) -> Manifest:
    """A complete manifest whose provenance says nothing true."""
    return Manifest(
        schema_version=1,
        name="test",
        labels=LABELS,
        input=InputSpec(
            name="image", dtype="uint8", shape=(1, 1, "H", "W"),
            preprocessing_in_graph=Preprocessing(
                size=graph.size, resize="antialiased_bilinear_squish", normalization="per_image", mean=None, std=None
            ),
        ),
        outputs=describe_outputs(graph),
        calibration=Calibration(temperature=graph.temperature, fitted_on=None),
        operating_thresholds=None, operating_curve=None, gate=None, conformal=None, signature=None,
        artifacts=(artifact,),
        recommended={"cpu": artifact.name},
        golden=Golden(synthetic=True, vectors=FileEntry(path="v", bytes=0, sha256="0" * 64), inputs=()),
        reports=(),
        provenance=Provenance(
            created="", checkpoint_sha256="0" * 64, architecture="", recipe="", trained_on_synthetic_data=True,
            data_sha256={}, package_versions={}, git_commit=None,
        ),
        licence="", intended_use="", limitations=(),
    )  # fmt: skip
