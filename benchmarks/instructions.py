"""Instructions per operation, counted by callgrind, against the figures kept in `instructions.json`.

    python -m benchmarks.instructions --check             # 1 when an operation takes more than is kept, or far fewer
    python -m benchmarks.instructions --accept "reason"   # keep what is counted now, with why
    python -m benchmarks.instructions --functions get     # where the instructions of an operation go

One child process for each kind of index does every operation, with what it needs made
beforehand, and calls `os.getppid` between them, at which callgrind writes what it has counted and begins anew; so the
start of the interpreter, imports, loads and the making of keys are in none of the figures; the loop of the calls is.

The counts depend on the interpreter and on the compiler of both, so figures are kept for each `key()`: the version of
Python, its compiler and what `cc` is. Where nothing is kept for this one, `--check` says so and is no failure:
`--accept` makes it one that is guarded.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flash_kv
from flash_kv.bench.dataset import Dataset
from flash_kv.bench.stores.base import Pairs

ROOT = Path(__file__).parents[1]
KEPT = Path(__file__).with_name("instructions.json")
TOLERANCE = 0.02
"""What a guard needs. Two counts of one build differ by up to 6.5 % still (get, hash; overwrite), for a reason that is
not found, so a difference is to be counted again before it is believed, and the check is no part of CI."""
KEYS = 2_000
BATCH_RECORDS = 100
OPENS = 2
INDEXES = ("hash", "btree")
OPERATIONS = {"put": KEYS, "overwrite": KEYS, "batch": KEYS, "get": KEYS, "scan": KEYS, "open": OPENS}
"""In the order in which the child does them, with how many there are: records of batches, items of a scan."""
_MARK = "getppid"
_TOTAL = re.compile(rb"^(?:summary|totals): (\d+)", re.MULTILINE)


def has_callgrind() -> bool:
    return shutil.which("valgrind") is not None


def key() -> str:
    """What a count depends on beside our code."""
    cc = subprocess.run(
        [os.environ.get("CC", "cc"), "-dumpfullversion", "-dumpmachine"],
        capture_output=True,
        text=True,
        check=False,
    )
    compiler = " ".join(cc.stdout.split()) or "unknown"
    return f"CPython {platform.python_version()} ({platform.python_compiler()}), cc {compiler}"


def counted() -> dict[str, float]:
    """`operation, index` to instructions of one operation: an item for a scan, a record for a batch."""
    found = {}
    for index in INDEXES:
        with tempfile.TemporaryDirectory(prefix="fkv-count-") as directory:
            for (operation, times), output in zip(
                OPERATIONS.items(), _outputs(index, Path(directory)), strict=True
            ):
                total = _TOTAL.search(output.read_bytes())
                if total is None:
                    raise RuntimeError("callgrind's output has no total")
                found[f"{operation}, {index}"] = round(int(total[1]) / times, 1)
    return found


def _outputs(index: str, directory: Path) -> list[Path]:
    """What callgrind wrote about each operation of a child, in their order."""
    out = directory / "out"
    command = [
        "valgrind",
        "--tool=callgrind",
        f"--callgrind-out-file={out}",
        f"--dump-before={_MARK}",
        "--quiet",
    ]
    command += [sys.executable, "-m", "benchmarks.instructions", "--child", index, str(directory / "store")]
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(command, capture_output=True, env=environment, cwd=ROOT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"callgrind ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    # Before each operation there is a mark and after it one: every second dump is of an operation.
    return [directory / f"out.{2 * place}" for place in range(1, len(OPERATIONS) + 1)]


def _child(index: str, path: Path) -> None:
    data, ordinals = Dataset(KEYS, 16, 100, 1), list(range(KEYS))
    random.Random(1).shuffle(ordinals)
    # A store's secret, which the hash of its keys depends on, would be another in every run.
    os.urandom = random.Random(2).randbytes
    # No thread of the store works beside the one that is counted.
    options: dict[str, Any] = {"index": index, "compaction": "off"}
    db = flash_kv.open(path, **options)
    first, second, third = (data.pairs(ordinals, version) for version in range(3))
    batches = [third[start : start + BATCH_RECORDS] for start in range(0, KEYS, BATCH_RECORDS)]
    keys = data.keys(ordinals)
    for operation in (
        lambda: _call_each(db.put, first),
        lambda: _call_each(db.put, second),
        lambda: _write(db, batches),
        lambda: [db.get(key) for key in keys],
        lambda: list(db.items()),
    ):
        os.getppid()
        operation()
        os.getppid()
    db.close()
    os.getppid()
    for _ in range(OPENS):
        flash_kv.open(path, **options).close()
    os.getppid()


def _call_each(put: Callable[[bytes, bytes], object], pairs: Pairs) -> None:
    for key, value in pairs:
        put(key, value)


def _write(db: flash_kv.DB, batches: list[Pairs]) -> None:
    for pairs in batches:
        with db.batch() as batch:
            _call_each(batch.put, pairs)


def differences(kept: dict[str, float], found: dict[str, float], tolerance: float = TOLERANCE) -> list[str]:
    """What takes more than is kept, or so much less that the figure has to be kept anew; missing ones too."""
    lines = []
    for name in sorted(kept.keys() | found.keys()):
        if name not in kept or name not in found:
            lines.append(f"{name}: {'counted' if name in found else 'kept'} only")
        elif abs(found[name] - kept[name]) > kept[name] * tolerance:
            change = found[name] / kept[name] - 1
            lines.append(
                f"{name}: {found[name]:,.1f} instructions, kept are {kept[name]:,.1f} ({change:+.1%})"
            )
    return lines


def load() -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = json.loads(KEPT.read_text("utf-8")) if KEPT.exists() else {}
    return found


def check() -> list[str] | None:
    """The differences; None when nothing is kept for this Python and compiler."""
    kept = load().get(key())
    if kept is None:
        return None
    figures = kept["instructions"]
    assert isinstance(figures, dict)
    return differences(figures, counted())


def accept(reason: str) -> None:
    everything = load()
    everything[key()] = {"reason": reason, "instructions": counted()}
    KEPT.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n", "utf-8")


def functions(operation: str, index: str) -> str:
    """callgrind's list of functions, each by itself, of all calls of an operation."""
    with tempfile.TemporaryDirectory(prefix="fkv-count-") as directory:
        output = _outputs(index, Path(directory))[list(OPERATIONS).index(operation)]
        command = ["callgrind_annotate", "--threshold=97", str(output)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main(arguments: list[str] | None = None) -> int:
    """0 when nothing has changed or nothing can be counted, 1 when something has."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.instructions", description=__doc__)
    task = parser.add_mutually_exclusive_group(required=True)
    task.add_argument("--check", action="store_true")
    task.add_argument("--accept", metavar="REASON")
    task.add_argument("--functions", choices=list(OPERATIONS), metavar="OPERATION")
    task.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--index", default="btree", help="for --functions (default btree)")
    args = parser.parse_args(arguments)
    if args.child:
        _child(args.child[0], Path(args.child[1]))
        return 0
    if not has_callgrind():
        print("instructions are not counted: there is no valgrind")
        return 0
    if args.functions:
        print(functions(args.functions, args.index))
        return 0
    if args.accept is not None:
        if not args.accept.strip():
            parser.error("--accept needs a reason")
        accept(args.accept)
        return 0
    lines = check()
    if lines is None:
        print(f"nothing is kept for {key()}: `--accept REASON` makes it guarded")
        return 0
    print("\n".join(lines) if lines else "no operation takes more instructions than is kept")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
