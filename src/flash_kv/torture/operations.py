"""A history of one store, drawn from a seed: writes of all kinds, snapshots, compaction, background work.

Each operation enters its commit in the journal before it begins and acknowledges it when it has returned, so that
whoever interrupts it in between knows what may be there. Every value names the commit it was written by.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from flash_kv.engine.db import DB
from flash_kv.engine.snapshot import Snapshot
from flash_kv.engine.store_cy import CLOSED
from flash_kv.options import Durability, DurabilitySpec, parse_durability
from flash_kv.torture.journal import Journal, State, Violation

# Few are written often and most seldom, so that segments are partly dead and compaction has a choice.
HOT = tuple(b"hot %d" % number for number in range(5))
KEYS = HOT + tuple(b"key %d" % number * (1 + number % 3 * 20) for number in range(15))
VALUE_SIZES = (0, 1, 30, 300, 600, 3000, 5000, 9000, 20_000)
SNAPSHOTS_MAX = 3


class History:
    """The operations on `db`; what they find wrong is passed to `report`.

    With `reopen` the process of the store dies once in a while, and what it left is opened by that.
    """

    def __init__(
        self,
        db: DB,
        journal: Journal,
        rng: random.Random,
        report: Callable[[Violation], object],
        reopen: Callable[[], DB] | None = None,
    ) -> None:
        self._db = db
        self._journal = journal
        self._rng = rng
        self._report = report
        self._snapshots: list[tuple[Snapshot, State]] = []
        self.backups: dict[str, State] = {}
        """What each backup must hold, by its name, from before it is begun."""
        self._weighted: tuple[tuple[Callable[[], None], int], ...] = (
            (self._put, 40),
            (self._delete, 10),
            (self._batch, 14),
            (self._pop, 3),
            (self._put_many, 3),
            (self._clear_range, 1),
            (self._sync, 4),
            (self._compact, 4),
            (self._background, 12),
            (self._open_snapshot, 3),
            (self._close_snapshot, 3),
            (self._scan, 2),
            (self._backup, 1),
            (self._die, 0 if reopen is None else 3),
        )
        self._reopen = reopen

    def step(self) -> None:
        """One operation by chance."""
        operations, weights = zip(*self._weighted, strict=True)
        self._rng.choices(operations, weights)[0]()

    def end(self) -> None:
        """Close the snapshots, then the store: afterwards all is durable."""
        while self._snapshots:
            self._close_snapshot()
        self._db.close()
        self._journal.make_durable()

    # -- writes

    def _value(self) -> bytes:
        mark = b"%d:" % len(self._journal.states)
        size = self._rng.choice(VALUE_SIZES)
        # Empty once in a while; else unlike every other one.
        return (mark * (size // len(mark) + 1))[: max(size, len(mark))] if size else b""

    def _key(self) -> bytes:
        return self._rng.choice(HOT if self._rng.random() < 0.6 else KEYS)

    def _put(self) -> None:
        key, value = self._key(), self._value()
        self._journal.begin({key: value})
        self._db.put(key, value)
        self._journal.acknowledge()

    def _delete(self) -> None:
        # One that is there, if there is one: a delete of nothing writes nothing.
        key = self._rng.choice(sorted(self._journal.state) or KEYS)
        self._journal.begin({key: None})
        self._db.delete(key)
        self._journal.acknowledge()

    def _pop(self) -> None:
        key = self._key()
        wanted = self._journal.state.get(key)
        self._journal.begin({key: None})
        if self._db.pop(key, None) != wanted:
            self._report(Violation("other", f"pop gave another value of {key!r}"))
        self._journal.acknowledge()

    def _put_many(self) -> None:
        writes = {key: self._value() for key in self._rng.sample(KEYS, self._rng.randint(1, 8))}
        self._journal.begin(writes)
        self._db.put_many(writes)
        self._journal.acknowledge()

    def _clear_range(self) -> None:
        keys = self._rng.sample(KEYS, 4)
        self._journal.begin(dict.fromkeys(keys))
        self._db.delete_many(keys)
        self._journal.acknowledge()

    def _batch(self) -> None:
        spec: DurabilitySpec | None = self._rng.choice((None, None, "process", "always"))
        durability: Durability | None = None if spec is None else parse_durability(spec)
        writes: dict[bytes, bytes | None] = {}
        with self._db.batch(durability=spec) as batch:
            for _ in range(self._rng.randint(1, 6)):
                key = self._key()
                if self._rng.random() < 0.3:
                    writes[key] = None
                    batch.delete(key)
                else:
                    writes[key] = value = self._value()
                    batch.put(key, value)
            self._journal.begin(writes)
        self._journal.acknowledge(durability)

    # -- what makes writes durable, and what moves them about

    def _sync(self) -> None:
        self._db.sync()
        self._journal.make_durable()

    def _compact(self) -> None:
        is_cancelled = self._rng.random() < 0.2
        self._db.compact(progress=lambda progress: not is_cancelled)

    def _background(self) -> None:
        is_sync_due = self._rng.random() < 0.3
        self._db._maintain(is_sync_due, self._rng.random() < 0.5)
        if is_sync_due:
            self._journal.make_durable()

    def _backup(self) -> None:
        name = f"backup-{len(self.backups)}"
        self.backups[name] = self._journal.state
        self._db.backup(Path(self._db.path).parent / name)

    def _die(self) -> None:
        assert self._reopen is not None
        while self._snapshots:
            self._close_snapshot()
        # All that the system takes back from a process; nothing is sealed or synced.
        self._db._let_go()
        self._db._set_state(CLOSED, True)
        self._db = self._reopen()
        self._scan()

    # -- reads

    def _open_snapshot(self) -> None:
        if len(self._snapshots) < SNAPSHOTS_MAX:
            self._snapshots.append((self._db.snapshot(), self._journal.state))

    def _close_snapshot(self) -> None:
        if not self._snapshots:
            return
        snapshot, state = self._snapshots.pop(self._rng.randrange(len(self._snapshots)))
        with snapshot:
            if dict(snapshot.items()) != state:
                self._report(Violation("other", "a snapshot has changed"))

    def _scan(self) -> None:
        state = self._journal.state
        if dict(self._db.items()) != state or {key: self._db.get(key) for key in state} != state:
            self._report(Violation("other", "a scan or a get differs from what was written"))
