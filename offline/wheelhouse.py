"""Collect the wheels that a device without a network needs, for each kind of machine, with their hashes.

    python offline/wheelhouse.py [--out wheelhouse] [--machine x86_64 --machine aarch64] [--extra node --extra openvino]

The extras ``node`` (DICOM network) and ``openvino`` come along unless others are named; ``--base`` leaves all out. For
each machine: a folder of wheels and ``requirements-<machine>.txt``, which pins every one by version and SHA-256 and is
what ``install.sh`` installs from. Needs a network, pip and the package ``build``; installs nothing here.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
# what a wheel may be built for, the oldest glibc first, which runs on most: pip takes the first that there is. Ubuntu
# 22.04 and JetPack 6 have 2.35, Debian 12 has 2.36
GLIBC = tuple(f"manylinux{suffix}" for suffix in ("2014", "_2_17", "_2_27", "_2_28", "_2_31", "_2_34", "_2_35"))
PLATFORMS = {
    **{machine: tuple(f"{glibc}_{machine}" for glibc in GLIBC) for machine in ("x86_64", "aarch64")},
    "windows": ("win_amd64",),
}
EXTRAS = ("node", "openvino")
COPIED = (
    *("install.sh", "install.ps1", "README.md"),
    *(f"edge-runtime-{name}.service" for name in ("watch", "receive", "serve")),
)


def main() -> int:
    """Collect them; whole or not at all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("wheelhouse"))
    parser.add_argument("--machine", action="append", choices=sorted(PLATFORMS), help="repeat it; else x86_64, aarch64")
    parser.add_argument("--extra", action="append", help=f"repeat it; else {', '.join(EXTRAS)}")
    parser.add_argument("--base", action="store_true", help="no extras")
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    options = parser.parse_args()
    extras = [] if options.base else options.extra or list(EXTRAS)
    machines = options.machine or ["x86_64", "aarch64"]
    out = options.out
    temporary = out.with_name(f".{out.name}.part")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        ours = build_ours(temporary)
        for machine in machines:
            print(f"== {machine}, Python {options.python}", flush=True)
            wheels = temporary / machine
            download(ours, wheels, PLATFORMS[machine], options.python, extras)
            write_requirements(wheels, temporary / f"requirements-{machine}.txt")
        ours.unlink()
        for name in COPIED:
            shutil.copy(HERE / name, temporary)
        (temporary / "PYTHON").write_text(options.python + "\n")
        if out.exists():
            shutil.rmtree(out)
        temporary.rename(out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    print(f"{out}: {size / 1e6:.0f} MB for {', '.join(machines)}, with {', '.join(extras) or 'no extras'}")
    return 0


def build_ours(folder: Path) -> Path:
    """Build our own wheel and return its path."""
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(HERE.parent)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    [wheel] = folder.glob("*.whl")
    return wheel


def download(ours: Path, wheels: Path, platforms: tuple[str, ...], python: str, extras: list[str]) -> None:
    """Download what our wheel needs, as wheels alone: the device has no compiler."""
    named = f"{ours}[{','.join(extras)}]" if extras else str(ours)
    command = [
        *(sys.executable, "-m", "pip", "download", "--quiet", "--only-binary", ":all:", "--dest", str(wheels)),
        *("--python-version", python, "--implementation", "cp", "--constraint", str(HERE.parent / "constraints.txt")),
    ]
    for platform in platforms:
        command += ["--platform", platform]
    subprocess.run([*command, named], check=True)


def write_requirements(wheels: Path, out: Path) -> None:
    """Pin every wheel of a folder by version and SHA-256."""
    lines = []
    for wheel in sorted(wheels.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
        lines.append(f"{name}=={version} --hash=sha256:{digest}\n")
    out.write_text("".join(lines))


if __name__ == "__main__":
    sys.exit(main())
