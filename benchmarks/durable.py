"""`python -m benchmarks.durable`: puts that survive a power cut, against the bare system calls.

`durability="always"` syncs before a put returns, and waiting threads share one sync. Beside it, on the same
file system and in the same run: a record of the same size appended to a file and synced (fdatasync), and the
same into a file written with zeros beforehand, whose sync has no file length to commit. The contenders take
turns in an order drawn anew for each repeat, because the speed of syncs drifts more than anything else here.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from benchmarks.progress import progress
from flash_kv.bench.dataset import Dataset
from flash_kv.bench.figures import Figure, number, ratio
from flash_kv.bench.machine import machine_facts
from flash_kv.bench.stores import STORES
from flash_kv.bench.stores.base import BenchmarkError
from flash_kv.bench.table import Table

THREADS = 16
RAW_APPEND = "raw append + fdatasync"
RAW_PREWRITTEN = "raw write into zeros + fdatasync"
OURS_ONE = "flash_kv always, 1 thread"
OURS_MANY = f"flash_kv always, {THREADS} threads"

RAW_RATIO_MAX = 1.1
"""One thread: at most this many times the raw append's time."""
THREADS_GAIN_MIN = 4.0
"""Sixteen threads: at least this many times the raw append's rate."""

Round = Callable[[list[int]], int]


