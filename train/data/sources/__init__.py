"""One module a source: its table and the rules of COVIDx make a :class:`Listing` of candidates.

No module here reads an image: that is :mod:`train.data.images`.
"""

from __future__ import annotations

from train.data.sources.actualmed import list_actualmed
from train.data.sources.cohen import list_cohen
from train.data.sources.figure1 import list_figure1
from train.data.sources.listing import Candidate, Listing, PixelBox
from train.data.sources.radiography import list_radiography
from train.data.sources.rsna import list_rsna

__all__ = [
    "Candidate",
    "Listing",
    "PixelBox",
    "list_actualmed",
    "list_cohen",
    "list_figure1",
    "list_radiography",
    "list_rsna",
]
