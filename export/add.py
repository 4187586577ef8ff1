"""Taking an artifact that was made elsewhere into a bundle: the golden vectors judge it first."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from edge_runtime.backends import backend_for_format
from edge_runtime.bundle import Bundle, file_entry, open_bundle, rewrite_manifest
from edge_runtime.errors import BundleError
from edge_runtime.manifest import Artifact, FileEntry, Format, Manifest, Precision
from edge_runtime.selftest import ArtifactTest, run_selftest
from export.agreement import check_golden, recommend_instead, starting_agreement, with_measured_agreement
from export.description import describe_validation
from export.errors import ExportError
from export.formats import WRITERS
from export.formats.lite import lite_facts
from export.label_order import check_label_order

__all__ = ["Added", "add_artifact"]


@dataclasses.dataclass(frozen=True)
class Added:
    """The artifact as the manifest has it now, and how it did on the golden vectors."""

    artifact: Artifact
    test: ArtifactTest


def add_artifact(
    bundle: str | Path, file: str | Path, format_: Format, precision: Precision, *, replace: bool = False
) -> Added:
    """Add a file to a bundle as ``<format>-<precision>``, if it has the graph's input and outputs and runs here.

    The file is checked as one that a build wrote: by its format (:meth:`export.formats.FormatWriter.check`), and on the
    golden vectors, which at fp32 it must answer as the full model does. Of another precision its classes must be in
    the bundle's order; what it does on the vectors is written down for the device's self-test, and
    :func:`export.check_parity` judges it on radiographs. Until all of that is done the bundle is unchanged.

    Parameters
    ----------
    bundle
        A bundle folder; a zip is not changed.
    file
        The model file. Of OpenVINO the ``.xml``; its ``.bin`` lies beside it.
    replace
        Take the place of an artifact of that name.

    Raises
    ------
    ExportError
        Not there, another suffix, an artifact of that name is there already, not a file of this graph, it cannot be
        run here, the disk is full.
    ParityFailure
        An fp32 artifact answers otherwise, or another one holds the classes in another order.
    BundleError
        The bundle is a zip or damaged.
    """
    sources = _sources(Path(file), format_)
    name = f"{format_}-{precision}"
    with _disk_errors(bundle), open_bundle(bundle) as opened:
        if opened.is_zip:
            raise BundleError(
                f"{opened.source} is a zip and is not changed in place", remedy="unpack it and give the folder"
            )
        known = [artifact.name for artifact in opened.manifest.artifacts]
        if name in known and not replace:
            raise ExportError(
                f"the bundle {opened.source} has an artifact {name} already",
                expected="an artifact of another format or precision",
                remedy="give --replace to put this one in its place",
            )
        # beside the artifacts, so that moving it in is a rename
        with tempfile.TemporaryDirectory(prefix=".adding-", dir=opened.root.parent) as folder:
            staged = Path(folder)
            test, artifact = _try(opened, staged, sources, name, format_, precision)
            artifacts = opened.root / "artifacts"
            artifacts.mkdir(exist_ok=True)
            # Killed between the next two steps, a replaced artifact is one whose hash does not fit: it is not opened.
            for entry in artifact.files:
                (staged / entry.path).replace(opened.root / entry.path)
        rewrite_manifest(opened, _with(opened.manifest, artifact))
    return Added(artifact, test)


@contextlib.contextmanager
def _disk_errors(bundle: str | Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ExportError(
            f"the artifact cannot be added to {bundle}",
            got=error.strerror or str(error),
            expected="a folder that can be written to, on a disk with room for it",
            remedy="check the folder's permissions and the disk",
        ) from error


def _sources(file: Path, format_: Format) -> list[Path]:
    suffixes = WRITERS[format_].suffixes
    if file.suffix != suffixes[0]:
        raise ExportError(f"{file} is not a file of the format {format_}", got=file.suffix or "no suffix",
                          expected=suffixes[0])  # fmt: skip
    sources = [file.with_suffix(suffix) for suffix in suffixes]
    if missing := [path for path in sources if not path.is_file()]:
        raise ExportError(f"{missing[0]} is not there", expected=", ".join(path.name for path in sources))
    return sources


def _try(
    bundle: Bundle, staged: Path, sources: list[Path], name: str, format_: Format, precision: Precision
) -> tuple[ArtifactTest, Artifact]:
    """Run it against the golden vectors in a bundle of its own, and return it as the manifest will have it."""
    (staged / "artifacts").mkdir()
    files: list[FileEntry] = []
    for source in sources:
        path = f"artifacts/{name}{source.suffix}"
        shutil.copyfile(source, staged / path)
        files.append(file_entry(staged, path))
    WRITERS[format_].check(staged / files[0].path, {output.name: output.shape for output in bundle.manifest.outputs})
    for entry in (bundle.manifest.golden.vectors, *bundle.manifest.golden.inputs):
        target = staged / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(bundle.path(entry), target)
    draft = Artifact(
        name=name,
        format=format_,
        precision=precision,
        files=tuple(files),
        golden_agreement=starting_agreement(precision),
        parity=None,
        validated_on=describe_validation(format_),
        lite=lite_facts(staged / files[0].path) if format_ == "lite" else None,
    )
    alone = msgspec.structs.replace(bundle.manifest, artifacts=(draft,), recommended={}, reports=())
    bundle_of_it = Bundle(staged, staged, alone)
    (test,) = run_selftest(bundle_of_it).artifacts
    if test.status in ("failed", "damaged"):
        raise ExportError(
            f"{sources[0]} does not run as an artifact of this bundle",
            got=test.why,
            expected=f"input {alone.input.name}, outputs {', '.join(output.name for output in alone.outputs)}, "
            f"on {backend_for_format(format_).name}",
            remedy="export the kit's own graph (export.DeployableGraph): it holds preprocessing and all outputs",
        )
    check_golden([test])
    check_label_order(bundle_of_it, [draft])
    return test, with_measured_agreement(draft, test)


def _with(manifest: Manifest, artifact: Artifact) -> Manifest:
    kept = [a for a in manifest.artifacts if a.name != artifact.name]
    sentence = f"The artifact {artifact.name} was made elsewhere and added to the bundle."
    # what was recommended is no longer there: a replaced artifact has to earn it again
    recommended = {
        device: instead
        for device, name in manifest.recommended.items()
        if (instead := name if name != artifact.name else recommend_instead(kept, device)) is not None
    }
    return msgspec.structs.replace(
        manifest,
        artifacts=(*kept, artifact),
        recommended=recommended,
        limitations=(*(line for line in manifest.limitations if line != sentence), sentence),
    )
