"""What no store in Python can be faster than, beside ours: `python -m benchmarks.floors`.

A call of a built-in that does nothing; a `bytes` object as large as a value; the checksum of a record; one wait for
memory; a lookup in a dict. They take turns with `get` and `put`, hot and random, in one run, and the loop is
subtracted from all of them.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import flash_kv
from benchmarks.dataset import Dataset
from benchmarks.figures import Figure
from benchmarks.machine import busy_lines, machine_facts, machine_lines
from benchmarks.report import Table
from benchmarks.timing import empty_handle, time_each_ns, time_pairs_ns
from flash_kv.log.checksum_cy import crc32c
from flash_kv.options import IndexKind

KEYS = 1_000_000
KEY_BYTES = 16
VALUE_BYTES = 100
RECORD_BYTES = 24 + KEY_BYTES + VALUE_BYTES + 4
MEMORY_BYTES = 512 * 2**20
CALLS = 100_000
HOT = 16
REPEATS = 7

# What is called once for each of a list of arguments.
Loop = tuple[Callable[[Any], object], list[Any]]


def floors(data: Dataset, chance: random.Random) -> dict[str, Loop]:
    """By name."""
    known = dict(data.pairs(list(range(KEYS)), 0))
    memory = bytearray(MEMORY_BYTES)
    twice = bytes(2 * VALUE_BYTES)
    ordinals = chance.sample(range(KEYS), CALLS)
    return {
        "a new bytes object of 100 B (a slice)": (twice.__getitem__, [slice(0, VALUE_BYTES)] * CALLS),
        f"CRC32C of {RECORD_BYTES} B, called from Python": (crc32c, [bytes(RECORD_BYTES)] * CALLS),
        "one byte somewhere in 512 MiB": (
            memory.__getitem__,
            [chance.randrange(MEMORY_BYTES) for _ in range(CALLS)],
        ),
        "dict.get, hot": (known.get, data.keys(list(range(HOT))) * (CALLS // HOT)),
        "dict.get, random": (known.get, data.keys(ordinals)),
    }


def gets(db: flash_kv.DB, kind: str, data: Dataset, chance: random.Random) -> dict[str, Loop]:
    """By name."""
    return {
        f"get, hot, {kind}": (db.get, data.keys(list(range(HOT))) * (CALLS // HOT)),
        f"get, random, {kind}": (db.get, data.keys(chance.sample(range(KEYS), CALLS))),
    }


def main() -> None:
    """Measure and print one table."""
    chance = random.Random(1)
    data = Dataset(KEYS, KEY_BYTES, VALUE_BYTES, seed=1)
    loops = floors(data, chance)
    empty = empty_handle(1)
    with tempfile.TemporaryDirectory(prefix="flash-kv-floors-") as directory:
        facts = machine_facts(Path(directory), [])
        stores = {
            kind: flash_kv.open(Path(directory) / kind, index=kind, compaction="off")
            for kind in get_args(IndexKind)
        }
        for kind, db in stores.items():
            db.put_many(data.pairs(chance.sample(range(KEYS), KEYS), 0))
            loops |= gets(db, kind, data, chance)
        samples: dict[str, list[float]] = {}
        for _ in range(REPEATS):
            turns = list(loops.items())
            chance.shuffle(turns)
            for name, (call, arguments) in turns:
                floor_ns = time_each_ns(empty.get, arguments)
                elapsed_ns = time_each_ns(call, arguments) - floor_ns
                samples.setdefault(name, []).append(elapsed_ns / len(arguments))
            ordinals = chance.sample(range(KEYS), CALLS)
            keys, values = data.keys(ordinals), data.values(ordinals, 1)
            floor_ns = time_pairs_ns(empty.put, keys, values)
            for kind, db in stores.items():
                elapsed_ns = time_pairs_ns(db.put, keys, values) - floor_ns
                samples.setdefault(f"overwrite, random, {kind}", []).append(elapsed_ns / CALLS)
        for db in stores.values():
            db.close()
    order = [*loops, *(f"overwrite, random, {kind}" for kind in stores)]
    rows = [[name, str(Figure.of(samples[name]))] for name in order]
    print("\n".join([*machine_lines(facts), *busy_lines(facts)]))
    print(Table(f"Nanoseconds, {KEYS:,} keys, {REPEATS} repeats", ["", "ns"], rows).markdown())


if __name__ == "__main__":
    main()
