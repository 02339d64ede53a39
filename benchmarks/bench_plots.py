"""Pictures of a run of `flash-kv bench`: latencies, cost against keys and sizes, threads, and a map of ratios."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from flash_kv.bench.compaction import READ_AT_REST, READ_DURING
from flash_kv.bench.legend import ORDERED, TIMED, promise_of
from flash_kv.bench.results import LATENCY, US, Results, Row, StoreFacts
from flash_kv.bench.suite import SWEPT
from flash_kv.bench.tables import peer_of

THREADS = "readrandom, {} threads"
PROCESSES = "readrandom, {} processes"
COUNTS = (1, 2, 4, 8, 16)
PROCESS_COUNTS = (1, 2, 4)
LATENCIES = ("readrandom", "overwrite")


def draw_all(results: Results, directory: Path) -> list[tuple[str, Path]]:
    """Title and file of each picture there is something for; ModuleNotFoundError without matplotlib."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    pyplot.rcParams["svg.hashsalt"] = "flash-kv"
    directory.mkdir(parents=True, exist_ok=True)
    pictures: list[tuple[str, str, Callable[[Any, Results], Any]]] = [
        ("latency", "Latency of single calls: the part of them that is slower", _latencies),
        ("keys", "Cost against the number of keys", _keys),
        ("values", "Cost against the size of a value", _values),
        ("threads", "Reads a second against threads", _threads),
        ("processes", "Reads a second against processes", _processes),
        (
            "compaction",
            "A get while another thread compacts: the part of them that is slower",
            _beside_compaction,
        ),
        ("ratios", "How much faster than the best peer", _ratios),
    ]
    drawn = []
    for name, title, draw in pictures:
        figure = draw(pyplot, results)
        if figure is not None:
            path = directory / f"bench-{name}.svg"
            figure.savefig(path, metadata={"Date": None})
            pyplot.close(figure)
            drawn.append((title, path))
    return drawn


def _compared(results: Results) -> list[StoreFacts]:
    return [store for store in results.stores if store.promise != "power"]


def _style(store: StoreFacts) -> dict[str, Any]:
    """Ours thick, peers thin, floors dashed."""
    return {"linewidth": 2.2 if store.is_ours else 1.0, "linestyle": "--" if store.is_floor else "-"}


def _latencies(pyplot: Any, results: Results) -> Any:
    return _tails(pyplot, results, LATENCIES)


def _beside_compaction(pyplot: Any, results: Results) -> Any:
    return _tails(pyplot, results, (READ_AT_REST, READ_DURING))


def _tails(pyplot: Any, results: Results, workloads: tuple[str, str]) -> Any:
    """The part of the calls that is slower, over the time, a plot for each workload."""
    if not any(row.curve and row.workload in workloads for row in results.of_unit(LATENCY)):
        return None
    figure, axes = pyplot.subplots(1, len(workloads), figsize=(10, 4), layout="constrained", sharey=True)
    for axis, workload in zip(axes, workloads, strict=True):
        for store in _compared(results):
            row = results.find(workload, store.name, LATENCY)
            if row is not None and row.curve:
                # The last point is the slowest call of all: nothing is slower.
                points = [(us, 1 - part) for part, us in row.curve if part < 1]
                axis.plot(*zip(*points, strict=True), label=store.name, **_style(store))
        axis.set(xscale="log", yscale="log", xlabel="us", title=workload)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("part of the calls")
    next(axis for axis in reversed(axes) if axis.lines).legend(frameon=False, fontsize=7)
    return figure


def _swept(pyplot: Any, results: Results, size: Callable[[Row], int | None], label: str) -> Any:
    """A plot for each workload that was swept, over what `size` says of a row; None: not part of this sweep."""
    figure, axes = pyplot.subplots(1, len(SWEPT), figsize=(12, 4), layout="constrained")
    is_empty = True
    for axis, workload in zip(axes, SWEPT, strict=True):
        for store in _compared(results):
            rows = [row for row in results.of_unit(US) if (row.workload, row.store) == (workload, store.name)]
            points = sorted((found, row.figure) for row in rows if (found := size(row)) is not None)
            if len(points) > 1:
                is_empty = False
                axis.plot(
                    [found for found, _ in points],
                    [cost.median for _, cost in points],
                    marker=".",
                    label=store.name,
                    **_style(store),
                )
        axis.set(xscale="log", yscale="log", xlabel=label, title=workload)
        axis.grid(alpha=0.3)
    if is_empty:
        pyplot.close(figure)
        return None
    axes[0].set_ylabel("us per operation")
    axes[0].legend(frameon=False, fontsize=7)
    return figure


def _keys(pyplot: Any, results: Results) -> Any:
    usual = results.config["value_bytes"]
    return _swept(pyplot, results, lambda row: row.keys if row.value_bytes == usual else None, "keys")


def _values(pyplot: Any, results: Results) -> Any:
    usual = results.config["value_bytes"]
    main = results.config["keys"]

    def size(row: Row) -> int | None:
        return row.value_bytes if row.value_bytes != usual or row.keys == main else None

    return _swept(pyplot, results, size, "bytes of a value")


def _threads(pyplot: Any, results: Results) -> Any:
    return _rates(pyplot, results, THREADS, COUNTS, "threads")


def _processes(pyplot: Any, results: Results) -> Any:
    return _rates(pyplot, results, PROCESSES, PROCESS_COUNTS, "processes")


def _rates(pyplot: Any, results: Results, workload: str, counts: tuple[int, ...], label: str) -> Any:
    """Reads a second of all together, over how many read."""
    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for store in _compared(results):
        found = [(count, results.us(workload.format(count), store.name)) for count in counts]
        points = [(count, 1e6 / cost.median) for count, cost in found if cost is not None and cost.median]
        if points:
            axis.plot(*zip(*points, strict=True), marker=".", label=store.name, **_style(store))
    if not axis.lines:
        pyplot.close(figure)
        return None
    axis.set(xscale="log", yscale="log", xlabel=label, ylabel="reads a second", xticks=counts)
    axis.set_xticklabels([str(count) for count in counts])
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, fontsize=7)
    return figure


def _ratios(pyplot: Any, results: Results) -> Any:
    """Ours across, workloads down: above 1 ours is faster, and green."""
    ours = [store for store in _compared(results) if store.is_ours]
    rows: list[tuple[str, list[float]]] = []
    for name in TIMED:
        peer = peer_of(results, name)
        if promise_of(name) != "process" or peer is None:
            continue
        ratios = []
        for store in ours:
            figure = results.us(name, store.name)
            is_fair = store.is_ordered or name not in ORDERED
            ratios.append(
                peer[1].median / figure.median if figure and figure.median and is_fair else math.nan
            )
        if any(not math.isnan(one) for one in ratios):
            rows.append((f"{name} ({peer[0]})", ratios))
    if not rows:
        return None
    figure, axis = pyplot.subplots(figsize=(3 + len(ours), 0.32 * len(rows) + 1.2), layout="constrained")
    logs = [[math.log2(one) for one in ratios] for _, ratios in rows]
    axis.imshow(logs, cmap="RdYlGn", vmin=-4, vmax=4, aspect="auto")
    for down, (_, ratios) in enumerate(rows):
        for across, one in enumerate(ratios):
            text = "-" if math.isnan(one) else f"{one:.1f}x"
            axis.text(across, down, text, ha="center", va="center", fontsize=8)
    axis.set_xticks(range(len(ours)), [store.name.removeprefix("flash_kv-") for store in ours])
    axis.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    return figure
