"""Schedules: threads that write, scan and compact, interrupted at chosen points, must look like some one order.

Afterwards the store in memory must hold what that order leaves, and a reopened one the same.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from flash_kv.engine.db import DB
from flash_kv.errors import FlashKVError
from flash_kv.options import Options
from flash_kv.torture.journal import State, Violation
from flash_kv.torture.linear import Operation, is_explained
from flash_kv.torture.runs import Run
from flash_kv.torture.stepped import UNSYNCED, open_stepped
from flash_kv.torture.tally import Tally
from flash_kv.torture.turns import DeadlockError, PointSystem, Turns

KEYS = tuple(b"key %d" % number for number in range(8))
SWITCHES_MAX = 3
SCHEDULES = 40
"""How many one run tries."""
STORE = "db"
# So that a compaction can be interrupted after each group of records.
STEP_BYTES = 1

Call = Callable[[], None]


class ScheduleRun(Run):
    """The programs of one seed under many schedules."""

    part = "schedules"

    def run(self) -> Tally:
        """Schedules by chance, with up to three switches each."""
        rng = random.Random(f"{self._seed}/switches")
        points = self.attempt(())
        for _ in range(SCHEDULES - 1):
            if self._is_over():
                break
            count = rng.randint(1, min(SWITCHES_MAX, points))
            self.attempt(sorted(rng.sample(range(points), count)))
        return self.tally

    def every(self, switches_max: int) -> Iterator[Collection[int]]:
        """All schedules with so many switches at most, one after the other, as they are tried."""
        points = self.attempt(())
        for count in range(1, switches_max + 1):
            for switches in itertools.combinations(range(points), count):
                self.attempt(switches)
                yield switches

    def attempt(self, switches: Collection[int]) -> int:
        """One schedule; how many points there were."""
        rng = random.Random(f"{self._seed}/programs")
        with self._working() as scratch:
            attempt = _Attempt(self._settings.options(rng), scratch / STORE, Turns(switches), rng)
            try:
                violation = attempt.run()
            except FlashKVError as error:
                violation = Violation("other", f"{type(error).__name__}: {error}")
        self.tally.schedules += 1
        self.tally.acknowledged += attempt.writes
        if violation is not None:
            self._record(f"switches at {list(switches)}", violation)
        return len(attempt.turns.trace)


class _Attempt:
    """The programs under one schedule."""

    def __init__(self, options: Options, path: Path, turns: Turns, rng: random.Random) -> None:
        self.turns = turns
        self.writes = 0
        self._options = options
        self._path = path
        self._rng = rng
        self._clock = itertools.count()
        self._values = itertools.count()

    def run(self) -> Violation | None:
        db = open_stepped(self._path, self._options, PointSystem(self.turns))
        try:
            first = self._fill(db)
            done: list[list[Operation]] = [[], [], [], []]
            programs = [
                self._writer(db, done[0], 3),
                self._reader(db, done[1]),
                self._housekeeper(db),
                self._writer(db, done[3], 2),
            ]
            db._compactor.step_bytes = STEP_BYTES
            self.turns.run(programs)
            if self.turns.errors:
                error = self.turns.errors[0]
                return Violation("other", f"a thread raised {type(error).__name__}: {error}")
            last = dict(db.items())
        except DeadlockError as error:
            return Violation("other", str(error))
        finally:
            if not db.closed:
                db.close()
        self.writes = sum(bool(operation.writes) for operations in done for operation in operations)
        return self._judge(done, first, last)

    def _judge(self, done: list[list[Operation]], first: State, last: State) -> Violation | None:
        if not is_explained(done, first, last):
            return Violation("other", "no order of the operations explains what was read and what is there")
        with DB(self._path, self._options, UNSYNCED) as db:
            if dict(db.items()) != last:
                return Violation("other", "a reopen finds another content than memory had")
        return None

    def _fill(self, db: DB) -> State:
        """Three segments, partly dead, so that there is something to compact."""
        state: State = {}
        for round_number in range(3):
            for key in KEYS[round_number:]:
                state[key] = value = self._value(5000)
                db.put(key, value)
            db._segments.rotate()
        db._segments.seal_rotated()
        return state

    def _value(self, size: int) -> bytes:
        return (b"%d:" % next(self._values)).ljust(size, b".")

    # -- programs; all that is drawn is drawn before they run, so that the schedule does not change what they do

    def _writer(self, db: DB, done: list[Operation], count: int) -> Call:
        steps = [
            self._rng.choice((self._put, self._delete, self._batch, self._pop))(db, done)
            for _ in range(count)
        ]

        def program() -> None:
            for step in steps:
                self.turns.point("write")
                step()

        return program

    def _note(self, done: list[Operation], operation: Operation, call: Call) -> None:
        operation.began = next(self._clock)
        call()
        operation.ended = next(self._clock)
        done.append(operation)

    def _put(self, db: DB, done: list[Operation]) -> Call:
        key, value = self._rng.choice(KEYS), self._value(self._rng.choice((10, 30_000)))
        return lambda: self._note(done, Operation("put", 0, 0, {key: value}), lambda: db.put(key, value))

    def _pop(self, db: DB, done: list[Operation]) -> Call:
        key = self._rng.choice(KEYS)

        def step() -> None:
            operation = Operation("pop", 0, 0, {key: None})
            found: list[bytes | None] = []
            self._note(done, operation, lambda: found.append(db.pop(key, None)))
            operation.seen = {key: found[0]}

        return step

    def _delete(self, db: DB, done: list[Operation]) -> Call:
        key = self._rng.choice(KEYS)
        return lambda: self._note(
            done, Operation("delete", 0, 0, {key: None}), lambda: _ignore(db.delete(key))
        )

    def _batch(self, db: DB, done: list[Operation]) -> Call:
        writes: dict[bytes, bytes | None] = {
            key: None if self._rng.random() < 0.3 else self._value(100) for key in self._rng.sample(KEYS, 4)
        }

        def commit() -> None:
            with db.batch() as batch:
                for key, value in writes.items():
                    if value is None:
                        batch.delete(key)
                    else:
                        batch.put(key, value)

        return lambda: self._note(done, Operation("batch", 0, 0, writes), commit)

    def _reader(self, db: DB, done: list[Operation]) -> Call:
        keys = [self._rng.choice(KEYS) for _ in range(3)]

        def program() -> None:
            for key in keys:
                self.turns.point("get")
                found: list[bytes | None] = []
                operation = Operation("get", 0, 0)
                self._note(done, operation, lambda key=key, found=found: found.append(db.get(key)))  # type: ignore[misc]
                operation.seen = {key: found[0]}
                self._scan(db, done)

        return program

    def _scan(self, db: DB, done: list[Operation]) -> None:
        """A snapshot is of the moment when it was opened, however long it is read."""
        operation = Operation("scan", next(self._clock), 0)
        snapshot = db.snapshot()
        operation.ended = next(self._clock)
        seen: State = {}
        with snapshot:
            for key, value in snapshot.items():
                seen[key] = value
                self.turns.point("scan")
        operation.seen_all = seen
        done.append(operation)

    def _housekeeper(self, db: DB) -> Call:
        def follow(_: object) -> None:
            self.turns.point("compact")

        def program() -> None:
            self.turns.point("background")
            db._maintain(True, True)
            self.turns.point("compaction")
            db.compact(progress=follow)
            self.turns.point("background")
            db._maintain(True, True)

        return program


def _ignore(_: object) -> None:
    """For calls whose answer says nothing."""
