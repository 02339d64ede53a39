"""The workloads, under the names that LevelDB's db_bench and YCSB gave them.

A workload says what each slice of its work is and how to do one: a function `(handle, dataset, work, version) ->
nanoseconds`. What it needs is made before the clock starts; the runner divides by the length of the work, so a batch
counts per record, a scan per item.

Invariants:
- Work is drawn once for a repeat, so that every store does the same.
- Whatever is written can be told afterwards: each key written has the version that the workload was given.
"""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from flash_kv.bench import timing, ycsb
from flash_kv.bench.dataset import Dataset, in_slices
from flash_kv.bench.stores.base import Handle, Promise

BATCH_RECORDS = 1_000
HOT_KEYS = 16
PREFIX_DIGITS_LESS = 2
"""A prefix leaves out so many of a key's last digits; every second number is a key, so half of 100 share one."""
PREFIX_ITEMS = 10**PREFIX_DIGITS_LESS // 2

_VERSION_BESIDE = 1_000
"""Of the values that are written while others read: no workload's."""

Work = list[Any]
Step = Callable[[Handle, Dataset, Work, int], int]
Stage = Literal["fill", "load", "read", "change"]


def nothing_of(_work: Work) -> Iterable[int]:
    return ()


def all_of(work: Work) -> Iterable[int]:
    return work


def _written_in_mix(work: Work) -> Iterable[int]:
    return (operation.ordinal for operation in work if operation.kind not in ("read", "scan"))


@dataclass(frozen=True, kw_only=True)
class Workload:
    """One row of the table."""

    name: str
    title: str
    stage: Stage
    """fill: into a fresh store, which is thrown away; load: what the others start from; read and change: on it."""
    step: Step
    draw: Callable[[random.Random, int, int], Work]
    """(randomness, keys in the store, operations) to the work of one repeat."""
    is_whole: bool = False
    """It is done in one piece over all keys."""
    written: Callable[[Work], Iterable[int]] = nothing_of
    """The ordinals whose keys have the given version when this work is done."""
    needs: str | None = None
    """The attribute of a handle without which a store has no such operation."""
    promise: Promise = "process"
    operations_part: float = 1.0
    """Of the operations of a run: less for what is slow."""
    per: int = 1
    """Items that one unit of work counts as."""
    call: Callable[[Handle], Callable[..., object]] | None = None
    """For single calls: what to call with a key, or with a key and a value. Its latencies can be taken."""
    has_threads: bool = False
    """Nothing is subtracted then: what an empty store's threads do to each other is no overhead of a loop."""


def _sample(rng: random.Random, keys: int, operations: int) -> Work:
    return rng.sample(range(keys), min(keys, operations))


def _shuffled(rng: random.Random, keys: int, _operations: int) -> Work:
    return rng.sample(range(keys), keys)


def _in_order(_rng: random.Random, keys: int, _operations: int) -> Work:
    return list(range(keys))


def _few_in_order(_rng: random.Random, keys: int, operations: int) -> Work:
    return list(range(min(keys, operations)))


def _keep(handle: Handle, passed: object) -> None:
    if handle.kept is not None:
        handle.kept.append(passed)


def _put(handle: Handle, data: Dataset, ordinals: Work, version: int) -> int:
    keys, values = data.keys(ordinals), data.values(ordinals, version)
    _keep(handle, (keys, values))
    return timing.time_pairs_ns(handle.put, keys, values)


def _delete(handle: Handle, data: Dataset, ordinals: Work, _version: int) -> int:
    return timing.time_each_ns(handle.delete, data.keys(ordinals))


def _get(handle: Handle, data: Dataset, ordinals: Work, _version: int) -> int:
    return timing.time_each_ns(handle.get, data.keys(ordinals))


