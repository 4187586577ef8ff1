"""What the ladders found, to look at (``RUN/quantization.html``) and to read by a program."""

from __future__ import annotations

import base64
import html
import io
import os
from pathlib import Path
from typing import Any

import msgspec

from export.quantization.climbing import Climb, Rung, pareto
from export.quantization.quantize import QuantizeResult
from export.quantization.settings import describe

__all__ = ["REPORT_NAME", "result_object", "write_ladder_report"]

REPORT_NAME = "quantization.html"
_JSON_NAME = "quantization.json"

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:64rem;padding:0 1rem;color:#1c2733;background:#fff}
h1,h2{line-height:1.2} table{border-collapse:collapse;width:100%;font-size:.9rem}
th,td{padding:.3rem .5rem;text-align:right;border-bottom:1px solid #d9e0e7}
th:first-child,td:first-child{text-align:left} .chosen{background:#e5f3ec;font-weight:600} .naive{color:#a33}
.variant td:first-child{font-style:italic}
td{white-space:nowrap} td:first-child,td[colspan]{white-space:normal;text-align:left}
img{max-width:100%} .scroll{overflow-x:auto} small{color:#5a6a7a}
@media(prefers-color-scheme:dark){body{color:#dde5ec;background:#14191f}th,td{border-color:#2c3844}
.chosen{background:#1d3a2d} .naive{color:#f0938b} img{background:#fff;border-radius:6px} small{color:#9aa9b8}}
"""


def result_object(result: QuantizeResult, earlier: dict[str, Any] | None = None) -> dict[str, Any]:
    """Plain values: the plan, every rung of every format, and the ranking of the layers.

    ``earlier`` is such an object of the same checkpoint: formats that were not climbed now are taken from it.
    """
    rungs = {climb.format: [_rung_object(climb, rung) for rung in climb.rungs] for climb in result.climbs}
    variants = {one.format: msgspec.to_builtins(one.variants) for one in result.climbs}
    untried = {one.format: list(one.untried) for one in result.climbs}
    if earlier and earlier["plan"]["checkpoint_sha256"] == result.plan.checkpoint_sha256:
        rungs = {**{name: found for name, found in earlier["rungs"].items() if name not in rungs}, **rungs}
        variants = {**earlier.get("variants", {}), **variants}
        untried = {**earlier.get("untried", {}), **untried}
    return {
        "reached": all(plan.reached for plan in result.plan.formats.values()),
        "plan": msgspec.to_builtins(result.plan),
        "rungs": rungs,
        "variants": variants,
        "untried": untried,
        "layers": {
            "activations": msgspec.to_builtins(result.activations),
            "weights": msgspec.to_builtins(result.weights),
        },
    }


def write_ladder_report(result: QuantizeResult, run: Path) -> Path:
    """Write ``quantization.html``, one file that needs no network, and ``quantization.json`` into the run folder."""
    found = result_object(result, _earlier(run / _JSON_NAME))
    _write(run / _JSON_NAME, msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    _write(run / REPORT_NAME, _page(found).encode())
    return run / REPORT_NAME


def _earlier(path: Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return None
    return found if {"plan", "rungs"} <= set(found) else None


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def _page(found: dict[str, Any]) -> str:
    plan = found["plan"]
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Quantization ladder</title><style>{_STYLE}</style>",
        f"<h1>{'Target reached in every format' if found['reached'] else 'Target not reached in every format'}</h1>",
        "<p>Wanted on the search set: agreement with the full model of at least "
        f"{100 * plan['target']['agreement']:g} %, at most {plan['target']['drop_points']:g} points of accuracy lost. "
        f"Search set: {plan['search_radiographs']} validation radiographs of {plan['search_patients']} patients and "
        f"changed copies of them; ranges from {plan['calibration_radiographs']} radiographs of training patients; test "
        "patients were not read. This choice is not a proof: <code>python -m export parity</code> judges on the test "
        f"split. Times were taken on {html.escape(plan['cpu'])}, each in turns with fp32.</p>",
        "<p><small>For research; not a medical device.</small></p>",
    ]
    wanted = plan["target"]["agreement"]
    for format_, rungs in found["rungs"].items():
        variants = found["variants"].get(format_, [])
        parts.append(f"<h2>{html.escape(format_)}</h2>{_chart(rungs, variants, wanted)}{_table(rungs, variants)}")
        parts += [f"<p><small>{html.escape(sentence)}</small></p>" for sentence in found["untried"].get(format_, [])]
    parts.append("<h2>Layers that suffer most</h2>" + _layers(found["layers"]))
    return "\n".join(parts)


def _rung_object(climb: Climb, rung: Rung) -> dict[str, Any]:
    return {
        "settings": msgspec.to_builtins(rung.settings),
        "described": describe(rung.settings),
        "figures": None if rung.figures is None else msgspec.to_builtins(rung.figures),
        "failure": rung.failure,
        "chosen": rung is climb.chosen,
        "pareto": rung in pareto(climb.rungs),
    }


def _table(rungs: list[dict[str, Any]], variants: list[dict[str, Any]]) -> str:
    rows = []
    for number, rung in enumerate(rungs, 1):
        name = rung["settings"]["rung"]
        kind = "chosen" if rung["chosen"] else "naive" if name == "naive" else ""
        rows.append(_row(number, name, kind, rung.get("described", ""), rung, "yes" if rung["pareto"] else ""))
    for number, one in enumerate(variants, len(rungs) + 1):
        name = f"no file needed: {one['file']} on {one['backend']}"
        rows.append(_row(number, name, "variant", "the same file on another backend", one, ""))
    return (
        "<div class=scroll><table><tr><th>rung<th>agreement<th>pictures<th>drop, points<th>max |Δp|<th>logit noise"
        "<th>p50 ms<th>of fp32<th>MB<th>Pareto" + "".join(rows) + "</table></div>"
        "<p><small>A rung is run on the validation radiographs, and on their changed copies until the target is out of "
        "reach.</small></p>"
    )


def _row(number: int, name: str, kind: str, title: str, one: dict[str, Any], pareto_word: str) -> str:
    f = one["figures"]
    if f is None:
        why = html.escape(one["failure"] or "")
        return f"<tr class='{kind}'><td><small>{number}</small> {html.escape(name)}<td colspan=9>not run: {why}"
    return (
        f"<tr class='{kind}' title='{html.escape(title)}'><td><small>{number}</small> {html.escape(name)}"
        f"<td>{100 * f['agreement']:.1f} %<td>{f['pictures']}<td>{f['drop_points']:+.1f}"
        f"<td>{f['max_abs_difference']:.3f}<td>{f['logit_noise']:.3f}<td>{f['p50_ms']:.1f}"
        f"<td>{f['p50_ms'] / f['fp32_p50_ms']:.2f}"
        f"<td>{f['megabytes']:.1f} ({100 * f['megabytes'] / f['fp32_megabytes']:.0f} %)<td>{pareto_word}"
    )


def _layers(layers: dict[str, Any]) -> str:
    def column(title: str, noises: list[dict[str, Any]]) -> str:
        rows = "".join(
            f"<tr><td>{html.escape(n['layer'])}<td>{n['sqnr_db']:.1f}<td>{n['logit_noise']:.4f}" for n in noises[:15]
        )
        return f"<div class=scroll><table><tr><th>{title}<th>SQNR, dB<th>logit noise{rows}</table></div>"

    return column("int8 inputs of", layers["activations"]) + column("int8 weights of", layers["weights"])


_TICKS = (40, 60, 80, 90, 95, 98, 99, 99.5, 99.9)


def _chart(rungs: list[dict[str, Any]], variants: list[dict[str, Any]], agreement: float) -> str:
    """Agreement against time, a dot with its number in the table for each candidate.

    The axis is logarithmic in what differs: between 97 and 100 % lies the choice. "All agree" is drawn where one
    picture in two sets would differ.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2), layout="constrained")
    axes = figure.subplots()
    for number, one in enumerate([*rungs, *variants], 1):
        if (f := one["figures"]) is None:
            continue
        x, y = f["p50_ms"] / f["fp32_p50_ms"], max(1 - f["agreement"], 0.5 / f["pictures"])
        variant = "settings" not in one
        colour = "#8a5a16" if variant else "#1b7f4f" if one["chosen"] else "#2b6cb0" if one["pareto"] else "#8795a5"
        face = "none" if variant else colour
        axes.scatter(x, y, s=20 + 6 * f["megabytes"], facecolors=face, edgecolors=colour, linewidths=1.2, alpha=0.8)
        axes.annotate(
            str(number), (x, y), fontsize=8, xytext=(6, 3), textcoords="offset points", color=colour,
            fontweight="bold" if not variant and (one["chosen"] or one["pareto"]) else "normal",
        )  # fmt: skip
    axes.axvline(1.0, color="#9aa9b8", linewidth=0.8, linestyle="--")
    axes.axhline(1 - agreement, color="#1b7f4f", linewidth=0.8, linestyle="--")
    axes.set_yscale("log")
    axes.set_yticks([1 - tick / 100 for tick in _TICKS], labels=[f"{tick:g}" for tick in _TICKS])
    axes.minorticks_off()
    axes.invert_yaxis()
    axes.set_xlabel("time of a run, fp32 = 1 (dot size: file size)")
    axes.set_ylabel("agreement with the full model, %")
    axes.margins(0.08)
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=140)
    encoded = base64.b64encode(picture.getvalue()).decode()
    return (
        f"<img alt='agreement against time, one dot a rung' src='data:image/png;base64,{encoded}'>"
        "<p><small>Numbers as in the table. Green: chosen; blue: no other beats it in agreement, time and size at "
        "once; rings: another backend, no file needed. Above the green line the target is reached.</small></p>"
    )
