"""Files in, displayable radiographs out: DICOM, PNG, JPEG and TIFF, judged by content and bounded before parsing.

Importing this package loads neither NumPy nor pydicom nor Pillow: a file asks for what it needs.
"""

from edge_runtime.reading.limits import DEFAULT_LIMITS, ReadingLimits
from edge_runtime.reading.radiograph_file import looks_readable, read_radiograph

__all__ = ["DEFAULT_LIMITS", "ReadingLimits", "looks_readable", "read_radiograph"]
