"""What each row of the tables measures, in words, and which rows there are."""

from __future__ import annotations

from flash_kv.bench import compaction, opening, parts, processes
from flash_kv.bench.results import Results
from flash_kv.bench.stores.base import Promise
from flash_kv.bench.workloads import ORDER_NEEDED, WORKLOADS

TITLES: dict[str, str] = {
    **{name: workload.title for name, workload in WORKLOADS.items()},
    **processes.TITLES,
    **opening.TITLES,
    **compaction.TITLES,
    **parts.TITLES,
}
PART_TITLES = {
    "memory": "memory per key, of a process that loads the store",
    "opening": "opens after a close, a kill and a power cut, cold opens and cold reads",
    "processes": "readrandom by 1, 2 and 4 processes",
    "compaction": "throughput, space, and single reads during it",
}
"""Of the parts of a run that are chosen as a whole."""

TIMED = (*WORKLOADS, *processes.NAMES.values(), opening.COLDREAD)
"""All rows in microseconds per operation, in the order of the tables."""

ORDERED = ("readseq", *ORDER_NEEDED)
"""Stores that scan in no order are no peers here."""


def promise_of(workload: str) -> Promise:
    """With what the stores of a row have to promise to be compared."""
    return WORKLOADS[workload].promise if workload in WORKLOADS else "process"


def lines() -> list[str]:
    """All that can be asked for by name, as text."""
    chosen = {**{name: workload.title for name, workload in WORKLOADS.items()}, **PART_TITLES}
    width = max(map(len, chosen))
    return [f"{name.ljust(width)}  {title}" for name, title in chosen.items()]


def titles_of(results: Results) -> dict[str, str]:
    """The rows that a run has, and what they measure."""
    measured = {row.workload for row in results.rows}
    return {name: title for name, title in TITLES.items() if name in measured}
