"""The tables of a run: where a peer is ahead, then every workload with the ratio to the best peer."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from flash_kv.bench.figures import Figure, number, ratio
from flash_kv.bench.machine import busy_lines, machine_lines
from flash_kv.bench.results import BYTES_PER_KEY, LATENCY, MB_S, MS, US, Results, StoreFacts
from flash_kv.bench.table import Table
from flash_kv.bench.workloads import ORDER_NEEDED, WORKLOADS

ORDERED = ("readseq", *ORDER_NEEDED)
"""Stores that scan in no order are no peers here."""


def facts(results: Results) -> list[str]:
    """The machine, the sizes, the stores and what each survives."""
    machine, config = results.machine, results.config
    lines = [
        *machine_lines(machine),
        f"{config['keys']:,} keys of {config['key_bytes']} B, values of {config['value_bytes']:,} B, "
        f"{config['repeats']} repeats, up to {config['operations']:,} operations of each workload per repeat and "
        f"{config['budget_s']:g} s for a store, seed {config['seed']}",
        *busy_lines(machine),
    ]
    if results.missing:
        lines.append(f"Not installed, so not measured: {', '.join(results.missing)}")
    return lines


def store_facts(results: Results) -> list[str]:
    return [
        f"{store.name}{f' {store.version}' if store.version else ''}: {store.settings}. "
        f"Survives {store.survives}. Checked on read: {store.read_check}."
        for store in results.stores
    ]


def our_best(results: Results, workload: str, promise: str) -> tuple[str, Figure] | None:
    """The fastest of ours in a workload, among those that do it."""
    found = [
        (store.name, figure)
        for store in results.stores
        if store.is_ours and store.promise == promise and (figure := results.us(workload, store.name)) is not None
        and (workload not in ORDERED or store.is_ordered)
    ]  # fmt: skip
    return min(found, key=lambda named: named[1].median, default=None)


def peer_of(results: Results, workload: str) -> tuple[str, Figure] | None:
    promise = WORKLOADS[workload].promise
    return results.best_peer(workload, is_ordered=workload in ORDERED, promise=promise)


def where_peers_are_ahead(results: Results) -> list[str]:
    """One line for each workload in which a peer is faster than each of ours, however little."""
    lines = []
    for name, workload in WORKLOADS.items():
        ours, peer = our_best(results, name, workload.promise), peer_of(results, name)
        if ours is not None and peer is not None and peer[1].median < ours[1].median:
            times = ratio(ours[1].median / max(peer[1].median, 1e-9))
            lines.append(f"{name}: {peer[0]} {peer[1]} us, {ours[0]} {ours[1]} us ({times} its time)")
    lines += _ahead_elsewhere(results, MB_S, "MB/s", lambda ours, peer: peer > ours)
    lines += _ahead_elsewhere(results, MS, "ms", lambda ours, peer: peer < ours)
    lines += _ahead_elsewhere(results, BYTES_PER_KEY, "bytes per key", lambda ours, peer: peer < ours)
    return lines


def _ahead_elsewhere(
    results: Results, unit: str, text: str, is_ahead: Callable[[float, float], bool]
) -> list[str]:
    facts_of = {store.name: store for store in results.stores}
    lines = []
    for workload in dict.fromkeys(row.workload for row in results.of_unit(unit)):
        rows = [row for row in results.of_unit(unit) if row.workload == workload and row.store in facts_of]
        ours = [row for row in rows if facts_of[row.store].is_ours]
        peers = [
            row
            for row in rows
            if not facts_of[row.store].is_ours and facts_of[row.store].promise == "process"
        ]
        ahead = [
            row for row in peers if ours and all(is_ahead(o.figure.median, row.figure.median) for o in ours)
        ]
        if ahead:
            named = ", ".join(f"{row.store} {row.figure}" for row in ahead)
            theirs = ", ".join(f"{row.store} {row.figure}" for row in ours)
            lines.append(f"{workload}, {text}: {named}; {theirs}")
    return lines


def tables_of(results: Results) -> list[Table]:
    """All tables that this run has figures for."""
    stores = results.stores
    process = [store for store in stores if store.promise != "power"]
    power = [store for store in stores if store.promise == "power"]
    tables = [_speed(results, process, "process"), _speed(results, power, "power")]
    tables += [_latency(results), _other(results, MB_S), _other(results, MS), _other(results, BYTES_PER_KEY)]
    return [table for table in tables if table is not None]


def _speed(results: Results, stores: list[StoreFacts], promise: str) -> Table | None:
    rows = []
    for name, workload in WORKLOADS.items():
        if workload.promise != promise or not any(results.us(name, store.name) for store in stores):
            continue
        peer = peer_of(results, name)
        row = [name]
        for store in stores:
            row.append(_cell(results, name, store, peer))
        row.append("-" if peer is None else peer[0])
        rows.append(row)
    if not rows:
        return None
    survived = "a killed process" if promise == "process" else "a power cut"
    return Table(
        f"Microseconds per operation, every write safe from {survived}: median, and how much faster than the best peer",
        ["", *(store.name for store in stores), "best peer"],
        rows,
        "* in no order. + single puts, the store has no batch. Below 1x a peer is faster.",
    )


def _cell(results: Results, workload: str, store: StoreFacts, peer: tuple[str, Figure] | None) -> str:
    figure = results.us(workload, store.name)
    if figure is None:
        return "-"
    mark = "*" if workload in ORDERED and not store.is_ordered else ""
    mark += "+" if workload in ("fillbatch", "batchput") and not store.has_batch else ""
    text = number(figure.median) + mark
    if store.is_ours and peer is not None and figure.median > 0:
        text += f" ({ratio(peer[1].median / figure.median)})"
    return text


def _latency(results: Results) -> Table | None:
    rows = list(results.of_unit(LATENCY))
    if not rows:
        return None
    names = list(rows[0].percentiles)
    return Table(
        "Latency of single calls, us, over all repeats",
        ["", "", *(name if name != "p100" else "max" for name in names)],
        [[row.workload, row.store, *(number(row.percentiles[name]) for name in names)] for row in rows],
        "Each call timed by itself; what a clock read and an empty call take is subtracted.",
    )


def _other(results: Results, unit: str) -> Table | None:
    rows = [row for row in results.of_unit(unit) if row.samples]
    if not rows:
        return None
    workloads = list(dict.fromkeys(row.workload for row in rows))
    found = {(row.workload, row.store): str(row.figure) for row in rows}
    titles = {
        MB_S: "Compaction, MB/s of live keys and values, synced",
        MS: "Opening and the first get, ms",
        BYTES_PER_KEY: "Memory and disk, bytes per key",
    }
    return Table(
        f"{titles[unit]}: median [lowest-highest]",
        ["", *workloads],
        [
            [store, *(found.get((workload, store), "-") for workload in workloads)]
            for store in dict.fromkeys(row.store for row in rows)
        ],
    )


def spread_of(results: Results) -> float:
    """The median over all rows of (highest - lowest) / median: how far a figure is to be trusted."""
    spreads = [
        (row.figure.highest - row.figure.lowest) / row.figure.median
        for row in results.of_unit(US)
        if row.figure.median > 0 and len(row.samples) > 1
    ]
    return median(spreads) if spreads else 0.0


def report(results: Results) -> str:
    """All of it as plain text."""
    ahead = where_peers_are_ahead(results)
    parts = [
        "\n".join([*facts(results), f"Spread (lowest to highest): {spread_of(results):.0%} of the median"])
    ]
    parts.append(
        "\n".join(["Where a peer is ahead:", *ahead] if ahead else ["No peer is ahead in anything measured."])
    )
    parts += [table.plain() for table in tables_of(results)]
    return "\n\n".join(parts)