def _get_hot(handle: Handle, data: Dataset, ordinals: Work, _version: int) -> int:
    hot = data.keys(ordinals[:HOT_KEYS])
    rounds = -(-len(ordinals) // len(hot))
    return timing.time_each_ns(handle.get, (hot * rounds)[: len(ordinals)])


def _get_missing(handle: Handle, data: Dataset, ordinals: Work, _version: int) -> int:
    return timing.time_each_ns(handle.get_missing, data.missing_keys(ordinals))


def _get_many(handle: Handle, data: Dataset, ordinals: Work, _version: int) -> int:
    return timing.time_each_ns(
        handle.get_many, [data.keys(part) for part in in_slices(ordinals, BATCH_RECORDS)]
    )


def _put_many(handle: Handle, data: Dataset, ordinals: Work, version: int) -> int:
    batches = [data.pairs(part, version) for part in in_slices(ordinals, BATCH_RECORDS)]
    _keep(handle, batches)
    return timing.time_each_ns(handle.put_many, batches)


def _batch(handle: Handle, data: Dataset, ordinals: Work, version: int) -> int:
    batches = [data.pairs(part, version) for part in in_slices(ordinals, BATCH_RECORDS)]
    _keep(handle, batches)
    return timing.time_each_ns(handle.batch, batches)


def _scan(handle: Handle, _data: Dataset, _ordinals: Work, _version: int) -> int:
    return timing.time_items_ns(handle.items)


def _reverse(handle: Handle, _data: Dataset, _ordinals: Work, _version: int) -> int:
    assert handle.reverse is not None
    return timing.time_items_ns(handle.reverse)


def _seek(handle: Handle, data: Dataset, ordinals: Work, _version: int) -> int:
    assert handle.scan_from is not None
    ones = [1] * len(ordinals)
    return timing.time_pairs_ns(handle.scan_from, data.keys(ordinals), ones)


def _prefix(handle: Handle, data: Dataset, ordinals: Work, _version: int) -> int:
    assert handle.prefix is not None
    prefixes = [key[:-PREFIX_DIGITS_LESS] for key in data.keys(ordinals)]
    return timing.time_iterations_ns(handle.prefix, prefixes)


def _get_of_thread(handle: Handle, number: int) -> Callable[[bytes], bytes | None]:
    return handle.get if handle.get_of_thread is None else handle.get_of_thread(number)


def _threads(handle: Handle, data: Dataset, ordinals: Work, _version: int, *, threads: int) -> int:
    parts = [data.keys(ordinals[n::threads]) for n in range(threads)]
    return timing.time_threads_ns(
        [partial(timing.call_each, _get_of_thread(handle, n), keys) for n, keys in enumerate(parts)]
    )


def _read_beside_writes(handle: Handle, data: Dataset, ordinals: Work, _version: int, *, threads: int) -> int:
    """Readers timed while one more thread overwrites until they are done; then the values are put back."""
    # In turn, since a store may notice that it is given the value that it has, and write nothing.
    written = [data.pairs(ordinals, version) for version in (_VERSION_BESIDE, 0)]
    _keep(handle, written)
    ended = threading.Event()

    def write() -> None:
        put = handle.put
        for pairs in itertools.cycle(written):
            for key, value in pairs:
                if ended.is_set():
                    return
                put(key, value)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        return _threads(handle, data, ordinals, 0, threads=threads)
    finally:
        ended.set()
        writer.join()
        handle.put_many(written[1])


def _mix(handle: Handle, data: Dataset, operations: Work, version: int) -> int:
    get, put, scan = handle.get, handle.put, handle.scan_from

    def modify(key: bytes, value: bytes) -> None:
        get(key)
        put(key, value)

    ordinals = [operation.ordinal for operation in operations]
    calls: list[tuple[Callable[..., object], tuple[Any, ...]]] = []
    pairs = zip(operations, data.keys(ordinals), data.values(ordinals, version), strict=True)
    for operation, key, value in pairs:
        if operation.kind == "read":
            calls.append((get, (key,)))
        elif operation.kind == "scan":
            assert scan is not None
            calls.append((scan, (key, operation.items)))
        else:
            calls.append((modify if operation.kind == "modify" else put, (key, value)))
    _keep(handle, calls)
    return timing.time_calls_ns(calls)


def _read(name: str, title: str, step: Step, **more: Any) -> Workload:
    return Workload(name=name, title=title, stage="read", step=step, draw=more.pop("draw", _sample), **more)


def _threaded(threads: int) -> Workload:
    return _read(
        f"readrandom, {threads} threads",
        f"get by {threads} threads",
        partial(_threads, threads=threads),
        has_threads=True,
    )


FILLSEQ = Workload(name="fillseq", title="put, in order", stage="fill", step=_put, draw=_in_order)
FILLBATCH = Workload(
    name="fillbatch",
    title=f"the bulk call, {BATCH_RECORDS:,} a commit",
    stage="fill",
    step=_put_many,
    draw=_shuffled,
)
BATCHPUT = Workload(
    name="batchput", title=f"a batch of {BATCH_RECORDS:,} puts", stage="fill", step=_batch, draw=_shuffled
)
FILLSYNC = Workload(
    name="fillsync",
    title="put, synced",
    stage="fill",
    step=_put,
    draw=_few_in_order,
    promise="power",
    operations_part=0.001,
    call=lambda handle: handle.put,
)
FILLRANDOM = Workload(
    name="fillrandom",
    title="put, new keys in random order",
    stage="load",
    step=_put,
    draw=_shuffled,
    call=lambda handle: handle.put,
)
READRANDOM = _read("readrandom", "get, random", _get, call=lambda handle: handle.get)
READHOT = _read("readhot", f"get, of {HOT_KEYS} keys", _get_hot)
READMISSING = _read("readmissing", "get, of keys that are not there", _get_missing)
MULTIREADRANDOM = _read("multireadrandom", f"get_many({BATCH_RECORDS:,}), per key", _get_many)
READSEQ = _read("readseq", "scan, per item", _scan, draw=_in_order, is_whole=True)
READREVERSE = _read(
    "readreverse", "scan backwards, per item", _reverse, draw=_in_order, is_whole=True, needs="reverse"
)
SEEKRANDOM = _read(
    "seekrandom", "find a key and read one item", _seek, needs="scan_from", operations_part=0.5
)
PREFIXSCAN = _read(
    "prefixscan",
    f"the {PREFIX_ITEMS} items of a prefix, per item",
    _prefix,
    needs="prefix",
    operations_part=0.02,
    per=PREFIX_ITEMS,
)
READWHILEWRITING = _read(
    "readwhilewriting",
    "get, while a thread overwrites",
    partial(_read_beside_writes, threads=1),
    has_threads=True,
    operations_part=0.2,
)
OVERWRITE = Workload(
    name="overwrite",
    title="put, of keys that are there",
    stage="change",
    step=_put,
    draw=_sample,
    written=all_of,
    call=lambda handle: handle.put,
)
DELETERANDOM = Workload(
    name="deleterandom", title="delete, random", stage="change", step=_delete, draw=_sample
)
YCSB = tuple(
    Workload(
        name=f"ycsb-{mix.letter}",
        title=mix.title,
        stage="change",
        step=_mix,
        written=_written_in_mix,
        draw=lambda rng, keys, operations, mix=mix: mix.draw(keys, operations, rng),  # type: ignore[misc]
        needs="scan_from" if "scan" in mix.shares else None,
        operations_part=0.05 if "scan" in mix.shares else 1.0,
    )
    for mix in ycsb.MIXES
)
THREADS = tuple(_threaded(threads) for threads in (1, 2, 4, 8, 16))

# The order of the tables' rows.
WORKLOADS: dict[str, Workload] = {
    workload.name: workload
    for workload in (
        *(FILLSEQ, FILLRANDOM, FILLBATCH, BATCHPUT, FILLSYNC, OVERWRITE, DELETERANDOM),
        *(READRANDOM, READHOT, READMISSING, MULTIREADRANDOM, READSEQ, READREVERSE, SEEKRANDOM, PREFIXSCAN),
        *(READWHILEWRITING, *YCSB, *THREADS),
    )
}

ORDER_NEEDED = tuple(name for name, workload in WORKLOADS.items() if workload.needs)
"""What a store without an order has no way to do."""
