"""The description as one HTML file that asks nothing of any network: style, script, data and images are in it."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from train.data.description.attributes import ALL, ATTRIBUTES, BANDS, UNKNOWN, Described, order_of
from train.data.description.findings import percent
from train.data.description.projection import ProjectedRun
from train.data.description.record import Description, EmbeddingMap
from train.data.rows import SPLITS

__all__ = ["Thumbnails", "write_page"]

_FOLDER = Path(__file__).parent
_COLOURS = 8
_SHOWN_PAIRS = 12
_TITLES = {
    "age": "Age in years",
    "shorter side": "Shorter side in pixels",
    "shape": "Shape (width to height: upright below 0.9, wide above 1.1)",
}


@dataclass(frozen=True)
class Thumbnails:
    """All thumbnails of a page in one JPEG, in rows of ``columns``."""

    edge: int
    columns: int
    jpeg: bytes

    @staticmethod
    def edge_for(count: int) -> int:
        """Edge of a thumbnail in pixels that keeps the page in a few megabytes; 0 where there is none to show."""
        if not count:
            return 0
        # About 0.3 bytes a pixel, and a third more as base64: 4 MB at most, up to 12,000 of them.
        return int(min(96, max(28, math.sqrt(10e6 / count))))

    @classmethod
    def join(cls, tiles: Sequence[NDArray[np.uint8]]) -> Thumbnails:
        """Put tiles, uint8 [t, t], into one sheet."""
        edge = len(tiles[0])
        columns = math.ceil(math.sqrt(len(tiles)))
        sheet = np.zeros((math.ceil(len(tiles) / columns) * edge, columns * edge), dtype=np.uint8)
        for index, tile in enumerate(tiles):
            top, left = index // columns * edge, index % columns * edge
            sheet[top : top + edge, left : left + edge] = tile
        content = io.BytesIO()
        Image.fromarray(sheet).save(content, "JPEG", quality=72, optimize=True)
        return cls(edge, columns, content.getvalue())


def write_page(description: Description, images: Sequence[Described], projected: ProjectedRun | None) -> str:
    """Return the page as HTML.

    Its content security policy forbids every request, so that nothing can be added by mistake.
    """
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["figure"] = _figure
    script = (_FOLDER / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    tiles = _tiles(images, projected)
    sheet = Thumbnails.join(tiles) if tiles else None
    return environment.get_template("page.html").render(
        description=description,
        splits=[split for split in SPLITS if description.images[split]],
        total=sum(description.images.values()),
        patients=len({image.row.patient for image in images}),
        crossing=_crossing(images, description.labels),
        charts=[_chart(attribute, images, description.labels) for attribute in ATTRIBUTES],
        numbers=[n for n in description.numbers if n.split == ALL],
        moments=_moments(description.embedding_map),
        shown_pairs=_SHOWN_PAIRS,
        style=Markup((_FOLDER / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=f"sha256-{digest}",
        points=_script_json(_points(projected, description.labels, order_of("source", images), sheet))
        if projected
        else None,
        atlas=Markup("data:image/jpeg;base64," + base64.b64encode(sheet.jpeg).decode()) if sheet else None,
    )


def _crossing(images: Sequence[Described], labels: Sequence[str]) -> dict[str, Any]:
    """Class by source: images in all, and by split."""
    found = Counter((image.row.label, image.values["source"], image.split) for image in images)
    sources = order_of("source", images)
    of_label = Counter(image.row.label for image in images)

    def cell(label: str, source: str) -> dict[str, Any]:
        counts = [found[label, source, split] for split in SPLITS]
        share = sum(counts) / of_label[label] if of_label[label] else 0.0
        return {"images": sum(counts), "by_split": counts, "share": share}

    rows = [{"label": n, "images": of_label[n], "cells": [cell(n, s) for s in sources]} for n in labels]
    totals = Counter(image.values["source"] for image in images)
    return {"sources": sources, "rows": rows, "totals": [totals[source] for source in sources]}


def _chart(attribute: str, images: Sequence[Described], labels: Sequence[str]) -> dict[str, Any]:
    """A stacked bar for each split and class."""
    values = order_of(attribute, images)
    found = Counter((image.split, image.row.label, image.values[attribute]) for image in images)
    colours = {value: _colour(attribute, value, index) for index, value in enumerate(values)}
    groups = []
    for split in SPLITS:
        bars = []
        for label in labels:
            counts = [found[split, label, value] for value in values]
            total = sum(counts)
            parts = [
                {"value": value, "images": count, "share": count / total, "colour": colours[value]}
                for value, count in zip(values, counts, strict=True)
                if count
            ]
            if total:
                bars.append({"label": label, "images": total, "parts": parts, "counts": counts})
        if bars:
            groups.append({"split": split, "bars": bars})
    title = _TITLES.get(attribute, attribute.capitalize())
    return {"title": title, "values": [(value, colours[value]) for value in values], "groups": groups}


def _colour(attribute: str, value: str, index: int) -> str:
    if value == UNKNOWN:
        return "unknown"
    if attribute in BANDS:
        order = BANDS[attribute]
        # Spread over the five steps of the ramp: three bands take the first, the third and the fifth.
        return f"step{round(4 * order.index(value) / (len(order) - 1))}"
    return f"kind{index % _COLOURS}"


def _moments(embedding_map: EmbeddingMap | None) -> list[dict[str, Any]]:
    """The table of moments over all splits, one block a space."""
    if embedding_map is None:
        return []
    rows = [row for row in embedding_map.moments if row.split == ALL]
    return [
        {"space": space, "rows": [row for row in rows if row.space == space]}
        for space in dict.fromkeys(row.space for row in rows)
    ]


def _tiles(images: Sequence[Described], projected: ProjectedRun | None) -> list[NDArray[np.uint8]]:
    if projected is None:
        return []
    of_row = {(image.split, image.row.filename): image.facts.thumbnail for image in images}
    tiles = [of_row[key] for key in zip(projected.splits, (row.filename for row in projected.rows), strict=True)]
    return [tile for tile in tiles if tile is not None]


def _points(
    projected: ProjectedRun, labels: Sequence[str], sources: Sequence[str], sheet: Thumbnails | None
) -> dict[str, Any]:
    """What the script draws: columns of equal length."""
    splits = list(dict.fromkeys(projected.splits))
    return {
        "groups": {"class": labels, "source": sources, "split": splits},
        "class": [labels.index(row.label) for row in projected.rows],
        "source": [sources.index(row.source or UNKNOWN) for row in projected.rows],
        "split": [splits.index(split) for split in projected.splits],
        "called": [labels.index(called) for called in projected.called],
        "probability": [round(float(p), 3) for p in projected.probabilities.max(1)],
        "name": [row.filename for row in projected.rows],
        "plane": _fitted(projected.plane.coordinates),
        "space": _fitted(projected.space.coordinates),
        "sheet": {"edge": sheet.edge, "columns": sheet.columns} if sheet else None,
    }


def _fitted(coordinates: NDArray[np.float64]) -> list[list[float]]:
    """Coordinates around their middle, the farthest at distance 1."""
    low, high = coordinates.min(0), coordinates.max(0)
    centred = coordinates - (low + high) / 2
    farthest = float(np.linalg.norm(centred, axis=1).max()) or 1.0
    return [[round(float(value), 4) for value in point] for point in centred / farthest]


def _script_json(value: object) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _figure(value: float | None) -> str:
    """A number for a table, three digits after the point at most; a dash for None."""
    if value is None:
        return "–"
    if abs(value) >= 100:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
