"""What `benchmarks.instructions` runs under callgrind: one phase after the other, with a mark before and after each.

A mark is a call of `getppid`, at which callgrind writes down what it counted since the last one. Between the marks
stands the loop of one operation and nothing else; everything else is between the end of one phase and the next. All
that is by chance in a store is fixed here, so that two runs of the same build count the same.

    python -m benchmarks.instructions_subject DIRECTORY KIND...

prints of each phase the kind of index, the number of operations and the name, one line each, in the order of their
marks.
"""

from __future__ import annotations

import gc
import os
import random
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import count, repeat
from pathlib import Path
from typing import Any

import flash_kv
from flash_kv.io.system import REAL, System

KEYS = 2_000
OPENS = 20
VALUE = bytes(range(100))
NEW_VALUE = VALUE[::-1]
MANY = 100
OPTIONS: dict[str, Any] = {"compaction": "off", "reserve_bytes": 0, "load_threads": 1}

Phase = tuple[str, int, Callable[[], object]]


def mark() -> None:
    os.getppid()


def _keys(prefix: bytes) -> list[bytes]:
    """In an order that is random and always the same."""
    keys = [prefix + b"%012d" % number for number in range(KEYS)]
    random.Random(1).shuffle(keys)
    return keys


def _each(call: Callable[..., object], *arguments: Iterable[object]) -> Callable[[], None]:
    """A loop without a byte code, which the interpreter would specialise sooner or later."""
    return lambda: deque(map(call, *arguments), maxlen=0).clear()


def phases(directory: Path, kind: str) -> Iterator[Phase]:
    """Name, number of operations, and the loop. Each begins with what the ones before have left."""
    there, missing, others, more = _keys(b"key:"), _keys(b"kez:"), _keys(b"keA:"), _keys(b"keB:")
    pairs = [(key, VALUE) for key in others]
    runs = [there[i : i + MANY] for i in range(0, KEYS, MANY)]
    db = flash_kv.open(directory, index=kind, **OPTIONS)  # type: ignore[arg-type]

    def batch() -> None:
        with db.batch() as writes:
            deque(map(writes.put, more, repeat(VALUE)), maxlen=0)

    yield "an empty loop", KEYS, _each(bool, there)
    yield "put", KEYS, _each(db.put, there, repeat(VALUE))
    yield "get", KEYS, _each(db.get, there)
    yield "get, missing", KEYS, _each(db.get, missing)
    yield "contains", KEYS, _each(db.__contains__, there)
    yield "view", KEYS, _each(db.view, there)
    yield "get_many, a key", KEYS, _each(db.get_many, runs)
    yield "overwrite", KEYS, _each(db.put, there, repeat(NEW_VALUE))
    yield "put_many, a record", KEYS, lambda: db.put_many(pairs)
    yield "batch, a record", KEYS, batch
    yield "scan, an item", 3 * KEYS, lambda: deque(db.items(), maxlen=0).clear()
    yield "delete", KEYS, _each(db.delete, others)
    # What is left are the other two thirds.
    yield "compact, a record", 2 * KEYS, db.compact
    db.close()

    def reopen() -> None:
        for _ in range(OPENS):
            flash_kv.open(directory, index=kind, **OPTIONS).close()  # type: ignore[arg-type]

    # The first one after these writes has more to do than those after it.
    flash_kv.open(directory, index=kind, **OPTIONS).close()  # type: ignore[arg-type]
    yield "open and close", OPENS, reopen


def main() -> int:
    counter = count(1)
    # On the one system there is: another class of it would write through a hook.
    REAL.random_bytes = lambda size: random.Random(size).randbytes(size)  # type: ignore[method-assign]
    REAL.now_ns = lambda: 1_700_000_000_000_000_000 + next(counter)  # type: ignore[method-assign]
    assert type(REAL) is System
    gc.collect()
    gc.disable()
    for kind in sys.argv[2:]:
        for name, operations, run in phases(Path(sys.argv[1], kind), kind):
            mark()
            run()
            mark()
            print(f"{kind} {operations} {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
