"""The interleaved run: every repeat takes all stores through the same workloads, slice by slice in turn.

Invariants:
- Within a slice each store does the same operations, in an order of stores drawn anew for every slice: what
  disturbs the machine for longer than a slice disturbs all of them alike.
- A repeat starts from fresh directories and loads all keys, so repeats differ by noise only.
- A store does no slice of a workload that would exceed its time for it; its figure is of those it did, and the row
  says how many operations they were.
- A store's answers are checked between the timed loops; a wrong one ends the run.
- Only one repeat's stores are open, and their directories are removed with it.
"""

from __future__ import annotations

import gc
import math
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

from flash_kv.bench import checks
from flash_kv.bench.budget import Part
from flash_kv.bench.dataset import Dataset, in_slices
from flash_kv.bench.histogram import Histogram
from flash_kv.bench.page_cache import sync_files
from flash_kv.bench.results import US, Row
from flash_kv.bench.rows import EMPTY, Rows
from flash_kv.bench.stores.base import BenchmarkError, Handle, Store
from flash_kv.bench.timing import empty_handle, latencies_ns
from flash_kv.bench.workloads import DELETERANDOM, Stage, Work, Workload

FIRST_SLICE_OPERATIONS = 1_000
"""Slices double from here to those of the plan, so that a slow store need not do a whole one."""
CHECKED_WHOLE_KEYS_MAX = 1_000_000
"""Of more keys no whole scan is checked, which would take longer than what is measured."""

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
    """Time for one workload of one store in one repeat."""
    seed: int
    directory: Path
    rounds: int = 1
    """How often all but the loads is done within a repeat: for sizes whose load takes too long to repeat."""
    load_budget_s: float = math.inf
    """Time for the load of one store, without which it is left out at this size."""
    has_latencies: bool = True
    report: Report = print
    leave_out: Report = print
    """Told what was planned and is not measured, and why."""

    def rows(self) -> Rows:
        return Rows(self.data.key_count, self.data.value_bytes)


def measure(plan: Plan, part: Part | None = None) -> list[Row]:
    """Run everything `repeats` times, or as often as there is time for: once in any case."""
    rows = plan.rows()
    stores = list(plan.stores)
    for number in (part or Part(math.inf)).rounds(plan.repeats, at_least=1):
        root = plan.directory / f"repeat-{number}"
        title = f"repeat {number + 1} of {plan.repeats}"
        repeat = Repeat(plan, stores, rows, random.Random(plan.seed + number), root, title)
        repeat.run()
        stores = [store for store in stores if store.name not in repeat.too_slow]
        gc.collect()
    return rows.finished()


class Repeat:
    """One repeat: the open stores, and the version that each key of each store is at."""

    def __init__(
        self, plan: Plan, stores: list[Store], rows: Rows, rng: random.Random, root: Path, title: str
    ) -> None:
        self.plan = plan
        self.stores = stores
        self.rows = rows
        self.rng = rng
        self.root = root
        self.title = title
        self.handles: dict[str, Handle] = {}
        self.versions: dict[str, dict[int, int]] = defaultdict(dict)
        self.too_slow: set[str] = set()
        """Stores left out from here on: their load took more than its time."""
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
            self._check("load", is_whole=self.plan.data.key_count <= CHECKED_WHOLE_KEYS_MAX)
            for _ in range(self.plan.rounds):
                for workload in self._of_stage("read"):
                    self._do(workload)
                self._check("reading")
                for workload in self._of_stage("change"):
                    self._do(workload)
                    self._check(workload.name)

    def _of_stage(self, stage: Stage) -> list[Workload]:
        return [workload for workload in self.plan.workloads if workload.stage == stage]

    @contextmanager
    def _open_for(self, workload: Workload) -> Iterator[None]:
        """Fresh stores of those that promise what the workload is about; the floors and what promises nothing too."""
        others = ("nothing",) if workload.promise == "process" else ()
        try:
            for store in self.stores:
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
        for name, handle in list(self.handles.items()):
            if self._finish_load(name, handle, work[done[name] :]):
                handle.settle()
            else:
                self._give_up(name)
        sync_files(self.root)

    def _finish_load(self, name: str, handle: Handle, rest: list[int]) -> bool:
        """What a slow store had no time for has to be in it all the same; False when it takes too long.

        In the order of keys, which is quick for every store.
        """
        plan, begin = self.plan, monotonic()
        for part in in_slices(sorted(rest), plan.slice_operations):
            if monotonic() - begin > plan.load_budget_s:
                return False
            pairs = plan.data.pairs(part, 0)
            if handle.kept is not None:
                handle.kept.append(pairs)
            handle.put_many(pairs)
        return True

    def _give_up(self, name: str) -> None:
        self.too_slow.add(name)
        self.handles.pop(name).close()
        shutil.rmtree(self.root / name, ignore_errors=True)
        self.rows.drop(name)
        self.plan.leave_out(
            f"{name} at {self.plan.data.key_count:,} keys of {self.plan.data.value_bytes:,} B values: they were not "
            f"in it after {self.plan.load_budget_s:.0f} s"
        )

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
            # Of new values: a store may notice that it is given what it has, and write nothing.
            self._version += 1
            self._take_latencies(workload, 0 if workload.stage == "read" else self._version)

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
        unsafe = {store.name for store in self.stores if not store.is_thread_safe}
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
        going = set(contenders)
        for part in [work] if workload.is_whole else self._slices(work):
            for name in self.rng.sample(list(contenders), len(contenders)):
                # Who has left out a slice does no later one, though it may be shorter: what was done is the beginning.
                if name in going and not self._has_time(total_ns[name], done[name], len(part)):
                    going.discard(name)
                if name in going:
                    total_ns[name] += workload.step(contenders[name], self.plan.data, part, version)
                    done[name] += len(part)
        for name in contenders:
            sample_us = total_ns[name] / done[name] / workload.per / 1e3
            self.rows.add(
                workload.name,
                name,
                US,
                sample_us,
                operations=done[name] * workload.per,
                planned=len(work) * workload.per,
            )
        return done

    def _slices(self, work: Work) -> list[Work]:
        slices, begin = [], 0
        size = min(FIRST_SLICE_OPERATIONS, self.plan.slice_operations)
        while begin < len(work):
            slices.append(work[begin : begin + size])
            begin += size
            size = min(2 * size, self.plan.slice_operations)
        return slices

    def _has_time(self, spent_ns: int, done: int, more: int) -> bool:
        """Whether a store's next slice would end within its time; it always does one."""
        return not done or spent_ns * (1 + more / done) <= self.plan.budget_s * 1e9

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
        for part in self._slices(work):
            for name in self.rng.sample(list(contenders), len(contenders)):
                if not self._has_time(spent_ns[name], histograms[name].total, len(part)):
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

    def _check(self, after: str, *, is_whole: bool = False) -> None:
        data = self.plan.data
        ordinals = self.rng.sample(range(data.key_count), min(data.key_count, checks.SAMPLE_KEYS))
        ordered = {store.name for store in self.stores if store.is_ordered}
        for name, handle in self.handles.items():
            try:
                checks.all_present(name, handle, data, ordinals, self.versions[name])
                if is_whole:
                    checks.scans_whole(name, handle, data, is_ordered=name in ordered)
                    checks.finds_its_place(name, handle, data, ordinals[:20])
            except BenchmarkError as error:
                raise BenchmarkError(f"after {after}: {error}") from error
