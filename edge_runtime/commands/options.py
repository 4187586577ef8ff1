"""Options and arguments that several commands share."""

from __future__ import annotations

from pathlib import Path

import click

__all__ = ["BACKEND_NAMES", "artifact_option", "backend_option", "bundle_argument", "threads_option"]

BACKEND_NAMES = ("auto", "onnxruntime", "openvino", "torchscript", "lite")

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
    help="Software to run it with. auto: the bundle's recommendation for this kind of machine.",
)

threads_option = click.option(
    "--threads",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Threads to compute with; else the backend decides.",
)
