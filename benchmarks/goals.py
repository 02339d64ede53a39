"""The goals and whether a run meets them: one verdict for each limit and each index it applies to.

The limits stand for 1M keys of 16 bytes and values of 100 (the worst put: 10M). A run of another size is
judged by the same limits, and the report says which size it was.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flash_kv.bench.compaction import COMPACTION, RAW_COPY, READ_AT_REST, READ_DURING
from flash_kv.bench.figures import number, ratio
from flash_kv.bench.parts import MEMORY_INDEX
from flash_kv.bench.results import BYTES_PER_KEY, LATENCY, MB_S, Results
from flash_kv.bench.workloads import WORKLOADS

HASH = "flash_kv-hash"
BTREE = "flash_kv-btree"
SKIPLIST = "flash_kv-skiplist"
BPTREE = "flash_kv-bptree"
LMDB = "lmdb"
BOTH = (HASH, BTREE)
FLOOR = "dict"

US_MAX = {
    "fillrandom": (0.6, BOTH),
    "overwrite": (0.6, BOTH),
    "deleterandom": (0.6, BOTH),
    "fillbatch": (0.25, BOTH),
    "batchput": (0.25, BOTH),
    "readhot": (0.15, BOTH),
    "readseq": (0.15, (BTREE, SKIPLIST, BPTREE)),
}
DICT_RATIO_MAX = {"readrandom": {HASH: 1.3, BTREE: 1.8}}
BTREE_RATIO_MAX = {"fillrandom": 2.0, "readrandom": 2.0}
PEER_RATIO_MIN = {"fillrandom": 5.0, "overwrite": 5.0, "deleterandom": 5.0, "readrandom": 2.0, "readhot": 5.0}
# Of the index on disk, whose peer is the one that keeps its keys on disk in the same way.
LMDB_TIME_MAX = {"readrandom": 1.5, "fillrandom": 1 / 3}
GET_MANY_GAIN_MIN = 2.0
COMPACTION_MB_S_MIN = 400.0
READ_DURING_COMPACTION_TIMES_MAX = 2.0
PUT_P999_US_MAX = 20.0
INDEX_BYTES_MAX = {HASH: 24.0, BTREE: 40.0, SKIPLIST: 40.0}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One goal against one measurement."""

    workload: str
    store: str
    goal: str
    measured: str
    shortfall: float
    """By which part of the limit it is missed; 0 or less when it is met."""

    @property
    def is_met(self) -> bool:
        return self.shortfall <= 0

    @property
    def text(self) -> str:
        digits = 1 if self.shortfall < 0.1 else 0
        return "met" if self.is_met else f"missed by {self.shortfall:.{digits}%}"


def judge(results: Results) -> list[Verdict]:
    """Every goal this run can judge, in the order of the tables."""
    verdicts = [
        *_absolute(results),
        *_against_dict(results),
        *_against_btree(results),
        *_against_peers(results),
        *_against_lmdb(results),
        *_many_at_once(results),
        *_compaction(results),
        *_reads_during_compaction(results),
        *_worst_put(results),
        *_memory(results),
    ]
    order = list(WORKLOADS)
    return sorted(verdicts, key=lambda v: order.index(v.workload) if v.workload in order else len(order))


def _at_most(limit: float, value: float) -> float:
    return value / limit - 1


def _at_least(limit: float, value: float) -> float:
    return 1 - value / limit


def _subtracted(results: Results, workload: str, store: str) -> float:
    row = results.find(workload, store)
    return 0.0 if row is None else row.subtract


def _absolute(results: Results) -> Iterator[Verdict]:
    for workload, (limit, stores) in US_MAX.items():
        for store in stores:
            figure = results.us(workload, store)
            if figure is not None:
                as_called = number(figure.median + _subtracted(results, workload, store))
                yield Verdict(
                    workload=workload,
                    store=store,
                    goal=f"at most {limit} us",
                    measured=f"{figure} us ({as_called} as called)",
                    shortfall=_at_most(limit, figure.median),
                )


def _times(
    results: Results, workload: str, store: str, other: str, limit: float, goal: str
) -> Iterator[Verdict]:
    """How many times what `other` takes a store takes, if both were measured."""
    ours, theirs = results.us(workload, store), results.us(workload, other)
    if ours is not None and theirs is not None and theirs.median > 0:
        times = ours.median / theirs.median
        yield Verdict(
            workload=workload,
            store=store,
            goal=goal,
            measured=f"{ratio(times)} ({number(ours.median)} / {number(theirs.median)} us)",
            shortfall=_at_most(limit, times),
        )


