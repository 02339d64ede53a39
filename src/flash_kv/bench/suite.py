"""A whole run: the workloads at one size, sweeps over keys and sizes of values, and what has processes of its own.

Its parts follow each other, each with its share of the time if there is a limit (budget.py). A part that had no time
for all of its repeats has fewer, and a store that takes too long for a part is left out of it; both are told.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from flash_kv.bench.budget import Budget, Part
from flash_kv.bench.dataset import Dataset
from flash_kv.bench.histogram import Histogram
from flash_kv.bench.kill_check import check_survives_kill
from flash_kv.bench.machine import machine_facts
from flash_kv.bench.page_cache import how_pages_are_dropped
from flash_kv.bench.parts import measure_alone
from flash_kv.bench.results import Results, Row, StoreFacts
from flash_kv.bench.runner import Plan, measure
from flash_kv.bench.stores import DEFAULT_STORES, STORES, Store, select
from flash_kv.bench.workloads import WORKLOADS, Workload

KEY_BYTES = 16
KEYS_MIN = 1_000
VALUE_BYTES = 100
MIB = 1024**2
SWEPT = ("fillrandom", "readrandom", "overwrite")
SWEEP_BYTES_MAX = 64 * MIB
"""Of the values of a sweep over their sizes: large ones come with fewer keys."""
LARGE_KEYS = 5_000_000
"""From so many keys on a store is loaded once, and only ours and the fastest peers are."""
LARGE_PEERS = 2
LARGE_LOAD_BUDGET_S = 240.0
OTHERS = {"memory": 2.0, "opening": 6.0, "processes": 6.0, "compaction": 14.0}
"""The parts whose stores have processes of their own, with what they need of a run's time; the main part needs 40."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What a run does; the defaults are those of `flash-kv bench --quick`."""

    keys: int = 20_000
    value_bytes: int = VALUE_BYTES
    repeats: int = 3
    operations: int = 5_000
    slice_operations: int = 2_500
    budget_s: float = 0.1
    minutes: float | None = None
    """About how long the run may take; None: as long as it does."""
    stores: tuple[str, ...] = tuple(DEFAULT_STORES)
    workloads: tuple[str, ...] = tuple(WORKLOADS)
    sweep_keys: tuple[int, ...] = ()
    sweep_value_bytes: tuple[int, ...] = ()
    others: tuple[str, ...] = tuple(OTHERS)
    log_bytes: int = 8 * MIB
    """Keys and values written before a compaction is measured."""
    load_budget_s: float = 10.0
    """Time for the load of one store in a sweep or before a compaction."""
    seed: int = 1
    directory: Path | None = field(default=None, compare=False)

    def as_json(self) -> dict[str, Any]:
        kept = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "directory"}
        return {"key_bytes": KEY_BYTES, "cold_by": how_pages_are_dropped(), **kept}


FULL = Settings(
    keys=200_000,
    repeats=5,
    operations=100_000,
    slice_operations=10_000,
    budget_s=0.5,
    sweep_keys=(10_000, 100_000, 1_000_000, 10_000_000),
    sweep_value_bytes=(16, 1024, 16_384, 262_144, MIB),
    log_bytes=256 * MIB,
    load_budget_s=60.0,
)
QUICK = Settings()


