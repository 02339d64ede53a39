"""The tables of a run: where a peer is ahead, then every workload with the ratio to the best peer."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

from flash_kv.bench.compaction import COMPACTION, READ_AT_REST, READ_DURING
from flash_kv.bench.figures import Figure, number, ratio
from flash_kv.bench.legend import ORDERED, TIMED, promise_of
from flash_kv.bench.machine import busy_lines, machine_lines
from flash_kv.bench.results import BYTES_PER_KEY, LATENCY, MB_S, MS, US, Results, StoreFacts
from flash_kv.bench.table import Table

BESIDE_COMPACTION = (READ_AT_REST, READ_DURING)


def facts(results: Results) -> list[str]:
    """The machine, the sizes, the stores and what each survives."""
    machine, config = results.machine, results.config
    lines = [
        *machine_lines(machine),
        f"{config['keys']:,} keys of {config['key_bytes']} B, values of {config['value_bytes']:,} B, "
        f"{config['repeats']} repeats, up to {config['operations']:,} operations of each workload per repeat and "
        f"{config['budget_s']:g} s for a store, seed {config['seed']}",
        *_compaction_facts(results),
        f"Taken out of the page cache where it says cold: {config['cold_by']}",
        *busy_lines(machine),
    ]
    if results.missing:
        lines.append(f"Not installed, so not measured: {', '.join(results.missing)}")
    return [*lines, *(f"Left out: {text}" for text in results.left_out)]


def _compaction_facts(results: Results) -> list[str]:
    keys = next((row.keys for row in results.of_unit(MB_S)), None)
    if keys is None:
        return []
    mib = results.config["log_bytes"] / 1024**2
    text = f"Compactions: of {keys:,} keys, {mib:,.0f} MiB of keys and values written before"
    return [text if mib >= 256 else f"{text}, too little to quote their rates: fixed costs are most of it"]


def store_facts(results: Results) -> list[str]:
    return [
        f"{store.name}{f' {store.version}' if store.version else ''}: {store.settings}. "
        f"Survives {store.survives}. Checked on read: {store.read_check}. Opened by {store.sharing}."
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
    return results.best_peer(workload, is_ordered=workload in ORDERED, promise=promise_of(workload))


def where_peers_are_ahead(results: Results) -> list[str]:
    """One line for each workload in which a peer is faster than each of ours, however little."""
    lines = []
    for name in TIMED:
        ours, peer = our_best(results, name, promise_of(name)), peer_of(results, name)
        if ours is not None and peer is not None and peer[1].median < ours[1].median:
            times = ratio(ours[1].median / max(peer[1].median, 1e-9))
            lines.append(f"{name}: {peer[0]} {peer[1]} us, {ours[0]} {ours[1]} us ({times} its time)")
    lines += _ahead_beside_compaction(results)
    lines += _ahead_elsewhere(results, MB_S, "MB/s", lambda ours, peer: peer > ours)
    lines += _ahead_elsewhere(results, MS, "ms", lambda ours, peer: peer < ours)
    lines += _ahead_elsewhere(results, BYTES_PER_KEY, "bytes per key", lambda ours, peer: peer < ours)
    return lines


def _ahead_beside_compaction(results: Results) -> list[str]:
    """By the p99 of a get while a compaction runs."""
    facts_of = {store.name: store for store in results.stores}
    rows = [row for row in results.of_unit(LATENCY) if row.workload == READ_DURING]
    p99 = {row.store: row.percentile("p99") for row in rows}
    ours = {name: figure for name, figure in p99.items() if facts_of[name].is_ours}
    ahead = {
        name: figure
        for name, figure in p99.items()
        if name not in ours and ours and all(figure.median < our.median for our in ours.values())
    }
    if not ahead:
        return []
    theirs, own = (", ".join(f"{name} {figure}" for name, figure in named.items()) for named in (ahead, ours))
    return [f"{READ_DURING}, p99, us: {theirs}; {own}"]


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
    tables = [_speed(results, process, "process"), _speed(results, power, "power"), _done(results)]
    tables += [_latency(results), _beside_compaction(results), _other(results, MB_S)]
    tables += [_other(results, MS), _other(results, BYTES_PER_KEY)]
    return [table for table in tables if table is not None]


def _speed(results: Results, stores: list[StoreFacts], promise: str) -> Table | None:
    rows = []
    for name in TIMED:
        if promise_of(name) != promise or not any(results.us(name, store.name) for store in stores):
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


def _done(results: Results) -> Table | None:
    """Of which workloads a store did less than the others, because it had no more time."""
    slow = {
        (row.workload, row.store): sum(row.operations) // len(row.operations)
        for name in TIMED
        for store in results.stores
        if (row := results.find(name, store.name)) is not None and row.done_part < 1
    }
    if not slow:
        return None
    stores = [store.name for store in results.stores if any(store.name == name for _, name in slow)]
    rows = []
    for name in TIMED:
        found = [slow.get((name, store)) for store in stores]
        if any(count is not None for count in found):
            planned = max(row.planned for row in results.of_unit(US) if row.workload == name)
            rows.append([name, f"{planned:,}", *("" if count is None else f"{count:,}" for count in found)])
    return Table(
        "Operations per repeat of stores that had no time for all of them",
        ["", "all", *stores],
        rows,
        "Where nothing stands a store did all. Its figure is of those it did.",
    )


def _latency(results: Results) -> Table | None:
    rows = [row for row in results.of_unit(LATENCY) if row.workload not in BESIDE_COMPACTION]
    if not rows:
        return None
    names = list(rows[0].percentiles)
    return Table(
        "Latency of single calls, us: median of the repeats [lowest-highest]",
        ["", "", *(name if name != "p100" else "max" for name in names)],
        [[row.workload, row.store, *(str(row.percentile(name)) for name in names)] for row in rows],
        "Each call timed by itself; what a clock read and an empty call take is subtracted.",
    )


def _beside_compaction(results: Results) -> Table | None:
    rows = []
    for store in results.stores:
        rest, during = (results.find(name, store.name, LATENCY) for name in BESIDE_COMPACTION)
        if rest is None or during is None:
            continue
        cells = [str(row.percentile(name)) for name in ("p50", "p99", "p100") for row in (rest, during)]
        times = during.percentile("p99").median / max(rest.percentile("p99").median, 1e-9)
        rows.append([store.name, *cells, ratio(times)])
    if not rows:
        return None
    columns = [f"{name}, {when}" for name in ("p50", "p99", "max") for when in ("at rest", "during")]
    return Table(
        "A get at rest and while another thread compacts, us: median of the repeats [lowest-highest]",
        ["", *columns, "p99 to p99 at rest"],
        rows,
        "Each call timed by itself, the clock included. What a store calls its compaction: its settings say.",
    )


def _other(results: Results, unit: str) -> Table | None:
    rows = [row for row in results.of_unit(unit) if row.samples]
    if not rows:
        return None
    workloads = list(dict.fromkeys(row.workload for row in rows))
    found = {(row.workload, row.store): str(row.figure) for row in rows}
    titles = {
        MB_S: f"{COMPACTION.capitalize()}, MB/s of live keys and values, synced",
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
