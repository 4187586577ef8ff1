"""Curves of a run: losses, accuracy and sensitivities by epoch."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

__all__ = ["draw_curves"]


def draw_curves(history: Sequence[dict[str, float]], path: Path) -> None:
    """Draw ``log.csv``'s rows to a PNG; replaces the file as a whole."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    losses, shares = figure.subplots(1, 2)
    epochs = [row["epoch"] for row in history]
    for key, label in (("train_loss", "training"), ("valid_loss", "validation")):
        losses.plot(epochs, [row[key] for row in history], label=label)
    losses.set(xlabel="epoch", ylabel="loss")
    shares.plot(epochs, [row["accuracy"] for row in history], color="black", label="accuracy")
    for key in (k for k in history[0] if k.startswith("sensitivity_")):
        shares.plot(epochs, [row[key] for row in history], linewidth=1, label=key.replace("_", " "))
    shares.set(xlabel="epoch", ylabel="validation", ylim=(0, 1.02))
    for axes in (losses, shares):
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False, fontsize=8)
        for before, after in pairwise(history):
            if before["stage"] != after["stage"]:
                axes.axvline((before["epoch"] + after["epoch"]) / 2, color="0.8", linewidth=1, zorder=0)
    temporary = path.with_suffix(".part.png")
    figure.savefig(temporary, dpi=110)
    os.replace(temporary, path)
