"""Everything one run of `benchmarks.compare` found, as figures and as JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from benchmarks.figures import Figure
from benchmarks.latency import Latencies
from benchmarks.memory import MemoryPerKey
from benchmarks.runner import EMPTY, Measured
from benchmarks.stores.base import Store
from benchmarks.workloads import SCAN, WORKLOADS

JSON_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Results:
    """The run's settings, its samples, and the figures made of them."""

    machine: dict[str, object]
    config: dict[str, object]
    stores: list[Store]
    not_installed: list[str]
    measured: Measured
    latencies: Latencies | None
    memory: list[MemoryPerKey]

    @property
    def titles(self) -> dict[str, str]:
        return {workload.name: workload.title for workload in WORKLOADS}

    def overhead_us(self, workload: str) -> float:
        """The loop and the empty call, per operation of `workload`.

        The lowest of the repeats: noise may make the overhead look larger, and then subtracting its
        median would flatter every store, the fast ones most.
        """
        return min(self.measured.us_per_operation[workload][EMPTY])

    def us(self, workload: str, store: str) -> Figure | None:
        """Microseconds per operation, overhead subtracted; None when the store was not measured."""
        samples = self.measured.us_per_operation[workload].get(store)
        return Figure.of(samples, self.overhead_us(workload)) if samples else None

    def us_as_called(self, workload: str, store: str) -> Figure:
        """Microseconds per operation with nothing subtracted."""
        return Figure.of(self.measured.us_per_operation[workload][store])

    def best_peer(self, workload: str) -> tuple[str, Figure] | None:
        """The fastest store that is neither ours nor the floor; in a scan, of those that scan in order."""
        peers = [s for s in self.stores if not s.is_ours and s.promise != "nothing"]
        if workload == SCAN.name:
            peers = [s for s in peers if s.is_ordered]
        figures = [(s.name, figure) for s in peers if (figure := self.us(workload, s.name)) is not None]
        return min(figures, key=lambda named: named[1].median, default=None)

    @property
    def compaction(self) -> dict[str, Figure]:
        return {name: Figure.of(rates) for name, rates in self.measured.compaction_mb_s.items()}

    def as_json(self) -> dict[str, object]:
        """All samples and figures; the verdicts are added by the caller."""
        return {
            "json_version": JSON_VERSION,
            "machine": self.machine,
            "config": self.config,
            "stores": {s.name: self._store_json(s) for s in self.stores},
            "not_installed": self.not_installed,
            "overhead_us": {name: self.overhead_us(name) for name in self.titles},
            "us_per_operation": {name: self._workload_json(name) for name in self.titles},
            "compaction_mb_s": {
                name: {**asdict(figure), "samples": self.measured.compaction_mb_s[name]}
                for name, figure in self.compaction.items()
            },
            "put_latency": None if self.latencies is None else asdict(self.latencies),
            "memory_per_key": [asdict(memory) for memory in self.memory],
        }

    @staticmethod
    def _store_json(store: Store) -> dict[str, object]:
        return {
            "version": store.version(),
            "settings": store.settings,
            "survives": store.survives,
            "read_check": store.read_check,
            "is_ordered": store.is_ordered,
        }

    def _workload_json(self, workload: str) -> dict[str, object]:
        found: dict[str, object] = {}
        for store in self.stores:
            figure = self.us(workload, store.name)
            if figure is not None:
                samples = self.measured.us_per_operation[workload][store.name]
                found[store.name] = {**asdict(figure), "samples_as_called": samples}
        return found
