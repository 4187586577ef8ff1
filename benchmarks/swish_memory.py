"""Peak memory of training with and without the memory-saving swish, side by side in one run.

Each variant is a fresh process that trains the classifier on random images for a few steps: on a CPU its peak resident
set, on CUDA the peak of torch's allocator. "Training" is the peak less what the process held before its first step.

    python benchmarks/swish_memory.py --size 240 --batch 16
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

VARIANTS = {"pytorchcv": False, "memory-saving": True}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--architecture", default="efficientnet_b1")
    parser.add_argument("--size", type=int, default=240, help="edge of the images in pixels")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument("--precision", choices=["fp32", "bf16", "fp16"], default="fp32", help="autocast to it")
    parser.add_argument("--json", type=Path, dest="json_path")
    parser.add_argument("--variant", choices=list(VARIANTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options)))
        return 0

    results = {}
    for variant in VARIANTS:
        command = [sys.executable, __file__, *sys.argv[1:], "--variant", variant]
        # glibc hands large blocks back at once only below its moving threshold: pin it, so that the peak is the need.
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "1"}
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
        results[variant] = json.loads(answer.stdout.splitlines()[-1])
    plain, saving = (results[variant] for variant in VARIANTS)
    summary = {
        "architecture": options.architecture,
        "size": options.size,
        "batch": options.batch,
        "precision": options.precision,
        "device": plain["device"],
        "machine": platform.machine(),
        "variants": results,
        "saved_of_training": 1 - saving["training_mb"] / plain["training_mb"],
        "saved_of_peak": 1 - saving["peak_mb"] / plain["peak_mb"],
    }
    print(f"{options.architecture}, {options.size} px, batch {options.batch}, {options.precision}, {plain['device']}")
    print("swish           before [MB]   peak [MB]   training [MB]   s/step   loss of the last step")
    for variant, row in results.items():
        print(
            f"{variant:<14} {row['before_mb']:12.0f} {row['peak_mb']:11.0f} {row['training_mb']:15.0f} "
            f"{row['seconds_per_step']:8.2f}   {row['loss']:.5f}"
        )
    print(f"saved: {summary['saved_of_training']:.1%} of training, {summary['saved_of_peak']:.1%} of the peak")
    if options.json_path:
        options.json_path.write_text(json.dumps(summary, indent=1) + "\n")
    return 0


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Train for a few steps in this process; return its memory in MB (10^6 bytes) and the loss of the last step."""
    import contextlib
    import time

    import torch
    from torch.nn.functional import cross_entropy

    from train.memory import read_memory, reset_peak
    from train.model import build_classifier
    from train.processes import choose_device
    from train.swish import memory_saving_swish

    device = choose_device(options.device)
    torch.manual_seed(0)
    model = build_classifier(options.architecture, 3).to(device, memory_format=torch.channels_last).train()
    images = torch.randn(options.batch, 3, options.size, options.size, device=device)
    targets = torch.arange(options.batch, device=device) % 3
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    autocast: Any = contextlib.nullcontext()
    if options.precision != "fp32":
        dtype = torch.bfloat16 if options.precision == "bf16" else torch.float16
        autocast = torch.autocast(device.type, dtype=dtype)
    reset_peak(device)
    before, _ = read_memory(device)
    started = time.perf_counter()
    with memory_saving_swish(model, VARIANTS[options.variant]):
        for _ in range(options.steps):
            optimizer.zero_grad()
            with autocast:
                loss = cross_entropy(model(images).float(), targets)
            loss.backward()
            optimizer.step()
    value = float(loss.detach())
    seconds = (time.perf_counter() - started) / options.steps
    _, peak = read_memory(device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    return {
        "device": name,
        "before_mb": before,
        "peak_mb": peak,
        "training_mb": peak - before,
        "seconds_per_step": seconds,
        "loss": value,
    }


if __name__ == "__main__":
    sys.exit(main())
