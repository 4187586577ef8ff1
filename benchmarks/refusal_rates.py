"""What a bundle refuses: radiographs it should answer, and pictures it should not; and how its prediction sets hold.

    python benchmarks/refusal_rates.py split --cxr-data $CXR_DATA --data covidx --pictures DIR --out not-frontal
    python -m export build --run RUN --data covidx --not-frontal not-frontal/fit --out BUNDLE
    python benchmarks/refusal_rates.py measure BUNDLE --data covidx --not-frontal not-frontal/test --json rates.json
    python benchmarks/refusal_rates.py unseen --run RUN --data covidx --not-frontal not-frontal/fit --source rsna

`split` divides lateral views, CT slices and other pictures into a part to fit on and a part to measure on: by patient,
and by the folder that a picture came from (`collect_pictures.sh` fills two). `measure` answers every picture through
`edge_runtime`, as the field does. `unseen` fits a gate without the radiographs of some sources, and says how many of
theirs it would refuse: what another hospital may expect.
"""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image, ImageDraw, ImageFont

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from edge_runtime.answer import Answer, answer_file
from edge_runtime.bundle import open_bundle
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.predictor import Predictor
from edge_runtime.reading import looks_readable, read_radiograph
from edge_runtime.reading.limits import DEFAULT_LIMITS
from train.data.rows import Dataset
from train.data.tables import load_dataset
from train.intervals import wilson_interval

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = 60
MIN_EDGE = DEFAULT_LIMITS.min_edge


@click.group()
def main() -> None:
    """Measure refusals."""


@main.command()
@click.option("--cxr-data", type=click.Path(path_type=Path, exists=True), envvar="CXR_DATA", required=True)
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Dataset folder.")
@click.option(
    "--pictures", type=click.Path(path_type=Path, exists=True), multiple=True, help="Photographs to fit on; repeatable."
)
@click.option("--out", type=click.Path(path_type=Path), required=True)
def split(cxr_data: Path, data: Path, pictures: tuple[Path, ...], out: Path) -> None:
    """Write OUT/fit and OUT/test, each with `lateral` and `other` (CT slices; photographs in `fit` alone).

    A patient of the data set's training split goes to `fit`, of its validation and test split to `test`; the other
    patients in turn, in the order of a hash of their number.
    """
    side_of = _sides(load_dataset(data))
    with (cxr_data / "sources/cohen/metadata.csv").open(encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    by_stem = {Path(row["filename"]).stem.split(".")[0]: row["patientid"] for row in table}
    images = cxr_data / "sources/cohen/images"
    views = [(row["patientid"], images / row["filename"]) for row in table if row["view"] == "L"]
    slices = []
    for path in sorted((cxr_data / "not_frontal_cxr").glob("*.jpg")):
        stem = path.stem.removeprefix("ct_")
        slices.append((by_stem.get(stem.split(".")[0], stem.split("_")[0]), path))
    counts: Counter[str] = Counter()
    for kind, found in (("lateral", views), ("other", slices)):
        there = [(patient, path) for patient, path in found if path.is_file()]
        free = {patient for patient, _ in there} - {name.removeprefix("cohen:") for name in side_of}
        in_turn = sorted(free, key=lambda patient: hashlib.sha256(patient.encode()).digest())
        sides = {patient: ("test", "fit")[number % 2] for number, patient in enumerate(in_turn)}
        for patient, path in there:
            side = side_of.get(f"cohen:{patient}") or sides[patient]
            (out / side / kind).mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, out / side / kind / path.name)
            counts[f"{side}/{kind}"] += 1
    for folder in pictures:
        for path in sorted(p for p in folder.rglob("*") if looks_readable(p)):
            target = out / "fit/other" / f"{folder.name}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            _in_grey(path).save(target)  # in grey: in colour the reader refuses it before the gate
            counts["fit/other"] += 1
    for place, count in sorted(counts.items()):
        click.echo(f"{out / place}: {count}")


