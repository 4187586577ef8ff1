"""``fine-tune``: quantization-aware fine-tuning by itself, where there is a GPU; ``quantize`` takes the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.manifest import Format
from export.build_data import load_build_data
from export.errors import ExportError
from export.graph import deployable_graph
from export.quantization.fine_tuning import RATE, OnEpoch, fine_tune
from export.quantization.ladder import FINE_TUNING_EPOCHS, fine_tuned, rungs
from export.quantization.layers import find_layers
from export.quantization.sensitivity import RANKED_ON, rank_layers, rank_weights
from export.quantization.sets import read_calibration
from export.quantization.tuned_weights import Tuned, save_tuned
from train.recipe import Recipe
from train.run import load_run

__all__ = ["fine_tune_run"]


def fine_tune_run(
    run: str | Path,
    data: str | Path,
    out: str | Path,
    *,
    format_: Format,
    rung: str,
    epochs: int = FINE_TUNING_EPOCHS,
    rate: float = RATE,
    device: str = "auto",
    calibration: int = 60,
    seed: int = 0,
    cache: Path | None = None,
    on_step: Any = lambda _what: None,
    on_epoch: OnEpoch = lambda *_: None,
) -> Tuned:
    """Fine-tune a run for one rung of a format's ladder and write the weights to a file.

    Parameters
    ----------
    run, data
        Run folder and its dataset folder: its training split is used, and no other.
    out
        The file (safetensors): what fine-tuning changed, in half precision. It is written when all epochs are done.
    format_, rung
        What will be rounded, as ``quantize`` names it, such as ``10 worst layers in float``.
    epochs, rate, seed
        Of the training.
    device
        ``auto``, ``cpu`` or ``cuda``.
    calibration
        Radiographs that set ranges.
    cache
        Folder of decoded images.
    on_step, on_epoch
        Progress.

    Raises
    ------
    EdgeRuntimeError
        Run or data are not what they should be; the ladder of the format has no such rung; the loss is not a number.
    """
    out = Path(out)
    if not out.parent.is_dir() or out.is_dir():  # before hours of training, not after
        raise ExportError(
            "the fine-tuned weights have no place to go",
            got=f"{out} is a folder" if out.is_dir() else f"there is no folder {out.parent}",
            expected="a file in a folder that is there",
            remedy="--out with another name, such as tuned.safetensors",
        )
    loaded = load_run(run)
    dataset = load_build_data(data, loaded, needed=True, notes=[])
    assert dataset is not None  # it was needed
    on_step("loading the run")
    graph = deployable_graph(loaded)
    layers = find_layers(graph)
    on_step("reading the calibration set")
    _, images = read_calibration(dataset, loaded.spec.labels, calibration, graph.size)
    on_step("ranking layers by the noise of int8")
    few = images[:RANKED_ON]
    ladder = {s.rung: s for s in rungs(format_, layers, rank_layers(graph, few), rank_weights(graph, few))}
    if rung not in ladder:
        raise ExportError(
            f"the ladder of {format_} has no such rung",
            got=rung,
            expected="; ".join(ladder),
            remedy="--rung with one of these names",
        )
    on_step("fine-tuning")
    tuned = fine_tune(
        graph, layers, fine_tuned(ladder[rung], epochs), dataset, msgspec.convert(loaded.spec.recipe, type=Recipe),
        images, cache=cache, seed=seed, device=device, rate=rate, on_epoch=on_epoch,
    )  # fmt: skip
    save_tuned(out, graph, tuned, loaded.spec.checkpoint_sha256)
    return tuned
