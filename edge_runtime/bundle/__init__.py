"""Bundles on disk: opened and checked file by file before use, written whole or not at all."""

from __future__ import annotations

from edge_runtime.bundle.files import file_entry
from edge_runtime.bundle.opening import Bundle, open_bundle
from edge_runtime.bundle.writing import BundleWriter, rewrite_manifest

__all__ = ["Bundle", "BundleWriter", "file_entry", "open_bundle", "rewrite_manifest"]
