"""What a store must hold: the order of its commits, which of them are acknowledged, which durable; and the judge.

The promise (docs/durability.md) is one sentence: what a store holds after any interruption is the state after some
prefix of the order of commits, at least up to what was promised: after the death of the process all that was
acknowledged, after a power cut all that was durable. From it follow the others: a batch is one commit, so half of it is
no prefix; an overwritten value or a deleted key that is back is in no prefix that is long enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from flash_kv.options import Durability

State: TypeAlias = "dict[bytes, bytes]"
Writes: TypeAlias = "Mapping[bytes, bytes | None]"
"""The writes of one commit; None deletes."""

Kind = Literal["lost", "torn", "resurrected", "failed open", "other"]
KINDS: tuple[Kind, ...] = ("lost", "torn", "resurrected", "failed open", "other")


@dataclass(frozen=True)
class Violation:
    """A promise that was broken, and how."""

    kind: Kind
    text: str


class Journal:
    """The commits of one store from `base`, the durable state it begins with."""

    def __init__(self, base: State, durability: Durability) -> None:
        self.states: list[State] = [base]
        """The state after each number of commits."""
        self._commits: list[Writes] = [{}]
        self._counted: set[int] = set()
        self._durability = durability
        self.acknowledged = 0
        """So many commits must survive the death of the process."""
        self.durable = 0
        """So many commits must survive a power cut."""

    @property
    def state(self) -> State:
        """What the store holds once all that was begun is done."""
        return self.states[-1]

    def begin(self, writes: Writes) -> None:
        """From now on a crash may leave this commit, wholly."""
        after = dict(self.state)
        for key, value in writes.items():
            if value is None:
                after.pop(key, None)
            else:
                after[key] = value
        self.states.append(after)
        self._commits.append(writes)

    def acknowledge(self, durability: Durability | None = None) -> None:
        """The call that made the commit has returned. `durability`: that of the commit, if not the store's.

        A commit of nothing but deletes of absent keys writes nothing and so makes nothing durable.
        """
        self.acknowledged = len(self.states) - 1
        before = self.states[-2]
        if all(value is None and key not in before for key, value in self._commits[-1].items()):
            return
        if durability is None:
            self._counted.add(self.acknowledged)
        kind = durability or self._durability
        if kind.kind == "always":
            self.durable = self.acknowledged
        elif kind.kind == "bytes":
            self.durable = max(self.durable, self._older_than(kind.bytes))

    def refuse(self) -> None:
        """The call that made the commit has raised: nothing of it may be found."""
        self.states.pop()
        self._commits.pop()

    def make_durable(self) -> None:
        """A sync of everything acknowledged has returned."""
        self.durable = self.acknowledged

    def _older_than(self, size: int) -> int:
        """How many commits have at least `size` bytes of stored keys and values in and after the last of them.

        The log's records are larger than that, so one of the syncs that come each `size` bytes came after it. Commits
        with a durability of their own do not count towards those syncs.
        """
        total = 0
        for number in range(self.acknowledged, 0, -1):
            if number in self._counted:
                puts = ((key, value) for key, value in self._commits[number].items() if value is not None)
                total += sum(len(key) + len(value) for key, value in puts)
            if total >= size:
                return number
        return 0

    # -- the judge

    def judge(self, found: State, floor: int) -> Violation | None:
        """Is `found` the state after a prefix of the commits, at least `floor` of them?"""
        for number in range(len(self.states) - 1, floor - 1, -1):
            if self.states[number] == found:
                return None
        for number in range(floor - 1, -1, -1):
            if self.states[number] == found:
                return Violation("lost", f"{floor} commits were promised, the store ends after {number}")
        return self._explain(found)

    def _explain(self, found: State) -> Violation:
        """Why `found` is no prefix."""
        spans: dict[bytes, tuple[int, int]] = {}
        for key in {*found, *(key for writes in self._commits for key in writes), *self.states[0]}:
            span = self._last_span(key, found.get(key))
            if span is None:
                return Violation("other", f"{short(key)} has a value that was never written")
            spans[key] = span
        newest = max(span[0] for span in spans.values())
        behind = [key for key, span in spans.items() if span[1] < newest]
        if any(spans[key][1] + 1 == newest for key in behind):
            return Violation("torn", f"commit {newest} is there without its write of {short(behind[0])}")
        return Violation(
            "resurrected",
            f"commit {newest} is there, but {short(behind[0])} is as after commit {spans[behind[0]][1]}, "
            "though written again since",
        )

    def _last_span(self, key: bytes, value: bytes | None) -> tuple[int, int] | None:
        """The first and last number of commits after which `key` has `value`, the last time that is so."""
        last = len(self.states) - 1
        while last >= 0 and self.states[last].get(key) != value:
            last -= 1
        if last < 0:
            return None
        first = last
        while first > 0 and self.states[first - 1].get(key) == value:
            first -= 1
        return first, last


def short(key: bytes) -> str:
    """A key as a message shows it."""
    return repr(key if len(key) <= 20 else key[:17] + b"...")
