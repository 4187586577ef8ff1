"""Writing the phone's page: static files from a bundle, each with its SHA-256, whole or not at all."""

from __future__ import annotations

import gzip
import hashlib
import html
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import edge_runtime
from edge_runtime.bundle import Bundle
from edge_runtime.errors import BundleError, EdgeRuntimeError, UsageError
from edge_runtime.heatmap import PALETTE
from edge_runtime.manifest import MANIFEST_NAME, FileEntry, Manifest, encode_manifest
from edge_runtime.web.mobile import HEADERS, MEDIA_TYPES

__all__ = ["Site", "write_site"]

HERE = Path(__file__).parent
PAGE = HERE / "page"
PACKAGES = HERE / "node_modules"
CLINIC = Path(edge_runtime.__file__).parent / "web" / "static"
LICENCE = HERE.parents[1] / "LICENSE"

CLINIC_FILES = ("page.css", "heat_map.js", "icon.svg")
"""What the clinic's page and the phone's have in common."""
RUNTIME = "vendor/onnxruntime-web/ort-wasm-simd-threaded.wasm"
VENDORED = {
    "vendor/onnxruntime-web/ort.wasm.min.mjs": "onnxruntime-web/dist/ort.wasm.min.mjs",
    "vendor/onnxruntime-web/ort-wasm-simd-threaded.mjs": "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs",
    RUNTIME: "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "vendor/dicom-parser/dicomParser.min.js": "dicom-parser/dist/dicomParser.min.js",
}
"""File of the site -> file of an npm package."""
WORKER = "service_worker.js"
_WORKER_MARK = "const SITE = null;"
_COMPRESSED = (".css", ".html", ".js", ".json", ".mjs", ".svg", ".txt", ".wasm", ".webmanifest")
_META_CANNOT = "frame-ancestors"  # a policy inside the page may not say it; the headers do


@dataclass(frozen=True)
class Site:
    """What was written.

    Attributes
    ----------
    folder
        Static files for any web server that speaks https.
    artifacts, default
        Artifacts that the page offers, and the one that answers until another is chosen.
    default_because
        Whose choice ``default`` is.
    bytes
        Of all files that a phone can ask for, uncompressed.
    wire_bytes
        What a first visit that takes ``default`` transfers, where the server sends the compressed twins.
    """

    folder: Path
    artifacts: tuple[str, ...]
    default: str
    default_because: str
    bytes: int
    wire_bytes: int


