"""Do a hundred bad files slow the good ones down? A folder of radiographs with and without them, in turns, one run.

    python benchmarks/bad_files.py [--bundle models/covidx-b1/bundle] [--good 1000] [--bad 100] [--rounds 3]

The bad ones are of seventeen kinds (`KINDS`): empty, text, cut, damaged, wrong objects, bombs of three formats, headers
of a hundred thousand elements. What they cost is the difference of the two wall times; exit code 1 where the median of
the rounds' ratios is above 1.1, or where a bad file was answered, or ended in `error`, or a good one was not
answered. With --kinds each kind's time in the reader alone is printed, and nothing else is run.
"""

from __future__ import annotations

import argparse
import io
import json
import platform
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from folder_throughput import write_film
from PIL import Image
from pydicom import dcmread
from pydicom.encaps import encapsulate
from pydicom.uid import CTImageStorage, DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit

from edge_runtime.batch import usable_cores
from edge_runtime.errors import EdgeRuntimeError
from edge_runtime.reading import read_radiograph

LIMIT = 1.1


def _film(seed: int) -> bytes:
    with tempfile.TemporaryDirectory() as scratch:
        write_film(Path(scratch) / "film.dcm", 512, seed)
        return (Path(scratch) / "film.dcm").read_bytes()


def _changed(seed: int, **elements: object) -> bytes:
    film = dcmread(io.BytesIO(_film(seed)))
    for keyword, value in elements.items():
        if keyword == "TransferSyntaxUID":
            film.file_meta.TransferSyntaxUID = value
        else:
            setattr(film, keyword, value)
    out = io.BytesIO()
    film.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _picture(values: np.ndarray, kind: str) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values).save(out, format=kind)
    return out.getvalue()


def _noise(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def _stream(seed: int, syntax: str) -> bytes:
    return _changed(
        seed, TransferSyntaxUID=syntax, BitsAllocated=8, BitsStored=8, HighBit=7,
        PixelData=encapsulate([_noise(seed, 20_000).tobytes()]),
    )  # fmt: skip


def _deflate_bomb(seed: int) -> bytes:
    film = _film(seed)
    at = film.index(b"\x08\x00\x16\x00UI")
    meta = _changed(seed, TransferSyntaxUID=DeflatedExplicitVRLittleEndian)
    meta = meta[: 132 + 12 + int.from_bytes(meta[140:144], "little")]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = film[at:].partition(b"\xe0\x7f\x10\x00")[0] + b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", 600 << 20)
    packed = packer.compress(head)
    for _ in range(600):
        packed += packer.compress(bytes(1 << 20))
    return meta + packed + packer.flush()


def _many_elements(seed: int) -> bytes:
    film = _film(seed)
    at = film.index(b"\xe0\x7f\x10\x00")
    more = b"".join(struct.pack("<HH2sH", 0x7001, number, b"LO", 0) for number in range(50_000))
    more += b"".join(struct.pack("<HH2sH", 0x7003, number, b"LO", 0) for number in range(50_000))
    return film[:at] + more + film[at:]


def _png_bomb(seed: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000 + seed, 60_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9)))


def _damaged(seed: int) -> bytes:
    film = bytearray(_film(seed))
    film[200:900] = _noise(seed, 700).tobytes()
    return bytes(film)


