"""The field runtime: a radiograph and a bundle in, an answer with a heat map out, offline.

Importing this package imports nothing heavy; torch, fastai and the workshop (``train``, ``export``) never.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
