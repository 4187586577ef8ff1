"""The parity report for people: one self-contained HTML page, no script, no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from export.environment import describe_environment
from export.pages import render
from export.parity_charts import interval_chart, pareto_chart, trades_of
from export.parity_judging import in_points
from export.parity_result import ArtifactParity, ParityReport
from export.parity_text import headline, verdict_words
from train.evaluation.calibrating import judge_calibration
from train.evaluation.charts import reliability_diagram

__all__ = ["Flip", "FlippedPictures", "flips_of", "headline", "render_page"]

FlippedPictures = Mapping[tuple[str, str], Sequence[bytes]]
"""(artifact's name, file name) -> PNG of the radiograph, then of both heat maps over it."""

_TEMPLATE = "parity.html.jinja"
_MOST_CASES = 60
_SMALLEST = 1e-12


@dataclass(frozen=True)
class Flip:
    """A card of the page: a radiograph that an artifact decides otherwise."""

    file: str
    truth: str
    before: str
    after: str
    bars: list[tuple[str, float, float]]
    pictures: list[str]


def render_page(report: ParityReport, pictures: FlippedPictures, layers: Mapping[str, Markup] | None = None) -> str:
    """Return the page.

    Parameters
    ----------
    report
        As :func:`export.parity.check_parity` returns it.
    pictures
        For the cases that are shown; a case without them is shown in words.
    layers
        Artifact name -> chart of its layers, where they were looked at.
    """
    sentence, kind = headline(report)
    conversion = [a for a in report.artifacts if a.question == "conversion"]
    quantized = [a for a in report.artifacts if a.question == "quantization"]
    limited = [(a.name, share) for a in quantized for share in a.shares if share.margin is not None]
    trades = trades_of(report.artifacts)
    versions = {name: value for a in report.artifacts for name, value in a.versions.items()}
    here = describe_environment()
    return render(
        _TEMPLATE,
        {"points": in_points, "span": _span, "words": verdict_words, "signed": _signed},
        r=report,
        headline=sentence,
        kind=kind,
        conversion=conversion,
        quantized=quantized,
        intervals=interval_chart(limited) if limited else None,
        trades=trades,
        pareto=pareto_chart(trades, report.full_accuracy) if trades else None,
        reliability=_reliability(report, quantized),
        flips={a.name: flips_of(report, a, pictures) for a in report.artifacts},
        most_cases=_MOST_CASES,
        any_pictures=bool(pictures),
        layers=layers or {},
        environment={
            "Artifacts run with": ", ".join(f"{name} {value}" for name, value in sorted(versions.items()))
            or "elsewhere: recorded answers",
            "Full model and tools": ", ".join(f"{name} {value}" for name, value in here["packages"].items()),
            "Python": here["python"],
            "System": f"{here['system']}, {here['machine']}",
            "CPU": f"{here['cpu']}, {here['cores']} cores",
            "CPU features": ", ".join(here["cpu_features"]) or "not known",
        },
    )


def flips_of(report: ParityReport, artifact: ArtifactParity, pictures: FlippedPictures) -> list[Flip]:
    """Return the cards of the radiographs that an artifact decides otherwise, the largest change first."""
    return [_flip(report, artifact, number, pictures) for number in _largest_first(report, artifact)]


def _reliability(report: ParityReport, quantized: Sequence[ArtifactParity]) -> list[tuple[str, Markup]]:
    """Diagrams of the full model and of each quantized artifact; conversion keeps the full model's."""
    truth = np.asarray([report.labels.index(case.truth) for case in report.cases])
    full = np.asarray([case.probabilities for case in report.cases])
    shown = [("full model", full, truth)]
    shown += [(a.name, a.probabilities, truth[list(a.case_numbers)]) for a in quantized]
    return [
        (name, reliability_diagram(judge_calibration(np.log(np.maximum(p, _SMALLEST)), target, 1.0), name))
        for name, p, target in shown
    ]


def _largest_first(report: ParityReport, artifact: ArtifactParity) -> list[int]:
    """The flips with the largest changes: they say the most."""

    def change(number: int) -> float:
        answer = artifact.answer(number)
        assert answer is not None
        return float(np.abs(answer - np.asarray(report.cases[number].probabilities)).max())

    return sorted(artifact.differing, key=change, reverse=True)[:_MOST_CASES]


def _flip(report: ParityReport, artifact: ArtifactParity, number: int, pictures: FlippedPictures) -> Flip:
    case = report.cases[number]
    answer = artifact.answer(number)
    assert answer is not None
    return Flip(
        file=case.file,
        truth=case.truth,
        before=report.decision(case.probabilities),
        after=report.decision(answer),
        bars=[
            (label, float(full), float(other))
            for label, full, other in zip(report.labels, case.probabilities, answer, strict=True)
        ],
        pictures=[
            f"data:image/png;base64,{base64.b64encode(png).decode()}"
            for png in pictures.get((artifact.name, case.file), ())
        ],
    )


def _span(interval: tuple[float, float] | None) -> str:
    return "–" if interval is None else in_points(interval).removesuffix(" points")


def _signed(value: Any, digits: int = 3) -> str:
    return "–" if value is None else f"{value:+.{digits}f}".replace("-", "−")
