"""agchung/Actualmed-COVID-chestxray-dataset: ``metadata.csv`` and ``images/``."""

from __future__ import annotations

from pathlib import Path

from train.data.sources.findings import label_of_finding
from train.data.sources.listing import Listing
from train.data.sources.source_table import need_file, need_folder, read_table

__all__ = ["list_actualmed"]


def list_actualmed(folder: Path) -> Listing:
    """List the radiographs whose finding has a label: of this table COVID-19 alone does."""
    table = need_file(folder, "--actualmed", ["metadata.csv"])
    images = need_folder(folder / "images", "--actualmed", "the images of metadata.csv")
    listing = Listing("actmed", [table])
    for row in read_table(table, ["patientid", "finding", "imagename"]):
        file = row["imagename"]
        if (label := label_of_finding(row["finding"])) is None:
            listing.drop(file, f"finding {row['finding']!r} has no label in COVIDx")
        else:
            listing.take(images, file, patient_id=row["patientid"], label=label, row=row)
    return listing
