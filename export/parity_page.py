"""The parity report for people: one self-contained HTML page, no script, no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from typing import Final

from export.agreement import CONVERSION_LIMIT
from export.cpu import cpu_features, cpu_model
from export.parity_result import ACCURACY_MARGIN, SENSITIVITY_MARGIN, ArtifactParity, ParityReport, Verdict

__all__ = ["headline", "render_page"]

_STYLE: Final = """
:root { --ink: #1d2733; --soft: #5b6876; --line: #dde3e9; --paper: #fbfcfd; --card: #ffffff; --good: #1b6e4b;
  --bad: #a32a2a; --open: #7a5b12; --full: #7d93ab; --other: #c58b4a; color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e9ee; --soft: #9aa7b4; --line: #2d3742; --paper: #14191f; --card: #1a2128; --good: #62c795;
    --bad: #ee8a84; --open: #d9b35f; --full: #6f8aa6; --other: #c58b4a; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .4rem; font-weight: 650; }
h2 { font-size: 1.15rem; margin: 2.6rem 0 .6rem; font-weight: 650; }
p { margin: .4rem 0; max-width: 46rem; }
.soft, small, .eyebrow, .reported, footer, dt { color: var(--soft); }
.passed { color: var(--good); }
.failed { color: var(--bad); }
.open { color: var(--open); }
.verdict { font-weight: 650; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .5rem .55rem; border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); font-size: .87rem; vertical-align: bottom; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
.cases { display: grid; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); gap: .9rem; }
.case { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .8rem; display: flex;
  gap: .8rem; }
