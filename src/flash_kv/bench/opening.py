"""How long an open takes, with the first get: after a clean close, after a kill, and with the page cache dropped.

Each step has a process of its own: one loads the store and closes it or is killed, and one opens it and reads. "Cold"
needs the right to drop the system's page cache, which root has, and is left out without it.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter_ns

from flash_kv.bench.dataset import Dataset, in_slices
from flash_kv.bench.stores import STORES
from flash_kv.bench.stores.base import BenchmarkError, Store

CLEAN = "open after a close"
COLD = "open after a close, cold"
KILLED = "open after a kill"
_DROP_CACHES = Path("/proc/sys/vm/drop_caches")
_BATCH_RECORDS = 1_000


def can_drop_caches() -> bool:
    return os.access(_DROP_CACHES, os.W_OK)


def measure_opening(
    store: Store, data: Dataset, repeats: int, directory: Path
) -> Iterator[tuple[str, float]]:
    """(name, ms) of every repeat; a store of which a kill may leave nothing is not killed."""
    for _ in range(repeats):
        for name in (CLEAN, COLD, KILLED):
            if (name == COLD and not can_drop_caches()) or (name == KILLED and store.promise == "nothing"):
                continue
            path = directory / f"opening-{store.name}"
            path.mkdir(parents=True)
            try:
                _step(store, path, data, "load-and-die" if name == KILLED else "load")
                if name == COLD:
                    os.sync()
                    _DROP_CACHES.write_text("3\n")
                yield name, float(_step(store, path, data, "open")) / 1e6
            finally:
                shutil.rmtree(path, ignore_errors=True)


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
    parser.add_argument("step", choices=["load", "load-and-die", "open"])
    for name in ("keys", "key_bytes", "value_bytes"):
        parser.add_argument(name, type=int)
    args = parser.parse_args()
    data = Dataset(args.keys, args.key_bytes, args.value_bytes, seed=1)
    store = STORES[args.store]
    if args.step == "open":
        # The module is imported by then, as in a program that has begun.
        store.open(_beside(args.path)).close()
        key, expected = data.keys([args.keys // 2])[0], data.values([args.keys // 2], 0)[0]
        start = perf_counter_ns()
        handle = store.open(args.path)
        found = handle.get(key)
        elapsed_ns = perf_counter_ns() - start
        if found != expected:
            raise BenchmarkError(f"{store.name}: get({key!r}) after the open is not what was put")
        handle.close()
        print(elapsed_ns)
        return
    handle = store.open(args.path)
    for part in in_slices(list(range(args.keys)), _BATCH_RECORDS):
        handle.put_many(data.pairs(part, 0))
    if args.step == "load-and-die":
        os.kill(os.getpid(), signal.SIGKILL)
    handle.close()


def _beside(path: Path) -> Path:
    """An empty directory for the open that nobody times."""
    warm_up = path.parent / f"{path.name}-warm-up"
    shutil.rmtree(warm_up, ignore_errors=True)
    warm_up.mkdir()
    return warm_up


if __name__ == "__main__":
    main()
