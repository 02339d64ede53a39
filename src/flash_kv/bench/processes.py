"""Reads by several processes at once, of the stores that allow it: readrandom over 1, 2 and 4 processes.

Each store is loaded once. Then processes open it, say so, and read random keys from a common start until their time is
over; the rates of all are added. A store that allows readers beside a writer stays open in the process that loaded it;
one that does not (ours among them) is closed first, and what is measured is several processes that only read.

The loop around the calls is timed in the same process and subtracted, as in the other workloads.
"""

from __future__ import annotations

import argparse
import operator
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import perf_counter_ns
from typing import Any

from flash_kv.bench.budget import Part
from flash_kv.bench.dataset import Dataset, in_slices
from flash_kv.bench.results import US
from flash_kv.bench.rows import EMPTY, Rows
from flash_kv.bench.stores import STORES
from flash_kv.bench.stores.base import BenchmarkError, Store
from flash_kv.bench.timing import time_each_ns

COUNTS = (1, 2, 4)
NAMES = {count: f"readrandom, {count} processes" for count in COUNTS}
TITLES = {
    NAMES[count]: f"get by {count} processes at once; of ours by readers alone, the writer has closed it"
    for count in COUNTS
}
_SLICE_KEYS = 1_000
_KEYS_MAX = 100_000
_CHECKED_KEYS = 200


def measure_processes(
    stores: list[Store],
    data: Dataset,
    rows: Rows,
    *,
    part: Part,
    repeats: int,
    seconds: float,
    directory: Path,
    seed: int,
) -> None:
    """Add a sample for each count, repeat and store that may be opened by several processes."""
    rng = random.Random(seed)
    able = [store for store in stores if store.open_reader is not None and not store.is_floor]
    with ExitStack() as stack:
        paths = {store.name: stack.enter_context(_loaded(store, data, directory)) for store in able}
        for _ in part.rounds(repeats):
            for count in COUNTS:
                for store in rng.sample(able, len(able)):
                    us, empty_us, done = _read(store, paths[store.name], data, count, seconds)
                    rows.add(NAMES[count], store.name, US, us, operations=done)
                    rows.add(NAMES[count], EMPTY, US, empty_us)


@contextmanager
def _loaded(store: Store, data: Dataset, directory: Path) -> Iterator[Path]:
    """The directory of a store that holds all keys, open while it is used if it allows that."""
    path = directory / f"processes-{store.name}"
    path.mkdir(parents=True)
    try:
        handle = store.open(path)
        try:
            for ordinals in in_slices(list(range(data.key_count)), _SLICE_KEYS):
                handle.put_many(data.pairs(ordinals, 0))
            handle.settle()
            if store.has_readers_beside_writer:
                yield path
        finally:
            handle.close()
        if not store.has_readers_beside_writer:
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _read(store: Store, path: Path, data: Dataset, count: int, seconds: float) -> tuple[float, float, int]:
    """us per get of all processes together, the same of the empty loop, and how many gets there were."""
    command = [sys.executable, "-m", "flash_kv.bench.processes", store.name, str(path)]
    command += [str(data.key_count), str(data.key_bytes), str(data.value_bytes), str(seconds)]
    children: list[subprocess.Popen[str]] = []
    with ExitStack() as stack:
        for number in range(count):
            child = stack.enter_context(
                subprocess.Popen(
                    [*command, str(number)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
            stack.callback(child.kill)
            children.append(child)
        for child in children:
            _line(store, child)
        for child in children:
            assert child.stdin is not None
            child.stdin.write("go\n")
            child.stdin.flush()
        found = [list(map(int, _line(store, child).split())) for child in children]
        for child in children:
            child.wait()
    done = sum(calls for calls, _, _ in found)
    rate = sum(calls / elapsed_ns for calls, elapsed_ns, _ in found)
    empty_rate = sum(calls / empty_ns for calls, _, empty_ns in found)
    return 1 / rate / 1e3, 1 / empty_rate / 1e3, done


def _line(store: Store, child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    assert child.stderr is not None
    line = child.stdout.readline()
    if not line:
        raise BenchmarkError(f"{store.name}: a process that reads ended: {child.stderr.read().strip()}")
    return line


def main() -> None:
    """A child process: opens the store, says so, and reads when it is told to."""
    parser = argparse.ArgumentParser(description="One of several readers; started by the benchmarks.")
    parser.add_argument("store", choices=list(STORES))
    parser.add_argument("path", type=Path)
    for name in ("keys", "key_bytes", "value_bytes"):
        parser.add_argument(name, type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("number", type=int)
    args = parser.parse_args()
    data = Dataset(args.keys, args.key_bytes, args.value_bytes, seed=1)
    store = STORES[args.store]
    assert store.open_reader is not None
    handle = store.open_reader(args.path)
    try:
        _answer(store, handle.get, data, args.number, int(args.seconds * 1e9))
    finally:
        handle.close()


def _answer(
    store: Store, get: Callable[[bytes], bytes | None], data: Dataset, number: int, time_ns: int
) -> None:
    ordinals = random.Random(number).sample(range(data.key_count), min(data.key_count, _KEYS_MAX))
    slices = [data.keys(part) for part in in_slices(ordinals, _SLICE_KEYS)]
    checked = ordinals[:_CHECKED_KEYS]
    for key, value in zip(data.keys(checked), data.values(checked, 0), strict=True):
        if get(key) != value:
            raise BenchmarkError(f"{store.name}: get({key!r}) in another process is not what was put")
    # Pages are mapped and caches warm before the common start.
    _until(time_ns // 2, get, slices)
    print("ready", flush=True)
    if not sys.stdin.readline():
        os._exit(1)
    done, elapsed_ns = _until(time_ns, get, slices)
    empty_done, empty_ns = _until(time_ns // 20, operator.truth, slices)
    print(done, elapsed_ns, empty_ns * done // empty_done, flush=True)


def _until(time_ns: int, call: Callable[[Any], object], slices: list[list[bytes]]) -> tuple[int, int]:
    """Calls and nanoseconds of going through `slices` again and again until the time is over."""
    done = elapsed_ns = 0
    end = perf_counter_ns() + time_ns
    while True:
        for keys in slices:
            elapsed_ns += time_each_ns(call, keys)
            done += len(keys)
            if perf_counter_ns() >= end:
                return done, elapsed_ns


if __name__ == "__main__":
    main()
