"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = [
    "BACKEND_NAMES",
    "artifact_option",
    "backend_option",
    "bundle_argument",
    "low_memory_option",
    "require_signature_option",
    "threads_option",
]

BACKEND_NAMES = (
    *("auto", "onnxruntime", "openvino", "torchscript", "lite", "executorch"),
    *("openvino-bf16", "onnxruntime-cuda", "onnxruntime-tensorrt"),
)

bundle_argument = click.argument("bundle_path", metavar="BUNDLE", type=click.Path(path_type=Path))

artifact_option = click.option(
    "--artifact",
    metavar="NAME",
    help="Artifact to use, such as onnx-fp32 (see `info`); else the recommended one.",
)

backend_option = click.option(
    "--backend",
    type=click.Choice(BACKEND_NAMES),
    default="auto",
    show_default=True,
    help="Software to run it with. auto: what `tune` found here, else the bundle's recommendation.",
)

threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Threads to compute with; else the backend decides.",
)

require_signature_option = click.option(
    "--require-signature",
    is_flag=True,
    help="Open the bundle only if a key that this device trusts has signed it.",
)

low_memory_option = click.option(
    "--low-memory",
    is_flag=True,
    help="For machines with 512 MB: one thread, one file at a time, no arena that keeps memory.",
)
