"""The interleaved run: every repeat takes all stores through the same workloads, slice by slice in turn.

Invariants:
- Within a slice each store does the same operations, in an order of stores drawn anew for every slice: what
  disturbs the machine for longer than a slice disturbs all of them alike.
- A repeat starts from fresh directories and loads all keys, so repeats differ by noise only.
- A store's answers are checked between the timed loops; a wrong one ends the run.
- Only one repeat's stores are open, and their directories are removed with it.
"""

from __future__ import annotations

import gc
import os
import random
import shutil
import sys
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import checks
from benchmarks.compaction import RAW_COPY, compaction_rate, raw_copy_rate
from benchmarks.dataset import Dataset, in_slices
from benchmarks.stores.base import BenchmarkError, Handle, Store
from benchmarks.timing import empty_handle
from benchmarks.workloads import (
    BATCH,
    DELETE,
    GET,
    GET_HOT,
    GET_MANY,
    GET_MISSING,
    OVERWRITE,
    PUT,
    PUT_MANY,
    SCAN,
    Workload,
)

EMPTY = "empty call"
"""The store that does nothing, measured among the others: its times are what is subtracted."""

Samples = dict[str, list[float]]


def _samples() -> Samples:
    return defaultdict(list)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How much a run does."""

    stores: list[Store]
    data: Dataset
    repeats: int
    operations: int
    """Operations of each workload but the load and the scan, which go through all keys."""
    slice_operations: int
    seed: int
    directory: Path


@dataclass
class Measured:
    """What a run found: one sample per repeat."""

    us_per_operation: dict[str, Samples] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(list))
    )
    """Workload, store: microseconds as called, nothing subtracted."""
    compaction_mb_s: Samples = field(default_factory=_samples)


def progress(text: str) -> None:
    """One line about where the run is, on standard error."""
    print(text, file=sys.stderr, flush=True)


def measure(plan: Plan) -> Measured:
    """Run everything `repeats` times."""
    measured = Measured()
    for repeat in range(plan.repeats):
        root = plan.directory / f"repeat-{repeat}"
        repeat_run = Repeat(plan, measured, random.Random(plan.seed + repeat), root)
        try:
            repeat_run.open()
            progress(f"repeat {repeat + 1} of {plan.repeats}: load")
            repeat_run.load()
            progress(f"repeat {repeat + 1} of {plan.repeats}: read")
            repeat_run.read()
            progress(f"repeat {repeat + 1} of {plan.repeats}: write")
            repeat_run.write()
            progress(f"repeat {repeat + 1} of {plan.repeats}: compact")
            repeat_run.compact()
        finally:
            repeat_run.close()
            shutil.rmtree(root, ignore_errors=True)
        gc.collect()
    return measured


class Repeat:
    """One repeat: the open stores and the version each key is at."""

    def __init__(self, plan: Plan, measured: Measured, rng: random.Random, root: Path) -> None:
        self.plan = plan
        self.measured = measured
        self.rng = rng
        self.root = root
        self.handles: dict[str, Handle] = {}
        self.versions: dict[int, int] = {}

    def open(self) -> None:
        for store in self.plan.stores:
            path = self.root / store.name
            path.mkdir(parents=True)
            self.handles[store.name] = store.open(path)

    def close(self) -> None:
        while self.handles:
            self.handles.popitem()[1].close()

    def load(self) -> None:
        """All keys into fresh stores in random order, then let background work end."""
        ordinals = list(range(self.plan.data.key_count))
        self.rng.shuffle(ordinals)
        self._interleave(PUT, ordinals, version=0)
        for handle in self.handles.values():
            handle.settle()
        os.sync()
        self._check("load")

    def read(self) -> None:
        for workload in (GET, GET_HOT, GET_MISSING, GET_MANY):
            self._interleave(workload, self._sample())
        ordinals = list(range(self.plan.data.key_count))
        self._in_turn(SCAN, ordinals)

    def write(self) -> None:
        """Overwrite some keys; delete some, and bring them back, half in each kind of batch."""
        overwritten = self._sample()
        self._interleave(OVERWRITE, overwritten, version=1)
        self.versions.update(dict.fromkeys(overwritten, 1))
        self._check("overwrite")
        deleted = self._sample()
        self._interleave(DELETE, deleted)
        checks.all_absent(self.handles, self.plan.data, deleted[: checks.SAMPLE_KEYS])
        half = len(deleted) // 2
        self._interleave(PUT_MANY, deleted[:half], version=2)
        self._interleave(BATCH, deleted[half:], version=2)
        self.versions.update(dict.fromkeys(deleted, 2))
        self._check("batches")

    def compact(self) -> None:
        """Each store's compaction, and before each a raw copy of as many bytes: disks change their mind."""
        data, rates = self.plan.data, self.measured.compaction_mb_s
        for name in self._shuffled([name for name, handle in self.handles.items() if handle.compact]):
            rates[RAW_COPY].append(raw_copy_rate(self.root, data))
            rate = compaction_rate(self.handles[name], self.root / name, data)
            if rate is not None:
                rates[name].append(rate)
        self._check("compaction", is_whole=True)

    def _sample(self) -> list[int]:
        return self.rng.sample(range(self.plan.data.key_count), self.plan.operations)

    def _shuffled(self, names: list[str]) -> list[str]:
        return self.rng.sample(names, len(names))

    def _interleave(self, workload: Workload, ordinals: list[int], version: int = 0) -> None:
        """One sample of `workload` for every store: its slices in turn, its times added up."""
        total_ns = dict.fromkeys([*self.handles, EMPTY], 0)
        contenders = {**self.handles, EMPTY: empty_handle(len(ordinals))}
        for part in in_slices(ordinals, self.plan.slice_operations):
            for name in self._shuffled(list(contenders)):
                total_ns[name] += workload.step(contenders[name], self.plan.data, part, version)
        for name, elapsed_ns in total_ns.items():
            self.measured.us_per_operation[workload.name][name].append(elapsed_ns / len(ordinals) / 1e3)

    def _in_turn(self, workload: Workload, ordinals: list[int]) -> None:
        """As `_interleave`, for a workload that can't be cut: a whole scan each."""
        contenders = {**self.handles, EMPTY: empty_handle(len(ordinals))}
        for name in self._shuffled(list(contenders)):
            elapsed_ns = workload.step(contenders[name], self.plan.data, ordinals, 0)
            self.measured.us_per_operation[workload.name][name].append(elapsed_ns / len(ordinals) / 1e3)

    def _check(self, after: str, *, is_whole: bool = False) -> None:
        ordinals = self._sample()[: checks.SAMPLE_KEYS]
        ordered = {store.name for store in self.plan.stores if store.is_ordered}
        try:
            checks.all_present(self.handles, self.plan.data, ordinals, self.versions)
            if is_whole:
                checks.scans_whole(self.handles, self.plan.data, ordered)
        except BenchmarkError as error:
            raise BenchmarkError(f"after {after}: {error}") from error
