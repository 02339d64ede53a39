"""`view` beside `get`, hot, over sizes of values: `python -m benchmarks.zero_copy`.

The two take turns, many times; what an empty call takes is subtracted. The lowest of the times of each turn is what the
call takes when nothing else runs, the highest says how much the machine was disturbed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import flash_kv
from benchmarks.figures import Figure
from benchmarks.machine import busy_lines, machine_facts, machine_lines
from benchmarks.report import Table
from benchmarks.timing import empty_handle, time_each_ns

SIZES = (16, 100, 4096, 65_536, 1_048_576)
ROUNDS = 15
CALLS = 20_000
LARGE_CALLS = 300


def main() -> None:
    """Measure and print one table."""
    empty = empty_handle(1).get
    rows = []
    with tempfile.TemporaryDirectory(prefix="flash-kv-bench-") as directory:
        facts = machine_facts(Path(directory), [])
        for index in ("hash", "btree"):
            with flash_kv.open(Path(directory) / index, index=index) as db:
                for size in SIZES:
                    db[b"%d" % size] = bytes(size)
                for size in SIZES:
                    keys = [b"%d" % size] * (CALLS if size < 65_536 else LARGE_CALLS)
                    samples: dict[str, list[float]] = {"get": [], "view": []}
                    for _ in range(ROUNDS):
                        overhead_us = time_each_ns(empty, keys) / len(keys) / 1e3
                        for name, call in (("get", db.get), ("view", db.view)):
                            elapsed_us = time_each_ns(call, keys) / len(keys) / 1e3
                            samples[name].append(max(0.0, elapsed_us - overhead_us))
                    figures = [str(Figure.of(samples[name])) for name in ("get", "view")]
                    rows.append([index, f"{size:,} B", *figures])
    print("\n".join([*machine_lines(facts), *busy_lines(facts)]))
    print(Table("hot, us per call", ["index", "value", "get", "view"], rows).plain())


if __name__ == "__main__":
    main()