@main.command()
@click.argument("bundle_path", metavar="BUNDLE", type=click.Path(path_type=Path, exists=True))
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Dataset folder.")
@click.option("--not-frontal", type=click.Path(path_type=Path, exists=True), help="The `test` folder of `split`.")
@click.option(
    "--pictures",
    type=click.Path(path_type=Path, exists=True),
    multiple=True,
    help="Photographs, documents; a set for each folder; repeatable.",
)
@click.option("--artifact", metavar="NAME")
@click.option("--limit", type=click.IntRange(1), help="At most so many of each set.")
@click.option("--json", "json_path", type=click.Path(path_type=Path))
def measure(
    bundle_path: Path,
    data: Path,
    not_frontal: Path | None,
    pictures: tuple[Path, ...],
    artifact: str | None,
    limit: int | None,
    json_path: Path | None,
) -> None:
    """Answer each set with BUNDLE and print the rates with 95 % Wilson intervals, as Markdown."""
    dataset = load_dataset(data)
    test = dataset.splits["test"][:limit]
    with (
        tempfile.TemporaryDirectory() as folder,
        open_bundle(bundle_path) as bundle,
        Predictor.open(bundle, artifact) as predictor,
    ):
        if predictor.manifest.gate is None:
            click.echo("The bundle has no gate: only the reader refuses.")
        scratch = Path(folder)

        def answer(path: Path) -> Answer:
            return answer_file(predictor, path).answer

        def changed(change: Callable[[np.ndarray, int], np.ndarray]) -> Iterator[Answer]:
            for number, row in enumerate(test):
                pixels = change(read_radiograph(dataset.image_path(row)).pixels, number)
                Image.fromarray(np.ascontiguousarray(pixels)).save(scratch / "changed.png", compress_level=1)
                yield answer(scratch / "changed.png")

        frontal = [answer(dataset.image_path(row)) for row in test]
        sets: dict[str, Iterable[Answer]] = {
            "frontal radiographs, test split": frontal,
            "the same, inverted": changed(lambda x, _: 255 - x),
            "the same, turned by 90, 180, 270 degrees": changed(lambda x, n: np.rot90(x, 1 + n % 3)),
        }
        if not_frontal is not None:
            sets["lateral views, test part"] = map(answer, _files(not_frontal / "lateral", limit))
            sets["CT slices, test part"] = map(answer, _files(not_frontal / "other", limit))
        for place in pictures:
            found = _files(place, limit)
            sets[f"{place.name}, as they are"] = map(answer, found)
            sets[f"{place.name}, in grey"] = (answer(path) for path in _all_grey(found, scratch))
        sets["documents, drawn here"] = (answer(p) for p in _documents(scratch, min(limit or DOCUMENTS, DOCUMENTS)))
        sets["screenshots of this project"] = map(answer, _files(ROOT / "docs/screenshots", limit))
        rates = {name: _rate(list(answers)) for name, answers in sets.items()}
        coverage = _coverage(frontal, [row.label for row in test], dataset.labels)
        name = predictor.artifact.name
    result = {"bundle": bundle.manifest.name, "artifact": name, "sets": rates, "prediction_sets": coverage}
    if json_path is not None:
        temporary = json_path.with_name(f".{json_path.name}.{os.getpid()}")
        temporary.write_text(json.dumps(result, indent=2) + "\n")
        temporary.replace(json_path)
    click.echo(_markdown(result))


@main.command()
@click.option("--run", type=click.Path(path_type=Path, exists=True), required=True, help="Run folder.")
@click.option("--data", type=click.Path(path_type=Path, exists=True), required=True, help="Dataset folder.")
@click.option("--not-frontal", type=click.Path(path_type=Path, exists=True), help="The `fit` folder of `split`.")
@click.option("--source", "sources", multiple=True, required=True, help="Left out; repeatable.")
def unseen(run: Path, data: Path, not_frontal: Path | None, sources: tuple[str, ...]) -> None:
    """Fit a gate without some sources' radiographs and print how many of theirs it refuses, as Markdown."""
    import torch

    from export.graph import deployable_graph
    from export.refusing import learn_refusing
    from train.run import load_run

    dataset = load_dataset(data)
    rows = [row for split in dataset.splits.values() for row in split]
    kept = {name: [r for r in split if r.source not in sources] for name, split in dataset.splits.items()}
    graph = deployable_graph(load_run(run))
    judgement = learn_refusing(graph, dataclasses.replace(dataset, splits=kept), not_frontal)
    if judgement.gate is None:
        raise click.ClickException("; ".join(judgement.notes))
    click.echo("| fitted without | radiographs of | refused | share (95 %) | refused as |\n|---|---|---|---|---|")
    for source in sources:
        scores = []
        for row in (row for row in rows if row.source == source):
            pixels = torch.from_numpy(read_radiograph(dataset.image_path(row)).pixels.copy())
            with torch.inference_mode():
                scores.append(float(graph(pixels[None, None]).gate_score))
        reasons = Counter(judgement.gate.reasons[int(score) - 1] for score in scores if score >= 1)
        refused = sum(reasons.values())
        low, high = wilson_interval(refused, len(scores)) if scores else (0.0, 1.0)
        share = refused / len(scores) if scores else 0.0
        told = ", ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        rate = f"{refused} of {len(scores)} | {share:.1%} ({low:.1%} to {high:.1%})"
        click.echo(f"| {', '.join(sources)} | {source} | {rate} | {told} |")


def _sides(dataset: Dataset) -> dict[str, str]:
    return {row.patient: "fit" if name == "train" else "test" for name, rows in dataset.splits.items() for row in rows}


def _files(folder: Path, limit: int | None) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if looks_readable(path) and not path.is_symlink())[:limit]


def _in_grey(path: Path) -> Image.Image:
    with Image.open(path) as image:
        image.draft("L", (800, 800))
        grey = image.convert("LA").convert("L") if image.mode in ("RGBA", "LA", "P") else image.convert("L")
    grey.thumbnail((640, 640), reducing_gap=2.0)
    return grey


