"""The core workloads A to F of YCSB, with the proportions and the choosers of its paper.

A mix is drawn beforehand as a list of operations, so that every store does the same. A scan reads 1 to 100 items,
uniformly; a read-modify-write is a read and then a write of the same key, one operation.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from flash_kv.bench.distributions import Latest, Scrambled, Uniform

Kind = Literal["read", "update", "insert", "scan", "modify"]
SCAN_ITEMS_MAX = 100
CHOOSERS: dict[str, type[Scrambled] | type[Latest] | type[Uniform]] = {
    "zipfian": Scrambled,
    "latest": Latest,
    "uniform": Uniform,
}


@dataclass(frozen=True)
class Operation:
    """One operation on the key of an ordinal; `items` of a scan."""

    kind: Kind
    ordinal: int
    items: int = 0


@dataclass(frozen=True)
class Mix:
    """One letter."""

    letter: str
    title: str
    shares: dict[Kind, float]
    chooser: Literal["zipfian", "latest", "uniform"] = "zipfian"

    def draw(self, key_count: int, operations: int, rng: random.Random) -> list[Operation]:
        """Operations on the keys of ordinals below `key_count`, and of those that they insert."""
        chooser = CHOOSERS[self.chooser](key_count, rng)
        kinds = rng.choices(list(self.shares), list(self.shares.values()), k=operations)
        drawn, inserted = [], 0
        for kind in kinds:
            if kind == "insert":
                drawn.append(Operation(kind, key_count + inserted))
                inserted += 1
                if isinstance(chooser, Latest):
                    chooser.items += 1
            else:
                items = rng.randint(1, SCAN_ITEMS_MAX) if kind == "scan" else 0
                drawn.append(Operation(kind, chooser.draw(), items))
        return drawn


MIXES = (
    Mix("a", "reads and updates, half each", {"read": 0.5, "update": 0.5}),
    Mix("b", "95 % reads, 5 % updates", {"read": 0.95, "update": 0.05}),
    Mix("c", "reads", {"read": 1.0}),
    Mix("d", "95 % reads of the latest, 5 % inserts", {"read": 0.95, "insert": 0.05}, "latest"),
    Mix("e", "95 % short scans, 5 % inserts", {"scan": 0.95, "insert": 0.05}),
    Mix("f", "reads and read-modify-writes, half each", {"read": 0.5, "modify": 0.5}),
)
