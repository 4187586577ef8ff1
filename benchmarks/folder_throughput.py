"""A folder of DICOM files: `edge-runtime predict` against what the cores could do at best, in turns.

    python benchmarks/folder_throughput.py [--bundle models/covidx-b1/bundle] [--files 1000] [--size 1024] [--rounds 3]

The best case is worked out from the same machine in the same minutes: `files x (decode + inference) / cores`, where
decode is our reader and inference the bare backend, each on one thread. Efficiency is that time over the command's own,
start included. Memory is that of the command with its decoders, pages that they share counted once (PSS; Linux),
sampled; it is flat where the last quarter's peak is at most 5 % and 8 MB above the second quarter's. Exit code 1 where
the command fails, the median efficiency is below 0.9, or memory grows.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

from edge_runtime.batch import usable_cores
from edge_runtime.bundle import open_bundle
from edge_runtime.predictor import Predictor
from edge_runtime.reading import read_radiograph

LEAST = 0.9
BUNDLE = Path(__file__).parents[1] / "models/covidx-b1/bundle"
PHANTOM = BUNDLE / "golden/0009.png"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=BUNDLE)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--size", type=int, default=1024, help="edge of the radiographs, 16 bits a pixel")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--artifact")
    parser.add_argument("--jobs", type=int, default=usable_cores())
    parser.add_argument("--json", type=Path, dest="json_path")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "films"
        folder.mkdir()
        for number in range(options.files):
            write_film(folder / f"{number:05}.dcm", options.size, number)
        rounds = []
        for number in range(options.rounds):
            decode, inference = single_rates(options.bundle, options.artifact, folder)
            wall, memory = run_command(options, folder, Path(scratch) / f"{number}.csv")
            ideal = options.files * (decode + inference) / usable_cores()
            quarter = max(1, len(memory) // 4)
            middle, late = max(memory[quarter : 2 * quarter], default=0), max(memory[-quarter:], default=0)
            rounds.append(
                {
                    "decode_ms": decode * 1000,
                    "inference_ms": inference * 1000,
                    "ideal_seconds": ideal,
                    "seconds": wall,
                    "efficiency": ideal / wall,
                    "peak_mb_second_quarter": middle / 1e6,
                    "peak_mb_last_quarter": late / 1e6,
                    "memory_is_flat": 0 < late <= 1.05 * middle + 8e6,
                }
            )
            print(json.dumps(rounds[-1]), flush=True)
    efficiency = median(r["efficiency"] for r in rounds)
    flat = all(r["memory_is_flat"] for r in rounds)
    within = efficiency >= LEAST and flat
    print(
        f"{options.files} files, {usable_cores()} cores, {options.jobs} jobs: median efficiency {efficiency:.2f}",
        end="",
    )
    print(f" (at least {LEAST}), memory {'flat' if flat else 'GROWS'}: {'within' if within else 'missed'}")
    if options.json_path is not None:
        facts = {
            "files": options.files, "size": options.size, "jobs": options.jobs, "cores": usable_cores(),
            "machine": platform.machine(), "rounds": rounds, "median_efficiency": efficiency, "least": LEAST,
        }  # fmt: skip
        options.json_path.write_text(json.dumps(facts, indent=2) + "\n")
    return 0 if within else 1


def write_film(path: Path, size: int, seed: int) -> None:
    """A synthetic radiograph of the repository's bundle, 12 of 16 bits, with noise: a gate lets it through."""
    with Image.open(PHANTOM) as phantom:
        grey = np.asarray(phantom.resize((size, size), Image.Resampling.BICUBIC), np.uint16)
    pixels = grey * 16 + np.random.default_rng(seed % 16).integers(0, 16, grey.shape, np.uint16)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    film = Dataset()
    film.file_meta = meta
    film.SOPClassUID = meta.MediaStorageSOPClassUID
    film.SOPInstanceUID = meta.MediaStorageSOPInstanceUID = generate_uid()
    film.Modality, film.ViewPosition, film.BodyPartExamined = "DX", "PA", "CHEST"
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, 12, 11, 0
    film.WindowCenter, film.WindowWidth = 2048, 4096
    film.PixelData = pixels.tobytes()
    film.save_as(path, enforce_file_format=True)


def single_rates(bundle_path: Path, artifact: str | None, folder: Path) -> tuple[float, float]:
    """Median seconds to decode a file and to run the backend on it, one thread each."""
    files = sorted(folder.iterdir())[:24]
    with open_bundle(bundle_path) as bundle, Predictor.open(bundle, artifact, threads=1) as predictor:
        decode, inference = [], []
        for path in files:
            start = time.perf_counter()
            pixels = read_radiograph(path).pixels
            middle = time.perf_counter()
            predictor.run_raw(pixels)
            decode.append(middle - start)
            inference.append(time.perf_counter() - middle)
    return median(decode[4:]), median(inference[4:])


def run_command(options: argparse.Namespace, folder: Path, out: Path) -> tuple[float, list[int]]:
    """Wall seconds of the command, and its resident bytes over time."""
    command = [sys.executable, "-m", "edge_runtime", "predict", str(options.bundle), str(folder), "--csv", str(out)]
    command += ["--json", "--jobs", str(options.jobs)]
    command += ["--artifact", options.artifact] if options.artifact else []
    memory: list[int] = []
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    watched = psutil.Process(process.pid)

    def sample() -> None:
        while process.poll() is None:
            with suppress(psutil.Error):
                memory.append(sum(share(p) for p in [watched, *watched.children(recursive=True)]))
            time.sleep(0.25)

    sampler = threading.Thread(target=sample)
    sampler.start()
    process.wait()
    wall = time.perf_counter() - start
    sampler.join()
    with out.open() as rows:
        answered = sum(1 for _ in rows) - 1
    if process.returncode or answered != options.files:
        raise SystemExit(f"exit code {process.returncode}, {answered} of {options.files} files: {' '.join(command)}")
    return wall, memory


def share(process: psutil.Process) -> int:
    """Bytes of a process, shared pages by their share; the resident set where the system does not tell."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return int(process.memory_info().rss)
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


if __name__ == "__main__":
    sys.exit(main())
