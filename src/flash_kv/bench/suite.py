"""A whole run: the workloads at one size, the sweeps over keys and sizes of values, memory, and opens."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from flash_kv.bench.dataset import Dataset
from flash_kv.bench.kill_check import check_survives_kill
from flash_kv.bench.machine import machine_facts
from flash_kv.bench.memory import is_measurable, measure_memory
from flash_kv.bench.opening import measure_opening
from flash_kv.bench.results import BYTES_PER_KEY, MS, Results, Row, StoreFacts
from flash_kv.bench.runner import Plan, Rows, measure
from flash_kv.bench.stores import DEFAULT_STORES, STORES, Store, select
from flash_kv.bench.workloads import WORKLOADS, Workload

KEY_BYTES = 16
KEYS_MIN = 1_000
VALUE_BYTES = 100
SWEPT = ("fillrandom", "readrandom", "overwrite")
SWEEP_REPEATS_MAX = 3
SWEEP_BYTES_MAX = 64 * 1024**2
"""Of the values of a sweep over their sizes: large ones come with fewer keys."""
MEMORY_INDEX = "memory of the index"
MEMORY_PRIVATE = "memory of the process"
MEMORY_RESIDENT = "memory with mapped files"


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run does; the defaults are those of `flash-kv bench --quick`."""

    keys: int = 20_000
    value_bytes: int = VALUE_BYTES
    repeats: int = 3
    operations: int = 5_000
    slice_operations: int = 2_500
    budget_s: float = 0.1
    stores: tuple[str, ...] = tuple(DEFAULT_STORES)
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    sweep_keys: tuple[int, ...] = ()
    sweep_value_bytes: tuple[int, ...] = ()
    has_memory: bool = True
    has_opening: bool = True
    seed: int = 1
    directory: Path | None = field(default=None, compare=False)

    def as_json(self) -> dict[str, Any]:
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "directory"}
        return {"key_bytes": KEY_BYTES, **kept}


FULL = Settings(
    keys=200_000,
    repeats=5,
    operations=100_000,
    slice_operations=10_000,
    budget_s=0.5,
    sweep_keys=(10_000, 100_000, 1_000_000),
    sweep_value_bytes=(16, 1024, 16_384, 262_144, 1024**2),
)
QUICK = Settings()


class Suite:
    """One run; `report` is told what is being measured."""

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        self.settings = settings
        self._report = report
        self.stores, self.missing = select(list(settings.stores))
        self._workloads = [WORKLOADS[name] for name in settings.workloads]

    def run(self) -> Results:
        """BenchmarkError when a store is wrong: nothing of the run is kept then."""
        settings = self.settings
        if settings.directory is not None:
            settings.directory.mkdir(parents=True, exist_ok=True)
        directory = Path(tempfile.mkdtemp(prefix="fkv-bench-", dir=settings.directory))
        try:
            results = Results(
                machine=machine_facts(directory, self.stores),
                config=settings.as_json(),
                stores=[StoreFacts.of(store) for store in self.stores],
                missing=self.missing,
            )
            for store in self.stores:
                if store.promise != "nothing":
                    self._report(f"killed and opened again: {store.name}")
                    check_survives_kill(store, directory)
            plan = self._plan(directory)
            results.rows += measure(plan)
            results.rows += self._sweeps(plan)
            results.rows += self._others(plan)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return results

    def _data(self, keys: int, value_bytes: int) -> Dataset:
        return Dataset(keys, KEY_BYTES, value_bytes, self.settings.seed)

    def _plan(self, directory: Path) -> Plan:
        settings = self.settings
        return Plan(
            stores=self.stores,
            workloads=self._workloads,
            data=self._data(settings.keys, settings.value_bytes),
            repeats=settings.repeats,
            operations=settings.operations,
            slice_operations=settings.slice_operations,
            budget_s=settings.budget_s,
            seed=settings.seed,
            directory=directory,
            report=self._report,
        )

    def _sweeps(self, plan: Plan) -> list[Row]:
        """Cost against the number of keys, and against the size of values."""
        settings = self.settings
        sizes = [(keys, settings.value_bytes) for keys in settings.sweep_keys if keys != settings.keys]
        sizes += [
            (max(KEYS_MIN // 10, min(settings.keys, SWEEP_BYTES_MAX // value_bytes)), value_bytes)
            for value_bytes in settings.sweep_value_bytes
        ]
        rows = []
        for keys, value_bytes in sizes:
            self._report(f"sweep: {keys:,} keys, values of {value_bytes:,} B")
            rows += measure(
                replace(
                    plan,
                    data=self._data(keys, value_bytes),
                    workloads=[w for w in self._workloads if w.name in SWEPT],
                    stores=[s for s in plan.stores if s.promise != "power"],
                    repeats=min(SWEEP_REPEATS_MAX, settings.repeats),
                    operations=min(keys, settings.operations),
                    has_latencies=False,
                    has_compaction=False,
                )
            )
        return rows

    def _others(self, plan: Plan) -> list[Row]:
        """Memory per key and the time of opens, of the stores that are compared."""
        rows = plan.rows()
        stores = [store for store in plan.stores if store.promise != "power"]
        if self.settings.has_memory and is_measurable():
            for store in stores:
                self._report(f"memory per key: {store.name}")
                self._memory(store, plan, rows)
        if self.settings.has_opening:
            for store in (store for store in stores if not store.is_floor):
                self._report(f"opening: {store.name}")
                repeats = min(SWEEP_REPEATS_MAX, plan.repeats)
                for name, sample_ms in measure_opening(store, plan.data, repeats, plan.directory):
                    rows.add(name, store.name, MS, sample_ms)
        return rows.finished()

    @staticmethod
    def _memory(store: Store, plan: Plan, rows: Rows) -> None:
        found = measure_memory(store, plan.data.key_count, KEY_BYTES, plan.data.value_bytes, plan.directory)
        if found.index_bytes is not None:
            rows.add(MEMORY_INDEX, store.name, BYTES_PER_KEY, found.index_bytes)
        rows.add(MEMORY_PRIVATE, store.name, BYTES_PER_KEY, found.anonymous_bytes)
        rows.add(MEMORY_RESIDENT, store.name, BYTES_PER_KEY, found.resident_bytes)


def steps_of(settings: Settings) -> int:
    """About how many reports a run makes, for a bar of its progress."""
    stores, _ = select(list(settings.stores))
    workloads: list[Workload] = [WORKLOADS[name] for name in settings.workloads]
    timed = sum(workload.call is not None for workload in workloads)
    safe = [store for store in stores if store.promise != "power"]
    kept = sum(store.promise != "nothing" for store in stores)
    sweeps = len([keys for keys in settings.sweep_keys if keys != settings.keys]) + len(
        settings.sweep_value_bytes
    )
    per_sweep = 1 + min(SWEEP_REPEATS_MAX, settings.repeats) * (
        len([w for w in workloads if w.name in SWEPT]) - 1
    )
    main = settings.repeats * (len(workloads) + timed)
    others = len(safe) * settings.has_memory + sum(not s.is_floor for s in safe) * settings.has_opening
    return kept + main + sweeps * per_sweep + others


__all__ = ["FULL", "QUICK", "STORES", "Settings", "Suite", "steps_of"]
