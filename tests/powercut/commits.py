"""What is written while the power goes: a history of commits that depends on its seed and nothing else.

So whoever judges what is left can make the same history again, without the process that was cut. The segments are the
smallest, so that a second of it rotates, seals, and compacts in the background a few dozen times.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flash_kv import DB, Options
from flash_kv.options import parse_durability
from flash_kv.torture.journal import Journal, State, Violation, Writes

SEGMENT_BYTES = 64 * 1024
HOT = tuple(b"hot %d" % number for number in range(6))
KEYS = HOT + tuple(b"key %d" % number * (1 + number % 3 * 20) for number in range(30))
VALUE_SIZES = (0, 20, 100, 300, 1000, 3000, 9000)


@dataclass(frozen=True)
class Step:
    """One call, and the commit it makes, if any."""

    name: str
    writes: Writes = field(default_factory=dict)


def steps(seed: int) -> Iterator[Step]:
    """A history without an end."""
    rng = random.Random(f"{seed}/steps")
    number = 0

    def value() -> bytes:
        mark = b"%d:" % number
        return mark * (rng.choice(VALUE_SIZES) // len(mark) + 1)

    def key() -> bytes:
        return rng.choice(HOT if rng.random() < 0.6 else KEYS)

    while True:
        number += 1
        name = rng.choices(
            ("put", "delete", "batch", "durable batch", "sync", "compact"), (50, 10, 20, 8, 3, 2)
        )[0]
        writes: dict[bytes, bytes | None] = {}
        if name == "put":
            writes = {key(): value()}
        elif name == "delete":
            writes = {key(): None}
        elif name.endswith("batch"):
            writes = {key(): None if rng.random() < 0.25 else value() for _ in range(rng.randint(2, 9))}
            # The place of the newest whole batch stands in the store itself.
            writes[b"batch"] = b"%d" % number
        yield Step(name, writes)


def options(seed: int, **others: Any) -> Options:
    """Those of the store that is cut. Half of the stores wait for a sync with each commit."""
    rng = random.Random(f"{seed}/options")
    chosen: dict[str, Any] = {
        "index": rng.choice(("hash", "btree", "skiplist")),
        "io": rng.choice(("mmap", "file")),
        "durability": rng.choice(("always", "always", "process", ("bytes", 20_000))),
        "segment_bytes_max": SEGMENT_BYTES,
        "reserve_bytes": rng.choice((0, SEGMENT_BYTES)),
        "compaction_interval_s": 0.01,
        "compaction_dead_bytes": 8192,
        "compaction_segment_bytes_min": SEGMENT_BYTES,
    }
    return Options(**{**chosen, **others})


def journal(seed: int, base: State) -> Journal:
    return Journal(base, parse_durability(options(seed).durability))


def enter(journal: Journal, step: Step) -> None:
    """The step has returned."""
    if step.name == "sync":
        journal.make_durable()
    elif step.writes:
        journal.acknowledge(parse_durability("always") if step.name == "durable batch" else None)


def live(db: DB, seed: int, count: int, journal: Journal, after: Callable[[int], object]) -> None:
    """The first `count` steps, each entered in the journal; `after(number)` is told of each that has returned."""
    for number, step in zip(range(1, count + 1), steps(seed), strict=False):
        if step.writes:
            journal.begin(step.writes)
        _do(db, step)
        enter(journal, step)
        after(number)


def _do(db: DB, step: Step) -> None:
    if step.name == "sync":
        db.sync()
    elif step.name == "compact":
        db.compact()
    elif step.name == "put":
        for key, value in step.writes.items():
            db.put(key, value or b"")
    elif step.name == "delete":
        for key in step.writes:
            db.delete(key)
    else:
        with db.batch(durability="always" if step.name == "durable batch" else None) as batch:
            for key, value in step.writes.items():
                if value is None:
                    batch.delete(key)
                else:
                    batch.put(key, value)


class OneWriter:
    """So many steps of the history of this seed, for a recorded device."""

    def __init__(self, seed: int, count: int = 250) -> None:
        self.seed = seed
        self.options = options(seed)
        self._count = count
        self._journal = journal(seed, {})

    @property
    def acknowledged(self) -> int:
        return self._journal.acknowledged

    def run(self, db: DB, note: Callable[[int], object]) -> None:
        live(db, self.seed, self._count, self._journal, lambda number: note(self._journal.durable))

    def promised(self) -> int:
        self._journal.make_durable()
        return self._journal.durable

    def judge(self, path: Path, floor: int) -> Violation | None:
        return judge(path, self.seed, self._journal, floor)[1]


def judge(path: Path, seed: int, journal: Journal, floor: int) -> tuple[State, Violation | None]:
    """What the store at `path` holds after a cut, and what is wrong with that.

    It is opened with another index and io kind than it was written with, then once more; what the first open found,
    written to and closed, is what the second must find.
    """
    rng = random.Random(f"{seed}/{path}/judge")
    reading = options(
        seed,
        index=rng.choice(("hash", "btree", "skiplist")),
        io=rng.choice(("mmap", "file")),
        compaction="off",
    )
    path.mkdir(exist_ok=True)
    with DB(path, reading) as db:
        found = dict(db.items())
        violation = journal.judge(found, floor)
        db.put(b"after", b"the cut")
    with DB(path, reading) as db:
        again = dict(db.items())
        db.delete(b"after")
    if violation is None and again != {**found, b"after": b"the cut"}:
        violation = Violation("other", "the next open finds another content")
    return found, violation
