"""The chart of a benchmark: latencies of every artifact, and throughput by threads."""

from __future__ import annotations

import os
from pathlib import Path

from export.bench import EAGER, BenchReport

__all__ = ["draw_bench"]


def draw_bench(report: BenchReport, path: Path) -> None:
    """Draw to ``path``, .svg or .png: left p50 with a line to p95 at the most threads, right throughput by threads."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in report.rows if row.error is None]
    most = max(row.threads for row in rows)
    ranked = sorted((row for row in rows if row.threads == most), key=lambda row: row.p50_ms or 0.0)
    counts = sorted({row.threads for row in rows})
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 0.42 * len(ranked) + 1.9), width_ratios=(3, 2))
    p50 = [row.p50_ms or 0.0 for row in ranked]
    tails = [(row.p95_ms or 0.0) - (row.p50_ms or 0.0) for row in ranked]
    colours = ["#b3541e" if row.name == EAGER else "#2f6690" for row in ranked]
    left.barh(range(len(ranked)), p50, xerr=[[0.0] * len(ranked), tails], color=colours, ecolor="#5b6876")
    left.set_yticks(range(len(ranked)), [f"{row.name}\n{row.size_bytes / 1e6:.1f} MB" for row in ranked], fontsize=8)
    left.invert_yaxis()
    left.set_xlabel(f"ms a radiograph, p50 and p95, {most} thread{'s' if most > 1 else ''}")
    for row in ranked:
        points = [next(r.throughput for r in rows if r.name == row.name and r.threads == n) for n in counts]
        right.plot(counts, points, marker="o", label=row.name, linestyle="--" if row.name == EAGER else "-")
    right.set_xticks(counts)
    right.set_ylim(bottom=0)
    right.set_xlabel("threads")
    right.set_ylabel("radiographs a second")
    right.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    height, width = report.image
    figure.suptitle(f"{report.bundle}: one {height} x {width} radiograph at a time", fontsize=11)
    figure.tight_layout()
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        figure.savefig(temporary, dpi=150)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
        plt.close(figure)
