"""Memory per key: each store is loaded in a process of its own, whose memory is read before and after.

`anonymous` is memory that belongs to the process alone: the index, caches, write buffers. `resident` adds the
pages of mapped files, which the kernel can take back at any time (for a mapped store nearly all of its data).
`index` is what the store itself says its index takes beyond the log, where it says so. For a dict, and
for stores with their own caches, the anonymous memory holds values too.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from flash_kv.bench.dataset import Dataset, in_slices
from flash_kv.bench.stores import STORES
from flash_kv.bench.stores.base import BenchmarkError, Store

_SLICE_KEYS = 10_000
_STATUS = Path("/proc/self/status")


@dataclass(frozen=True, kw_only=True)
class MemoryPerKey:
    """Bytes per key of one store with keys of one size."""

    store: str
    keys: int
    key_bytes: int
    index_bytes: float | None
    anonymous_bytes: float
    resident_bytes: float


def measure_memory(
    store: Store, keys: int, key_bytes: int, value_bytes: int, directory: Path
) -> MemoryPerKey:
    """Load `keys` keys into `store` in a child process and read its memory there."""
    path = directory / f"memory-{store.name}-{key_bytes}"
    path.mkdir(parents=True)
    command = [sys.executable, "-m", "flash_kv.bench.memory", store.name, str(path)]
    command += [str(keys), str(key_bytes), str(value_bytes)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    finally:
        shutil.rmtree(path, ignore_errors=True)
    if done.returncode != 0:
        raise BenchmarkError(
            f"{store.name}: the memory run ended with {done.returncode}: {done.stderr.strip()}"
        )
    return MemoryPerKey(**json.loads(done.stdout))


def is_measurable() -> bool:
    """Whether this system tells a process its anonymous and resident memory (Linux does)."""
    return _STATUS.exists()


def _process_bytes() -> tuple[int, int]:
    """Anonymous and resident bytes of this process."""
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    anonymous, resident = (int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "VmRSS"))
    return anonymous, resident


def _load_here(store: Store, path: Path, keys: int, key_bytes: int, value_bytes: int) -> MemoryPerKey:
    """Load the store in this process, in random order, holding no key or value of the load."""
    data = Dataset(keys, key_bytes, value_bytes, seed=1)
    ordinals = list(range(keys))
    random.Random(1).shuffle(ordinals)
    slices = in_slices(ordinals, _SLICE_KEYS)
    # A list is made before the first reading, so that the lists' space is not counted as the store's.
    warm_up = data.pairs(slices[0], 0)
    del warm_up
    handle = store.open(path)
    gc.collect()
    anonymous_before, resident_before = _process_bytes()
    for part in slices:
        for key, value in data.pairs(part, 0):
            handle.put(key, value)
    gc.collect()
    anonymous, resident = _process_bytes()
    index_bytes = None if handle.index_bytes is None else handle.index_bytes() / keys
    handle.close()
    return MemoryPerKey(
        store=store.name,
        keys=keys,
        key_bytes=key_bytes,
        index_bytes=index_bytes,
        anonymous_bytes=(anonymous - anonymous_before) / keys,
        resident_bytes=(resident - resident_before) / keys,
    )


def main() -> None:
    """The child process: one store, one key size, one JSON object on standard output."""
    parser = argparse.ArgumentParser(description="Memory per key of one store; started by the benchmarks.")
    parser.add_argument("store", choices=list(STORES))
    parser.add_argument("directory", type=Path, help="an empty directory for the store")
    parser.add_argument("keys", type=int)
    parser.add_argument("key_bytes", type=int)
    parser.add_argument("value_bytes", type=int)
    args = parser.parse_args()
    found = _load_here(STORES[args.store], args.directory, args.keys, args.key_bytes, args.value_bytes)
    print(json.dumps(vars(found)))


if __name__ == "__main__":
    main()
