"""What a source's table comes to: the images to take, those that are not there, those left out and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import NamedTuple

from train.data.record import Dropped, Missing

__all__ = ["Candidate", "Listing", "PixelBox", "find_image", "plain_age", "plain_sex"]


class PixelBox(NamedTuple):
    """A box in pixels of the source's image, as its table has it."""

    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Candidate:
    """An image that the rules take and that is on disk."""

    source: str
    patient_id: str
    path: Path
    stem: str
    """The stem of the source's name; the published tables call the image ``<stem>.<something>``."""
    label: str
    view: str = ""
    age: str = ""
    sex: str = ""
    person: str = ""
    """Where it is set: images of the source with the same value are of one person, whatever their patient."""
    patient_in_header: bool = False
    """The table does not tell the patient: the DICOM header's Patient ID is to replace ``patient_id``."""
    boxes: tuple[PixelBox, ...] = ()


@dataclass
class Listing:
    """A source's table under the rules."""

    source: str
    tables: list[Path] = field(default_factory=list)
    """The tables that were read."""
    candidates: list[Candidate] = field(default_factory=list)
    missing: list[Missing] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    same_person: list[tuple[str, str]] = field(default_factory=list)
    """Patients of this source that the table lists with the same image: one person under two numbers."""
    urls: frozenset[str] = frozenset()
    """Where the source's images were published, for the sources that say it."""
    _taken: dict[str, str] = field(default_factory=dict, repr=False)
    """Patient of each file that the rules took, there or missing."""

    def take(
        self,
        folder: Path,
        file: str,
        *,
        patient_id: str,
        label: str,
        row: Mapping[str, str],
        stem: str | None = None,
        person: str = "",
        patient_in_header: bool = False,
        boxes: tuple[PixelBox, ...] = (),
    ) -> None:
        """Add an image that the rules take: once, and only when it is in ``folder``.

        ``row`` is its line of the table, for view, age and sex; ``stem`` is the file's where it is left out.
        """
        if file in self._taken:
            before = self._taken[file]
            self.drop(file, f"listed again (patient {patient_id}); the first row counts (patient {before})")
            if before != patient_id:
                self.same_person.append((before, patient_id))
            return
        self._taken[file] = patient_id
        path = find_image(folder, file)
        if path is None:
            self.missing.append(Missing(self.source, file))
            return
        self.candidates.append(
            Candidate(
                source=self.source,
                patient_id=patient_id,
                path=path,
                stem=stem or path.stem,
                label=label,
                view=row.get("view", ""),
                age=plain_age(row.get("age", "")),
                sex=plain_sex(row.get("sex", "")),
                person=person,
                patient_in_header=patient_in_header,
                boxes=boxes,
            )
        )

    def drop(self, file: str, why: str) -> None:
        """Record an image that the rules leave out."""
        self.dropped.append(Dropped(self.source, file, why))


def find_image(folder: Path, file: str) -> Path | None:
    """Return the image of a table's row, or None; a name that leaves the folder is no image's name."""
    if not file or PurePosixPath(file).name != file or PureWindowsPath(file).name != file:
        return None
    path = folder / file
    return path if path.is_file() else None


def plain_age(text: str) -> str:
    """Years as a plain number: ``52.0`` -> ``52``, DICOM's ``058Y`` -> ``58``; empty where it is neither."""
    text = text.strip().upper()
    months = 12.0 if text.endswith("M") else 1.0
    try:
        years = float(text.removesuffix("Y").removesuffix("M")) / months
    except ValueError:
        return ""
    return f"{years:.4g}" if 0 <= years <= 120 else ""


def plain_sex(text: str) -> str:
    """``M`` or ``F``; empty where it is neither."""
    text = text.strip().upper()[:1]
    return text if text in ("M", "F") else ""
