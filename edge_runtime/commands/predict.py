"""``edge-runtime predict``: files in, answers out, in the order given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import click

from edge_runtime.answer import Answer, Outcome, answer_file
from edge_runtime.bundle import open_bundle
from edge_runtime.commands.options import artifact_option, backend_option, bundle_argument, threads_option
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.inputs import InputFile, expand_inputs
from edge_runtime.predictor import Predictor

__all__ = ["command"]

_MANY = 4
"""From so many files on, progress is shown."""


@click.command("predict", short_help="Answer radiographs: DICOM, PNG, JPEG, TIFF.")
@bundle_argument
@click.argument("named", metavar="FILE...", nargs=-1, required=True)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line on stdout, as they come.")
@click.option("--csv", "csv_path", metavar="FILE", type=click.Path(path_type=Path), help="Also write a CSV table.")
@click.option(
    "--heatmaps",
    "heatmap_folder",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Also write a PNG for each file: what weighed for the answer, in colour.",
)
@artifact_option
@backend_option
@threads_option
def command(
    bundle_path: Path,
    named: tuple[str, ...],
    as_json: bool,
    csv_path: Path | None,
    heatmap_folder: Path | None,
    artifact: str | None,
    backend: str,
    threads: int | None,
) -> int:
    """Answer radiographs with BUNDLE, in the order given. FILE is a file, a folder, or a pattern.

    A file that cannot be judged is "refused", with the reason. The exit code is 0 unless a file ended in
    "error" (absent, or our own fault), then 1.

    For research and demonstration only. Not a medical device.
    """
    with ExitStack() as stack:
        bundle = stack.enter_context(open_bundle(bundle_path))
        sinks: list[Callable[[Answer], None]] = []
        draw: Callable[[Outcome], Path | None] = _draw_nothing
        if csv_path is not None or heatmap_folder is not None:
            from edge_runtime.answer_files import AnswerTable, HeatmapFolder

            if heatmap_folder is not None:
                draw = HeatmapFolder(heatmap_folder).add
            if csv_path is not None:
                table = stack.enter_context(AnswerTable(csv_path, bundle.manifest.labels))
                sinks.append(table.add)
        predictor = stack.enter_context(Predictor.open(bundle, artifact, backend, threads))
        if as_json:
            from edge_runtime.answer_lines import write_line

            sinks.append(write_line)
            for note in predictor.notes:
                click.echo(note, err=True)
        inputs = list(expand_inputs(named))
        answers, drawn = _answer_all(predictor, inputs, draw, sinks, quiet=as_json and sys.stdout.isatty())
    if not as_json:
        from edge_runtime.answer_view import show_answers

        show_answers(answers, predictor)
    return 0 if drawn and all(answer.status != "error" for answer in answers) else 1


def _answer_all(
    predictor: Predictor,
    inputs: list[InputFile | Answer],
    draw: Callable[[Outcome], Path | None],
    sinks: list[Callable[[Answer], None]],
    quiet: bool,
) -> tuple[list[Answer], bool]:
    """Answer every input; also tell whether every heat map that was asked for could be drawn."""
    answers, drawn = [], True
    with _progress(len(inputs), quiet) as advance:
        for item in inputs:
            if isinstance(item, Answer):
                answer = item
            else:
                outcome = answer_file(predictor, item.path, item.name)
                answer = outcome.answer
                try:
                    picture = draw(outcome)
                    answer = replace(answer, heatmap_file=None if picture is None else str(picture))
                except EdgeRuntimeError as error:  # a full disk must not cost the other answers
                    drawn = False
                    answer = replace(answer, notes=(*answer.notes, f"The heat map was not written: {error}"))
            for sink in sinks:
                sink(answer)
            answers.append(answer)
            advance()
    return answers, drawn


def _draw_nothing(_: Outcome) -> None:
    return None


@contextmanager
def _progress(total: int, quiet: bool) -> Iterator[Callable[[], None]]:
    if quiet or total < _MANY or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from edge_runtime.terminal import console

    columns = TextColumn("answering"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Progress(*columns, console=console(sys.stderr), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
