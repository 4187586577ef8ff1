"""A parity report as text that other tools show: Markdown for a pull request, JUnit XML for a build server."""

from __future__ import annotations

from xml.etree import ElementTree

from export.parity_result import ArtifactParity, Criterion, ParityReport, Verdict

__all__ = ["headline", "report_junit", "report_markdown", "verdict_words"]

_DISCLAIMER = "For research and demonstration. Not a medical device."


def verdict_words(verdict: str) -> str:
    """Return a verdict or a criterion's as words."""
    return verdict.replace("_", " ")


def headline(report: ParityReport) -> tuple[str, Verdict]:
    """Return the verdict in one sentence, and its kind."""
    conversion = [a for a in report.artifacts if a.question == "conversion"]
    quantized = [a for a in report.artifacts if a.question == "quantization"]
    failed = [a.name for a in report.artifacts if a.verdict == "failed"]
    unclear = [a.name for a in report.artifacts if a.verdict == "not_shown"]
    if failed:
        return f"Parity failed: {', '.join(failed)}", "failed"
    if unclear:
        return f"Not shown: too few radiographs to judge {', '.join(unclear)}", "not_shown"
    if conversion:
        several = "Every fp32 artifact answers" if len(conversion) > 1 else f"{conversion[0].name} answers"
        gated = ", and no quantized one is inferior" if quantized and report.gated else ""
        return f"{several} as the full model does{gated}", "passed"
    if report.gated:
        return "The quantized artifacts are not inferior", "passed"
    return "Quantized artifacts measured, not gated", "reported"


def report_markdown(report: ParityReport) -> str:
    """Return the report as GitHub-flavoured Markdown: verdict, one line an artifact, what was missed."""
    sentence, _ = headline(report)
    what = "synthetic radiographs" if report.synthetic else "radiographs"
    part = " (a part of it)" if report.limited else ""
    lines = [
        f"## {sentence}",
        "",
        f"Bundle `{report.bundle}`, {len(report.cases)} {what} of the split `{report.split}`{part}; the full model is "
        f"right on {report.full_accuracy:.1%}.",
        "",
        "| artifact | verdict | largest \\|Δp\\| | decisions that differ | agreement | accuracy | Cohen's κ | MB |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for artifact in report.artifacts:
        kappa = "–" if artifact.drift.kappa is None else f"{artifact.drift.kappa:.3f}"
        size = f"{artifact.bytes / 1e6:.1f}" if artifact.bytes else "–"
        lines.append(
            f"| {artifact.name} | {verdict_words(artifact.verdict)} | {artifact.max_abs_probability_difference:.1e} "
            f"| {len(artifact.differing)} of {len(artifact.case_numbers)} | {artifact.agreement:.1%} "
            f"| {artifact.accuracy:.1%} | {kappa} | {size} |"
        )
    open_ones = [(a, c) for a in report.artifacts for c in a.criteria if c.verdict != "met" and a.verdict != "reported"]
    if open_ones:
        lines += ["", "| artifact | limit | found | asked | |", "|---|---|---|---|---|"]
        lines += [
            f"| {a.name} | {_cell(c.name)}: **{verdict_words(c.verdict)}** | {c.found} | {c.limit} "
            f"| {c.underpowered or ''} |"
            for a, c in open_ones
        ]
    lines += [""]
    lines += [f"- {s.purpose} set: {s.radiographs} radiographs of `{s.split}`, `{s.sha256[:16]}`" for s in report.sets]
    lines += [f"- {note}" for note in report.notes]
    lines += ["", _DISCLAIMER, ""]
    return "\n".join(lines)


def report_junit(report: ParityReport) -> bytes:
    """Return the report as JUnit XML: a test case for each limit of each artifact.

    A limit that is missed is a failure; one that is not shown is a failure too, unless that is accepted: then it is
    skipped, with the reason. Of artifacts that are only reported, all are skipped.
    """
    suites = ElementTree.Element("testsuites", name=f"parity of {report.bundle}")
    for artifact in report.artifacts:
        suite = ElementTree.SubElement(suites, "testsuite", name=artifact.name)
        counts = {"failure": 0, "skipped": 0}
        for criterion in artifact.criteria:
            case = ElementTree.SubElement(
                suite, "testcase", classname=f"{artifact.question}.{artifact.name}", name=criterion.name, time="0"
            )
            kind = _junit_kind(report, artifact, criterion)
            if kind is not None:
                counts[kind] += 1
                details = ElementTree.SubElement(case, kind, message=_message(criterion))
                if kind == "failure":
                    details.set("type", criterion.verdict)
        suite.set("tests", str(len(artifact.criteria)))
        suite.set("failures", str(counts["failure"]))
        suite.set("errors", "0")
        suite.set("skipped", str(counts["skipped"]))
    for total in ("tests", "failures", "errors", "skipped"):
        suites.set(total, str(sum(int(suite.get(total, "0")) for suite in suites)))
    ElementTree.indent(suites)
    return bytes(ElementTree.tostring(suites, encoding="utf-8", xml_declaration=True)) + b"\n"


def _junit_kind(report: ParityReport, artifact: ArtifactParity, criterion: Criterion) -> str | None:
    if artifact.verdict == "reported":
        return "skipped"
    if criterion.verdict == "not_shown":
        return "skipped" if report.accept_not_shown else "failure"
    return "failure" if criterion.verdict == "missed" else None


def _message(criterion: Criterion) -> str:
    more = f"; {criterion.underpowered}" if criterion.underpowered else ""
    return f"{verdict_words(criterion.verdict)}: found {criterion.found}, asked {criterion.limit}{more}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