class RawFile:
    """Records of one size written to one file and synced one by one."""

    def __init__(self, path: Path, record_bytes: int, prewritten_records: int) -> None:
        self._record = os.urandom(record_bytes)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        self._offset = 0
        if prewritten_records:
            zeros = bytes(record_bytes) * 1024
            for _ in range(-(-prewritten_records // 1024)):
                os.write(self._fd, zeros)
            os.fsync(self._fd)

    def round_ns(self, ordinals: list[int]) -> int:
        fd, record, size, offset = self._fd, self._record, len(self._record), self._offset
        start = perf_counter_ns()
        for _ in ordinals:
            if os.pwrite(fd, record, offset) != size:
                raise BenchmarkError("raw write: the disk is full")
            os.fdatasync(fd)
            offset += size
        elapsed_ns = perf_counter_ns() - start
        self._offset = offset
        return elapsed_ns

    def close(self) -> None:
        os.close(self._fd)


def one_thread_ns(db: Any, data: Dataset, ordinals: list[int]) -> int:
    """Each put returns synced before the next begins."""
    put, pairs = db.put, data.pairs(ordinals, 0)
    start = perf_counter_ns()
    for key, value in pairs:
        put(key, value)
    return perf_counter_ns() - start


def many_threads_ns(db: Any, data: Dataset, ordinals: list[int]) -> int:
    """The ordinals shared out to the threads, from the moment all stand ready to the last one's end."""
    put = db.put
    ready = threading.Barrier(THREADS + 1)

    def work(part: list[int]) -> None:
        pairs = data.pairs(part, 0)
        ready.wait()
        for key, value in pairs:
            put(key, value)

    with ThreadPoolExecutor(THREADS) as pool:
        workers = [pool.submit(work, ordinals[n::THREADS]) for n in range(THREADS)]
        ready.wait()
        start = perf_counter_ns()
        for worker in workers:
            worker.result()
        elapsed_ns = perf_counter_ns() - start
    return elapsed_ns


def measure(
    directory: Path, index: str, operations: int, repeats: int, seed: int
) -> tuple[int, dict[str, Figure]]:
    """The record's size, and microseconds per durable put of each contender."""
    flash_kv: Any = importlib.import_module("flash_kv")
    many = operations * int(THREADS_GAIN_MIN)
    per_repeat = {RAW_APPEND: operations, RAW_PREWRITTEN: operations, OURS_ONE: operations, OURS_MANY: many}
    data = Dataset(repeats * sum(per_repeat.values()) + 1, 16, 100, seed)
    rng = random.Random(seed)
    samples: dict[str, list[float]] = {name: [] for name in per_repeat}
    with flash_kv.open(directory / "store", index=index, durability="always") as db:
        db.put(data.keys([0])[0], data.values([0], 0)[0])
        record_bytes = int(db.stats().live_bytes)
        append = RawFile(directory / "append", record_bytes, 0)
        prewritten = RawFile(directory / "prewritten", record_bytes, operations * repeats)
        rounds: dict[str, Round] = {
            RAW_APPEND: append.round_ns,
            RAW_PREWRITTEN: prewritten.round_ns,
            OURS_ONE: lambda ordinals: one_thread_ns(db, data, ordinals),
            OURS_MANY: lambda ordinals: many_threads_ns(db, data, ordinals),
        }
        next_ordinal = 1
        for repeat in range(repeats):
            progress(f"repeat {repeat + 1} of {repeats}")
            for name in rng.sample(list(rounds), len(rounds)):
                count = per_repeat[name]
                ordinals = list(range(next_ordinal, next_ordinal + count))
                next_ordinal += count
                samples[name].append(rounds[name](ordinals) / count / 1e3)
        append.close()
        prewritten.close()
    return record_bytes, {name: Figure.of(found) for name, found in samples.items()}


def table_of(record_bytes: int, figures: dict[str, Figure]) -> Table:
    """The figures, their rates beside the raw append's, and the goals."""
    raw = figures[RAW_APPEND].median
    rows = []
    for name, figure in figures.items():
        rate = raw / figure.median
        verdict = "-"
        if name == OURS_ONE:
            met = figure.median <= raw * RAW_RATIO_MAX
            verdict = f"at most {RAW_RATIO_MAX:g}x its time: {'met' if met else 'missed'}"
        elif name == OURS_MANY:
            verdict = (
                f"at least {THREADS_GAIN_MIN:g}x its rate: {'met' if rate >= THREADS_GAIN_MIN else 'missed'}"
            )
        per_second = f"{number(1e6 / figure.median)}"
        rows.append([name, str(figure), per_second, ratio(figure.median / raw), ratio(rate), verdict])
    return Table(
        f"Durable puts, records of {record_bytes} B: us per put, median [lowest-highest] of the repeats",
        ["", "us", "per second", "time, of raw append", "rate, of raw append", "goal"],
        rows,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.durable", description=__doc__)
    add = parser.add_argument
    add("--operations", type=int, default=200, help="synced writes per contender and repeat (default 200)")
    add("--repeats", type=int, default=9, help="repeats (default 9)")
    add(
        "--index",
        default="btree",
        choices=["hash", "btree", "skiplist", "bptree"],
        help="index of the store (default btree)",
    )
    add("--seed", type=int, default=1, help="seed of the order of the contenders (default 1)")
    add(
        "--directory", type=Path, help="where the files live while it runs (default: the temporary directory)"
    )
    add("--json", type=Path, metavar="FILE", help="write the figures there")
    add("--markdown", type=Path, metavar="FILE", help="write the table there as Markdown")
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run, print the table, write the files; 1 when the run failed."""
    parser = _parser()
    args = parser.parse_args(arguments)
    if args.operations < THREADS or args.repeats < 1:
        parser.error(f"--operations starts at {THREADS}, --repeats at 1")
    if args.directory is not None:
        args.directory.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="flash-kv-bench-", dir=args.directory))
    try:
        machine = machine_facts(directory, [STORES[f"flash_kv-{args.index}"]])
        record_bytes, figures = measure(directory, args.index, args.operations, args.repeats, args.seed)
    except BenchmarkError as error:
        print(f"benchmarks.durable: {error}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    table = table_of(record_bytes, figures)
    print(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}, {machine['file_system']}, "
        f"commit {machine['commit']}, {machine['date']}\n"
    )
    print(table.plain())
    if args.json is not None:
        us = {name: vars(figure) for name, figure in figures.items()}
        document = {"machine": machine, "record_bytes": record_bytes, "us_per_put": us}
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if args.markdown is not None:
        args.markdown.write_text(table.markdown() + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
