"""What the readers hand to the model: grey pixels and the header facts that go with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

__all__ = ["HeaderFacts", "Radiograph"]


@dataclass(frozen=True)
class HeaderFacts:
    """Facts from a DICOM header that the answer may show. None where the header does not say.

    No names: nothing here identifies a patient beyond ``patient_id``, which a caller may leave out.
    """

    modality: str | None = None
    """Modality (0008,0060)."""
    view: str | None = None
    """View Position (0018,5101)."""
    body_part: str | None = None
    """Body Part Examined (0018,0015)."""
    sex: str | None = None
    """Patient's Sex (0010,0040)."""
    age: str | None = None
    """Patient's Age (0010,1010) as written, such as ``058Y``."""
    study_date: str | None = None
    """Study Date (0008,0020), YYYYMMDD."""
    patient_id: str | None = None
    """Patient ID (0010,0020)."""
    sop_instance_uid: str | None = None
    """SOP Instance UID (0008,0018)."""


@dataclass(frozen=True)
class Radiograph:
    """A displayable grey image, as the deployable graph wants it.

    Attributes
    ----------
    pixels
        uint8 [H, W], C-contiguous, 0 black, 255 white (bone is bright).
    source_format
        ``DICOM``, ``PNG``, ``JPEG`` or ``TIFF``: judged by content, not by file name.
    facts
        Header facts; all None for a plain image.
    notes
        Plain sentences the answer should carry, such as "FOR PROCESSING image".
    """

    pixels: NDArray[np.uint8]
    source_format: str
    facts: HeaderFacts = field(default_factory=HeaderFacts)
    notes: tuple[str, ...] = ()
