"""What must hold of a dataset before hours are spent on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from PIL import Image

from train.data.rows import DataError, Dataset, Row, file_sha256

__all__ = ["check_dataset", "check_patients"]


def check_dataset(
    dataset: Dataset,
    *,
    splits: Sequence[str] = ("train", "valid"),
    images: bool = True,
    on_image: Callable[[], None] | None = None,
) -> None:
    """Raise where a dataset cannot be trained or evaluated on.

    Parameters
    ----------
    dataset
        As :func:`train.data.tables.load_dataset` returns it.
    splits
        The splits that are going to be used: none may be empty, and their images are looked at.
    images
        Look at the image files too: each is there and is the file that was written (SHA-256; where a
        table has no hash, the image is decoded). About 1 ms an image.
    on_image
        Called after each image, for a progress bar; from several threads.

    Raises
    ------
    DataError
        An unknown label, a file name twice, a patient in two splits, an empty split, a class without a
        training image, an image that is missing, changed or unreadable.
    """
    _check_labels(dataset)
    _check_names(dataset)
    check_patients(dataset.splits)
    for split in splits:
        rows = dataset.splits.get(split, [])
        if not rows:
            raise DataError(
                f"the split {split} of {dataset.root} is empty",
                remedy="build with more sources, or with another --seed where there are few patients",
            )
    if "train" in splits:
        for label in dataset.labels:
            if not any(row.label == label for row in dataset.splits["train"]):
                raise DataError(
                    f"no training image of {dataset.root} has the label {label!r}",
                    expected="at least one image of each of " + ", ".join(dataset.labels),
                    remedy="build with a source that has it: normal comes from --rsna alone",
                )
    if images:
        _check_images(dataset, [row for split in splits for row in dataset.splits[split]], on_image)


def check_patients(splits: dict[str, list[Row]]) -> None:
    """Raise where a patient is in two splits: a test result would then be worth nothing."""
    seen: dict[str, tuple[str, str]] = {}
    for split, rows in splits.items():
        for row in rows:
            other_split, other_file = seen.setdefault(row.patient, (split, row.filename))
            if other_split != split:
                raise DataError(
                    f"patient {row.patient} is in two splits",
                    got=f"{other_split} ({other_file}) and {split} ({row.filename})",
                    expected="all images of a patient in one split",
                    remedy="build the dataset again",
                )


def _check_labels(dataset: Dataset) -> None:
    for split, rows in dataset.splits.items():
        for row in rows:
            if row.label not in dataset.labels:
                raise DataError(
                    f"{split}.csv of {dataset.root}: {row.filename} has an unknown label",
                    got=repr(row.label),
                    expected=", ".join(dataset.labels),
                )


def _check_names(dataset: Dataset) -> None:
    seen: dict[str, str] = {}
    for split, rows in dataset.splits.items():
        for row in rows:
            if row.filename in seen:
                raise DataError(
                    f"{row.filename} is listed twice in {dataset.root}",
                    got=f"{seen[row.filename]}.csv and {split}.csv",
                )
            seen[row.filename] = split


def _check_images(dataset: Dataset, rows: list[Row], on_image: Callable[[], None] | None) -> None:
    def problem(row: Row) -> str | None:
        found = _image_problem(dataset, row)
        if on_image is not None:
            on_image()
        return found

    with ThreadPoolExecutor() as pool:
        problems = [found for found in pool.map(problem, rows) if found is not None]
    if problems:
        more = f" and {len(problems) - 3} more" if len(problems) > 3 else ""
        raise DataError(
            f"{len(problems)} of {len(rows)} images of {dataset.root} cannot be used",
            got="; ".join(problems[:3]) + more,
            remedy="run the command that built the dataset again: it writes only what is missing or changed",
        )


def _image_problem(dataset: Dataset, row: Row) -> str | None:
    path = dataset.image_path(row)
    try:
        if row.sha256:
            same = file_sha256(path) == row.sha256
            return None if same else f"{row.filename} is not the file that was written"
        with Image.open(path) as image:
            image.load()
    except FileNotFoundError:
        return f"{row.filename} is missing"
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        return f"{row.filename} is unreadable ({error})"
    return None
