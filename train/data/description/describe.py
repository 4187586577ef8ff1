"""``data describe``: count, check, lay out, and write page, JSON and tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_runtime import __version__
from train.data.description.association import associate
from train.data.description.attributes import (
    ATTRIBUTES,
    Described,
    count_values,
    describe_row,
    summarise_numbers,
)
from train.data.description.findings import write_findings
from train.data.description.images import read_images
from train.data.description.leakage import check_leakage
from train.data.description.moments import distances_to_centre, moments_by_class
from train.data.description.page import Thumbnails, write_page
from train.data.description.projection import ProjectedRun, choose_points, project_run
from train.data.description.record import Check, Count, Description, EmbeddingMap, Moments, Numbers, SplitResult
from train.data.tables import SPLITS, DataError, Dataset, load_dataset, split_sha256, write_atomically

__all__ = ["JSON_NAME", "PAGE_NAME", "DescribeOptions", "describe"]

PAGE_NAME = "description.html"
JSON_NAME = "description.json"

_LISTED_PAIRS = 200


@dataclass(frozen=True)
class DescribeOptions:
    """What to do beside counting and checking.

    ``run`` is the run whose embeddings are laid out, None for none; ``cache`` the folder of decoded images (default:
    ``cache`` in the data folder); ``points`` the most radiographs to lay out.
    """

    run: Path | None = None
    cache: Path | None = None
    points: int = 2500
    seed: int = 0
    thumbnails: bool = True
    workers: int = 2
    device: str = "auto"


def describe(data: Path, out: Path, options: DescribeOptions | None = None) -> Description:
    """Describe a data set folder in ``out``: ``description.html``, ``description.json`` and CSV tables.

    Each file is replaced as a whole, ``description.json`` last; nothing is written before all is computed.

    Raises
    ------
    EdgeRuntimeError
        Of one kind or another: the data set, the run or an image cannot be used; no room for the results.
    """
    options = options or DescribeOptions()
    dataset = load_dataset(data)
    rows = [(split, row) for split in SPLITS for row in dataset.splits[split]]
    if not rows:
        raise DataError(f"the tables of {data} list no image", remedy="build the dataset again")
    _check_labels(dataset)
    chosen = choose_points(dataset, options.points, options.seed)
    projected = None
    if options.run is not None:
        # First: a run that does not fit must not cost the reader a pass over the images.
        arguments = (options.seed, options.cache, options.workers, options.device)
        projected = project_run(options.run, dataset, chosen, *arguments)
    shown = {id(row) for of_split in chosen.values() for row in of_split} if projected and options.thumbnails else set()
    edge = Thumbnails.edge_for(len(shown))
    facts = read_images(
        dataset, [row for _, row in rows], [edge if id(row) in shown else 0 for _, row in rows], options.workers
    )
    images = [describe_row(row, split, found) for (split, row), found in zip(rows, facts, strict=True)]
    embedding_map, of_dimensions = None, []
    if projected is not None:
        embedding_map = _embedding_map(options, data, dataset, projected)
        of_dimensions = _embedding_moments(projected, dataset.labels)
    description, checks = _describe(data, dataset, images, embedding_map)
    try:
        out.mkdir(parents=True, exist_ok=True)
        _write_tables(out, description, checks, projected, of_dimensions)
        write_atomically(out / PAGE_NAME, write_page(description, images, projected).encode())
        content = msgspec.json.format(msgspec.json.encode(description), indent=1)
        write_atomically(out / JSON_NAME, content + b"\n")
    except OSError as error:
        raise DataError(
            f"the description cannot be written to {out}",
            got=str(error),
            remedy="free some space or mend the permissions, or name another --out",
        ) from error
    return description


def _check_labels(dataset: Dataset) -> None:
    for split, rows in dataset.splits.items():
        for row in rows:
            if row.label not in dataset.labels:
                raise DataError(
                    f"{split}.csv of {dataset.root}: {row.filename} has an unknown label",
                    got=repr(row.label),
                    expected=", ".join(dataset.labels),
                )


def _describe(
    data: Path, dataset: Dataset, images: Sequence[Described], embedding_map: EmbeddingMap | None
) -> tuple[Description, list[Check]]:
    """The description, with long lists of pairs cut; and the checks with all of them."""
    classes = [image.row.label for image in images]
    patients = [image.row.patient for image in images]
    attributes = (*ATTRIBUTES, "size")
    associations = [associate(name, [i.values[name] for i in images], classes, patients) for name in attributes]
    checks = check_leakage(images, dataset.record)
    findings = write_findings(images, dataset.labels, dataset.synthetic, associations, checks, embedding_map)
    packages = ("numpy", "pillow", "imagehash", "scikit-learn")
    description = Description(
        synthetic=dataset.synthetic,
        labels=dataset.labels,
        images={split: len(dataset.splits[split]) for split in SPLITS},
        patients={split: len({row.patient for row in dataset.splits[split]}) for split in SPLITS},
        tables=split_sha256(data),
        created_by={"cxr-edge-runtime": __version__, **{name: version(name) for name in packages}},
        findings=tuple(findings),
        associations=tuple(associations),
        checks=tuple(msgspec.structs.replace(check, pairs=check.pairs[:_LISTED_PAIRS]) for check in checks),
        counts=tuple(count_values(images, dataset.labels, SPLITS)),
        numbers=tuple(summarise_numbers(images, dataset.labels, SPLITS)),
        embedding_map=embedding_map,
        notes=dataset.record.notes if dataset.record else (),
    )
    return description, checks


def _embedding_map(options: DescribeOptions, data: Path, dataset: Dataset, projected: ProjectedRun) -> EmbeddingMap:
    classes = [row.label for row in projected.rows]
    right = [row.label == called for row, called in zip(projected.rows, projected.called, strict=True)]
    moments: list[Moments] = []
    distances = distances_to_centre(projected.vectors, classes)[:, None]
    for space, axes, coordinates in (
        ("t-SNE 2-D", "xy", projected.plane.coordinates),
        ("t-SNE 3-D", "xyz", projected.space.coordinates),
        ("distance to class centre", ["distance"], distances),
    ):
        moments += moments_by_class(space, axes, coordinates, classes, projected.splits, dataset.labels)
    total = sum(len(rows) for rows in dataset.splits.values())
    return EmbeddingMap(
        checkpoint_sha256=projected.checkpoint_sha256,
        architecture=projected.architecture,
        image_size=projected.image_size,
        run_is_synthetic=projected.run_is_synthetic,
        same_tables=split_sha256(data) == projected.run_data_sha256,
        dimensions=projected.vectors.shape[1],
        shown=len(projected.rows),
        left_out=total - len(projected.rows),
        seed=options.seed,
        perplexity=round(projected.plane.perplexity, 3),
        kl_divergence={
            "t-SNE 2-D": round(projected.plane.kl_divergence, 4),
            "t-SNE 3-D": round(projected.space.kl_divergence, 4),
        },
        results=tuple(
            SplitResult(
                split=split,
                shown=projected.splits.count(split),
                right=sum(hit for hit, of in zip(right, projected.splits, strict=True) if of == split),
            )
            for split in dict.fromkeys(projected.splits)
        ),
        moments=tuple(moments),
    )


def _embedding_moments(projected: ProjectedRun, labels: Sequence[str]) -> list[Moments]:
    axes = [str(number) for number in range(projected.vectors.shape[1])]
    classes = [row.label for row in projected.rows]
    vectors = projected.vectors.astype(np.float64)
    return moments_by_class("embedding", axes, vectors, classes, projected.splits, labels, by_split=False)


def _write_tables(
    out: Path,
    description: Description,
    checks: Iterable[Check],
    projected: ProjectedRun | None,
    of_dimensions: Sequence[Moments],
) -> None:
    _write_structs(out / "counts.csv", Count, description.counts)
    _write_structs(out / "numbers.csv", Numbers, description.numbers)
    _write_structs(out / "associations.csv", type(description.associations[0]), description.associations)
    pairs = [
        (check.name, pair.split, pair.filename, pair.other_split, pair.other_filename, pair.detail)
        for check in checks
        for pair in check.pairs
    ]
    _write_csv(out / "leakage.csv", ("check", "split", "filename", "other_split", "other_filename", "detail"), pairs)
    of_run = [out / name for name in ("moments.csv", "points.csv", "embeddings.npy")]
    if projected is None or description.embedding_map is None:
        # Those of an earlier call with --run would pass for this one's.
        for path in of_run:
            path.unlink(missing_ok=True)
        return
    _write_structs(of_run[0], Moments, [*description.embedding_map.moments, *of_dimensions])
    names = ("filename", "split", "source", "label", "called", "probability", "x2", "y2", "x3", "y3", "z3")
    points = zip(
        projected.rows, projected.splits, projected.called, projected.probabilities.max(1),
        projected.plane.coordinates, projected.space.coordinates, strict=True,
    )  # fmt: skip
    _write_csv(
        of_run[1],
        names,
        (
            (row.filename, split, row.source, row.label, called, f"{p:.4f}", *(f"{v:.4f}" for v in (*plane, *space)))
            for row, split, called, p, plane, space in points
        ),
    )
    write_atomically(of_run[2], _npy(projected.vectors))


def _npy(array: NDArray[np.float32]) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def _write_structs(path: Path, kind: type[msgspec.Struct], items: Iterable[msgspec.Struct]) -> None:
    names = kind.__struct_fields__
    _write_csv(path, names, ([getattr(item, name) for name in names] for item in items))


def _write_csv(path: Path, header: Sequence[str], lines: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(lines)
    write_atomically(path, text.getvalue().encode())
