"""``edge-runtime predict``: files in, answers out, in the order given."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge_runtime.answer import Answer, Outcome, answer_file
from edge_runtime.backends.footprint import use_low_memory
from edge_runtime.bundle import Bundle, open_bundle
from edge_runtime.commands.options import (
    artifact_option,
    backend_option,
    bundle_argument,
    low_memory_option,
    require_signature_option,
    threads_option,
)
from edge_runtime.decoding import DecodingPool
from edge_runtime.errors import EdgeRuntimeError, UsageError
from edge_runtime.inputs import InputFile, expand_inputs
from edge_runtime.predictor import Predictor

if TYPE_CHECKING:
    from edge_runtime.radiograph import Radiograph

    Read = Callable[[str | Path], Radiograph]

__all__ = ["command"]

_MANY = 4
"""From so many files on, progress is shown."""
_BATCH = 16
"""From so many files on, every core is used: starting processes has to pay."""


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
@click.option("--jsonl", "jsonl_path", metavar="FILE", type=click.Path(path_type=Path), help="Also write JSON lines.")
@click.option(
    "--resume",
    is_flag=True,
    help="Keep rows of --csv or --jsonl as they come (in FILE.part), and skip files that it already holds.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1, 256),
    metavar="N",
    help=f"Files at once, decoded in processes of their own; else 1, or one a core from {_BATCH} files on.",
)
@click.option("--frame", type=click.IntRange(1), metavar="N", help="Frame or page to judge where a file holds several.")
@click.option(
    "--window",
    type=click.IntRange(1),
    metavar="N",
    default=1,
    show_default=True,
    help="Which of several DICOM windows or VOI LUTs.",
)
@artifact_option
@backend_option
@threads_option
@low_memory_option
@require_signature_option
def command(
    bundle_path: Path,
    named: tuple[str, ...],
    as_json: bool,
    csv_path: Path | None,
    heatmap_folder: Path | None,
    jsonl_path: Path | None,
    resume: bool,
    jobs: int | None,
    frame: int | None,
    window: int,
    artifact: str | None,
    backend: str,
    threads: int | None,
    low_memory: bool,
    require_signature: bool,
) -> int:
    """Answer radiographs with BUNDLE, in the order given. FILE is a file, a folder, or a pattern.

    A file that cannot be judged is "refused", with the reason. The exit code is 0 unless a file ended in
    "error" (absent, or our own fault), then 1.

    For research and demonstration only. Not a medical device.
    """
    if resume and csv_path is None and jsonl_path is None:
        raise UsageError("--resume needs an output to go on with", expected="--csv FILE or --jsonl FILE")
    if (frame is not None or window != 1) and jobs is not None and jobs > 1:
        raise UsageError("--frame and --window are for one file at a time", remedy="leave out --jobs")
    with ExitStack() as stack:
        if low_memory:
            use_low_memory()
        inputs = expand_inputs(named)
        first = list(islice(inputs, _BATCH))
        if jobs is None:
            jobs = _jobs(len(first)) if frame is None and window == 1 and not low_memory else 1
        if low_memory or jobs > 1:
            threads = threads or 1  # the jobs share the cores
        bundle = stack.enter_context(open_bundle(bundle_path, require_signature=require_signature))
        # before a model and its threads are there: the decoder starts while they do
        pool = stack.enter_context(DecodingPool(jobs, fork_first=jobs == 1))
        pool.start()
        sinks: list[Callable[[Answer], None]] = []
        pictures = None
        if heatmap_folder is not None:
            from edge_runtime.answer_files import HeatmapFolder

            pictures = HeatmapFolder(heatmap_folder)
        if csv_path is not None and not resume:
            from edge_runtime.answer_files import AnswerTable

            sinks.append(stack.enter_context(AnswerTable(csv_path, bundle.manifest.labels)).add)
        predictor = stack.enter_context(Predictor.open(bundle, artifact, backend, threads))
        held: set[str] = set()
        outputs = [path for path in (csv_path if resume else None, jsonl_path) if path is not None]
        for number, path in enumerate(outputs):
            from edge_runtime.resumable import ResumableOutput

            labels, name = bundle.manifest.labels, predictor.artifact.name
            output = stack.enter_context(ResumableOutput(path, labels, name, resume=resume))
            sinks.append(output.add)
            held = output.done if number == 0 else held & output.done
            if pictures is not None:
                pictures.reserve(output.pictures)
        # counted by a walk of its own where somebody wants to know: nothing keeps a folder's files
        watched = sys.stderr.isatty() and not (as_json and sys.stdout.isatty()) and len(first) >= _MANY
        total = sum(1 for item in expand_inputs(named) if _left(item, held)) if held or watched else None
        if held:
            click.echo(f"{len(held)} files are in the output already; {total} are left.", err=True)
        if as_json:
            from edge_runtime.answer_lines import write_line

            sinks.append(write_line)
            for note in predictor.notes:
                click.echo(note, err=True)
            if predictor.hint is not None and sys.stderr.isatty():
                click.echo(predictor.hint, err=True)
        else:
            from edge_runtime.answer_view import AnswerView

            view = stack.enter_context(AnswerView(predictor))
            sinks.append(view.add)
        wanted = (item for item in chain(first, inputs) if _left(item, held))
        read: Read = partial(pool.read, frame=frame, window=window)
        if len(first) == 1:
            read = partial(_read_the_only_one, pool, read)
        outcomes = _outcomes(bundle, predictor, wanted, jobs, pool, read)
        draw = _draw_nothing if pictures is None else pictures.add
        return 0 if _answer_all(outcomes, draw, sinks, total if watched else None) else 1


def _jobs(files: int) -> int:
    from edge_runtime.batch import usable_cores

    return usable_cores() if files >= _BATCH else 1


def _read_the_only_one(pool: DecodingPool, read: Read, path: str | Path) -> Radiograph:
    try:
        return read(path)
    finally:
        pool.close()  # gives its memory back before the model needs its own


def _left(item: InputFile | Answer, held: set[str]) -> bool:
    return isinstance(item, Answer) or item.name not in held


def _outcomes(
    bundle: Bundle,
    predictor: Predictor,
    inputs: Iterator[InputFile | Answer],
    jobs: int,
    pool: DecodingPool,
    read: Read,
) -> Iterator[Outcome]:
    if jobs > 1:
        from edge_runtime.batch import answer_in_order

        return answer_in_order(bundle, predictor, inputs, jobs, pool)
    return (
        Outcome(item) if isinstance(item, Answer) else answer_file(predictor, item.path, item.name, read=read)
        for item in inputs
    )


def _answer_all(
    outcomes: Iterable[Outcome],
    draw: Callable[[Outcome], Path | None],
    sinks: list[Callable[[Answer], None]],
    total: int | None,
) -> bool:
    """Take every outcome as it comes and keep none; tell whether none was an error and every picture was drawn."""
    fine = True
    with _progress(total) as advance:
        for outcome in outcomes:
            answer = outcome.answer
            try:
                picture = draw(outcome)
                if picture is not None:
                    answer = replace(answer, heatmap_file=str(picture))
            except EdgeRuntimeError as error:  # a full disk must not cost the other answers
                fine = False
                answer = replace(answer, notes=(*answer.notes, f"The heat map was not written: {error}"))
            for sink in sinks:
                sink(answer)
            fine = fine and answer.status != "error"
            advance()
    return fine


def _draw_nothing(_: Outcome) -> None:
    return None


@contextmanager
def _progress(total: int | None) -> Iterator[Callable[[], None]]:
    if total is None:
        yield lambda: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.text import Text

    from edge_runtime.terminal import console

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text("" if task.speed is None else f"{task.speed:.1f}/s")

    columns = (TextColumn("answering"), BarColumn(), MofNCompleteColumn(), Rate(), TimeLeft())
    with Progress(*columns, console=console(sys.stderr), transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)
