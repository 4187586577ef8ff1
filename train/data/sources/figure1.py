"""agchung/Figure1-COVID-chestxray-dataset: ``metadata.csv`` (ISO-8859-1) and ``images/``."""

from __future__ import annotations

import re
from pathlib import Path

from train.data.sources.findings import label_of_finding
from train.data.sources.listing import Listing, find_image
from train.data.sources.source_table import need_file, need_folder, read_table

__all__ = ["list_figure1"]

_SUFFIXES = (".jpg", ".png", ".jpeg")


def list_figure1(folder: Path) -> Listing:
    """List the radiographs whose finding has a label; the table names the patient, not the file.

    ``COVID-00015a`` and ``COVID-00015b`` are two images of one person.
    """
    table = need_file(folder, "--figure1", ["metadata.csv"])
    images = need_folder(folder / "images", "--figure1", "the images of metadata.csv")
    listing = Listing("fig1", [table])
    for row in read_table(table, ["patientid", "finding"]):
        name = row["patientid"]
        file = next((name + s for s in _SUFFIXES if find_image(images, name + s)), f"{name}.jpg")
        if (label := label_of_finding(row["finding"])) is None:
            listing.drop(file, f"finding {row['finding']!r} has no label in COVIDx")
            continue
        person = re.sub(r"(?<=\d)[a-z]$", "", name)
        listing.take(images, file, patient_id=name, label=label, row=row, person=person)
    return listing
