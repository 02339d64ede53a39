"""Is what threads saw and did explained by some one order of their operations?

Each operation has the moments between which it took effect. An order explains them if it respects these moments (what
ended before another began comes first), every read gives what the writes before it left, and the state at the end is
the one that was found. So a read that overlaps a write may give the old or the new value, and a snapshot is one moment.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from flash_kv.torture.journal import State


@dataclass
class Operation:
    """What one thread did between two moments, and what it saw."""

    name: str
    began: int
    ended: int
    writes: Mapping[bytes, bytes | None] = field(default_factory=dict)
    seen: Mapping[bytes, bytes | None] = field(default_factory=dict)
    """Values of single keys as they were when it took effect, before its own writes; None: absent."""
    seen_all: State | None = None
    """The whole content, as a scan saw it."""

    def is_explained_by(self, state: State) -> bool:
        if self.seen_all is not None and self.seen_all != state:
            return False
        return all(state.get(key) == value for key, value in self.seen.items())

    def apply(self, state: State) -> State:
        if not self.writes:
            return state
        after = {**state, **{key: value for key, value in self.writes.items() if value is not None}}
        for key, value in self.writes.items():
            if value is None:
                after.pop(key, None)
        return after


def is_explained(threads: list[list[Operation]], first: State, last: State) -> bool:
    """Whether some order of all operations leads from `first` to `last`. Each list is in the order of its thread."""
    tried: set[tuple[tuple[int, ...], frozenset[tuple[bytes, bytes]]]] = set()
    waiting: list[tuple[tuple[int, ...], State]] = [((0,) * len(threads), first)]
    while waiting:
        places, state = waiting.pop()
        key = places, frozenset(state.items())
        if key in tried:
            continue
        tried.add(key)
        heads = [
            (number, operations[place])
            for number, (operations, place) in enumerate(zip(threads, places, strict=True))
            if place < len(operations)
        ]
        if not heads and state == last:
            return True
        for number, operation in heads:
            # What has ended before this one began must come first.
            is_next = all(operation.began <= other.ended for _, other in heads)
            if is_next and operation.is_explained_by(state):
                after = (*places[:number], places[number] + 1, *places[number + 1 :])
                waiting.append((after, operation.apply(state)))
    return False
