"""Compaction: how much of a log it rewrites in a second, how long reads take meanwhile, and what space it gives back.

Each store has a process of its own, in which it is loaded with keys in random order and half of them overwritten, so
that a third of the log is dead; `log_bytes` of keys and values are written in all. A compaction is timed alone, then
single gets at rest, and after some more overwrites single gets while another thread compacts. Throughput is payload
(keys and values) of live records rewritten and synced, per second.

The raw figure beside it reads as many bytes from a file in the page cache, writes them to a new file and syncs that:
what the disk of this machine gives to anything that rewrites data durably. What a store or the copy has written is
synced before the clock starts.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, perf_counter_ns

from flash_kv.bench.dataset import Dataset, in_slices
from flash_kv.bench.histogram import Histogram
from flash_kv.bench.page_cache import sync_files
from flash_kv.bench.stores import STORES
from flash_kv.bench.stores.base import BenchmarkError, Handle, Store
from flash_kv.bench.timing import latencies_ns, time_call_ns

RAW_COPY = "raw copy + fsync"
COMPACTION = "compaction"
SPACE_AFTER_CHURN = "space after churn"
SPACE_COMPACTED = "space after compaction"
READ_AT_REST = "get, at rest"
READ_DURING = "get, during a compaction"
TITLES = {
    COMPACTION: "live keys and values rewritten and synced a second, by the store's own compaction",
    SPACE_AFTER_CHURN: "space on the disk for each key, half of the keys overwritten once",
    SPACE_COMPACTED: "the same after the compaction",
    READ_AT_REST: "get, random, before the compaction, each call timed",
    READ_DURING: "get, random, while another thread compacts, each call timed",
}
_TOO_SLOW = "too slow"
_CHUNK_BYTES = 1 << 20
_BATCH_RECORDS = 1_000
_READS_PER_SLICE = 100
_REST_SLICES = 500
_REWRITTEN_MIN = 0.1
"""Below this part of the live payload there was no compaction to speak of, and a rate means nothing."""


@dataclass(frozen=True, kw_only=True)
class Compacted:
    """What one repeat of one store found."""

    keys: int
    churned_bytes_per_key: float
    compacted_bytes_per_key: float
    mb_s: float | None
    """None when there was little to rewrite."""
    at_rest: str | None = None
    """Histograms as text; None where the store serves one thread, or its compaction was over at once."""
    during: str | None = None


class TooSlowError(Exception):
    """The load took longer than it may."""


def key_count(log_bytes: int, payload_bytes: int) -> int:
    """Keys of a store of which half are overwritten once to make a log of `log_bytes`."""
    return max(_BATCH_RECORDS, log_bytes * 2 // 3 // payload_bytes)


def measure_compaction(
    store: Store, log_bytes: int, data: Dataset, directory: Path, *, load_budget_s: float, seed: int
) -> Compacted | None:
    """One repeat, in a child process; None for a store that has no compaction. TooSlowError when its load is."""
    path = directory / f"compaction-{store.name}"
    path.mkdir(parents=True)
    keys = key_count(log_bytes, data.payload_bytes)
    command = [sys.executable, "-m", "flash_kv.bench.compaction", store.name, str(path), str(keys)]
    command += [str(data.key_bytes), str(data.value_bytes), str(min(load_budget_s, 86_400.0)), str(seed)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(path, ignore_errors=True)
    if done.returncode != 0:
        raise BenchmarkError(
            f"{store.name}: the compaction ended with {done.returncode}: {done.stderr.strip()}"
        )
    found = json.loads(done.stdout)
    if found == _TOO_SLOW:
        raise TooSlowError(f"{keys:,} keys and their overwrites were not in it after {load_budget_s:.0f} s")
    return None if found is None else Compacted(**found)


class _Churn:
    """The store in the child, and the version that each key is at."""

    def __init__(self, store: Store, handle: Handle, data: Dataset, load_budget_s: float, seed: int) -> None:
        self.store = store
        self.handle = handle
        self.data = data
        self._end = monotonic() + load_budget_s
        self._rng = random.Random(seed)
        self._ordinals = list(range(data.key_count))
        self._versions = bytearray(data.key_count)

    def write(self, part: float, version: int) -> None:
        """Put a part of the keys, drawn anew, in random order."""
        self._rng.shuffle(self._ordinals)
        for batch in in_slices(self._ordinals[: round(part * len(self._ordinals))], _BATCH_RECORDS):
            if monotonic() > self._end:
                raise TooSlowError
            pairs = self.data.pairs(batch, version)
            if self.handle.kept is not None:
                self.handle.kept.append(pairs)
            self.handle.put_many(pairs)
            for ordinal in batch:
                self._versions[ordinal] = version

    def reads(self, slices: int) -> list[list[tuple[bytes]]]:
        """Random keys, as arguments of calls."""
        count = min(slices * _READS_PER_SLICE, len(self._ordinals))
        keys = self.data.keys(self._rng.sample(self._ordinals, count))
        return [
            [(key,) for key in keys[begin : begin + _READS_PER_SLICE]]
            for begin in range(0, count, _READS_PER_SLICE)
        ]

    def check(self) -> None:
        for ordinal in self._rng.sample(self._ordinals, min(500, len(self._ordinals))):
            key, value = self.data.pairs([ordinal], self._versions[ordinal])[0]
            if self.handle.get(key) != value:
                raise BenchmarkError(f"{self.store.name}: after compaction get({key!r}) is not what was put")


def _measure_here(
    store: Store, path: Path, data: Dataset, load_budget_s: float, seed: int
) -> Compacted | None:
    handle = store.open(path)
    try:
        if handle.compact is None:
            return None
        churn = _Churn(store, handle, data, load_budget_s, seed)
        churn.write(1.0, 0)
        churn.write(0.5, 1)
        sync_files(path)
        churned = disk_bytes(path)
        rate = _rate(handle, path, data)
        compacted = disk_bytes(path)
        churn.check()
        at_rest, during = _read_beside(churn) if store.is_thread_safe else (None, None)
        churn.check()
        return Compacted(
            keys=data.key_count,
            churned_bytes_per_key=churned / data.key_count,
            compacted_bytes_per_key=compacted / data.key_count,
            mb_s=rate,
            at_rest=None if at_rest is None else at_rest.encoded(),
            during=None if during is None else during.encoded(),
        )
    finally:
        handle.close()


def _read_beside(churn: _Churn) -> tuple[Histogram, Histogram | None]:
    """Latencies of gets at rest, and of those that began while a compaction ran; None if it was too short for any."""
    handle = churn.handle
    assert handle.compact is not None
    get = handle.get if handle.get_of_thread is None else handle.get_of_thread(0)
    slices = churn.reads(_REST_SLICES)
    # The first round is not kept: it maps pages and fills caches.
    _through(get, slices)
    at_rest = _through(get, slices)
    churn.write(0.25, 2)
    failed: list[BaseException] = []
    compact = handle.compact

    def work() -> None:
        try:
            compact()
        except BaseException as error:
            failed.append(error)
            raise

    during = Histogram()
    compacting = threading.Thread(target=work)
    compacting.start()
    number = 0
    while compacting.is_alive():
        samples = latencies_ns(get, slices[number % len(slices)])
        if compacting.is_alive():
            during.add(samples)
        number += 1
    compacting.join()
    if failed:
        raise failed[0]
    return at_rest, during if during.total else None


def _through(get: Callable[[bytes], bytes | None], slices: list[list[tuple[bytes]]]) -> Histogram:
    found = Histogram()
    for calls in slices:
        found.add(latencies_ns(get, calls))
    return found


def _rate(handle: Handle, directory: Path, data: Dataset) -> float | None:
    """MB of live payload per second; None when the store found little to rewrite."""
    live_bytes = data.key_count * data.payload_bytes
    before = _files(directory)
    moved: list[int | None] = []
    compact = handle.compact
    assert compact is not None
    elapsed_ns = time_call_ns(lambda: moved.append(compact()))
    if moved[0] is None:
        # Invariant: no store is credited with more than it wrote, nor with more than the live payload.
        after = _files(directory)
        rewritten = sum(size for file, size in after.items() if file not in before)
    else:
        rewritten = moved[0] * data.payload_bytes
    if rewritten < live_bytes * _REWRITTEN_MIN:
        return None
    return min(rewritten, live_bytes) / 1e6 / (elapsed_ns / 1e9)


def _files(directory: Path) -> dict[tuple[str, int, int], int]:
    """Sizes of the files under `directory` by path, inode and time of change: a rewritten one is new."""
    found = {}
    for path in directory.rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            # A background thread of the store has just removed it, so it is none of the rewritten ones.
            continue
        if stat.S_ISREG(status.st_mode):
            found[str(path), status.st_ino, status.st_mtime_ns] = status.st_size
    return found


def raw_copy_rate(directory: Path, size: int) -> float:
    """MB per second of copying `size` bytes from a cached file to a new one, synced."""
    source, copy = directory / "raw-source", directory / "raw-copy"
    chunk = os.urandom(_CHUNK_BYTES)
    with source.open("wb", buffering=0) as file:
        for _ in range(-(-size // _CHUNK_BYTES)):
            file.write(chunk)
        os.fsync(file.fileno())
    elapsed_ns = -perf_counter_ns()
    copied = 0
    with source.open("rb", buffering=0) as read, copy.open("wb", buffering=0) as write:
        while part := read.read(_CHUNK_BYTES):
            copied += write.write(part)
        os.fsync(write.fileno())
    elapsed_ns += perf_counter_ns()
    source.unlink()
    copy.unlink()
    return copied / 1e6 / (elapsed_ns / 1e9)


def disk_bytes(directory: Path) -> int:
    """What the files under `directory` take of the disk: a sparse file counts what is allocated."""
    found = 0
    for path in directory.rglob("*"):
        try:
            status = path.stat()
        except FileNotFoundError:
            continue
        found += status.st_blocks * 512 if stat.S_ISREG(status.st_mode) else 0
    return found


def main() -> None:
    """The child process: one repeat of one store."""
    parser = argparse.ArgumentParser(description="Compaction of one store; started by the benchmarks.")
    parser.add_argument("store", choices=list(STORES))
    parser.add_argument("path", type=Path)
    for name in ("keys", "key_bytes", "value_bytes"):
        parser.add_argument(name, type=int)
    parser.add_argument("load_budget_s", type=float)
    parser.add_argument("seed", type=int)
    args = parser.parse_args()
    data = Dataset(args.keys, args.key_bytes, args.value_bytes, args.seed)
    gc.freeze()
    try:
        found = _measure_here(STORES[args.store], args.path, data, args.load_budget_s, args.seed)
    except TooSlowError:
        print(json.dumps(_TOO_SLOW))
        return
    print(json.dumps(None if found is None else asdict(found)))


if __name__ == "__main__":
    main()