def _all_grey(paths: Iterable[Path], scratch: Path) -> Iterator[Path]:
    """Each in grey; not what the reader would refuse for its size, or cannot open."""
    for path in paths:
        try:
            grey = _in_grey(path)
        except OSError:
            continue
        if min(grey.size) >= MIN_EDGE:
            grey.save(scratch / "grey.png", compress_level=1)
            yield scratch / "grey.png"


def _documents(scratch: Path, count: int) -> Iterator[Path]:
    """Pages of this project's own text in proportional letters: letters and reports, upright, some scanned askew."""
    from matplotlib import font_manager

    fonts = [font_manager.findfont(name) for name in ("DejaVu Sans", "DejaVu Serif", "DejaVu Sans Mono")]
    texts = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md"))]
    rng = np.random.default_rng(1)
    for number in range(count):
        width, height = (848, 1200) if number % 3 else (1200, 848)
        page = Image.new("L", (width, height), int(rng.integers(225, 256)))
        draw = ImageDraw.Draw(page)
        size = int(rng.integers(11, 26))
        font = ImageFont.truetype(fonts[number % 3], size)
        text = texts[number % len(texts)]
        start = int(rng.integers(0, max(1, len(text) - 4000)))
        columns = int(1.6 * (width - 120) / size)
        lines = [text[start + i : start + i + columns].replace("\n", " ") for i in range(0, 6000, columns)]
        y = 60 + 2 * size
        draw.text((60, 50), text[:40].splitlines()[0], 0, ImageFont.truetype(fonts[0], size + 8))
        for line in lines[: int(rng.integers(8, 60))]:
            draw.text((60, y), line, int(rng.integers(0, 60)), font)
            y += int(size * 1.4)
        if number % 4 == 0:
            page = page.rotate(float(rng.uniform(-4, 4)), Image.Resampling.BILINEAR, fillcolor=90)
        page.save(scratch / "page.jpg", quality=80)
        yield scratch / "page.jpg"


def _rate(answers: list[Answer]) -> dict[str, Any]:
    refused = [a for a in answers if a.status == "refused"]
    errors = [a.message for a in answers if a.status == "error"]
    if errors:
        raise EdgeRuntimeError("a picture could not be answered", got=errors[0])
    low, high = wilson_interval(len(refused), len(answers)) if answers else (0.0, 1.0)
    reasons = Counter(str(a.reason) for a in refused)
    return {"pictures": len(answers), "refused": len(refused), "interval": [low, high], "reasons": dict(reasons)}


def _coverage(answers: list[Answer], truth: list[str], labels: Iterable[str]) -> dict[str, Any] | None:
    """Coverage of the sets of the radiographs that were answered; overall and by class."""
    told = [(a, label) for a, label in zip(answers, truth, strict=True) if a.prediction_set is not None]
    if not told:
        return None

    def covered(pairs: list[tuple[Answer, str]]) -> dict[str, Any]:
        hits = sum(label in (a.prediction_set or ()) for a, label in pairs)
        return {"radiographs": len(pairs), "covered": hits, "interval": list(wilson_interval(hits, len(pairs)))}

    alone = [(a, label) for a, label in told if not a.refer]
    return {
        "all": covered(told),
        "by_label": {label: covered(own) for label in labels if (own := [p for p in told if p[1] == label])},
        "sizes": dict(sorted(Counter(len(a.prediction_set or ()) for a, _ in told).items())),
        "referred": sum(bool(a.refer) for a, _ in told),
        "right": sum(a.label == label for a, label in told),
        "not_referred_right": sum(a.label == label for a, label in alone),
        "not_referred": len(alone),
    }


def _markdown(result: dict[str, Any]) -> str:
    def percent(hits: int, count: int, interval: list[float]) -> str:
        share = hits / count if count else 0.0
        return f"{hits} of {count} | {share:.1%} ({interval[0]:.1%} to {interval[1]:.1%})"

    lines = [f"{result['bundle']}, {result['artifact']}", "", "| pictures | refused | share (95 %) | refused as |"]
    lines.append("|---|---|---|---|")
    for name, rate in result["sets"].items():
        reasons = ", ".join(
            f"{reason} {count}" for reason, count in sorted(rate["reasons"].items(), key=lambda x: -x[1])
        )
        lines.append(f"| {name} | {percent(rate['refused'], rate['pictures'], rate['interval'])} | {reasons} |")
    sets = result["prediction_sets"]
    if sets is not None:
        lines += ["", "| class | sets that hold it | share (95 %) |", "|---|---|---|"]
        for name, rate in (("all", sets["all"]), *sets["by_label"].items()):
            lines.append(f"| {name} | {percent(rate['covered'], rate['radiographs'], rate['interval'])} |")
        count = sets["all"]["radiographs"]
        sizes = ", ".join(f"{size}: {n}" for size, n in sets["sizes"].items())
        lines += [
            "",
            f"Set sizes: {sizes}. Referred: {sets['referred']} of {count}. Right: {sets['right']} of {count};",
        ]
        lines[-1] += f" of those not referred {sets['not_referred_right']} of {sets['not_referred']}."
    return "\n".join(lines)


if __name__ == "__main__":
    main()
