"""The interleaved run: every repeat takes all stores through the same workloads, slice by slice in turn.

Invariants:
- Within a slice each store does the same operations, in an order of stores drawn anew for every slice: what
  disturbs the machine for longer than a slice disturbs all of them alike.
- A repeat starts from fresh directories and loads all keys, so repeats differ by noise only.
- A store that has had its time for a workload does no further slice of it; its figure is that of those it did.
- A store's answers are checked between the timed loops; a wrong one ends the run.
- Only one repeat's stores are open, and their directories are removed with it.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from flash_kv.bench import checks
from flash_kv.bench.compaction import RAW_COPY, compaction_rate, disk_bytes, raw_copy_rate
from flash_kv.bench.dataset import Dataset, in_slices
from flash_kv.bench.histogram import PERCENTILES, Histogram, thinned
from flash_kv.bench.results import BYTES_PER_KEY, LATENCY, MB_S, US, Row
from flash_kv.bench.stores.base import BenchmarkError, Handle, Store
from flash_kv.bench.timing import empty_handle, latencies_ns
from flash_kv.bench.workloads import DELETERANDOM, Stage, Work, Workload

EMPTY = "empty call"
"""The store that does nothing, measured among the others: its times are what is subtracted."""
CURVE_POINTS = 200
SPACE_AFTER_CHURN = "space after churn"
SPACE_COMPACTED = "space after compaction"
COMPACTION = "compaction"

Report = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much a run does, at one number of keys and one size of values."""

    stores: list[Store]
    workloads: list[Workload]
    data: Dataset
    repeats: int
    operations: int
    slice_operations: int
    budget_s: float
    """Time for one workload of one store in one repeat, after which the slice it is in is its last."""
    seed: int
    directory: Path
    has_latencies: bool = True
    has_compaction: bool = True
    report: Report = print

    def rows(self) -> Rows:
        return Rows(self.data.key_count, self.data.value_bytes)


class Rows:
    """The rows of a run as they grow, by workload, store and unit."""

    def __init__(self, keys: int, value_bytes: int) -> None:
        self._keys = keys
        self._value_bytes = value_bytes
        self._rows: dict[tuple[str, str, str], Row] = {}
        self._histograms: dict[tuple[str, str], Histogram] = defaultdict(Histogram)

    def add(self, workload: str, store: str, unit: str, sample: float) -> None:
        key = (workload, store, unit)
        if key not in self._rows:
            self._rows[key] = self._row(workload, store, unit)
        self._rows[key].samples.append(sample)

    def add_latencies(self, workload: str, store: str, histogram: Histogram) -> None:
        self._histograms[workload, store].merge(histogram)

    def finished(self) -> list[Row]:
        """All rows, the overhead of their workload's loop noted in each, and those of the latencies."""
        rows = [row for row in self._rows.values() if row.store != EMPTY]
        for row in rows:
            empty = self._rows.get((row.workload, EMPTY, row.unit))
            # The lowest: noise may make the overhead look larger, and subtracting its median would flatter all.
            row.subtract = 0.0 if empty is None else min(empty.samples)
        for (workload, store), histogram in self._histograms.items():
            if store != EMPTY:
                overhead_ns = self._histograms[workload, EMPTY].percentile(50.0)
                rows.append(self._latency_row(workload, store, histogram, overhead_ns))
        return rows

    def _latency_row(self, workload: str, store: str, histogram: Histogram, overhead_ns: int) -> Row:
        def us(value_ns: int) -> float:
            return max(0, value_ns - overhead_ns) / 1e3

        row = self._row(workload, store, LATENCY)
        row.percentiles = {f"p{percent:g}": us(histogram.percentile(percent)) for percent in PERCENTILES}
        row.curve = [(part, us(value)) for part, value in thinned(histogram.curve(), CURVE_POINTS)]
        return row

    def _row(self, workload: str, store: str, unit: str) -> Row:
        return Row(workload=workload, store=store, unit=unit, keys=self._keys, value_bytes=self._value_bytes)


