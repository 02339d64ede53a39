"""The parts of a run whose stores have processes of their own: memory, opens, readers in other processes, compaction.

Stores take turns within each repeat. What syncs every write takes part in none of them.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from flash_kv.bench import compaction
from flash_kv.bench.budget import Part
from flash_kv.bench.histogram import Histogram
from flash_kv.bench.memory import is_measurable, measure_memory
from flash_kv.bench.opening import measure_opening
from flash_kv.bench.processes import measure_processes
from flash_kv.bench.results import BYTES_PER_KEY, MB_S, Row
from flash_kv.bench.rows import Rows
from flash_kv.bench.runner import Plan
from flash_kv.bench.stores.base import Store

MEMORY_INDEX = "memory of the index"
MEMORY_PRIVATE = "memory of the process"
MEMORY_RESIDENT = "memory with mapped files"
TITLES = {
    MEMORY_INDEX: "what the store itself says its index takes beside the log",
    MEMORY_PRIVATE: "memory that belongs to the process alone: index, caches, write buffers",
    MEMORY_RESIDENT: "the same and the pages of mapped files, which the kernel may take back",
}
READ_SECONDS_MAX = 0.5
"""For the readers in other processes, whatever a workload may take."""


def measure_alone(name: str, plan: Plan, part: Part, log_bytes: int) -> list[Row]:
    """The rows of the part `name`."""
    stores = [store for store in plan.stores if store.promise != "power"]
    peers = [store for store in stores if not store.is_floor]
    measured: dict[str, Callable[[], Rows]] = {
        "memory": lambda: _memory(stores, plan, part),
        "opening": lambda: _opening(peers, plan, part),
        "processes": lambda: _processes(peers, plan, part),
        "compaction": lambda: _compaction(peers, plan, part, log_bytes),
    }
    return measured[name]().finished()


def _memory(stores: list[Store], plan: Plan, part: Part) -> Rows:
    """Once: what repeats differ by is a page or two."""
    rows = plan.rows()
    data = plan.data
    for _ in part.rounds(1) if is_measurable() else ():
        for store in stores:
            found = measure_memory(store, data.key_count, data.key_bytes, data.value_bytes, plan.directory)
            if found.index_bytes is not None:
                rows.add(MEMORY_INDEX, store.name, BYTES_PER_KEY, found.index_bytes)
            rows.add(MEMORY_PRIVATE, store.name, BYTES_PER_KEY, found.anonymous_bytes)
            rows.add(MEMORY_RESIDENT, store.name, BYTES_PER_KEY, found.resident_bytes)
    return rows


def _opening(stores: list[Store], plan: Plan, part: Part) -> Rows:
    rows, rng = plan.rows(), random.Random(plan.seed)
    for _ in part.rounds(plan.repeats):
        for store in rng.sample(stores, len(stores)):
            for name, unit, sample, operations in measure_opening(store, plan.data, plan.directory):
                rows.add(name, store.name, unit, sample, operations=operations)
    return rows


def _processes(stores: list[Store], plan: Plan, part: Part) -> Rows:
    rows = plan.rows()
    measure_processes(
        stores,
        plan.data,
        rows,
        part=part,
        repeats=plan.repeats,
        seconds=min(plan.budget_s, READ_SECONDS_MAX),
        directory=plan.directory,
        seed=plan.seed,
    )
    return rows


def _compaction(stores: list[Store], plan: Plan, part: Part, log_bytes: int) -> Rows:
    keys = compaction.key_count(log_bytes, plan.data.payload_bytes)
    rows, rng = Rows(keys, plan.data.value_bytes), random.Random(plan.seed)
    able = list(stores)
    for number in part.rounds(plan.repeats):
        for store in rng.sample(able, len(able)):
            raw = compaction.raw_copy_rate(plan.directory, keys * plan.data.payload_bytes)
            try:
                found = compaction.measure_compaction(
                    store,
                    log_bytes,
                    plan.data,
                    plan.directory,
                    load_budget_s=min(plan.load_budget_s, part.seconds_left),
                    seed=plan.seed + number,
                )
            except compaction.TooSlowError as error:
                plan.leave_out(f"{store.name}, compaction: {error}")
                rows.drop(store.name)
                found = None
            if found is None:
                able.remove(store)
                continue
            rows.add(compaction.COMPACTION, compaction.RAW_COPY, MB_S, raw)
            _add(rows, store, found)
    return rows


def _add(rows: Rows, store: Store, found: compaction.Compacted) -> None:
    rows.add(compaction.SPACE_AFTER_CHURN, store.name, BYTES_PER_KEY, found.churned_bytes_per_key)
    rows.add(compaction.SPACE_COMPACTED, store.name, BYTES_PER_KEY, found.compacted_bytes_per_key)
    if found.mb_s is not None:
        rows.add(compaction.COMPACTION, store.name, MB_S, found.mb_s)
    for name, text in ((compaction.READ_AT_REST, found.at_rest), (compaction.READ_DURING, found.during)):
        if text is not None:
            rows.add_latencies(name, store.name, Histogram.decoded(text))
