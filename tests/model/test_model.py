"""The store against a dict: any sequence of operations leaves both with the same content.

Hypothesis chooses the operations: single writes, batches, ranges, scans, snapshots, compaction, reopening
with either index, and kills. A kill is a copy of the directory as the kernel has it, opened as another store:
what the process had not written is not in it, nothing was closed. Segments are as small as they may be, so
that a few values fill one.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

import flash_kv
from flash_kv import DB, Snapshot, UnorderedIndexError
from flash_kv.io.system import System
from support.stores import crash_image

SEGMENT_BYTES = 65536
HEADER_BYTES = 24
SNAPSHOTS_MAX = 6
EXAMPLES = 100 if os.environ.get("CI") else 20
STEPS = 50

# Few keys, so that they meet again: neighbours, shared beginnings, the greatest bytes, and long ones.
KEYS = [
    *(b"%d" % number for number in range(8)),
    *(b"user:%04d" % number for number in range(8)),
    b"\x00",
    b"\x00\x00",
    b"\xfe\xff",
    b"\xff",
    b"\xff\xff",
    b"\xff" * 9,
    b"long" * 500,
    b"long" * 500 + b"\x00",
]
keys = st.sampled_from(KEYS)
few_keys = st.lists(keys, max_size=12)
values = st.builds(
    lambda byte, size: bytes([byte]) * size,
    st.integers(0, 255),
    st.sampled_from([0, 1, 7, 8, 100, 100, 100, 5000, 30_000, 70_000]),
)
small_values = st.builds(
    lambda byte, size: bytes([byte]) * size, st.integers(0, 255), st.sampled_from([0, 1, 100])
)
bounds = st.none() | keys | st.sampled_from([b"", b"1", b"user:", b"user:0005", b"long", b"\xff\xff\xff"])
numbers = itertools.count()
ABSENT = b"the answer for a key that is not there"


def within(
    model: dict[bytes, bytes], prefix: bytes | None, start: bytes | None, stop: bytes | None
) -> list[bytes]:
    """The keys of `model` in these bounds, in order."""
    return sorted(
        key
        for key in model
        if (prefix is None or key.startswith(prefix))
        and (start is None or key >= start)
        and (stop is None or key < stop)
    )


class StoreAgainstDict(RuleBasedStateMachine):
    """One store, the dict it must equal, and the moments that were held on to."""

    def __init__(self, directory: Path, index: str, io: str) -> None:
        super().__init__()
        self.directory = directory
        self.io = io
        # The most that stands between the key and the value of any record.
        self.pad_max = 0
        self.path = self.new_path()
        self.model: dict[bytes, bytes] = {}
        self.views: list[tuple[memoryview, bytes]] = []
        self.snapshots: list[tuple[Snapshot, dict[bytes, bytes]]] = []
        self.iterators: list[
            tuple[Iterator[tuple[bytes, bytes]], dict[bytes, bytes], dict[bytes, bytes]]
        ] = []
        self.open(index)

    def new_path(self) -> Path:
        return self.directory / f"store-{next(numbers)}"

    def open(self, index: str) -> None:
        self.index = index
        # Another one at some openings, as it comes.
        align = (1, 1, 64, 8)[len(self.model) % 4]
        self.pad_max = max(self.pad_max, align - 1)
        self.db: DB = flash_kv.open(
            self.path,
            index=index,  # type: ignore[arg-type]
            io=self.io,  # type: ignore[arg-type]
            align=align,
            segment_bytes_max=SEGMENT_BYTES,
            reserve_bytes=0,
            compaction="off",
            load_threads=1,
        )

    @property
    def is_ordered(self) -> bool:
        return self.index != "hash"

    # -- single keys

    @rule(key=keys, value=values)
    def put(self, key: bytes, value: bytes) -> None:
        self.db[key] = value
        self.model[key] = value

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        assert self.db.delete(key) == (key in self.model)
        self.model.pop(key, None)

    @rule(key=keys)
    def get(self, key: bytes) -> None:
        assert self.db.get(key, ABSENT) == self.model.get(key, ABSENT)
        assert (key in self.db) == (key in self.model)

    @rule(key=keys)
    def pop(self, key: bytes) -> None:
        assert self.db.pop(key, ABSENT) == self.model.pop(key, ABSENT)

    @precondition(lambda self: self.model)
    @rule()
    def popitem(self) -> None:
        key, value = self.db.popitem()
        if self.is_ordered:
            assert key == max(self.model)
        assert self.model.pop(key) == value

    @rule(key=keys, value=small_values)
    def setdefault(self, key: bytes, value: bytes) -> None:
        assert self.db.setdefault(key, value) == self.model.setdefault(key, value)

    # -- many keys as one commit

    @rule(pairs=st.lists(st.tuples(keys, small_values), max_size=12))
    def put_many(self, pairs: list[tuple[bytes, bytes]]) -> None:
        self.db.put_many(pairs)
        self.model.update(pairs)

    @rule(pairs=st.dictionaries(keys, small_values, max_size=40))
    def put_many_sorted(self, pairs: dict[bytes, bytes]) -> None:
        self.db.put_many(sorted(pairs.items()), sorted=True)
        self.model.update(pairs)

    @rule(pairs=st.dictionaries(keys, small_values, max_size=12))
    def update(self, pairs: dict[bytes, bytes]) -> None:
        self.db.update(pairs)
        self.model.update(pairs)

    @rule(pairs=st.lists(st.tuples(keys, st.none() | values), max_size=12), is_kept=st.booleans())
    def batch(self, pairs: list[tuple[bytes, bytes | None]], is_kept: bool) -> None:
        changed = dict(self.model)
        batch = self.db.batch()
        for key, value in pairs:
            if value is None:
                batch.delete(key)
                changed.pop(key, None)
            else:
                batch.put(key, value)
                changed[key] = value
            assert batch.get(key, ABSENT) == changed.get(key, ABSENT)
        if is_kept:
            batch.commit()
            self.model = changed
        else:
            batch.discard()

    @rule(chosen=few_keys)
    def delete_many(self, chosen: list[bytes]) -> None:
        assert self.db.delete_many(chosen) == len(set(chosen) & self.model.keys())
        for key in chosen:
            self.model.pop(key, None)

    @rule(prefix=bounds, start=bounds, stop=bounds)
    def delete_range(self, prefix: bytes | None, start: bytes | None, stop: bytes | None) -> None:
        chosen = within(self.model, prefix, start, stop)
        if not self.is_ordered and (prefix or start or stop is not None):
            with contextlib.suppress(UnorderedIndexError):
                self.db.delete_range(prefix=prefix, start=start, stop=stop)
                raise AssertionError("a range on an unordered index was not refused")
            return
        assert self.db.delete_range(prefix=prefix, start=start, stop=stop) == len(chosen)
        for key in chosen:
            del self.model[key]

    @rule()
    def clear(self) -> None:
        self.db.clear()
        self.model.clear()

    @rule(chosen=few_keys)
    def get_many(self, chosen: list[bytes]) -> None:
        assert self.db.get_many(chosen) == [self.model.get(key) for key in chosen]
        assert self.db.contains_many(chosen) == [key in self.model for key in chosen]

    @rule(key=keys)
    def view(self, key: bytes) -> None:
        """Held to the end, whatever comes."""
        view = self.db.view(key)
        assert view == self.model.get(key)
        if view is not None:
            self.views.append((view, bytes(view)))

    # -- ranges and moments

    @rule(prefix=bounds, start=bounds, stop=bounds, reverse=st.booleans())
    def scan(self, prefix: bytes | None, start: bytes | None, stop: bytes | None, reverse: bool) -> None:
        if not self.is_ordered:
            assert dict(self.db.items()) == self.model
            return
        chosen = within(self.model, prefix, start, stop)
        if reverse:
            chosen.reverse()
        limits: dict[str, Any] = {"prefix": prefix, "start": start, "stop": stop, "reverse": reverse}
        assert list(self.db.keys(**limits)) == chosen
        assert list(self.db.items(**limits)) == [(key, self.model[key]) for key in chosen]

    @precondition(lambda self: len(self.snapshots) < SNAPSHOTS_MAX)
    @rule()
    def open_snapshot(self) -> None:
        self.snapshots.append((self.db.snapshot(), dict(self.model)))

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data(), key=keys)
    def read_snapshot(self, data: st.DataObject, key: bytes) -> None:
        snapshot, moment = data.draw(st.sampled_from(self.snapshots))
        assert snapshot.get(key, ABSENT) == moment.get(key, ABSENT)
        assert dict(snapshot.items()) == moment
        if self.is_ordered:
            assert list(snapshot.keys(reverse=True)) == sorted(moment, reverse=True)

    @precondition(lambda self: self.snapshots)
    @rule(data=st.data())
    def close_snapshot(self, data: st.DataObject) -> None:
        position = data.draw(st.integers(0, len(self.snapshots) - 1))
        self.snapshots.pop(position)[0].close()

    @precondition(lambda self: len(self.iterators) < SNAPSHOTS_MAX)
    @rule()
    def begin_iterating(self) -> None:
        self.iterators.append((iter(self.db.items()), dict(self.model), {}))

    @precondition(lambda self: self.iterators)
    @rule(data=st.data(), count=st.integers(1, 20))
    def go_on_iterating(self, data: st.DataObject, count: int) -> None:
        position = data.draw(st.integers(0, len(self.iterators) - 1))
        iterator, moment, seen = self.iterators[position]
        for _ in range(count):
            item = next(iterator, None)
            if item is None:
                assert seen == moment
                del self.iterators[position]
                return
            assert item[0] not in seen
            seen[item[0]] = item[1]

    # -- what must change nothing

    @rule()
    def compact(self) -> None:
        before = self.db.stats().live_bytes
        self.db.compact()
        if self.pad_max:
            # What was aligned to less before.
            self.pad_max = 63
        else:
            assert self.db.stats().live_bytes == before

    @rule(index=st.sampled_from(["hash", "btree", "skiplist", "bptree"]))
    def reopen(self, index: str) -> None:
        self.let_go()
        self.db.close()
        self.open(index)
        assert self.db.stats().recovery.was_clean

    @rule()
    def kill(self) -> None:
        before = self.path
        self.path = self.new_path()
        crash_image(self.db, self.path)
        self.let_go()
        self.db.close()
        shutil.rmtree(before)
        self.open(self.index)

    def let_go(self) -> None:
        for snapshot, _ in self.snapshots:
            snapshot.close()
        self.snapshots.clear()
        self.iterators.clear()

    @invariant()
    def counts_agree(self) -> None:
        assert len(self.db) == len(self.model)
        live_bytes = sum(
            (HEADER_BYTES + len(key) + len(value) + 7) // 8 * 8 for key, value in self.model.items()
        )
        stats = self.db.stats()
        assert stats.keys == len(self.model)
        assert live_bytes <= stats.live_bytes <= live_bytes + (self.pad_max + 7) // 8 * 8 * len(self.model)
        assert stats.dead_bytes >= 0

    def teardown(self) -> None:
        try:
            self.let_go()
            assert dict(self.db.items()) == self.model
        finally:
            self.db.close()
        shutil.rmtree(self.path)
        views, self.views = self.views, []
        assert all(view == kept for view, kept in views)


def test_store_equals_a_dict_after_any_operations(
    tmp_path: Path, index: str, io: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The order of an unordered index depends on it, and what `popitem` takes on the order.
    monkeypatch.setattr(System, "random_bytes", lambda self, size: bytes(range(size)))
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        lambda: StoreAgainstDict(tmp_path, index, io),
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS),
    )
