"""How long an open takes, with the first get: after a clean close, a kill, a power cut, and with a cold page cache.

Each step has a process of its own: one loads the store and closes it, is killed, or writes what a power cut would
leave; and one opens it and reads. "Cold" means that no page of the store's files is in the system's page cache
(page_cache.py); after a cold open, random keys are read for the first time, each call timed.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns

from flash_kv.bench.dataset import Dataset, in_slices
from flash_kv.bench.page_cache import can_drop_pages, drop_pages
from flash_kv.bench.results import MS, US
from flash_kv.bench.stores import STORES
from flash_kv.bench.stores.base import BenchmarkError, Handle, Pairs, Store
from flash_kv.bench.timing import time_each_ns

CLEAN = "open after a close"
COLD = "open after a close, cold"
KILLED = "open after a kill"
CUT = "open after a power cut"
COLDREAD = "coldread"
TITLES = {
    CLEAN: "open a store that was closed, and get one key",
    COLD: "the same, nothing of its files in the page cache",
    KILLED: "open a store whose process was killed (SIGKILL) at the end of its load, and get one key",
    CUT: "open what a simulated power cut may leave when half of the load was synced; ours alone",
    COLDREAD: "get, of keys read for the first time after a cold open",
}
COLD_READS = 500
_BATCH_RECORDS = 1_000
_LOADS = {CLEAN: "load", COLD: "load", KILLED: "load-and-die", CUT: "load-and-cut"}


def can_do(name: str, store: Store) -> bool:
    """Whether `store` can be opened in this way, on this system."""
    if name == COLD:
        return can_drop_pages()
    if name == CUT:
        return store.cut_power is not None
    return name == CLEAN or store.promise != "nothing"


def measure_opening(store: Store, data: Dataset, directory: Path) -> Iterator[tuple[str, str, float, int]]:
    """(name, unit, sample, operations) of one repeat."""
    for name, load in _LOADS.items():
        if not can_do(name, store):
            continue
        path = directory / f"opening-{store.name}"
        # A power cut's directory is made as a whole.
        if name != CUT:
            path.mkdir(parents=True)
        try:
            _step(store, path, data, load)
            if name == COLD:
                drop_pages(path)
            open_ns, reads_ns = map(int, _step(store, path, data, "open").split())
            yield name, MS, open_ns / 1e6, 1
            if name == COLD:
                reads = _cold_reads(data)
                yield COLDREAD, US, reads_ns / len(reads) / 1e3, len(reads)
        finally:
            shutil.rmtree(path, ignore_errors=True)


def _cold_reads(data: Dataset) -> list[int]:
    """The ordinals read after an open, all of them of the half that a power cut leaves."""
    half = data.key_count // 2
    return random.Random(data.key_count).sample(range(half), min(half, COLD_READS))


def _step(store: Store, path: Path, data: Dataset, step: str) -> str:
    command = [sys.executable, "-m", "flash_kv.bench.opening", store.name, str(path), step]
    command += [str(data.key_count), str(data.key_bytes), str(data.value_bytes)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != (-signal.SIGKILL if step == "load-and-die" else 0):
        raise BenchmarkError(f"{store.name}: {step} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def main() -> None:
    """The child process: one step."""
    parser = argparse.ArgumentParser(
        description="One step of the measuring of opens; started by the benchmarks."
    )
    parser.add_argument("store", choices=list(STORES))
    parser.add_argument("path", type=Path)
    parser.add_argument("step", choices=[*_LOADS.values(), "open"])
    for name in ("keys", "key_bytes", "value_bytes"):
        parser.add_argument(name, type=int)
    args = parser.parse_args()
    data = Dataset(args.keys, args.key_bytes, args.value_bytes, seed=1)
    store = STORES[args.store]
    if args.step == "open":
        print(*_open(store, args.path, data))
        return
    # Enough batches for one to be in the middle.
    batches = in_slices(list(range(args.keys)), min(_BATCH_RECORDS, args.keys // 4))

    def pairs_of(number: int) -> Pairs:
        return data.pairs(batches[number], 0)

    if args.step == "load-and-cut":
        assert store.cut_power is not None
        store.cut_power(args.path, pairs_of, len(batches))
        return
    handle = store.open(args.path)
    for number in range(len(batches)):
        handle.put_many(pairs_of(number))
    if args.step == "load-and-die":
        os.kill(os.getpid(), signal.SIGKILL)
    handle.close()


def _open(store: Store, path: Path, data: Dataset) -> tuple[int, int]:
    """Nanoseconds of an open with the first get, and of the reads that follow."""
    # The module is imported by then, as in a program that has begun.
    store.open(_beside(path)).close()
    ordinals = _cold_reads(data)
    first, keys = data.keys([data.key_count // 4])[0], data.keys(ordinals)
    start = perf_counter_ns()
    handle = store.open(path)
    found = handle.get(first)
    open_ns = perf_counter_ns() - start
    reads_ns = time_each_ns(handle.get, keys)
    try:
        _check(store, handle, data, first, found, ordinals)
    finally:
        handle.close()
    return open_ns, reads_ns


def _check(
    store: Store, handle: Handle, data: Dataset, first: bytes, found: bytes | None, ordinals: list[int]
) -> None:
    expected = data.values([data.key_count // 4], 0)[0]
    if found != expected or [handle.get(key) for key in data.keys(ordinals)] != data.values(ordinals, 0):
        raise BenchmarkError(f"{store.name}: get({first!r}), or another, is not what was put before the open")


def _beside(path: Path) -> Path:
    """An empty directory for the open that nobody times."""
    warm_up = path.parent / f"{path.name}-warm-up"
    shutil.rmtree(warm_up, ignore_errors=True)
    warm_up.mkdir()
    return warm_up


if __name__ == "__main__":
    main()
