"""Kaggle tawsifurrahman/covid19-radiography-database: a sheet of its COVID-19 images and their folder.

Built from the published rule, never run on the database itself: none was at hand.
"""

from __future__ import annotations

import re
from collections.abc import Set
from pathlib import Path

from train.data.rows import DataError
from train.data.sources.listing import Listing, find_image
from train.data.sources.source_table import need_file, read_table

__all__ = ["list_radiography"]

_SHEETS = ("COVID-19.metadata.xlsx", "COVID-19.metadata.csv", "COVID.metadata.xlsx", "COVID.metadata.csv")
_FOLDERS = ("COVID-19", "COVID/images", "COVID")

# Numbers that COVIDx v3 leaves out by hand: the same radiographs as others, published under another address.
_KNOWN_DUPLICATES = frozenset({*range(100, 106), *range(110, 114), *range(122, 127), 217})


def list_radiography(folder: Path, known_urls: Set[str] = frozenset()) -> Listing:
    """List the COVID-19 radiographs that no other source has.

    Parameters
    ----------
    folder
        The unpacked database. Its normal and viral pneumonia images are not part of COVIDx.
    known_urls
        Where the images of the sources that were read before were published: a row with one of these is the
        same radiograph again.
    """
    table = need_file(folder, "--radiography", _SHEETS)
    images = next((folder / name for name in _FOLDERS if (folder / name).is_dir()), None)
    if images is None:
        raise DataError(f"--radiography: {folder} has no images", expected="a folder " + " or ".join(_FOLDERS))
    listing = Listing("sirm", [table])
    known = {_address(url) for url in known_urls}
    for row in read_table(table, ["FILE NAME", "FORMAT", "URL"]):
        # The sheet writes "COVID-19(70)" or "COVID-19 (70)", and so do the files, not always alike.
        name = re.sub(r"\s+", "", row["FILE NAME"])
        number = re.search(r"\((\d+)\)$", name)
        suffix = "." + (row["FORMAT"] or "png").lower()
        spellings = (name + suffix, name.replace("(", " (") + suffix, row["FILE NAME"] + suffix)
        file = next((spelling for spelling in spellings if find_image(images, spelling)), spellings[0])
        if not name:
            continue
        if _address(row["URL"]) in known:
            listing.drop(file, f"the Cohen table has its publication: {row['URL']}")
        elif number and int(number[1]) in _KNOWN_DUPLICATES:
            listing.drop(file, "a duplicate by the published rule of COVIDx v3")
        else:
            listing.take(images, file, patient_id=name, label="COVID-19", row={}, stem=name)
    return listing


def _address(url: str) -> str:
    """Return a URL without what differs between two ways to write it."""
    return re.sub(r"^https?://(www\.)?", "", url.strip().casefold()).rstrip("/")
