"""One artifact in a process of its own: it opens it, and times it when it is told to.

Started by :mod:`export.bench`. One JSON object a line goes each way: first it says how long opening took, then it
answers ``{"runs": N}`` with N latencies and its memory.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["main"]

_WARM_UP = 3


def main() -> None:
    """Serve the parent until its pipe closes."""
    what = json.loads(sys.argv[1])
    start = perf_counter()
    run, versions = _open_eager(what) if what["artifact"] is None else _open_artifact(what)
    image = np.random.default_rng(0).integers(0, 256, (what["height"], what["width"]), dtype=np.uint8)
    loaded = (perf_counter() - start) * 1000
    start = perf_counter()
    run(image)
    first = (perf_counter() - start) * 1000
    for _ in range(_WARM_UP):
        run(image)
    _say({"load_ms": loaded, "first_ms": first, "versions": versions, "peak_bytes": _peak_bytes()})
    for line in sys.stdin:
        times = []
        for _ in range(json.loads(line)["runs"]):
            start = perf_counter()
            run(image)
            times.append((perf_counter() - start) * 1000)
        _say({"times_ms": times, "peak_bytes": _peak_bytes()})


def _open_artifact(what: dict[str, Any]) -> tuple[Callable[[NDArray[np.uint8]], Any], dict[str, str]]:
    from edge_runtime.bundle import open_bundle
    from edge_runtime.predictor import Predictor

    bundle = open_bundle(what["bundle"])
    predictor = Predictor.open(bundle, what["artifact"], what["backend"], threads=what["threads"])
    return predictor.run_raw, predictor.versions


def _open_eager(what: dict[str, Any]) -> tuple[Callable[[NDArray[np.uint8]], Any], dict[str, str]]:
    import torch

    from export.graph import deployable_graph
    from train.run import load_run

    torch.set_num_threads(what["threads"])
    graph = deployable_graph(load_run(what["run"], what["adapter"]))

    def run(image: NDArray[np.uint8]) -> Any:
        with torch.inference_mode():
            return graph(torch.from_numpy(image)[None, None])

    return run, {"torch": str(torch.__version__)}


def _peak_bytes() -> int | None:
    """Most memory that the process has held, in bytes; None where the system does not say.

    Linux's ``ru_maxrss`` begins with the size of the process that started this one, so its ``VmHWM`` is read instead.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        lines = [line.split() for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        if lines:
            return int(lines[0][1]) * 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _say(value: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    from edge_runtime.errors import EdgeRuntimeError

    try:
        main()
    except EdgeRuntimeError as error:
        _say({"error": str(error)})
