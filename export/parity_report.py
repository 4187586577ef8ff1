"""A parity report in files, and its record in the bundle itself."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import msgspec
import numpy as np
from markupsafe import Markup
from PIL import Image

from edge_runtime.bundle import Bundle, file_entry, rewrite_manifest
from edge_runtime.heatmap import overlay
from edge_runtime.reading import read_radiograph
from export.agreement import recommend_after_parity
from export.description import describe_validation
from export.errors import ExportError
from export.parity_object import encode_json, report_csv, report_object
from export.parity_page import FlippedPictures, render_page
from export.parity_result import ParityReport
from export.parity_text import report_junit, report_markdown
from train.data.rows import IMAGES_NAME

__all__ = [
    "REPORT_NAMES",
    "encode_json",
    "read_pictures",
    "record_parity",
    "report_csv",
    "report_object",
    "write_atomically",
    "write_reports",
]

REPORT_NAMES = ("parity.html", "parity.json", "parity.csv", "parity.md", "parity.xml")
_THUMBNAIL = 200
_MOST_PICTURES = 60  # of one artifact: the page shows no more


def read_pictures(report: ParityReport, data: Path) -> FlippedPictures:
    """Draw small pictures of the radiographs that any artifact decides otherwise, with both heat maps.

    Returns
    -------
    dict
        (artifact's name, file name) -> PNG of the radiograph, of the full model's heat map over it, of the
        artifact's; the last two only where the artifact gave heat maps.
    """
    pictures: dict[tuple[str, str], tuple[bytes, ...]] = {}
    small: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]] = {}
    for artifact in report.artifacts:
        for number in artifact.differing[:_MOST_PICTURES]:
            file = report.cases[number].file
            if file not in small:
                image = Image.fromarray(read_radiograph(data / IMAGES_NAME / file).pixels)
                image.thumbnail((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS)
                small[file] = np.asarray(image, np.uint8)
            maps = artifact.flipped_heatmaps.get(number, ())
            views = [small[file], *(overlay(small[file], heat) for heat in maps)]
            pictures[artifact.name, file] = tuple(_png(view) for view in views)
    return pictures


def write_reports(
    report: ParityReport, folder: Path, pictures: FlippedPictures, layers: Mapping[str, Markup] | None = None
) -> list[str]:
    """Write the files of :data:`REPORT_NAMES` into ``folder``; each file is replaced as a whole.

    Parameters
    ----------
    pictures, layers
        As for :func:`export.parity_page.render_page`.

    Returns
    -------
    list of str
        The files' names.
    """
    contents: Mapping[str, bytes] = {
        "parity.html": render_page(report, pictures, layers).encode(),
        "parity.json": encode_json(report),
        "parity.csv": report_csv(report).encode(),
        "parity.md": report_markdown(report).encode(),
        "parity.xml": report_junit(report),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomically(folder / name, content)
    except OSError as error:
        raise ExportError(
            f"the report cannot be written to {folder}",
            got=error.strerror or str(error),
            remedy="check the folder's permissions and the disk",
        ) from error
    return list(contents)


def write_atomically(path: Path, content: bytes) -> None:
    """Replace a file as a whole."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def record_parity(
    bundle: Bundle, report: ParityReport, pictures: FlippedPictures, layers: Mapping[str, Markup] | None = None
) -> None:
    """Write the report into the bundle's ``reports/`` and each artifact's result into its manifest.

    What failed is recommended no longer. Pictures of real radiographs stay out: a bundle travels. Answers that a
    device recorded, and those on another backend, change no artifact's entry: they are about that device.
    Whenever this is stopped, the bundle stays valid.

    Raises
    ------
    BundleError
        The bundle is a zip, or cannot be written.
    """
    paths = [f"reports/{name}" for name in REPORT_NAMES]
    others = tuple(entry for entry in bundle.manifest.reports if entry.path not in paths)
    # The old reports are taken off the manifest first: it never vouches for a file that is being replaced.
    rewrite_manifest(bundle, msgspec.structs.replace(bundle.manifest, reports=others))
    write_reports(report, bundle.root / "reports", pictures if report.synthetic else {}, layers)
    judged = {artifact.name: artifact for artifact in report.artifacts if artifact.backend != "recorded"}
    manifest = msgspec.structs.replace(
        bundle.manifest,
        reports=(*others, *(file_entry(bundle.root, path) for path in paths)),
        artifacts=tuple(
            msgspec.structs.replace(
                artifact,
                parity=report.result(judged[artifact.name]),
                validated_on=describe_validation(artifact.format),
            )
            if artifact.name in judged
            else artifact
            for artifact in bundle.manifest.artifacts
        ),
    )
    rewrite_manifest(bundle, msgspec.structs.replace(manifest, recommended=recommend_after_parity(manifest)))


def _png(pixels: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
