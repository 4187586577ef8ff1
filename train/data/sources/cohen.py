"""ieee8023/covid-chestxray-dataset: ``metadata.csv`` and ``images/``."""

from __future__ import annotations

from pathlib import Path

from train.data.sources.findings import FRONTAL_VIEWS, label_of_finding
from train.data.sources.listing import Listing
from train.data.sources.source_table import need_file, need_folder, read_table

__all__ = ["list_cohen"]


def list_cohen(folder: Path) -> Listing:
    """List the frontal radiographs whose first finding has a label.

    ``urls`` holds the publications of the frontal rows alone, as the published rule has it: a radiograph of
    the radiography database can be the same as one of those, not the same as a CT slice.
    """
    table = need_file(folder, "--cohen", ["metadata.csv"])
    images = need_folder(folder / "images", "--cohen", "the images of metadata.csv")
    rows = read_table(table, ["patientid", "finding", "view", "filename"])
    frontal = [row for row in rows if row["view"].casefold() in FRONTAL_VIEWS]
    urls = frozenset(row.get("url", "") for row in frontal) - {""}
    listing = Listing("cohen", [table], urls=urls)
    for row in rows:
        file = row["filename"]
        if row.get("modality", "X-ray").casefold() not in ("x-ray", ""):
            listing.drop(file, f"modality {row['modality']!r} is not X-ray")
        elif row["view"].casefold() not in FRONTAL_VIEWS:
            listing.drop(file, f"view {row['view']!r} is not frontal")
        elif (label := label_of_finding(row["finding"])) is None:
            listing.drop(file, f"finding {row['finding']!r} has no label in COVIDx")
        else:
            listing.take(images, file, patient_id=row["patientid"], label=label, row=row)
    return listing
