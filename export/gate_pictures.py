"""Pictures that are no frontal chest radiographs, for the gate to learn from: made, drawn, or given."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from torch import Tensor

from edge_runtime.errors import Refusal
from edge_runtime.reading import looks_readable, read_radiograph
from export.errors import ExportError

__all__ = ["KIND_FOLDERS", "drawn_pictures", "inverted", "load_given", "rotated"]

Pixels = NDArray[np.uint8]
Kind = Literal["not_a_radiograph", "lateral_view"]

KIND_FOLDERS: dict[str, Kind] = {"lateral": "lateral_view", "other": "not_a_radiograph"}
"""Folders inside a folder of given pictures, and what the pictures in them are refused as."""


def inverted(grey: Tensor) -> Tensor:
    """Show radiographs, float [N, 1, S, S] in 0..255, with bone black: what a missed MONOCHROME1 gives."""
    return 255 - grey


def rotated(grey: Tensor, number: int) -> Tensor:
    """Turn radiographs, float [N, 1, S, S], by 90, 180 or 270 degrees, as ``number`` counts on."""
    return torch.rot90(grey, 1 + number % 3, (2, 3))


def load_given(folder: Path) -> Iterator[tuple[Kind, Pixels]]:
    """Read given pictures: ``<folder>/lateral`` and ``<folder>/other``, whatever the reader takes.

    Raises
    ------
    ExportError
        Neither folder is there, or neither holds a picture that the reader takes.
    """
    found = False
    for name, kind in KIND_FOLDERS.items():
        for path in sorted((folder / name).rglob("*")):
            if not looks_readable(path):
                continue
            try:
                pixels = read_radiograph(path).pixels
            except Refusal:
                continue  # the reader refuses it: the gate need not
            found = True
            yield kind, pixels
    if not found:
        raise ExportError(
            f"there is no picture to learn from in {folder}",
            expected=f"images in {folder / 'lateral'} or {folder / 'other'}",
            remedy="give the folder with --not-frontal, or build without it",
        )


def drawn_pictures(count: int, seed: int = 0) -> Iterator[Pixels]:
    """Draw pictures of other things, uint8 [H, W]: documents, screens, scenes, slices, textures, in turn."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        height, width = (int(rng.integers(240, 480)) for _ in range(2))
        yield (_document, _scene, _slice, _texture, _screen)[number % 5](rng, height, width)


def _document(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Lines of text, ruled tables and a letterhead on paper; now and then a negative of it."""
    paper, ink = int(rng.integers(200, 256)), int(rng.integers(0, 90))
    image = Image.new("L", (width, height), paper)
    draw = ImageDraw.Draw(image)
    size = int(rng.integers(8, 18))
    font = ImageFont.load_default(size)
    margin = int(rng.integers(5, 40))
    y = margin
    while y < height - margin:
        step = rng.random()
        if step < 0.12:
            y += 2 * size  # a paragraph ends
        elif step < 0.2:
            draw.rectangle([margin, y, int(rng.integers(margin + 20, width)), y + 3 * size], outline=ink)
            y += 3 * size
        else:
            letters = rng.integers(97, 123, int(rng.integers(10, 60)))
            text = "".join(chr(c) if rng.random() > 0.17 else " " for c in letters)
            draw.text((margin, y), text, ink, font)
        y += int(size * 1.5)
    if rng.random() < 0.3:
        image = image.rotate(float(rng.uniform(-8, 8)), fillcolor=int(rng.integers(0, 256)))
    pixels = np.asarray(image, np.uint8)
    return np.asarray(255 - pixels if rng.random() < 0.3 else pixels, np.uint8)


def _screen(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Panels, buttons and a plot: a screenshot."""
    image = Image.new("L", (width, height), int(rng.integers(0, 256)))
    draw = ImageDraw.Draw(image)
    for _ in range(int(rng.integers(4, 25))):
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        box = [x, y, x + int(rng.integers(10, width)), y + int(rng.integers(6, height // 2))]
        draw.rounded_rectangle(box, int(rng.integers(0, 6)), int(rng.integers(0, 256)), int(rng.integers(0, 256)))
    xs = np.linspace(0, width, 40)
    ys = height * (0.5 + 0.3 * np.sin(xs / width * rng.uniform(3, 30) + rng.uniform(0, 6)))
    draw.line([(float(a), float(b)) for a, b in zip(xs, ys, strict=True)], int(rng.integers(0, 256)), 2)
    return np.asarray(image, np.uint8)


def _texture(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Noise with a spectrum of 1/f^a, as natural scenes have it; a from 0 (white) to 2.2 (clouds)."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    amplitude = np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** -rng.uniform(0, 2.2)
    phase = np.exp(2j * math.pi * rng.random((height, width // 2 + 1)))
    values = np.fft.irfft2(amplitude * phase, (height, width))
    low, high = np.percentile(values, [1, 99])
    return np.asarray(np.clip((values - low) / (high - low) * 255, 0, 255), np.uint8)


def _scene(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """Sky, ground and shaded things in front of it, blurred by depth: a photograph's layout."""
    base = _texture(rng, height, width).astype(np.float64) * 0.3
    slope = np.linspace(rng.uniform(0, 220), rng.uniform(0, 220), height)[:, None]
    image = Image.fromarray(np.clip(base + slope, 0, 255).astype(np.uint8))
    for depth in range(int(rng.integers(2, 12))):
        draw = ImageDraw.Draw(image)
        x, y = int(rng.integers(-20, width)), int(rng.integers(-20, height))
        box = [x, y, x + int(rng.integers(15, width)), y + int(rng.integers(15, height))]
        shade = int(rng.integers(0, 256))
        if rng.random() < 0.5:
            draw.ellipse(box, shade)
        else:
            corners = [(int(rng.integers(box[0], box[2])), int(rng.integers(box[1], box[3]))) for _ in range(4)]
            draw.polygon(corners, shade)
        if depth % 3 == 0:
            image = image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 4))))
    return np.asarray(image, np.uint8)


def _slice(rng: np.random.Generator, height: int, width: int) -> Pixels:
    """An axial slice: a bright oval on black with two dark lungs, vertebra, heart and table."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    wide, tall = rng.uniform(0.7, 0.98), rng.uniform(0.55, 0.9)
    image = np.full((height, width), rng.uniform(0, 30))
    soft = rng.uniform(90, 170)

    def oval(cx: float, cy: float, rx: float, ry: float, value: float) -> None:
        image[((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1] = value

    oval(0, 0, wide, tall, soft + rng.uniform(-30, 30))
    oval(0, 0, wide * 0.93, tall * 0.92, soft)
    lung = rng.uniform(0, 60)
    for side in (-1, 1):
        oval(
            side * wide * 0.45,
            rng.uniform(-0.08, 0.08),
            wide * rng.uniform(0.28, 0.4),
            tall * rng.uniform(0.5, 0.75),
            lung,
        )
    oval(rng.uniform(-0.05, 0.2), -tall * 0.2, 0.25 * wide, 0.3 * tall, soft + rng.uniform(-10, 60))
    oval(0, tall * 0.6, 0.13, 0.16, rng.uniform(190, 255))
    for _ in range(int(rng.integers(0, 25))):
        side = rng.choice([-1, 1])
        r = rng.uniform(0.01, 0.06)
        oval(side * wide * rng.uniform(0.2, 0.65), rng.uniform(-0.5, 0.5) * tall, r, r, rng.uniform(80, 230))
    picture = Image.fromarray(np.clip(image + rng.normal(0, rng.uniform(1, 12), image.shape), 0, 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, 1.5)))), np.uint8)
