"""What a run found: rows of samples, each with the workload, the store and the sizes it belongs to; and JSON of all."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from flash_kv.bench.figures import Figure
from flash_kv.bench.stores.base import Store

JSON_VERSION = 3
US = "us"
LATENCY = "us, each call"
MB_S = "MB/s"
BYTES_PER_KEY = "bytes per key"
MS = "ms"


@dataclass(kw_only=True)
class Row:
    """One store in one workload at one size."""

    workload: str
    store: str
    keys: int
    value_bytes: int
    unit: str
    samples: list[float] = field(default_factory=list)
    """One for each repeat, as measured."""
    subtract: float = 0.0
    """The overhead of the loop, in the same unit."""
    operations: list[int] = field(default_factory=list)
    """How many each sample is of; 0 where that means nothing."""
    planned: int = 0
    """How many each should have been of; a store that is slow does fewer."""
    percentiles: dict[str, list[float]] = field(default_factory=dict)
    """Of single calls, in us, the overhead subtracted: one for each repeat."""
    curve: list[tuple[float, float]] = field(default_factory=list)
    """Their distribution: the part of the calls, and the us that they don't exceed."""

    @property
    def figure(self) -> Figure:
        return Figure.of(self.samples, self.subtract)

    def percentile(self, name: str) -> Figure:
        return Figure.of(self.percentiles[name])

    @property
    def done_part(self) -> float:
        """The part of the planned operations that was done; 1 where nothing was planned."""
        if not self.planned or not self.operations:
            return 1.0
        return sum(self.operations) / (self.planned * len(self.operations))


@dataclass(frozen=True, kw_only=True)
class StoreFacts:
    """What is said of a store beside its figures."""

    name: str
    version: str | None
    settings: str
    promise: str
    survives: str
    read_check: str
    sharing: str
    is_ours: bool
    is_floor: bool
    is_ordered: bool
    has_batch: bool

    @classmethod
    def of(cls, store: Store) -> StoreFacts:
        kept = {name: getattr(store, name) for name in cls.__dataclass_fields__ if name != "version"}
        return cls(version=store.version(), **kept)


@dataclass(kw_only=True)
class Results:
    """A run: the machine, the settings, the stores, the rows."""

    machine: dict[str, Any]
    config: dict[str, Any]
    stores: list[StoreFacts]
    missing: list[str]
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    """What was not measured although it had been asked for, and why."""

    def find(
        self,
        workload: str,
        store: str,
        unit: str = US,
        *,
        keys: int | None = None,
        value_bytes: int | None = None,
    ) -> Row | None:
        """At the sizes of the main part of the run where none are given; what is not swept has one size."""
        sizes = (keys or self.config["keys"], value_bytes or self.config["value_bytes"])
        for row in self.rows:
            is_it = (row.workload, row.store, row.unit) == (workload, store, unit)
            if is_it and (unit != US or (row.keys, row.value_bytes) == sizes):
                return row
        return None

    def us(self, workload: str, store: str) -> Figure | None:
        row = self.find(workload, store)
        return None if row is None else row.figure

    def best_peer(
        self, workload: str, *, is_ordered: bool = False, promise: str = "process"
    ) -> tuple[str, Figure] | None:
        """The fastest of the stores that are not ours and promise the same."""
        figures = [
            (store.name, figure)
            for store in self.stores
            if not (store.is_ours or store.is_floor)
            and store.promise == promise
            and (store.is_ordered or not is_ordered)
            and (figure := self.us(workload, store.name)) is not None
        ]
        return min(figures, key=lambda named: named[1].median, default=None)

    def of_unit(self, unit: str) -> Iterator[Row]:
        return (row for row in self.rows if row.unit == unit)

    def write(self, path: Path) -> None:
        path.write_text(json.dumps({"json_version": JSON_VERSION, **asdict(self)}, indent=1) + "\n", "utf-8")

    @classmethod
    def read(cls, path: Path) -> Results:
        """What `write` wrote; ValueError for anything else."""
        document = json.loads(path.read_text("utf-8"))
        if document.pop("json_version", None) != JSON_VERSION:
            raise ValueError(f"{path} is no result of this version of the benchmarks")
        document["stores"] = [StoreFacts(**store) for store in document["stores"]]
        document["rows"] = [Row(**row) for row in document["rows"]]
        return cls(**document)
