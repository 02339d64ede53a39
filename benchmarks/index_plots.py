"""Pictures of what `benchmarks.indexes` measured: cost against the number of keys, a line for each kind."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from benchmarks.indexes import Case

COLUMNS = 2


def draw(cases: list[Case], measures: dict[str, str], directory: Path) -> Path:
    """One picture for the cases of one size of keys; ModuleNotFoundError without matplotlib (extra `bench`)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "flash-kv"
    rows = -(-len(measures) // COLUMNS)
    figure, axes = pyplot.subplots(rows, COLUMNS, figsize=(9, 2.8 * rows), layout="constrained")
    for place, (measure, title) in enumerate(measures.items()):
        _draw_one(axes.flat[place], cases, measure, title)
    for axis in list(axes.flat)[len(measures) :]:
        axis.set_axis_off()
    axes.flat[0].legend(frameon=False)
    key_bytes = cases[0].key_bytes
    figure.suptitle(f"keys of {key_bytes} B: median, bars from lowest to highest")
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / f"indexes-{key_bytes}.svg"
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def _draw_one(axis: Any, cases: list[Case], measure: str, title: str) -> None:
    for kind in cases[0].samples[measure]:
        figures = [case.figure(measure, kind) for case in cases]
        found = [(case.keys, figure) for case, figure in zip(cases, figures, strict=True) if figure]
        medians = [figure.median for _, figure in found]
        spread = [
            [figure.median - figure.lowest for _, figure in found],
            [figure.highest - figure.median for _, figure in found],
        ]
        axis.errorbar([keys for keys, _ in found], medians, yerr=spread, marker="o", capsize=3, label=kind)
    axis.set_xscale("log")
    if measure in ("open", "switch"):
        axis.set_yscale("log")
    else:
        axis.set_ylim(bottom=0)
    axis.set_title(title, fontsize=10)
    axis.set_xlabel("keys", fontsize=8)
    axis.grid(alpha=0.3)
