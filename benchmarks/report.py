"""The report: the same tables as plain text for the terminal and as Markdown for the docs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.compaction import RAW_COPY
from benchmarks.figures import Figure, number, ratio
from benchmarks.goals import FLOOR, Verdict
from benchmarks.latency import PERCENTILES
from benchmarks.machine import busy_lines, machine_lines
from benchmarks.results import Results
from benchmarks.workloads import SCAN, WORKLOADS


@dataclass(frozen=True)
class Table:
    """One table: a heading, its columns, its rows of text, and what has to be said under it."""

    heading: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""

    def plain(self) -> str:
        widths = [max(len(row[i]) for row in [self.columns, *self.rows]) for i in range(len(self.columns))]

        def line(row: list[str]) -> str:
            return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

        lines = [self.heading, line(self.columns), "  ".join("-" * width for width in widths)]
        lines += [line(row) for row in self.rows]
        return "\n".join([*lines, self.note] if self.note else lines)

    def markdown(self) -> str:
        def line(row: list[str]) -> str:
            return f"| {' | '.join(row)} |"

        lines = [f"### {self.heading}", "", line(self.columns), line(["---"] * len(self.columns))]
        lines += [line(row) for row in self.rows]
        return "\n".join([*lines, "", self.note] if self.note else lines)


def plain_report(results: Results, verdicts: list[Verdict]) -> str:
    parts = [*_facts(results), "", *_store_facts(results)]
    tables = "\n\n".join(table.plain() for table in tables_of(results, verdicts))
    return "\n".join([*parts, "", tables, "", _summary(verdicts)])


def markdown_report(results: Results, verdicts: list[Verdict]) -> str:
    parts = [f"- {fact}" for fact in [*_facts(results), *_store_facts(results)]]
    tables = "\n\n".join(table.markdown() for table in tables_of(results, verdicts))
    return "\n".join([*parts, "", tables, "", _summary(verdicts), ""])


def tables_of(results: Results, verdicts: list[Verdict]) -> list[Table]:
    """All tables this run has figures for."""
    tables = [_speed(results)]
    if any(store.is_ours for store in results.stores):
        tables.append(_comparison(results, verdicts))
    makers: list[Callable[[Results, list[Verdict]], Table]] = []
    if results.compaction:
        makers.append(_compaction)
    if results.latencies is not None:
        makers.append(_latency)
    if results.memory:
        makers.append(_memory)
    return tables + [make(results, verdicts) for make in makers]


def _facts(results: Results) -> list[str]:
    machine, config = results.machine, results.config
    facts = [
        *machine_lines(machine),
        f"{config['keys']:,} keys of {config['key_bytes']} B, values of {config['value_bytes']} B, one "
        f"thread, {config['repeats']} repeats, {config['operations']:,} operations of each workload per "
        f"repeat, seed {config['seed']}; goals are stated for 1,000,000 keys",
        *busy_lines(machine),
    ]
    if results.not_installed:
        facts.append(f"Not installed, so not measured: {', '.join(results.not_installed)}")
    return facts


def _store_facts(results: Results) -> list[str]:
    return [
        f"{store.name}{f' {version}' if (version := store.version()) else ''}: {store.settings}. "
        f"Survives {store.survives}. Checked on read: {store.read_check}."
        for store in results.stores
    ]


def _summary(verdicts: list[Verdict]) -> str:
    if not verdicts:
        return "No store of ours was measured, so no goal is judged."
    missed = [v for v in verdicts if not v.is_met]
    lines = [f"Goals met: {len(verdicts) - len(missed)} of {len(verdicts)}."]
    lines += [f"Missed: {v.workload}, {v.store}: {v.goal}; measured {v.measured}; {v.text}." for v in missed]
    return "\n".join(lines)


def _goals(verdicts: list[Verdict], workload: str, store: str, about: str = "") -> str:
    """The goals of one row and what became of them."""
    of_row = [v for v in verdicts if (v.workload, v.store) == (workload, store) and about in v.goal]
    return "; ".join(f"{v.goal}: {v.text}" for v in of_row) or "-"


def _speed(results: Results) -> Table:
    stores = results.stores
    rows = []
    for workload in WORKLOADS:
        row = [workload.title]
        for store in stores:
            figure = results.us(workload.name, store.name)
            mark = "*" if workload.name == SCAN.name and not store.is_ordered else ""
            mark += "+" if workload.name in ("put_many", "batch") and not store.has_batch else ""
            row.append("-" if figure is None else f"{figure}{mark}")
        rows.append([*row, number(results.overhead_us(workload.name))])
    return Table(
        "Microseconds per operation, median [lowest-highest] of the repeats",
        ["", *(store.name for store in stores), "subtracted"],
        rows,
        "* in no order. + single puts, the store has no batch. "
        "Subtracted: the same loop calling a built-in that does nothing, the lowest of the repeats.",
    )


def _comparison(results: Results, verdicts: list[Verdict]) -> Table:
    rows = []
    for workload in WORKLOADS:
        best, floor = results.best_peer(workload.name), results.us(workload.name, FLOOR)
        for store in (store.name for store in results.stores if store.is_ours):
            figure = results.us(workload.name, store)
            if figure is None:
                continue
            rows.append(
                [
                    workload.title,
                    store,
                    str(figure),
                    "-" if best is None else f"{best[0]} {number(best[1].median)}",
                    _times(None if best is None else best[1], figure),
                    _times(figure, floor),
                    _goals(verdicts, workload.name, store),
                ]
            )
    return Table(
        "Ours beside the best peer and the dict",
        ["", "store", "us", "best peer, us", "times faster", "times dict", "goal"],
        rows,
    )


def _times(larger: Figure | None, smaller: Figure | None) -> str:
    if larger is None or smaller is None or smaller.median <= 0:
        return "-"
    return ratio(larger.median / smaller.median)


def _compaction(results: Results, verdicts: list[Verdict]) -> Table:
    raw = results.compaction[RAW_COPY]
    rows = []
    for name in [RAW_COPY, *(store.name for store in results.stores if not store.is_floor)]:
        rate = results.compaction.get(name)
        if rate is None:
            rows.append([name, "found nothing to rewrite", "-", "-"])
            continue
        rows.append([name, str(rate), ratio(rate.median / raw.median), _goals(verdicts, "compaction", name)])
    return Table(
        "Compaction, MB/s of live keys and values, synced",
        ["", "MB/s", "of raw copy", "goal"],
        rows,
        "lmdb: its compacting copy to a second file, then fsync. plyvel, rocksdict: compact_range over all.",
    )


def _latency(results: Results, verdicts: list[Verdict]) -> Table:
    latencies = results.latencies
    assert latencies is not None
    names = [f"p{percent:g}" for percent in PERCENTILES]
    rows = []
    for store, repeats in latencies.stores.items():
        row = [store]
        row += [str(Figure.of([repeat.percentiles_us[name] for repeat in repeats])) for name in names]
        row.append(str(Figure.of([repeat.max_us for repeat in repeats])))
        rows.append([*row, _goals(verdicts, "put latency", store)])
    return Table(
        f"Latency of put while {latencies.keys:,} keys are loaded, us",
        ["", *names, "max", "goal"],
        rows,
        f"Each put timed by itself; {number(latencies.overhead_us)} us of timing an empty call subtracted.",
    )


def _memory(results: Results, verdicts: list[Verdict]) -> Table:
    rows = [
        [
            m.store,
            f"{m.key_bytes} B",
            "-" if m.index_bytes is None else f"{m.index_bytes:.1f}",
            f"{m.anonymous_bytes:.1f}",
            f"{m.resident_bytes:.1f}",
            _goals(verdicts, "memory", m.store, f"key of {m.key_bytes} B"),
        ]
        for m in results.memory
    ]
    keys = results.memory[0].keys
    return Table(
        f"Memory, bytes per key at {keys:,} keys",
        ["", "key", "index", "anonymous", "resident", "goal"],
        rows,
        "Index: what the store says. Anonymous: growth of the process's own memory (for caching stores and "
        "the dict it holds values too). Resident: that and the mapped file pages, which the kernel can "
        "take back.",
    )