KINDS: dict[str, tuple[str, Callable[[int], bytes]]] = {
    "empty": ("dcm", lambda _: b""),
    "text": ("dcm", lambda seed: f"no radiograph {seed}\n".encode() * 50),
    "zeros": ("dcm", lambda seed: bytes(100_000 + seed)),
    "zip": ("dcm", lambda seed: b"PK\x03\x04" + _noise(seed, 50_000).tobytes()),
    "cut": ("dcm", lambda seed: _film(seed)[:200_000]),
    "damaged header": ("dcm", _damaged),
    "CT slice": ("dcm", lambda seed: _changed(seed, Modality="CT", SOPClassUID=CTImageStorage)),
    "lateral view": ("dcm", lambda seed: _changed(seed, ViewPosition="LL")),
    "two frames": ("dcm", lambda seed: _changed(seed, NumberOfFrames=2)),
    "65535 x 65535": ("dcm", lambda seed: _changed(seed, Rows=65535, Columns=65535)),
    "JPEG 2000 of noise": ("dcm", lambda seed: _stream(seed, JPEG2000Lossless)),
    "JPEG of noise": ("dcm", lambda seed: _stream(seed, JPEGBaseline8Bit)),
    "deflate bomb": ("dcm", _deflate_bomb),
    "100,000 elements": ("dcm", _many_elements),
    "PNG bomb": ("png", _png_bomb),
    "cut JPEG": ("jpg", lambda seed: _picture(_noise(seed, 700, 700), "JPEG")[:90_000]),
    "colour photograph": ("png", lambda seed: _picture(_noise(seed, 400, 400, 3), "PNG")),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--bundle", type=Path, default=Path(__file__).parents[1] / "models/covidx-b1/bundle")
    parser.add_argument("--good", type=int, default=1000)
    parser.add_argument("--bad", type=int, default=100)
    parser.add_argument("--size", type=int, default=1024, help="edge of the radiographs, 16 bits a pixel")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=usable_cores())
    parser.add_argument("--kinds", action="store_true")
    parser.add_argument("--json", type=Path, dest="json_path")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        if options.kinds:
            return show_kinds(Path(scratch))
        good, mixed = Path(scratch) / "good", Path(scratch) / "mixed"
        write_folders(good, mixed, options)
        rounds = []
        for number in range(options.rounds):
            first, second = (good, mixed) if number % 2 == 0 else (mixed, good)
            seconds = {folder.name: answer(folder, options) for folder in (first, second)}
            rounds.append({**seconds, "ratio": seconds["mixed"] / seconds["good"]})
            print(json.dumps(rounds[-1]), flush=True)
    ratio = median(r["ratio"] for r in rounds)
    within = ratio <= LIMIT
    print(f"{options.good} good files, {options.bad} bad ones beside them: x{ratio:.3f} of the time without, ", end="")
    print(f"limit x{LIMIT}: {'within' if within else 'exceeded'}")
    if options.json_path is not None:
        facts = {
            "good": options.good, "bad": options.bad, "size": options.size, "jobs": options.jobs, "rounds": rounds,
            "median_ratio": ratio, "limit": LIMIT, "machine": platform.machine(), "cores": usable_cores(),
        }  # fmt: skip
        options.json_path.write_text(json.dumps(facts, indent=2) + "\n")
    return 0 if within else 1


def write_folders(good: Path, mixed: Path, options: argparse.Namespace) -> None:
    """The same radiographs in both; in the second the bad files are spread over the first's order."""
    for folder in (good, mixed):
        folder.mkdir()
    for number in range(options.good):
        write_film(good / f"{number:05}.dcm", options.size, number)
        (mixed / f"{number:05}.dcm").hardlink_to(good / f"{number:05}.dcm")
    for number in range(options.bad):
        suffix, make = list(KINDS.values())[number % len(KINDS)]
        place = number * options.good // options.bad
        (mixed / f"{place:05}-bad-{number:03}.{suffix}").write_bytes(make(number))


def answer(folder: Path, options: argparse.Namespace) -> float:
    """Wall seconds of the command; checks that every good file was reached and every bad one refused."""
    command = [sys.executable, "-m", "edge_runtime", "predict", str(options.bundle), str(folder), "--json"]
    start = time.perf_counter()
    done = subprocess.run([*command, "--jobs", str(options.jobs)], stdout=subprocess.PIPE, check=False)
    wall = time.perf_counter() - start
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    bad = [a for a in answers if "-bad-" in a["file"]]
    wrong = [a for a in bad if a["status"] != "refused" or a["gate_score"] is not None]
    # a synthetic film may be refused by the gate, after the model has run: that is all that is timed
    wrong += [a for a in answers if a not in bad and a["gate_score"] is None and a["status"] != "ok"]
    if done.returncode or wrong or len(answers) - len(bad) != options.good:
        raise SystemExit(f"exit code {done.returncode}, {len(answers)} answers, not as they should be: {wrong[:3]}")
    return wall


def show_kinds(scratch: Path) -> int:
    for name, (suffix, make) in KINDS.items():
        path = scratch / f"file.{suffix}"
        times = []
        for seed in range(4):
            path.write_bytes(make(seed))
            start = time.perf_counter()
            try:
                read_radiograph(path)
                word = "READ"
            except EdgeRuntimeError as error:
                word = f"{getattr(error, 'reason', type(error).__name__)}: {error.what}"
            times.append(time.perf_counter() - start)
        print(f"{name:20}{1000 * median(times[1:]):9.1f} ms  {word}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
