"""Which artifact answers, on which backend: as asked for or as recommended, and never silently another."""

from __future__ import annotations

from dataclasses import dataclass, replace

from edge_runtime.backends import BACKENDS, VARIANTS, Backend, backend_for_format, backend_named, why_unavailable
from edge_runtime.errors import BackendError, UsageError
from edge_runtime.manifest import Artifact, Manifest
from edge_runtime.tuned import find_tuned

__all__ = ["Choice", "candidates", "choose"]

_DEVICE = "cpu"


@dataclass(frozen=True)
class Choice:
    """An artifact, the name of the backend that runs it, and what is to be told about the choice.

    ``note`` belongs to every answer: another artifact answers than was to be expected. ``hint`` is for whoever started
    the program: nothing was measured on this device yet.
    """

    artifact: Artifact
    backend: str
    note: str | None
    hint: str | None = None


def candidates(manifest: Manifest) -> list[tuple[str, str]]:
    """Return every pair of an artifact and a backend that runs its format and is installed here."""
    kinds = [*BACKENDS.values(), *VARIANTS.values()]
    return [
        (artifact.name, kind.name)
        for artifact in manifest.artifacts
        for kind in kinds
        if kind.format == artifact.format and why_unavailable(kind) is None
    ]


def choose(
    manifest: Manifest, artifact: str | None = None, backend: str = "auto", threads: int | None = None
) -> Choice:
    """Choose an artifact and its backend.

    A named artifact is taken. Otherwise a named backend takes its format's artifact: the recommended one,
    or the first in the manifest. With neither, what ``edge-runtime tune`` found quickest on this device is
    taken, where it was run with this number of threads; else the manifest's recommendation for the CPU, with a hint;
    where its backend is not installed, the first artifact that can be opened here, with a note that says so.

    Raises
    ------
    UsageError
        No such artifact or backend, or the two do not fit.
    BackendError
        What was asked for is not installed, or nothing in the bundle can be opened here.
    """
    kind = _backend(backend)
    if artifact is not None:
        chosen = _artifact(manifest, artifact)
        if kind is not None and kind.format != chosen.format:
            raise UsageError(
                f"backend {kind.name} does not run artifact {chosen.name}",
                expected=f"{backend_for_format(chosen.format).name}, or an artifact of format {kind.format}",
                remedy=f"leave --backend out, or choose of: {_names(manifest)}",
            )
        return _installed(manifest, chosen, kind)
    recommended = manifest.artifact(manifest.recommended.get(_DEVICE, ""))
    if kind is not None:
        fitting = [a for a in manifest.artifacts if a.format == kind.format]
        if not fitting:
            raise UsageError(
                f"the bundle has no artifact for backend {kind.name}",
                expected=", ".join(sorted({backend_for_format(a.format).name for a in manifest.artifacts})),
                remedy="leave --backend out, or name one of these",
            )
        return _installed(manifest, recommended if recommended in fitting and recommended else fitting[0], kind)
    tuned = find_tuned(manifest, threads)
    if tuned is not None and tuned.stale is None:
        named = backend_named(tuned.backend)
        if named is not None and why_unavailable(named) is None:
            return Choice(_artifact(manifest, tuned.artifact), named.name, None)
    choice = _recommended_or_first(manifest, recommended or manifest.artifacts[0])
    if tuned is None and len({name for name, _ in candidates(manifest)}) > 1:
        command = "edge-runtime tune" if threads is None else f"edge-runtime tune --threads {threads}"
        words = f"Not tuned on this device yet: {choice.artifact.name} answers, and `{command}` finds what is quickest."
        choice = replace(choice, hint=words)
    if tuned is not None and tuned.stale is not None:
        note = f"{tuned.stale} Answered by {choice.artifact.name} until `edge-runtime tune` is run again."
        choice = replace(choice, note=note if choice.note is None else f"{choice.note} {note}")
    return choice


def _recommended_or_first(manifest: Manifest, wanted: Artifact) -> Choice:
    kind = backend_for_format(wanted.format)
    missing = why_unavailable(kind)
    if missing is None:
        return Choice(wanted, kind.name, None)
    for other in manifest.artifacts:
        substitute = backend_for_format(other.format)
        if why_unavailable(substitute) is None:
            note = f"The bundle recommends {wanted.name}, but {missing}. Answered by {other.name} instead."
            return Choice(other, substitute.name, note)
    raise BackendError(
        "no artifact of the bundle can be opened here",
        got="; ".join(sorted({str(why_unavailable(backend_for_format(a.format))) for a in manifest.artifacts})),
        remedy=kind.install,
    )


def _installed(manifest: Manifest, artifact: Artifact, kind: type[Backend] | None) -> Choice:
    kind = kind or backend_for_format(artifact.format)
    missing = why_unavailable(kind)
    if missing is None:
        return Choice(artifact, kind.name, None)
    others = [a.name for a in manifest.artifacts if why_unavailable(backend_for_format(a.format)) is None]
    instead = f", or choose an artifact that opens here: {', '.join(others)}" if others else ""
    raise BackendError(
        f"artifact {artifact.name} cannot be opened here",
        got=missing.partition(":")[0],
        remedy=f"{kind.install}{instead}",
    )


def _backend(name: str) -> type[Backend] | None:
    if name == "auto":
        return None
    kind = backend_named(name)
    if kind is None:
        raise UsageError(f"there is no backend {name}", expected=f"auto, {', '.join((*BACKENDS, *VARIANTS))}")
    return kind


def _artifact(manifest: Manifest, name: str) -> Artifact:
    chosen = manifest.artifact(name)
    if chosen is None:
        raise UsageError(f"the bundle has no artifact {name}", expected=_names(manifest))
    return chosen


def _names(manifest: Manifest) -> str:
    return ", ".join(a.name for a in manifest.artifacts)
