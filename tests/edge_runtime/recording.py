"""Studies for the tests of a site's records."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from edge_runtime.answer import answer_file
from edge_runtime.predictor import Predictor
from edge_runtime.records import Records
from tests.edge_runtime.tiny_bundle import gradient


def picture(folder: Path, seed: int) -> Path:
    path = folder / f"film {seed}.png"
    Image.fromarray(gradient(200 + seed, 180, seed)).save(path)
    return path


def add(records: Records, predictor: Predictor, path: Path, **changes: object) -> str:
    fields = {"source": "upload", "actor": "tester", "file": path, **changes}
    return records.add(answer_file(predictor, path), predictor.manifest, **fields).key  # type: ignore[arg-type]
