"""The index on disk with more keys than its memory has room for: what it takes, and how long an open does.

    python -m benchmarks.larger_than_memory --keys 20000000 --dir /some/disk

A child process loads the keys in random order, or with --sorted in key order, and is killed. Another one opens the
store, reads keys by chance, changes some, and is killed; a third opens and closes it; a fourth opens what was closed.
All of them may have no more private memory than `index_cache_bytes` and a fixed allowance for the interpreter, for one
segment's hint and for the log's writers: the limit is the kernel's (RLIMIT_DATA), so a store that took more for more
keys would fail and not merely measure worse. Pages of mapped log files are not private: the kernel takes them back when
it needs them.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import flash_kv
from flash_kv.bench.dataset import Dataset
from flash_kv.bench.machine import machine_facts, machine_lines
from flash_kv.bench.stores.base import BenchmarkError

KEY_BYTES = 16
VALUE_BYTES = 100
SEGMENT_BYTES = 32 << 20
ALLOWANCE_BYTES = 96 << 20
SLICE_KEYS = 1_000
READS = 20_000
CHANGES = 100_000
# Odd, and no divisor of a round number: its multiples go through all ordinals in an order that looks like chance.
STRIDE = 2_654_435_761
WRITTEN = b"written\n"
_ROOT = Path(__file__).resolve().parent.parent
_STATUS = Path("/proc/self/status")


def _anonymous_bytes() -> int:
    fields = dict(line.split(":", 1) for line in _STATUS.read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) * 1024


def _ordinals(count: int, keys: int, begin: int) -> Iterator[list[int]]:
    for start in range(begin, begin + count, SLICE_KEYS):
        end = min(start + SLICE_KEYS, begin + count)
        yield [number * STRIDE % keys for number in range(start, end)]


def _limit_memory(cache_bytes: int) -> int:
    """Private memory that this process may have from now on."""
    limit = cache_bytes + ALLOWANCE_BYTES
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    return limit


def _load(db: flash_kv.DB, data: Dataset, *, is_sorted: bool) -> int:
    """Put all keys; the most private memory that took."""
    most = 0
    keys = data.key_count
    if is_sorted:
        parts = (list(range(start, min(start + SLICE_KEYS, keys))) for start in range(0, keys, SLICE_KEYS))
    else:
        parts = _ordinals(keys, keys, 0)
    for part in parts:
        db.put_many(data.pairs(part, 0), sorted=is_sorted)
        most = max(most, _anonymous_bytes())
    return most


def _run(phase: str, path: Path, keys: int, cache_bytes: int, *, is_sorted: bool) -> None:
    """One child: prints what it measured, then, unless it closes the store, waits to be killed."""
    limit = _limit_memory(cache_bytes)
    data = Dataset(keys, KEY_BYTES, VALUE_BYTES, seed=1)
    before = _anonymous_bytes()
    started = time.perf_counter()
    db = flash_kv.open(
        path, index="bptree", index_cache_bytes=cache_bytes, segment_bytes_max=SEGMENT_BYTES, reserve_bytes=0
    )
    found: dict[str, float] = {"open_s": time.perf_counter() - started, "limit": limit}
    found["segments_read"] = db.stats().recovery.segments_from_hints + db.stats().recovery.segments_scanned
    most = _anonymous_bytes()
    if phase == "load":
        started = time.perf_counter()
        most = max(most, _load(db, data, is_sorted=is_sorted))
        found["load_s"] = time.perf_counter() - started
    elif phase == "change":
        started = time.perf_counter()
        for part in _ordinals(READS, keys, keys // 3):
            for key, value in data.pairs(part, 0):
                if db[key] != value:
                    raise BenchmarkError(f"{key!r} has another value than was put")
        found["get_us"] = (time.perf_counter() - started) / READS * 1e6
        started = time.perf_counter()
        for part in _ordinals(CHANGES, keys, keys // 2):
            for key, value in data.pairs(part, 1):
                db[key] = value
            most = max(most, _anonymous_bytes())
        found["put_us"] = (time.perf_counter() - started) / CHANGES * 1e6
    stats = db.stats()
    found["keys"] = stats.keys
    found["index_bytes"] = stats.index_bytes
    found["anonymous_bytes"] = max(most, _anonymous_bytes())
    found["grown_bytes"] = found["anonymous_bytes"] - before
    found["file_bytes"] = (path / "INDEX").stat().st_size
    if phase in ("recover", "clean"):
        db.close()
    print(json.dumps(found), flush=True)
    if phase in ("load", "change"):
        sys.stdout.buffer.write(WRITTEN)
        sys.stdout.flush()
        sys.stdin.read()


def _child(phase: str, path: Path, keys: int, cache_bytes: int, *, is_sorted: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.larger_than_memory", "--phase", phase, "--dir", str(path)]
    command += ["--keys", str(keys), "--cache-bytes", str(cache_bytes), *(["--sorted"] if is_sorted else [])]
    with subprocess.Popen(
        command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        told = child.stdout.readline()
        if told and phase in ("load", "change"):
            child.stdout.readline()
            child.kill()
        reason = child.stderr.read().decode("utf-8", "replace").strip()
    if not told:
        raise BenchmarkError(f"{phase}: {reason}")
    found: dict[str, float] = json.loads(told)
    return found


def _line(phase: str, found: dict[str, float]) -> str:
    parts = [f"open {found['open_s'] * 1e3:9,.1f} ms", f"segments read {found['segments_read']:,.0f}"]
    parts.append(
        f"private memory {found['anonymous_bytes'] / 2**20:6.1f} MiB, limit {found['limit'] / 2**20:.0f}"
    )
    parts.append(f"index {found['index_bytes'] / 2**20:6.1f} MiB of {found['file_bytes'] / 2**20:,.0f}")
    if "load_s" in found:
        parts.append(f"load {found['load_s']:,.1f} s, {found['load_s'] / found['keys'] * 1e6:.2f} us a key")
    if "get_us" in found:
        parts.append(f"get {found['get_us']:.2f} us, put {found['put_us']:.2f} us")
    return f"{phase:16}" + "; ".join(parts)


def main() -> None:
    """Print a line for each phase; exit code 1 when one breaks its limit or finds a wrong value."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=500_000)
    parser.add_argument("--cache-bytes", type=int, default=8 << 20, help="of the index [8 MiB]")
    parser.add_argument("--sorted", action="store_true", help="load in key order, some twenty times as fast")
    parser.add_argument("--dir", type=Path, help="where to make the store [a temporary directory]")
    parser.add_argument("--phase", choices=["load", "change", "recover", "clean"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.phase:
        _run(args.phase, args.dir, args.keys, args.cache_bytes, is_sorted=args.sorted)
        return
    root = Path(tempfile.mkdtemp(prefix="flash-kv-larger-", dir=args.dir))
    try:
        print("\n".join(machine_lines(machine_facts(root, []))))
        print(
            f"{args.keys:,} keys of {KEY_BYTES} bytes, values of {VALUE_BYTES}, index_cache_bytes {args.cache_bytes:,}"
        )
        for phase, name in (
            ("load", "load"),
            ("change", "after kill -9"),
            ("recover", "after kill -9"),
            ("clean", "after close"),
        ):
            found = _child(phase, root / "db", args.keys, args.cache_bytes, is_sorted=args.sorted)
            print(_line(name, found), flush=True)
    except BenchmarkError as error:
        sys.exit(f"error: {error}")
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
