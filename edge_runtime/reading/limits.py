"""What a file may cost before it is opened: the caps that hold whatever its header claims."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from edge_runtime.errors import Reason, Refusal

__all__ = ["DEFAULT_LIMITS", "ReadingLimits"]


@dataclass(frozen=True)
class ReadingLimits:
    """Caps on one file. Each is checked before the step that would spend what it caps.

    Attributes
    ----------
    max_file_bytes
        Size of the file on disk. A 16-bit radiograph of 50 megapixels has 100 MB.
    max_inflated_bytes
        Size of a deflated data set once inflated (PS3.5 A.5); inflating stops there.
    max_inflated_ratio
        Above 16 MiB, how many times its deflated size it may have. Radiographs deflate to a half or a third, with wide
        black borders to a tenth; deflate itself reaches 1000.
    max_header_elements
        Data elements in a DICOM header; a radiograph has a few hundred.
    max_pixels
        Rows x columns of one frame. Stitched spines reach 30 megapixels, chest films 20.
    min_edge
        Shortest side in pixels. The smallest real radiograph of the development sets has 156; below 128 a
        240-pixel model would be shown mostly interpolation.
    """

    max_file_bytes: int = 256 * 2**20
    max_inflated_bytes: int = 256 * 2**20
    max_inflated_ratio: int = 100
    max_header_elements: int = 20_000
    max_pixels: int = 50_000_000
    min_edge: int = 128

    def check_file(self, name: str, size: int) -> None:
        """Refuse a file of more than ``max_file_bytes``."""
        if size > self.max_file_bytes:
            raise Refusal(
                Reason.TOO_LARGE,
                f"{name} is larger than this runtime opens",
                got=f"{size / 2**20:.0f} MiB",
                expected=f"at most {self.max_file_bytes / 2**20:.0f} MiB",
                remedy="export the single radiograph, not a whole series or study",
            )

    def check_pixels(self, name: str, rows: int, columns: int) -> None:
        """Refuse, before anything is allocated, an image that claims more than ``max_pixels``."""
        if rows * columns > self.max_pixels:
            raise Refusal(
                Reason.TOO_LARGE,
                f"{name} claims more pixels than this runtime decodes",
                got=f"{columns} x {rows} pixels",
                expected=f"at most {self.max_pixels / 1e6:.0f} megapixels",
                remedy="check that the file is whole, or export the radiograph at a smaller size",
            )

    def check_edge(self, name: str, rows: int, columns: int) -> None:
        """Refuse an image whose shorter side has fewer than ``min_edge`` pixels."""
        if min(rows, columns) < self.min_edge:
            raise Refusal(
                Reason.TOO_SMALL,
                f"{name} is too small to be judged",
                got=f"{columns} x {rows} pixels",
                expected=f"at least {self.min_edge} pixels on the shorter side",
                remedy="export the radiograph itself, not its preview or icon",
            )


DEFAULT_LIMITS: Final = ReadingLimits()
