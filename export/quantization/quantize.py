"""``quantize``: from a run and its data to a plan, through the ladder of each format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from edge_runtime.manifest import Artifact, FileEntry, Format, Golden, GoldenAgreement, Manifest, Validation
from export import description
from export.build_data import load_build_data
from export.cpu import cpu_model
from export.errors import ExportError
from export.graph import DeployableGraph, deployable_graph
from export.quantization.climbing import Climb, FineTuning, Materials, OnRung, climb
from export.quantization.judging import Target
from export.quantization.ladder import FINE_TUNING_EPOCHS, SEARCHED_FORMATS
from export.quantization.layers import find_layers
from export.quantization.plan import PLAN_NAME, FormatPlan, QuantizationPlan, save_plan
from export.quantization.sensitivity import RANKED_ON, LayerNoise, mean_inputs, rank_layers, rank_weights
from export.quantization.sets import build_search_set, read_calibration
from export.quantization.settings import QuantizationSettings
from export.quantization.tuned_weights import Tuned, load_tuned, save_tuned
from train.data.rows import file_sha256
from train.recipe import Recipe
from train.run import Run, RunSpec, load_run

__all__ = ["QuantizeResult", "quantize_run", "run_skeleton"]


@dataclass(frozen=True)
class QuantizeResult:
    """What the ladders found.

    ``reached`` is false where a format's best candidate misses the target; the plan holds it all the same.
    """

    plan: QuantizationPlan
    plan_path: Path
    climbs: tuple[Climb, ...]
    activations: tuple[LayerNoise, ...]
    weights: tuple[LayerNoise, ...]
    reached: bool


def quantize_run(
    run: str | Path,
    data: str | Path,
    *,
    formats: Sequence[Format] = SEARCHED_FORMATS,
    target: Target | None = None,
    calibration: int = 60,
    stop_at_first: bool = False,
    fine_tuning: FineTuning = "needed",
    fine_tuning_epochs: int = FINE_TUNING_EPOCHS,
    fine_tuned_weights: Path | None = None,
    device: str = "auto",
    control_seconds: float = 0.0,
    cache: Path | None = None,
    on_rung: OnRung = lambda *_: None,
    on_step: Any = lambda _what: None,
) -> QuantizeResult:
    """Climb the ladder for each format and write ``RUN/quantization.toml``.

    Parameters
    ----------
    run
        Run folder, as ``python -m train fit`` leaves it.
    data
        Its dataset folder: training patients calibrate, validation patients choose, test patients are not read.
    formats
        Of :data:`export.quantization.ladder.QUANTIZED_FORMATS`; the others keep their part of an earlier plan.
        TorchScript takes what was found for the lite interpreter unless it is asked for itself.
    target
        Agreement and drop of accuracy on the search set.
    calibration
        Radiographs of the calibration set.
    stop_at_first
        Take the first rung that reaches the target, instead of the fastest of all.
    fine_tuning
        ``needed``: the top rung, quantization-aware fine-tuning (minutes an epoch on a CPU), is tried where no other
        reaches the target. ``always``, ``never``.
    fine_tuning_epochs
        How long.
    fine_tuned_weights
        A file of :func:`export.quantization.fine_tune_run.fine_tune_run`, perhaps made on another machine: rungs on
        these weights are tried for every format, and nothing is trained here.
    device
        Where fine-tuning computes: ``auto``, ``cpu`` or ``cuda``.
    control_seconds
        How long NNCF's accuracy control may search the layers that OpenVINO computes in float; 0: it is not tried.
    cache
        Folder of decoded images for fine-tuning.
    on_rung, on_step
        Progress.

    Raises
    ------
    EdgeRuntimeError
        Run or data are not what they should be; a set lacks a class; no candidate can be built.
    """
    target = target or Target()
    loaded = load_run(run)
    spec = loaded.spec
    dataset = load_build_data(data, loaded, needed=True, notes=[])
    assert dataset is not None  # it was needed
    on_step("loading the run")
    graph = deployable_graph(loaded)
    layers = find_layers(graph)
    on_step("reading the calibration set")
    calibration_set, images = read_calibration(dataset, spec.labels, calibration, graph.size)
    on_step("the full model on the search set")
    search = build_search_set(graph, dataset, spec.labels)
    on_step("ranking layers by the noise of int8")
    few = images[:RANKED_ON]
    activations, weights = rank_layers(graph, few), rank_weights(graph, few)

    tuned = load_tuned(fine_tuned_weights, graph, spec.checkpoint_sha256) if fine_tuned_weights else None

    def fine_tune(settings: QuantizationSettings) -> Tuned:
        from export.quantization.fine_tuning import fine_tune as tune

        recipe = msgspec.convert(spec.recipe, type=Recipe)

        def on_epoch(epoch: int, epochs: int, loss: float) -> None:
            on_step(f"fine-tuning: epoch {epoch} of {epochs}, loss {loss:.3g}")

        return tune(
            graph, layers, settings, dataset, recipe, images, cache=cache, device=device, on_epoch=on_epoch
        )  # fmt: skip

    materials = Materials(
        graph=graph,
        layers=layers,
        images=images,
        mean_inputs=dict(mean_inputs(graph, images)),
        activations=activations,
        weights=weights,
        search=search,
        skeleton=run_skeleton(graph, spec),
        fine_tune=fine_tune,
        tuned=tuned,
        fine_tuning_epochs=fine_tuning_epochs,
    )
    formats_done = _earlier(loaded)
    climbs: list[Climb] = []
    path = loaded.folder / PLAN_NAME
    for format_ in formats:
        one = climb(
            format_, materials, target, stop_at_first=stop_at_first, fine_tuning=fine_tuning,
            control_seconds=control_seconds, on_rung=on_rung,
        )  # fmt: skip
        climbs.append(one)
        formats_done[format_] = _format_plan(one, graph, loaded)
        # The two hold the same graph for the same engine; only the container differs.
        if format_ == "lite" and "torchscript" not in formats:
            formats_done["torchscript"] = formats_done["lite"]
        plan = QuantizationPlan(
            schema_version=1,
            checkpoint_sha256=spec.checkpoint_sha256,
            calibration_radiographs=len(calibration_set.rows),
            calibration_sha256=calibration_set.sha256,
            search_radiographs=int(search.originals.sum()),
            search_patients=search.patients,
            search_sha256=search.sha256,
            target=target,
            cpu=cpu_model(),
            formats=formats_done,
        )
        path = save_plan(loaded.folder, plan)  # after each format: a climb takes minutes
    return QuantizeResult(plan, path, tuple(climbs), activations, weights, all(one.reached for one in climbs))


def run_skeleton(graph: DeployableGraph, spec: RunSpec) -> Manifest:
    """A manifest of the graph's input and outputs, for running files that are in no bundle yet."""
    nothing = FileEntry(path="none", bytes=0, sha256="0" * 64)
    return Manifest(
        schema_version=1,
        name="candidate",
        labels=spec.labels,
        input=description.describe_input(spec),
        outputs=description.describe_outputs(graph),
        calibration=description.describe_calibration(spec),
        operating_thresholds=None,
        operating_curve=None,
        gate=None,
        conformal=None,
        signature=None,
        artifacts=(
            Artifact(
                name="onnx-fp32",
                format="onnx",
                precision="fp32",
                files=(nothing,),
                golden_agreement=GoldenAgreement(max_abs_probability_difference=1.0, differing_decisions=0),
                parity=None,
                validated_on=Validation(cpu="", machine="", cpu_features=(), runtime_versions={}),
                lite=None,
            ),
        ),
        recommended={},
        golden=Golden(synthetic=True, vectors=nothing, inputs=()),
        reports=(),
        provenance=description.describe_provenance(spec),
        licence=description.LICENCE,
        intended_use=description.INTENDED_USE,
        limitations=(),
    )


def _format_plan(one: Climb, graph: DeployableGraph, run: Run) -> FormatPlan:
    assert one.chosen.figures is not None
    file, sha256 = "", ""
    if one.tuned is not None:
        file = f"quantization-{one.format}.safetensors"
        save_tuned(run.folder / file, graph, one.tuned, run.spec.checkpoint_sha256)
        sha256 = file_sha256(run.folder / file)
    return FormatPlan(
        reached=one.reached,
        settings=one.chosen.settings,
        figures=one.chosen.figures,
        weights_file=file,
        weights_sha256=sha256,
    )


def _earlier(run: Run) -> dict[Format, FormatPlan]:
    from export.quantization.plan import load_plan

    try:
        plan = load_plan(run)
    except ExportError:  # of another checkpoint, or damaged: a new plan replaces it
        return {}
    return {} if plan is None else dict(plan.formats)
