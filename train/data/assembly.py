"""From the images that were read to rows: people, copies, boxes, agreement with the published tables."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from train.data.images import ImageEntry
from train.data.published import Published
from train.data.record import Dropped, NearDuplicate
from train.data.rows import Box, Row
from train.data.sources import Candidate, Listing
from train.data.sources.listing import plain_age, plain_sex

__all__ = [
    "ReadImage",
    "across_splits",
    "boxes_of",
    "collect_images",
    "compare_with_published",
    "drop_copies",
    "find_same_person",
    "notes_on",
    "row_of",
    "unique_names",
]

Patient = tuple[str, str]


@dataclass(frozen=True)
class ReadImage:
    """A candidate that was read: its file in the dataset and its patient."""

    candidate: Candidate
    entry: ImageEntry
    patient_id: str

    @property
    def patient(self) -> Patient:
        """Source and patient number."""
        return (self.candidate.source, self.patient_id)

    @property
    def published_key(self) -> tuple[str, str]:
        """How the published tables call the image."""
        return (self.candidate.source, self.candidate.stem)


def unique_names(candidates: Iterable[Candidate]) -> dict[str, Candidate]:
    """Name the images ``<stem>.png``; where that is taken ``<stem>__<source>.png``, then ``...-2.png``.

    Names that differ in case alone count as equal: they are one file on macOS and Windows.
    """
    names: dict[str, Candidate] = {}
    taken = set()
    for candidate in candidates:
        name, number = f"{candidate.stem}.png", 1
        while name.casefold() in taken:
            again = f"-{number}" if number > 1 else ""
            name, number = f"{candidate.stem}__{candidate.source}{again}.png", number + 1
        taken.add(name.casefold())
        names[name] = candidate
    return names


def collect_images(
    names: Mapping[str, Candidate], entries: Mapping[str, ImageEntry]
) -> tuple[list[ReadImage], list[Dropped]]:
    """Pair the candidates with what was read of them; the refused ones apart."""
    images, refused = [], []
    for name, candidate in names.items():
        entry = entries[name]
        if entry.refused is not None:
            why = f"refused by the reader: {entry.refused}"
            refused.append(Dropped(candidate.source, candidate.path.name, why))
            continue
        in_header = candidate.patient_in_header and entry.patient_id
        images.append(ReadImage(candidate, entry, entry.patient_id if in_header else candidate.patient_id))
    return images, refused


def find_same_person(
    images: Sequence[ReadImage], listings: Sequence[Listing], alike: Iterable[tuple[int, int, int]]
) -> list[tuple[Patient, Patient]]:
    """Pairs of patients who are one person: by table, by name, or because images of theirs look alike.

    ``alike`` is of :func:`train.data.near_duplicates.find_alike`.
    """
    pairs = [((of.source, one), (of.source, other)) for of in listings for one, other in of.same_person]
    pairs += [(images[first].patient, images[second].patient) for first, second, _ in alike]
    leaders: dict[tuple[str, str], Patient] = {}
    for image in images:
        if image.candidate.person:
            leader = leaders.setdefault((image.candidate.source, image.candidate.person), image.patient)
            pairs.append((leader, image.patient))
    return [(one, other) for one, other in pairs if one != other]


def drop_copies(
    images: Sequence[ReadImage], splits: Mapping[Patient, str], published: Published | None
) -> tuple[list[ReadImage], list[Dropped]]:
    """Leave out images with the pixels of another one.

    What is in the test split is not learnt from; of the rest the first stays. Images that the published
    tables list all stay, as far as that rule lets them.
    """
    copies: dict[str, list[ReadImage]] = defaultdict(list)
    for image in images:
        copies[image.entry.pixel_sha256].append(image)

    def rank(image: ReadImage) -> tuple[bool, bool]:
        listed = published is not None and image.published_key in published.images
        return (splits[image.patient] != "test", not listed)

    kept, dropped = [], []
    for image in images:
        best = min(copies[image.entry.pixel_sha256], key=rank)
        as_good = rank(image) == rank(best) and not rank(image)[1]
        if image is best or as_good:
            kept.append(image)
            continue
        why = f"the same pixels as {best.entry.filename} ({splits[best.patient]})"
        if best.candidate.label != image.candidate.label:
            why += f", whose label is {best.candidate.label} and not {image.candidate.label}"
        dropped.append(Dropped(image.candidate.source, image.candidate.path.name, why))
    return kept, dropped


def across_splits(
    images: Sequence[ReadImage],
    splits: Mapping[Patient, str],
    alike: Iterable[tuple[int, int, int]],
    kept: Iterable[ReadImage],
) -> tuple[NearDuplicate, ...]:
    """Return the pairs of ``alike`` that are kept and in different splits, closest first."""
    names = {image.entry.filename for image in kept}
    pairs = []
    for first, second, distance in alike:
        one, other = images[first], images[second]
        of_one, of_other = splits[one.patient], splits[other.patient]
        if of_one != of_other and {one.entry.filename, other.entry.filename} <= names:
            differs = one.candidate.label != other.candidate.label
            pairs.append(NearDuplicate(one.entry.filename, of_one, other.entry.filename, of_other, distance, differs))
    return tuple(sorted(pairs, key=lambda pair: (pair.distance, pair.filename, pair.other_filename)))


def row_of(image: ReadImage) -> Row:
    """Return an image's line; what the table does not say comes from the DICOM header."""
    candidate, entry = image.candidate, image.entry
    return Row(
        patient_id=image.patient_id,
        filename=entry.filename,
        label=candidate.label,
        source=candidate.source,
        view=candidate.view or entry.view,
        age=candidate.age or plain_age(entry.age),
        sex=candidate.sex or plain_sex(entry.sex),
        sha256=entry.sha256,
    )


