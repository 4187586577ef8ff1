"""A predictor with a script, a manifest for it, and drawn radiographs: what the page's tests stand on."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from edge_runtime.bundle import Bundle
from edge_runtime.errors import BackendError
from edge_runtime.manifest import (
    Artifact,
    Calibration,
    FileEntry,
    Golden,
    GoldenAgreement,
    InputSpec,
    Manifest,
    Preprocessing,
    Provenance,
    Validation,
)
from edge_runtime.predictor import Prediction, Predictor

LABELS = ("normal", "pneumonia", "COVID-19")
CLEAR = {"normal": 0.06, "pneumonia": 0.22, "COVID-19": 0.72}
CLOSE = {"normal": 0.46, "pneumonia": 0.41, "COVID-19": 0.13}
ARTIFACT = Artifact(
    name="onnx-fp32",
    format="onnx",
    precision="fp32",
    files=(FileEntry(path="artifacts/onnx-fp32.onnx", bytes=1, sha256="0" * 64),),
    golden_agreement=GoldenAgreement(max_abs_probability_difference=1e-4, differing_decisions=0),
    parity=None,
    validated_on=Validation(cpu="test", machine="x86_64", cpu_features=(), runtime_versions={}),
    lite=None,
)


def operating_curve() -> dict[str, Any]:
    """A plausible curve of one class: the rarer the call, the fewer the false alarms."""
    points = []
    for step in range(41):
        t = step / 40
        hits, alarms = round(120 * (1 - t**2.2)), round(300 * (1 - t) ** 3.5)
        points.append(
            {
                "threshold": t,
                "true_positives": hits,
                "false_negatives": 120 - hits,
                "false_positives": alarms,
                "true_negatives": 300 - alarms,
            }
        )
    return {"split": "valid", "radiographs": 420, "curves": {"COVID-19": points}}


def coarse_curve() -> dict[str, Any]:
    """What few cases give: 7 radiographs of a class and 19 others, four points, not in order."""
    counts = ((0.9, 2, 0), (0.4, 6, 3), (0.0, 7, 19), (0.7, 4, 1))
    points = [
        {
            "threshold": threshold,
            "true_positives": hits,
            "false_negatives": 7 - hits,
            "false_positives": alarms,
            "true_negatives": 19 - alarms,
        }
        for threshold, hits, alarms in counts
    ]
    return {"split": "valid", "radiographs": 26, "curves": {"COVID-19": points, "normal": []}}


def scripted_bundle(*, synthetic: bool = True, **sections: Any) -> Bundle:
    """A bundle of which only the manifest exists; ``sections`` are put in place of its own."""
    manifest = _manifest(synthetic)
    return cast(Bundle, SimpleNamespace(manifest=msgspec.structs.replace(manifest, **sections)))


def _manifest(synthetic: bool) -> Manifest:
    return Manifest(
        schema_version=1,
        name="covidx-b1-test",
        labels=LABELS,
        input=InputSpec(
            name="image",
            dtype="uint8",
            shape=(1, 1, "H", "W"),
            preprocessing_in_graph=Preprocessing(
                size=240, resize="antialiased_bilinear_squish", normalization="per_image", mean=None, std=None
            ),
        ),
        outputs=(),
        calibration=Calibration(temperature=1.2, fitted_on="valid"),
        operating_thresholds=None,
        operating_curve=operating_curve(),
        gate=None,
        conformal=None,
        signature=None,
        artifacts=(ARTIFACT,),
        recommended={"cpu": "onnx-fp32"},
        golden=Golden(synthetic=True, vectors=FileEntry(path="golden/v", bytes=1, sha256="0" * 64), inputs=()),
        reports=(),
        provenance=Provenance(
            created="2025-06-01T00:00:00Z",
            checkpoint_sha256="ab" * 32,
            architecture="efficientnet_b1",
            recipe="quick",
            trained_on_synthetic_data=synthetic,
            data_sha256={},
            package_versions={},
            git_commit=None,
        ),
        licence="For research and demonstration only",
        intended_use="Research and demonstration. Not for diagnosis.",
        limitations=("A limitation that the manifest names.",),
    )


class ScriptedPredictor:
    """Answers every radiograph with the same probabilities and one warm spot a class.

    ``gate`` holds every prediction until it is set; ``fails`` raises what a broken backend raises.
    """

    artifact = ARTIFACT
    backend_name = "onnxruntime"
    precision = "fp32"
    notes: tuple[str, ...] = ()
    opening_remarks: tuple[str, ...] = ()

    def __init__(self, probabilities: Mapping[str, float] = CLEAR) -> None:
        self.manifest = scripted_bundle().manifest
        self.probabilities = dict(probabilities)
        self.gate = threading.Event()
        self.gate.set()
        self.fails = False
        self.embedding = np.ones(4, np.float32)
        self.at_once = 0
        self.most_at_once = 0
        self.answered = 0

    def predict(self, pixels: NDArray[np.uint8]) -> Prediction:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            assert self.gate.wait(timeout=60)
            if self.fails:
                raise BackendError("the backend failed", remedy="run `edge-runtime selftest`")
            self.answered += 1
        finally:
            self.at_once -= 1
        return Prediction(
            label=max(self.probabilities, key=lambda label: self.probabilities[label]),
            probabilities=self.probabilities,
            logits=dict.fromkeys(LABELS, 0.0),
            heatmap=warm_spots(),
            embedding=self.embedding,
            gate_score=0.0,
        )

    def as_predictor(self) -> Predictor:
        return cast(Predictor, self)


def warm_spots(cells: int = 8) -> NDArray[np.float32]:
    """float32 [3, cells, cells] in [0, 1]: one spot a class, each elsewhere."""
    down, across = np.mgrid[0:cells, 0:cells] / (cells - 1)
    centres = ((0.35, 0.5), (0.6, 0.28), (0.62, 0.72))
    return np.stack([np.exp(-((down - y) ** 2 + (across - x) ** 2) / 0.05) for y, x in centres]).astype(np.float32)


def drawn_radiograph(height: int = 400, width: int = 360) -> NDArray[np.uint8]:
    """Two dark lungs in a bright body: enough for a reader to take it for a radiograph."""
    down, across = np.mgrid[0:height, 0:width].astype(np.float32)
    y, x = down / height, across / width
    body = 190 - 90 * (np.abs(x - 0.5) * 2) ** 3
    for centre in (0.3, 0.7):
        body -= 120 * np.exp(-(((x - centre) / 0.13) ** 4 + ((y - 0.48) / 0.3) ** 4))
    body += 12 * np.sin(y * 60) + np.random.default_rng(0).normal(0, 4, body.shape)
    return np.clip(body, 0, 255).astype(np.uint8)


def png_bytes(pixels: NDArray[np.uint8] | None = None) -> bytes:
    stream = BytesIO()
    Image.fromarray(drawn_radiograph() if pixels is None else pixels).save(stream, "PNG")
    return stream.getvalue()


def dicom_bytes(pixels: NDArray[np.uint8] | None = None, **facts: Any) -> bytes:
    """A Digital X-Ray image; ``facts`` are further header elements by keyword."""
    pixels = drawn_radiograph() if pixels is None else pixels
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["page test"])
    data_set = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data_set.SOPClassUID = meta.MediaStorageSOPClassUID
    data_set.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    data_set.Modality = "DX"
    data_set.BodyPartExamined = "CHEST"
    data_set.ViewPosition = "PA"
    data_set.PatientID = "SYN-0042"
    data_set.PatientName = "Secret^Name"
    data_set.PatientAge = "058Y"
    data_set.PatientSex = "F"
    data_set.StudyDate = "20200317"
    data_set.PresentationIntentType = "FOR PRESENTATION"
    data_set.PhotometricInterpretation = "MONOCHROME2"
    data_set.SamplesPerPixel = 1
    data_set.Rows, data_set.Columns = pixels.shape
    data_set.BitsAllocated = data_set.BitsStored = 8
    data_set.HighBit, data_set.PixelRepresentation = 7, 0
    data_set.PixelData = pixels.tobytes() + b"\0" * (pixels.size % 2)
    for keyword, value in facts.items():
        setattr(data_set, keyword, value)
    stream = BytesIO()
    data_set.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def written(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path
