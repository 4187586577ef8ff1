"""Thousands of damaged copies of real files: each must give an image or a refusal, in bounded time and memory.

    CXR_DATA=... python benchmarks/damaged_files.py [--copies 70] [--largest 300000] [--seed 5] [FOLDER...]

The originals are the `*.dcm` below the folders named, else the DICOM zoo that CXR_DATA holds and the test files of
pydicom's own wheel, none above --largest bytes. A copy has its end cut off, or 1 to 11 bytes changed, half of them
in its first 2,000 bytes. So that the decoders see them and not the header rules alone, an original that can be parsed
poses as a chest radiograph first, and frame 1 of several is asked for. They are read in a decoding process as the
commands run it, with 10 s and 512 MB a file. Exit code 1 where one is neither an image nor a refusal: a crash, a hang,
an error; the copy is then kept in the current folder. How many of the originals themselves were read is printed too.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
import tempfile
import time
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import DigitalXRayImageStorageForPresentation

from edge_runtime.decoding import DecodingPool
from edge_runtime.errors import EdgeRuntimeError, Refusal


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, nargs="*")
    parser.add_argument("--copies", type=int, default=70, help="of each file")
    parser.add_argument("--largest", type=int, default=300_000, help="bytes of an original")
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--json", type=Path, dest="json_path")
    options = parser.parse_args()
    files = originals(options.folder, options.largest)
    if not files:
        parser.error("no files: name folders, or set CXR_DATA")
    rng = np.random.default_rng(options.seed)
    outcomes: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    failures, slowest, peak = [], 0.0, 0
    with tempfile.TemporaryDirectory() as scratch, DecodingPool(1, seconds=10, memory_bytes=512 * 2**20) as pool:
        path = Path(scratch) / "copy.dcm"
        for number, original in enumerate(files):
            path.write_bytes(original.read_bytes())
            whole[outcome_of(pool, path, None)] += 1
            content, frame = posing(original)
            for _ in range(options.copies):
                path.write_bytes(damaged(content, rng))
                start = time.perf_counter()
                outcome = outcome_of(pool, path, frame)
                slowest = max(slowest, time.perf_counter() - start)
                outcomes[outcome] += 1
                peak = max(peak, worker_peak(pool))
                if outcome.startswith("error"):
                    kept = Path(f"damaged-{len(failures)}-{original.name}")
                    kept.write_bytes(path.read_bytes())
                    failures.append({"file": str(kept), "outcome": outcome})
            print(f"\r{number + 1}/{len(files)}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    facts = {
        "originals": len(files), "originals_by_outcome": dict(whole), "copies": outcomes.total(),
        "copies_by_outcome": dict(outcomes.most_common()), "slowest_seconds": round(slowest, 3),
        "decoder_peak_mib": round(peak / 2**20), "seed": options.seed, "failures": failures,
    }  # fmt: skip
    print(json.dumps(facts, indent=2))
    if options.json_path is not None:
        options.json_path.write_text(json.dumps(facts, indent=2) + "\n")
    return 1 if failures else 0


def originals(folders: list[Path], largest: int) -> list[Path]:
    if not folders:
        folders = [Path(pydicom.__file__).parent / "data/test_files"]
        if "CXR_DATA" in os.environ:
            folders.append(Path(os.environ["CXR_DATA"]) / "dicom_zoo")
    files = [path for folder in folders for path in sorted(folder.rglob("*.dcm"))]
    return [path for path in files if path.is_file() and path.stat().st_size <= largest]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    values = np.frombuffer(content, np.uint8).copy()
    if rng.random() < 0.2:
        return values[: rng.integers(0, len(values))].tobytes()
    end = len(values) if rng.random() < 0.5 else min(len(values), 2000)
    at = rng.integers(0, end, size=rng.integers(1, 12))
    values[at] = rng.integers(0, 256, size=at.size)
    return values.tobytes()


def posing(path: Path) -> tuple[bytes, int | None]:
    """A file whose header says that it is a frontal chest radiograph, and the frame to ask for."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            film = pydicom.dcmread(path)
            film.SOPClassUID = film.file_meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
            film.Modality, film.BodyPartExamined, film.ViewPosition = "DX", "CHEST", "PA"
            for keyword in ("AnatomicRegionSequence", "ViewCodeSequence", "PatientOrientation"):
                if keyword in film:
                    del film[keyword]
            frame = 1 if int(film.get("NumberOfFrames") or 1) > 1 else None
            out = io.BytesIO()
            film.save_as(out)
            return out.getvalue(), frame
        except Exception:  # some of the originals are damaged already
            return path.read_bytes(), None


def outcome_of(pool: DecodingPool, path: Path, frame: int | None) -> str:
    try:
        pool.read(path, frame=frame)
    except Refusal as refusal:
        return f"refused: {refusal.reason.value}"
    except EdgeRuntimeError as error:
        return f"error: {error}"
    return "an image"


def worker_peak(pool: DecodingPool) -> int:
    """Peak resident bytes of the decoding process (Linux)."""
    worker = pool._free.queue[-1]
    with suppress(OSError):
        for line in Path(f"/proc/{worker._process.pid}/status").read_text().splitlines() if worker else ():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    sys.exit(main())