class Suite:
    """One run; `report` is told what is being measured."""

    def __init__(self, settings: Settings, report: Callable[[str], None]) -> None:
        # Before anything is measured: BenchmarkError where the library of latencies is missing.
        Histogram()
        self.settings = settings
        self._report = report
        self._left_out: list[str] = []
        self.stores, self.missing = select(list(settings.stores))
        self._workloads = [WORKLOADS[name] for name in settings.workloads]
        seconds = None if settings.minutes is None else 60 * settings.minutes
        self._budget = Budget(_weights(settings), seconds)

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
                left_out=self._left_out,
            )
            for store in self.stores:
                if store.promise != "nothing":
                    self._report(f"killed and opened again: {store.name}")
                    check_survives_kill(store, directory)
            self._run_parts(results, directory)
        finally:
            shutil.rmtree(directory, ignore_errors=True)
        return results

    def _run_parts(self, results: Results, directory: Path) -> None:
        plan = self._plan(directory)
        part = self._budget.part("main")
        results.rows += measure(replace(plan, budget_s=self._slot_s(part)), part)
        self._tell_repeats(results)
        for name in self.settings.others:
            self._report(name)
            results.rows += measure_alone(name, plan, self._budget.part(name), self.settings.log_bytes)
        for keys, value_bytes in _sweeps(self.settings):
            results.rows += self._sweep(plan, keys, value_bytes, results)

    def _slot_s(self, part: Part) -> float:
        """Time for a workload of a store, so that all repeats of the main part have time."""
        latencies = sum(workload.call is not None for workload in self._workloads)
        slots = max(1, self.settings.repeats * len(self.stores) * (len(self._workloads) + latencies))
        # Half of the time goes to loads, checks and what is drawn.
        return min(self.settings.budget_s, part.seconds_left / 2 / slots)

    def _tell_repeats(self, results: Results) -> None:
        done = max((len(row.samples) for row in results.rows), default=0)
        if self._workloads and done < self.settings.repeats:
            self._left_out.append(
                f"{self.settings.repeats - done} of {self.settings.repeats} repeats: no time left"
            )

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
            load_budget_s=settings.load_budget_s,
            seed=settings.seed,
            directory=directory,
            report=self._report,
            leave_out=self._left_out.append,
        )

    def _sweep(self, plan: Plan, keys: int, value_bytes: int, results: Results) -> list[Row]:
        """Cost at another number of keys, or another size of values."""
        settings = self.settings
        self._report(f"sweep: {keys:,} keys, values of {value_bytes:,} B")
        part = self._budget.part(_sweep_name(keys, value_bytes))
        if not part.seconds_left:
            self._left_out.append(f"{keys:,} keys of {value_bytes:,} B values: no time left")
            return []
        stores = [store for store in plan.stores if store.promise != "power"]
        load_budget_s, repeats, rounds = settings.load_budget_s, settings.repeats, 1
        if keys >= LARGE_KEYS:
            stores = _fastest(stores, results)
            load_budget_s, repeats, rounds = LARGE_LOAD_BUDGET_S, 1, repeats
        return measure(
            replace(
                plan,
                data=self._data(keys, value_bytes),
                workloads=[workload for workload in self._workloads if workload.name in SWEPT],
                stores=stores,
                repeats=repeats,
                rounds=rounds,
                operations=min(keys, settings.operations),
                load_budget_s=min(load_budget_s, part.seconds_left / len(stores)),
                has_latencies=False,
            ),
            part,
        )


def _fastest(stores: list[Store], results: Results) -> list[Store]:
    """Ours, and the peers that read and load fastest in the main part."""
    costs = {
        store.name: sum(figure.median for name in SWEPT if (figure := results.us(name, store.name)))
        for store in stores
        if not (store.is_ours or store.is_floor)
    }
    kept = sorted((name for name in costs if costs[name]), key=lambda name: costs[name])[:LARGE_PEERS]
    return [store for store in stores if store.is_ours or store.name in kept]


def _sweep_name(keys: int, value_bytes: int) -> str:
    return f"sweep {keys} {value_bytes}"


def _sweeps(settings: Settings) -> list[tuple[int, int]]:
    """(keys, bytes of a value) beside those of the main part, the largest last."""
    if not set(settings.workloads) & set(SWEPT):
        return []
    sizes = [
        (max(KEYS_MIN // 10, min(settings.keys, SWEEP_BYTES_MAX // value_bytes)), value_bytes)
        for value_bytes in settings.sweep_value_bytes
    ]
    sizes += [(keys, settings.value_bytes) for keys in settings.sweep_keys]
    main = (settings.keys, settings.value_bytes)
    return [size for size in dict.fromkeys(sizes) if size != main]


def _weights(settings: Settings) -> dict[str, float]:
    """What each part needs of a run's time, in proportion."""
    weights = {"main": 40.0, **{name: OTHERS[name] for name in settings.others}}
    for keys, value_bytes in _sweeps(settings):
        weights[_sweep_name(keys, value_bytes)] = min(24.0, 1.0 + keys / 200_000)
    return weights


def steps_of(settings: Settings) -> int:
    """About how many reports a run makes, for a bar of its progress."""
    stores, _ = select(list(settings.stores))
    workloads: list[Workload] = [WORKLOADS[name] for name in settings.workloads]
    timed = sum(workload.call is not None for workload in workloads)
    kept = sum(store.promise != "nothing" for store in stores)
    swept = len([workload for workload in workloads if workload.name in SWEPT and workload.stage != "load"])
    main = settings.repeats * (len(workloads) + timed)
    return kept + main + len(settings.others) + len(_sweeps(settings)) * (1 + settings.repeats * swept)


__all__ = ["FULL", "QUICK", "STORES", "Settings", "Suite", "steps_of"]