def _against_dict(results: Results) -> Iterator[Verdict]:
    for workload, limits in DICT_RATIO_MAX.items():
        for store, limit in limits.items():
            yield from _times(results, workload, store, FLOOR, limit, f"at most {limit}x dict")


def _against_btree(results: Results) -> Iterator[Verdict]:
    for workload, limit in BTREE_RATIO_MAX.items():
        yield from _times(results, workload, SKIPLIST, BTREE, limit, f"at most {limit:g}x btree")


def _against_peers(results: Results) -> Iterator[Verdict]:
    for workload, limit in PEER_RATIO_MIN.items():
        best = results.best_peer(workload)
        for store in BOTH:
            figure = results.us(workload, store)
            if figure is not None and best is not None and figure.median > 0:
                times = best[1].median / figure.median
                yield Verdict(
                    workload=workload,
                    store=store,
                    goal=f"at least {limit:g}x the best peer",
                    measured=f"{ratio(times)} ({best[0]}: {number(best[1].median)} us)",
                    shortfall=_at_least(limit, times),
                )


def _against_lmdb(results: Results) -> Iterator[Verdict]:
    for workload, limit in LMDB_TIME_MAX.items():
        yield from _times(results, workload, BPTREE, LMDB, limit, f"at most {limit:.2g}x lmdb's time")


def _many_at_once(results: Results) -> Iterator[Verdict]:
    for store in BOTH:
        single, many = results.us("readrandom", store), results.us("multireadrandom", store)
        if single is not None and many is not None and many.median > 0:
            times = single.median / many.median
            yield Verdict(
                workload="multireadrandom",
                store=store,
                goal=f"at least {GET_MANY_GAIN_MIN:g}x its single gets",
                measured=f"{ratio(times)} ({number(many.median)} against {number(single.median)} us)",
                shortfall=_at_least(GET_MANY_GAIN_MIN, times),
            )


def _compaction(results: Results) -> Iterator[Verdict]:
    raw = results.find(COMPACTION, RAW_COPY, MB_S)
    for store in BOTH:
        row = results.find(COMPACTION, store, MB_S)
        if row is None or raw is None:
            continue
        # "Where the disk allows": a disk slower than the goal is itself the limit.
        rate, raw_rate = row.figure, raw.figure.median
        is_disk_slower = raw_rate < COMPACTION_MB_S_MIN
        limit = raw_rate if is_disk_slower else COMPACTION_MB_S_MIN
        yield Verdict(
            workload=COMPACTION,
            store=store,
            goal=f"at least {limit:.0f} MB/s" + (" (the disk's raw copy)" if is_disk_slower else ""),
            measured=f"{rate} MB/s (raw copy {number(raw_rate)})",
            shortfall=_at_least(limit, rate.median),
        )


def _reads_during_compaction(results: Results) -> Iterator[Verdict]:
    for store in BOTH:
        rest, during = (results.find(name, store, LATENCY) for name in (READ_AT_REST, READ_DURING))
        if rest is not None and during is not None:
            p99, p99_at_rest = (row.percentile("p99").median for row in (during, rest))
            times = p99 / max(p99_at_rest, 1e-9)
            yield Verdict(
                workload=READ_DURING,
                store=store,
                goal=f"p99 at most {READ_DURING_COMPACTION_TIMES_MAX:g}x that at rest",
                measured=f"{ratio(times)} ({number(p99)} / {number(p99_at_rest)} us)",
                shortfall=_at_most(READ_DURING_COMPACTION_TIMES_MAX, times),
            )


def _worst_put(results: Results) -> Iterator[Verdict]:
    for store in BOTH:
        row = results.find("fillrandom", store, LATENCY)
        if row is not None:
            yield Verdict(
                workload="fillrandom, each call",
                store=store,
                goal=f"p99.9 at most {PUT_P999_US_MAX:g} us",
                measured=f"{row.percentile('p99.9')} us (max {row.percentile('p100')})",
                shortfall=_at_most(PUT_P999_US_MAX, row.percentile("p99.9").median),
            )


def _memory(results: Results) -> Iterator[Verdict]:
    for store, limit in INDEX_BYTES_MAX.items():
        row = results.find(MEMORY_INDEX, store, BYTES_PER_KEY)
        if row is not None:
            yield Verdict(
                workload=MEMORY_INDEX,
                store=store,
                goal=f"at most {limit:g} B per key",
                measured=f"{row.figure.median:.1f} B",
                shortfall=_at_most(limit, row.figure.median),
            )