def boxes_of(images: Iterable[ReadImage]) -> tuple[dict[str, list[Box]], int]:
    """Boxes as fractions of the image, clipped to it; and the number of those that cover all of it.

    A box around the whole image places nothing: it is left out and counted.
    """
    boxes: dict[str, list[Box]] = {}
    whole = 0
    for image in images:
        width, height = image.entry.width, image.entry.height
        for box in image.candidate.boxes:
            left, right = (min(max(x / width, 0.0), 1.0) for x in (box.x, box.x + box.width))
            top, bottom = (min(max(y / height, 0.0), 1.0) for y in (box.y, box.y + box.height))
            if (left, top, right, bottom) == (0.0, 0.0, 1.0, 1.0):
                whole += 1
            elif right > left and bottom > top:
                boxes.setdefault(image.entry.filename, []).append(Box(left, top, right - left, bottom - top))
    return boxes, whole


def compare_with_published(
    images: Sequence[ReadImage], splits: Mapping[Patient, str], published: Published | None
) -> dict[str, object] | None:
    """Compare with the published tables, image by image; training and validation are both their training."""
    if published is None:
        return None
    listed: Counter[str] = Counter()
    differences = []
    for image in images:
        if image.published_key not in published.images:
            continue
        listed[image.candidate.source] += 1
        split, label = published.images[image.published_key]
        here = "test" if splits[image.patient] == "test" else "train"
        if (here, image.candidate.label) != (split, label):
            differences.append(
                {
                    "filename": image.entry.filename,
                    "published": f"{label} in {split}",
                    "here": f"{image.candidate.label} in {here}",
                }
            )
    return {
        "listed": dict(Counter(source for source, _ in published.images)),
        "listed_and_here": dict(listed),
        "differences": differences,
    }


def notes_on(
    images: Sequence[ReadImage], splits: Mapping[Patient, str], same_person: Iterable[tuple[Patient, Patient]]
) -> Iterator[str]:
    """Say what a reader of the dataset has to know about it."""
    apart = {
        (one, other)
        for one, other in (sorted(pair) for pair in same_person)
        if one in splits and other in splits and splits[one] != splits[other]
    }
    for one, other in sorted(apart):
        yield (
            f"patients {':'.join(one)} and {':'.join(other)} have images that look alike, and the published "
            f"tables have one in the test split and the other not"
        )
    sources: dict[str, set[str]] = defaultdict(set)
    for image in images:
        sources[image.candidate.label].add(image.candidate.source)
    if len(sources) > 1 and not set.intersection(*sources.values()):
        yield (
            "class and source are confounded: no source has all classes, so a model can score high by "
            "recognising the hospital"
        )
