"""A DICOM node: radiographs come by C-STORE, results leave as structured report and secondary capture.

Needs the extra ``node`` (pynetdicom, highdicom); neither is imported before a node is started.
"""

from __future__ import annotations