def measure(plan: Plan) -> list[Row]:
    """Run everything `repeats` times."""
    rows = plan.rows()
    for number in range(plan.repeats):
        root = plan.directory / f"repeat-{number}"
        Repeat(
            plan, rows, random.Random(plan.seed + number), root, f"repeat {number + 1} of {plan.repeats}"
        ).run()
        gc.collect()
    return rows.finished()


class Repeat:
    """One repeat: the open stores, and the version that each key of each store is at."""

    def __init__(self, plan: Plan, rows: Rows, rng: random.Random, root: Path, title: str) -> None:
        self.plan = plan
        self.rows = rows
        self.rng = rng
        self.root = root
        self.title = title
        self.handles: dict[str, Handle] = {}
        self.versions: dict[str, dict[int, int]] = defaultdict(dict)
        self._version = 0

    def run(self) -> None:
        for workload in self._of_stage("fill"):
            with self._open_for(workload):
                self._do(workload)
        if self.plan.has_latencies:
            for workload in self._of_stage("load"):
                with self._open_for(workload):
                    self._take_latencies(workload)
        loads = self._of_stage("load")
        if not loads:
            return
        with self._open_for(loads[0]):
            self._load(loads[0])
            self._check("load", is_whole=True)
            for workload in self._of_stage("read"):
                self._do(workload)
            self._check("reading")
            for workload in self._of_stage("change"):
                self._do(workload)
                self._check(workload.name)
            if self.plan.has_compaction:
                self._compact()

    def _of_stage(self, stage: Stage) -> list[Workload]:
        return [workload for workload in self.plan.workloads if workload.stage == stage]

    @contextmanager
    def _open_for(self, workload: Workload) -> Iterator[None]:
        """Fresh stores of those that promise what the workload is about; the floors and what promises nothing too."""
        others = ("nothing",) if workload.promise == "process" else ()
        try:
            for store in self.plan.stores:
                if store.promise in (workload.promise, *others):
                    path = self.root / store.name
                    path.mkdir(parents=True)
                    self.handles[store.name] = store.open(path)
            yield
        finally:
            while self.handles:
                self.handles.popitem()[1].close()
            self.versions.clear()
            shutil.rmtree(self.root, ignore_errors=True)

    def _load(self, workload: Workload) -> None:
        """All keys into fresh stores in random order, then let background work end."""
        work = workload.draw(self.rng, self.plan.data.key_count, self.plan.operations)
        done = self._interleave(workload, work, version=0)
        for name, handle in self.handles.items():
            # What a slow store had no time for has to be in it all the same.
            for part in in_slices(work[done[name] :], self.plan.slice_operations):
                pairs = self.plan.data.pairs(part, 0)
                if handle.kept is not None:
                    handle.kept.append(pairs)
                handle.put_many(pairs)
            handle.settle()
        os.sync()

    def _do(self, workload: Workload) -> None:
        self.plan.report(f"{self.title}: {workload.name}")
        self._version += 1
        version = 0 if workload.stage in ("fill", "read") else self._version
        operations = max(1, round(self.plan.operations * workload.operations_part))
        work = workload.draw(self.rng, self.plan.data.key_count, operations)
        done = self._interleave(workload, work, version)
        for name in self.handles:
            written = workload.written(work[: done[name]])
            self.versions[name].update(dict.fromkeys(written, version))
        if workload is DELETERANDOM:
            self._bring_back(work, done, version)
        if workload.call is not None and self.plan.has_latencies:
            self._take_latencies(workload, version)

    def _bring_back(self, work: Work, done: dict[str, int], version: int) -> None:
        """What was deleted is not there, and is put again."""
        for name, count in done.items():
            if name == EMPTY:
                continue
            handle, deleted = self.handles[name], work[:count]
            checks.all_absent(name, handle, self.plan.data, deleted[: checks.SAMPLE_KEYS])
            for part in in_slices(deleted, self.plan.slice_operations):
                pairs = self.plan.data.pairs(part, version)
                if handle.kept is not None:
                    handle.kept.append(pairs)
                handle.put_many(pairs)
            self.versions[name].update(dict.fromkeys(deleted, version))

    def _contenders(self, workload: Workload, size: int) -> dict[str, Handle]:
        unsafe = {store.name for store in self.plan.stores if not store.is_thread_safe}
        found = {
            name: handle
            for name, handle in self.handles.items()
            if not (workload.needs and getattr(handle, workload.needs) is None)
            and not (workload.has_threads and name in unsafe)
        }
        return found if workload.has_threads else {**found, EMPTY: empty_handle(size)}

    def _interleave(self, workload: Workload, work: Work, version: int) -> dict[str, int]:
        """One sample of `workload` for every store, its slices in turn; how much of the work each has done."""
        contenders = self._contenders(workload, len(work))
        total_ns, done = dict.fromkeys(contenders, 0), dict.fromkeys([*self.handles, *contenders], 0)
        size = len(work) if workload.is_whole else self.plan.slice_operations
        for part in in_slices(work, max(1, size)):
            for name in self.rng.sample(list(contenders), len(contenders)):
                if total_ns[name] < self.plan.budget_s * 1e9:
                    total_ns[name] += workload.step(contenders[name], self.plan.data, part, version)
                    done[name] += len(part)
        for name in contenders:
            sample_us = total_ns[name] / done[name] / workload.per / 1e3
            self.rows.add(workload.name, name, US, sample_us)
        return done

    def _take_latencies(self, workload: Workload, version: int = 0) -> None:
        """Each call of a workload by itself, over new work of the same kind."""
        assert workload.call is not None
        self.plan.report(f"{self.title}: latencies of {workload.name}")
        data = self.plan.data
        operations = max(1, round(self.plan.operations * workload.operations_part))
        work = workload.draw(self.rng, data.key_count, operations)
        contenders = self._contenders(workload, len(work))
        histograms = {name: Histogram() for name in contenders}
        spent_ns = dict.fromkeys(contenders, 0)
        for part in in_slices(work, self.plan.slice_operations):
            for name in self.rng.sample(list(contenders), len(contenders)):
                if spent_ns[name] >= self.plan.budget_s * 1e9:
                    continue
                arguments = [data.keys(part)]
                if workload.stage != "read":
                    arguments.append(data.values(part, version))
                    self.versions[name].update(dict.fromkeys(workload.written(part), version))
                handle = contenders[name]
                if handle.kept is not None:
                    handle.kept.append(arguments)
                samples = latencies_ns(workload.call(handle), list(zip(*arguments, strict=True)))
                histograms[name].add(samples)
                spent_ns[name] += sum(samples)
        for name, histogram in histograms.items():
            self.rows.add_latencies(workload.name, name, histogram)

    def _compact(self) -> None:
        """Each store's compaction, and before each a raw copy of as many bytes: disks change their mind."""
        data, rows = self.plan.data, self.rows
        self.plan.report(f"{self.title}: compaction")
        names = [name for name, handle in self.handles.items() if handle.compact]
        for name in self.rng.sample(names, len(names)):
            rows.add(COMPACTION, RAW_COPY, MB_S, raw_copy_rate(self.root, data))
            rows.add(SPACE_AFTER_CHURN, name, BYTES_PER_KEY, disk_bytes(self.root / name) / data.key_count)
            rate = compaction_rate(self.handles[name], self.root / name, data)
            rows.add(SPACE_COMPACTED, name, BYTES_PER_KEY, disk_bytes(self.root / name) / data.key_count)
            if rate is not None:
                rows.add(COMPACTION, name, MB_S, rate)
        self._check("compaction")

    def _check(self, after: str, *, is_whole: bool = False) -> None:
        data = self.plan.data
        ordinals = self.rng.sample(range(data.key_count), min(data.key_count, checks.SAMPLE_KEYS))
        ordered = {store.name for store in self.plan.stores if store.is_ordered}
        for name, handle in self.handles.items():
            try:
                checks.all_present(name, handle, data, ordinals, self.versions[name])
                if is_whole:
                    checks.scans_whole(name, handle, data, is_ordered=name in ordered)
                    checks.finds_its_place(name, handle, data, ordinals[:20])
            except BenchmarkError as error:
                raise BenchmarkError(f"after {after}: {error}") from error