def write_site(
    bundle: Bundle,
    out: Path,
    artifacts: Sequence[str] = (),
    default: str | None = None,
    on_step: Callable[[str], None] = lambda _what: None,
) -> Site:
    """Write the phone's page of a bundle.

    Parameters
    ----------
    out
        A new or empty folder, or a site to replace; swapped in at the end.
    artifacts
        ONNX artifacts to offer; all of the bundle's by default.
    default
        The one that answers first; else what the bundle recommends for a browser. Where it names none that the page
        offers, its recommendation for the CPU, then the first at fp32, and ``Site.default_because`` says so.
    on_step
        Progress.

    Raises
    ------
    UsageError
        An artifact that is not there or not ONNX.
    BundleError
        A file of the bundle was changed; no ONNX artifact; golden vectors that show people.
    EdgeRuntimeError
        The npm packages are not installed, or ``out`` is something else.
    """
    manifest = bundle.manifest
    offered = _choose(manifest, artifacts)
    first, because = _choose_default(manifest, offered, default)
    if not manifest.golden.synthetic:
        raise BundleError(
            "the bundle's golden vectors are radiographs of people, and a page hands out its files to everybody",
            expected="synthetic golden inputs",
            remedy="build the bundle without --golden-real",
        )
    _check_packages()
    _check_out(out)
    part = out.with_name(f".{out.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        on_step("copying the page")
        shutil.copytree(PAGE, part)
        for name in CLINIC_FILES:
            _copy(CLINIC / name, part / "clinic" / name)
        for target, source in VENDORED.items():
            _copy(PACKAGES / source, part / target)
        _write_licences(part / "licences")
        on_step("checking and copying the model")
        wanted = [entry for name in offered for entry in _artifact_files(manifest, name)]
        for entry in (*wanted, manifest.golden.vectors, *manifest.golden.inputs):
            _copy(bundle.path(entry), part / "model" / entry.path)
        (part / "model" / MANIFEST_NAME).write_bytes(encode_manifest(manifest))
        on_step("hashing and compressing")
        files = _write_lists(part, offered, first)
        for path in sorted(part.rglob("*")):
            if path.suffix in _COMPRESSED:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
        _swap(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    skipped = {f"model/{e.path}" for name in offered if name != first for e in _artifact_files(manifest, name)}
    fetched = [f["path"] for f in files if f["path"] not in skipped and not f["path"].startswith("licences/")]
    return Site(
        folder=out,
        artifacts=tuple(offered),
        default=first,
        default_because=because,
        bytes=sum(f["bytes"] for f in files) + (out / WORKER).stat().st_size,
        wire_bytes=sum(_wire_size(out / path) for path in [*fetched, WORKER]),
    )


def _choose(manifest: Manifest, asked: Sequence[str]) -> list[str]:
    there = [a.name for a in manifest.artifacts if a.format == "onnx"]
    if not there:
        raise BundleError(
            f"bundle {manifest.name} has no ONNX artifact, and a browser runs no other",
            got=", ".join(a.name for a in manifest.artifacts),
            expected="onnx-fp32 or onnx-int8",
            remedy="build the bundle with --formats onnx,...",
        )
    for name in asked:
        if name not in there:
            raise UsageError(f"a browser cannot run artifact {name} of this bundle", expected=", ".join(there))
    return [name for name in there if not asked or name in asked]


def _choose_default(manifest: Manifest, offered: Sequence[str], asked: str | None) -> tuple[str, str]:
    """Return the artifact that answers first, and whose choice it is."""
    if asked is not None:
        if asked not in offered:
            raise UsageError(f"artifact {asked} is not among those that the page offers", expected=", ".join(offered))
        return asked, "as asked for"
    for_browser, for_cpu = (manifest.recommended.get(device) for device in ("browser", "cpu"))
    if for_browser in offered:
        return for_browser, "recommended for a browser"
    missing = f"{for_browser}, recommended for a browser, is not offered" if for_browser else "none is for a browser"
    if for_cpu in offered:
        return for_cpu, f"recommended for a computer; {missing}"
    first = next((name for name in offered if name.endswith("-fp32")), offered[0])
    return first, f"the first that the page offers, fp32 before others; {missing}"


def _artifact_files(manifest: Manifest, name: str) -> tuple[FileEntry, ...]:
    artifact = manifest.artifact(name)
    assert artifact is not None
    return artifact.files


def _check_packages() -> None:
    missing = [source for source in VENDORED.values() if not (PACKAGES / source).is_file()]
    if missing:
        raise EdgeRuntimeError(
            "the page's npm packages are not installed",
            got=f"no {missing[0]} in {PACKAGES}",
            remedy=f"npm ci --ignore-scripts --prefix {HERE}",
        )


def _check_out(out: Path) -> None:
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        return
    if out.is_dir() and (not any(out.iterdir()) or (out / "site.json").is_file()):
        return
    raise EdgeRuntimeError(
        f"{out} is not a phone page and will not be overwritten",
        expected="a new path, an empty folder, or a page to replace",
        remedy="choose another OUT",
    )


def _write_licences(folder: Path) -> None:
    """Keep the licences of what is shipped. ONNX Runtime's npm package holds none: its wheel has the same."""
    spec = find_spec("onnxruntime")
    assert spec is not None and spec.submodule_search_locations
    wheel = Path(spec.submodule_search_locations[0])
    texts = {
        "onnxruntime-web (MIT)": ("onnxruntime.txt", wheel / "LICENSE"),
        "what onnxruntime-web is made of": ("onnxruntime-third-party.txt", wheel / "ThirdPartyNotices.txt"),
        "dicom-parser (MIT)": ("dicom-parser.txt", PACKAGES / "dicom-parser" / "LICENSE"),
        "this page (Apache-2.0)": ("page.txt", LICENCE),
    }
    lines = []
    for words, (name, source) in texts.items():
        _copy(source, folder / name)
        lines.append(f'<li><a href="{name}">{html.escape(words)}</a></li>')
    (folder / "index.html").write_text(
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        '<title>Licences</title><link rel="stylesheet" href="../clinic/page.css">'
        f'<main><h1>Licences</h1><ul>{"".join(lines)}</ul><p><a href="../">Back to the reader</a></p></main></html>\n',
        encoding="utf-8",
    )


def _write_lists(part: Path, offered: Sequence[str], first: str) -> list[dict[str, Any]]:
    """Fill in what the page and its service worker must know: every file with its hash, and the policy."""
    policy = HEADERS["Content-Security-Policy"].split("; ")
    in_page = "; ".join(rule for rule in policy if not rule.startswith(_META_CANNOT))
    index = part / "index.html"
    index.write_text(index.read_text("utf-8").replace("@CSP@", in_page), encoding="utf-8")
    site = {
        "schema_version": 1,
        "artifacts": list(offered),
        "default": first,
        "runtime": _describe(part, RUNTIME),
        "palette": PALETTE,
    }
    (part / "site.json").write_text(json.dumps(site) + "\n", encoding="utf-8")
    worker = part / WORKER
    names = sorted(p.relative_to(part).as_posix() for p in part.rglob("*") if p.is_file() and p != worker)
    files = [
        {
            **_describe(part, name),
            "type": MEDIA_TYPES[Path(name).suffix],
            # the page itself fetches what is large, to show how far it is
            "shell": not name.startswith(("model/golden/", "model/artifacts/", "licences/")) and name != RUNTIME,
        }
        for name in names
    ]
    text = worker.read_text("utf-8")
    assert _WORKER_MARK in text
    told = json.dumps({"files": files, "headers": HEADERS})
    worker.write_text(text.replace(_WORKER_MARK, f"const SITE = {told};"), encoding="utf-8")
    return files


def _describe(part: Path, name: str) -> dict[str, Any]:
    content = (part / name).read_bytes()
    return {"path": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _swap(part: Path, out: Path) -> None:
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    try:
        part.rename(out)
    except OSError:
        with suppress(OSError):
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _wire_size(path: Path) -> int:
    packed = path.with_name(f"{path.name}.gz")
    return (packed if packed.is_file() else path).stat().st_size
