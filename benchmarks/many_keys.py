"""`python -m benchmarks.many_keys`: many keys at once against single calls, and sorted loads against a bare copy.

Each repeat has fresh stores; within one, all lines of a group take turns in an order drawn anew. The raw line of the
loads copies as many bytes as the log gets, in pieces of the same size, into a mapping that was allocated beforehand:
no checksum, no index.
"""

from __future__ import annotations

import argparse
import importlib
import mmap
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.dataset import Dataset, in_slices
from benchmarks.figures import Figure
from benchmarks.machine import busy_lines, machine_facts, machine_lines
from benchmarks.report import Table
from benchmarks.runner import progress
from benchmarks.stores import STORES
from benchmarks.timing import time_call_ns, time_each_ns

BATCH_RECORDS = 1_000
PIECE_BYTES = 1 << 17
RECORD_HEADER_BYTES = 24

Steps = dict[str, Callable[[], float]]
Samples = dict[str, list[float]]


def _take_turns(steps: Steps, samples: Samples, rng: random.Random) -> None:
    """One sample in us for each step, in an order drawn now."""
    names = list(steps)
    rng.shuffle(names)
    for name in names:
        samples.setdefault(name, []).append(steps[name]())


def _key_steps(db: Any, keys: list[bytes]) -> Steps:
    """Random keys, us per key."""
    batches = [[keys[i] for i in part] for part in in_slices(list(range(len(keys))), BATCH_RECORDS)]
    rows = [memoryview(b"".join(batch)).cast("B", (len(batch), len(batch[0]))) for batch in batches]
    steps: dict[str, tuple[Callable[[Any], object], list[Any]]] = {
        "in": (db.__contains__, keys),
        "get": (db.get, keys),
        f"get_many({BATCH_RECORDS:,}) of a list": (db.get_many, batches),
        f"get_many({BATCH_RECORDS:,}) of an array": (db.get_many, rows),
        f"contains_many({BATCH_RECORDS:,}) of a list": (db.contains_many, batches),
        f"contains_many({BATCH_RECORDS:,}) of an array": (db.contains_many, rows),
    }
    return {
        f"{name}, random": lambda call=call, given=given: time_each_ns(call, given) / len(keys) / 1e3
        for name, (call, given) in steps.items()
    }


def _load_steps(directory: Path, index: str, data: Dataset) -> Steps:
    """All pairs in the order of their keys into an empty store, us per record."""
    flash_kv: Any = importlib.import_module("flash_kv")
    pairs = sorted(data.pairs(list(range(data.key_count)), 0))
    names = b"".join(key for key, _ in pairs)
    keys = memoryview(names).cast("B", (len(pairs), len(pairs[0][0])))
    values = memoryview(b"".join(value for _, value in pairs)).cast("B", (len(pairs), len(pairs[0][1])))

    def batches(db: Any) -> None:
        for start in range(0, len(pairs), BATCH_RECORDS):
            db.put_many(pairs[start : start + BATCH_RECORDS])

    def load(into: Callable[[Any], object]) -> float:
        path = Path(tempfile.mkdtemp(dir=directory))
        with flash_kv.open(path / "db", index=index) as db:
            elapsed_ns = time_call_ns(lambda: into(db))
        shutil.rmtree(path)
        return elapsed_ns / len(pairs) / 1e3

    return {
        f"put_many({BATCH_RECORDS:,}), ordered": lambda: load(batches),
        "put_many, sorted, pairs": lambda: load(lambda db: db.put_many(pairs, sorted=True)),
        "put_many, sorted, arrays": lambda: load(lambda db: db.put_many(keys, values, sorted=True)),
        "raw copy into a mapping": lambda: _raw_load(directory, data) / len(pairs) / 1e3,
    }


def _raw_load(directory: Path, data: Dataset) -> int:
    """Nanoseconds to copy what the log gets into a mapping."""
    total = data.key_count * -(-(RECORD_HEADER_BYTES + data.payload_bytes) // 8) * 8
    total = -(-total // PIECE_BYTES) * PIECE_BYTES
    piece = bytes(PIECE_BYTES)
    path = directory / "raw"
    with path.open("w+b") as file:
        os.posix_fallocate(file.fileno(), 0, total)
        with mmap.mmap(file.fileno(), total) as mapping:

            def copy() -> None:
                for offset in range(0, total, PIECE_BYTES):
                    mapping[offset : offset + PIECE_BYTES] = piece

            elapsed_ns = time_call_ns(copy)
    path.unlink()
    return elapsed_ns


def measure(directory: Path, index: str, key_count: int, repeats: int, seed: int) -> dict[str, Figure]:
    """All lines for one index kind."""
    flash_kv: Any = importlib.import_module("flash_kv")
    rng = random.Random(seed)
    data = Dataset(key_count, 16, 100, seed)
    samples: Samples = {}
    for repeat in range(repeats):
        progress(f"{index}: repeat {repeat + 1} of {repeats}")
        path = Path(tempfile.mkdtemp(dir=directory))
        ordinals = list(range(key_count))
        with flash_kv.open(path / "db", index=index) as db:
            db.put_many(sorted(data.pairs(ordinals, 0)), sorted=True)
            rng.shuffle(ordinals)
            _take_turns(_key_steps(db, data.keys(ordinals)), samples, rng)
        shutil.rmtree(path)
        _take_turns(_load_steps(directory, index, data), samples, rng)
    return {name: Figure.of(taken) for name, taken in sorted(samples.items())}


def main(arguments: list[str] | None = None) -> int:
    """Run and print one table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.many_keys", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--directory", type=Path, help="where the stores are made; default: the temporary directory"
    )
    args = parser.parse_args(arguments)
    if args.keys < BATCH_RECORDS or args.repeats < 1:
        parser.error(f"--keys starts at {BATCH_RECORDS}, --repeats at 1")
    if args.directory is not None:
        args.directory.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="flash-kv-bench-", dir=args.directory))
    try:
        machine = machine_facts(directory, [STORES["flash_kv-btree"]])
        figures = {
            index: measure(directory, index, args.keys, args.repeats, args.seed)
            for index in ("hash", "btree")
        }
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    names = list(figures["btree"])
    table = Table(
        f"{args.keys:,} keys of 16 B, values of 100 B: us, median [lowest-highest] of the repeats",
        ["", *figures],
        [[name, *(str(figures[index][name]) for index in figures)] for name in names],
    )
    print("\n".join([*machine_lines(machine), *busy_lines(machine)]))
    print(table.plain())
    return 0


if __name__ == "__main__":
    sys.exit(main())