.case img { width: 84px; height: 84px; object-fit: contain; background: #000; border-radius: 4px; flex: none; }
.case > div { min-width: 0; flex: 1; font-size: .87rem; }
.case b { display: block; overflow-wrap: anywhere; }
.pair { margin-top: .3rem; }
.row { display: grid; grid-template-columns: 6rem 1fr 3.2rem; gap: .5rem; align-items: center; }
.row span:last-child { text-align: right; font-variant-numeric: tabular-nums; }
.bar { height: 6px; border-radius: 3px; background: var(--full); min-width: 1px; }
.bar.other { background: var(--other); }
code { overflow-wrap: anywhere; font-size: .85em; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .25rem 1rem; margin: 0; }
dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 3rem; }
"""
_CLASSES: Final[dict[Verdict, str]] = {
    "passed": "passed", "failed": "failed", "not shown": "open", "reported": "reported",
}  # fmt: skip
_MOST_CASES: Final = 60


def headline(report: ParityReport) -> tuple[str, Verdict]:
    """Return the verdict in one sentence, and its kind."""
    conversion = [a for a in report.artifacts if a.question == "conversion"]
    failed = [a.name for a in report.artifacts if a.verdict == "failed"]
    unclear = [a.name for a in report.artifacts if a.verdict == "not shown"]
    if failed:
        return f"Parity failed: {', '.join(failed)}", "failed"
    if unclear:
        return f"Not shown: too few radiographs to judge {', '.join(unclear)}", "not shown"
    if conversion:
        several = "Every fp32 artifact answers" if len(conversion) > 1 else f"{conversion[0].name} answers"
        return f"{several} as the full model does", "passed"
    if report.gated:
        return "The quantized artifacts are not inferior", "passed"
    return "Quantized artifacts measured, not gated", "reported"


def render_page(report: ParityReport, pictures: Mapping[str, bytes]) -> str:
    """Return the page.

    Parameters
    ----------
    report
        As :func:`export.parity.check_parity` returns it.
    pictures
        PNG by file name, for the cases that are shown; a case without one is shown in words.
    """
    sentence, kind = headline(report)
    what = "synthetic radiographs" if report.synthetic else "radiographs"
    part = " (a part of the split)" if report.limited else ""
    sections = [
        f'<p class="eyebrow">Parity of bundle {escape(report.bundle)}</p>',
        f'<h1 class="{_CLASSES[kind]}">{escape(sentence)}</h1>',
        f"<p>{len(report.cases)} {what} of the split {escape(report.split)}{part}. "
        f"The full model is right on {report.full_accuracy:.1%} of them.{_refused(report)}</p>",
        _table(report, "conversion"),
        _table(report, "quantization"),
        *(_differing(report, artifact, pictures) for artifact in report.artifacts if artifact.differing),
        _facts(report),
        "<footer>For research and demonstration. Not a medical device.</footer>",
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(sentence)}</title><style>{_STYLE}</style></head>\n"
        f"<body><main>{''.join(s for s in sections if s)}</main></body></html>\n"
    )


def _refused(report: ParityReport) -> str:
    if not report.refused:
        return ""
    names = ", ".join(f"{escape(file)} ({escape(reason)})" for file, reason in report.refused[:5])
    more = f" and {len(report.refused) - 5} more" if len(report.refused) > 5 else ""
    return f" The reader refused {len(report.refused)} more, which no artifact is judged on: {names}{more}."


def _table(report: ParityReport, question: str) -> str:
    chosen = [a for a in report.artifacts if a.question == question]
    if not chosen:
        return ""
    conversion = question == "conversion"
    columns = [
        "Artifact",
        "Verdict",
        "Largest |Δp|",
        "Mean |Δp|",
        "Decisions that differ",
        "Agreement",
        "Accuracy",
    ]
    if not conversion:
        columns += ["Accuracy minus full model's, 95 %", "COVID-19 sensitivity minus full model's, 95 %"]
    rows = []
    for artifact in chosen:
        cells = [
            escape(artifact.name),
            f'<span class="verdict {_CLASSES[artifact.verdict]}">{artifact.verdict}</span>',
            f"{artifact.max_abs_probability_difference:.2e}" if conversion
            else f"{artifact.max_abs_probability_difference:.3f}",
            f"{artifact.mean_abs_probability_difference:.2e}" if conversion
            else f"{artifact.mean_abs_probability_difference:.4f}",
            str(len(artifact.differing)),
            f"{1 - len(artifact.differing) / len(report.cases):.1%}",
            f"{artifact.accuracy:.1%}",
        ]  # fmt: skip
        if not conversion and artifact.gate is not None:
            cells += [_interval(artifact.gate.accuracy), _interval(artifact.gate.sensitivity)]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    if conversion:
        title = "Did conversion keep the numbers?"
        rule = f"Passed: no probability differs by more than {CONVERSION_LIMIT:g} and no decision differs."
    else:
        title = "Did quantization keep the decisions?"
        rule = (
            f"Passed when not inferior: the lower end of the paired 95 % interval is above "
            f"−{ACCURACY_MARGIN * 100:g} point for accuracy and −{SENSITIVITY_MARGIN * 100:g} points for COVID-19 "
            "sensitivity (Tango's score interval). "
            + ("" if report.gated else "No gate was applied here: the figures are reported as they are.")
        )
    head = "".join(f"<th>{column}</th>" for column in columns)
    return (
        f'<h2>{title}</h2><p class="soft">{rule}</p><div class="scroll"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )


def _interval(interval: tuple[float, float] | None) -> str:
    if interval is None:
        return "no such class"
    return f"{interval[0] * 100:+.1f} to {interval[1] * 100:+.1f} points".replace("-", "−").replace(" ", "\u00a0")


def _differing(report: ParityReport, artifact: ArtifactParity, pictures: Mapping[str, bytes]) -> str:
    # The largest changes first: they say the most.
    order = sorted(
        artifact.differing,
        key=lambda n: (
            -max(abs(a - b) for a, b in zip(artifact.probabilities[n], report.cases[n].probabilities, strict=True))
        ),
    )
    cards = [_card(report, artifact, number, pictures) for number in order[:_MOST_CASES]]
    left = len(order) - len(cards)
    more = f'<p class="soft">{left} more are in parity.json.</p>' if left > 0 else ""
    hidden = (
        ""
        if pictures
        else '<p class="soft">No pictures here: a bundle does not carry real radiographs. '
        "<code>parity --out DIR</code> writes this page with them.</p>"
    )
    return (
        f"<h2>{escape(artifact.name)}: {len(order)} decisions that differ</h2>"
        f'<p class="soft">Upper bar: full model. Lower bar: {escape(artifact.name)}. The largest change first.</p>'
        f'{hidden}<div class="cases">{"".join(cards)}</div>{more}'
    )


def _card(report: ParityReport, artifact: ArtifactParity, number: int, pictures: Mapping[str, bytes]) -> str:
    case = report.cases[number]
    answer: Sequence[float] = [float(p) for p in artifact.probabilities[number]]
    picture = pictures.get(case.file)
    image = ""
    if picture is not None:
        data = base64.b64encode(picture).decode()
        image = f'<img alt="radiograph {escape(case.file)}" src="data:image/png;base64,{data}">'
    bars = "".join(
        f'<div class="pair" title="{escape(label)}">{_bar(label, full, "")}{_bar("", other, " other")}</div>'
        for label, full, other in zip(report.labels, case.probabilities, answer, strict=True)
    )
    truth = escape(case.truth).replace("-", "&#8209;")  # kept on one line
    change = f"{report.decision(case.probabilities)} → {report.decision(answer)}"
    return (
        f'<div class="case">{image}<div><b>{escape(change)}</b>'
        f"<small>{escape(case.file)}, labelled&nbsp;{truth}</small>{bars}</div></div>"
    )


def _bar(label: str, value: float, kind: str) -> str:
    width = max(0.0, min(1.0, value)) * 100
    return (
        f'<div class="row"><span>{escape(label)}</span><span><div class="bar{kind}" style="width:{width:.1f}%"></div>'
        f"</span><span>{value:.3f}</span></div>"
    )


def _facts(report: ParityReport) -> str:
    versions = {name: value for a in report.artifacts for name, value in a.versions.items()}
    facts = {
        "Checkpoint": f"<code>{report.checkpoint_sha256}</code>",
        "Radiographs": f"<code>{report.data_sha256}</code> (SHA-256 over the files' sorted SHA-256)",
        "CPU": escape(cpu_model()),
        "CPU features": escape(", ".join(cpu_features()) or "not known"),
        "Run with": escape(", ".join(f"{name} {value}" for name, value in sorted(versions.items()))),
    }
    entries = "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in facts.items())
    return f"<h2>What was compared, and where</h2><dl>{entries}</dl>"
