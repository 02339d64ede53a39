"""What no store in Python can be faster than, beside ours: `python -m benchmarks.floors`.

A call of a built-in that does nothing; a `bytes` object as large as a value; the checksum of a record; one wait for
memory; a lookup in a dict; a dict made of as many pairs as a batch has; the bytes of records copied into a file's new
pages. They take turns with `get` and `put`, hot and random, one by one and many at once, in one run, and the loop is
subtracted from all of them.
"""

from __future__ import annotations

import mmap
import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import flash_kv
from flash_kv.bench.dataset import Dataset, in_slices
from flash_kv.bench.figures import Figure
from flash_kv.bench.machine import busy_lines, machine_facts, machine_lines
from flash_kv.bench.table import Table
from flash_kv.bench.timing import empty_handle, time_call_ns, time_each_ns, time_pairs_ns
from flash_kv.log.checksum_cy import crc32c
from flash_kv.options import IndexKind

KEYS = 1_000_000
KEY_BYTES = 16
VALUE_BYTES = 100
RECORD_BYTES = 24 + KEY_BYTES + VALUE_BYTES + 4
MEMORY_BYTES = 512 * 2**20
CALLS = 100_000
HOT = 16
BATCH_RECORDS = 1_000
REPEATS = 7

A_DICT = f"a dict made of {BATCH_RECORDS:,} pairs, a pair"
NEW_PAGES = f"{RECORD_BYTES} B into new pages of a file"

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


def many_at_once(stores: dict[str, flash_kv.DB], pairs: list[tuple[bytes, bytes]]) -> dict[str, Loop]:
    """By name; a call is for a batch of records."""
    batches = in_slices(pairs, BATCH_RECORDS)
    keys = [[key for key, _ in batch] for batch in batches]
    loops: dict[str, Loop] = {A_DICT: (dict, batches)}
    for kind, db in stores.items():
        loops[f"get_many({BATCH_RECORDS:,}), random, {kind}"] = (db.get_many, keys)
        loops[f"put_many({BATCH_RECORDS:,}), overwrites, random, {kind}"] = (db.put_many, batches)
    return loops


def time_new_pages_ns(path: Path) -> float:
    """Copy the bytes of records, some at a time, into a mapping of a new file."""
    piece = bytes(RECORD_BYTES * BATCH_RECORDS)
    with path.open("w+b") as file:
        file.truncate(RECORD_BYTES * CALLS)
        with mmap.mmap(file.fileno(), 0) as mapping:
            elapsed_ns = time_call_ns(
                lambda: [mapping.write(piece) for _ in range(CALLS // BATCH_RECORDS)],
            )
    path.unlink()
    return elapsed_ns


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
            ordinals = chance.sample(range(KEYS), CALLS)
            many = many_at_once(stores, list(data.pairs(ordinals, 1)))
            turns = list((loops | many).items())
            chance.shuffle(turns)
            for name, (call, arguments) in turns:
                floor_ns = time_each_ns(empty.get, arguments)
                elapsed_ns = time_each_ns(call, arguments) - floor_ns
                samples.setdefault(name, []).append(elapsed_ns / CALLS)
            samples.setdefault(NEW_PAGES, []).append(time_new_pages_ns(Path(directory) / "new") / CALLS)
            keys, values = data.keys(ordinals), data.values(ordinals, 1)
            floor_ns = time_pairs_ns(empty.put, keys, values)
            for kind, db in stores.items():
                elapsed_ns = time_pairs_ns(db.put, keys, values) - floor_ns
                samples.setdefault(f"overwrite, random, {kind}", []).append(elapsed_ns / CALLS)
        for db in stores.values():
            db.close()
    order = [*loops, *(f"overwrite, random, {kind}" for kind in stores), NEW_PAGES, *many]
    rows = [[name, str(Figure.of(samples[name]))] for name in order]
    print("\n".join([*machine_lines(facts), *busy_lines(facts)]))
    print(Table(f"Nanoseconds, {KEYS:,} keys, {REPEATS} repeats", ["", "ns"], rows).markdown())


if __name__ == "__main__":
    main()
