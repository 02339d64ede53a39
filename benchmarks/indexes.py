"""The kinds of index side by side: `python -m benchmarks.indexes [--keys N,N,...] [--plots DIR] [--markdown FILE]`.

For each size of keys and each number of them, a store with each kind is loaded in random order, read, scanned, closed
and opened again: with the kind it was written with, and with the next kind, which is what switching costs. Slices are
interleaved as in `flash-kv bench`; open times are the median of several opens.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.index_plots import draw
from benchmarks.progress import progress
from flash_kv.bench.dataset import Dataset, in_slices
from flash_kv.bench.figures import Figure
from flash_kv.bench.machine import busy_lines, machine_facts, machine_lines
from flash_kv.bench.runner import Plan, measure
from flash_kv.bench.stores import STORES
from flash_kv.bench.stores.base import Store
from flash_kv.bench.table import Table
from flash_kv.bench.timing import time_call_ns
from flash_kv.bench.workloads import WORKLOADS

VALUE_BYTES = 100
OPERATIONS_MAX = 200_000
SLICE_OPERATIONS = 50_000
OPENS = 5
# Of more keys there is one repeat, and so much time for each workload of a kind: loading them is what takes long.
REPEATED_KEYS_MAX = 1_000_000
LARGE_BUDGET_S = 30.0
# What these had no time for, and all of what their opens are measured with, is then put in the order of keys: in random
# order each key costs a page from the disk.
ON_DISK = ("bptree",)

MEASURES = {
    "fillrandom": "put, random order, us",
    "readrandom": "get, random, us",
    "multireadrandom": "get_many(1,000), us per key",
    "readseq": "scan, us per item",
    "memory": "index, bytes per key",
    "open": "open after close, ms",
    "switch": "first open with this kind, ms",
}

SPEEDS = ("fillrandom", "readrandom", "multireadrandom", "readseq")
"""Those of the measures that are workloads."""

Samples = dict[str, list[float]]


@dataclass
class Case:
    """One size of keys and one number of them: samples by measure and kind."""

    key_bytes: int
    keys: int
    samples: dict[str, Samples] = field(default_factory=lambda: defaultdict(lambda: defaultdict(list)))

    def figure(self, measure: str, kind: str) -> Figure | None:
        samples = self.samples[measure].get(kind)
        return Figure.of(samples) if samples else None


def kinds() -> dict[str, Store]:
    """All stores of ours that don't sync each write, by their kind of index."""
    return {
        store.name.removeprefix("flash_kv-"): store
        for store in STORES.values()
        if store.is_ours and store.promise == "process"
    }


def measure_case(key_bytes: int, keys: int, *, repeats: int, seed: int, directory: Path) -> Case:
    """The workloads by turns; then `repeats` times: load, close, open. Of very many keys once."""
    if keys > REPEATED_KEYS_MAX:
        repeats = 1
    case = Case(key_bytes, keys)
    data = Dataset(keys, key_bytes, VALUE_BYTES, seed)
    plan = Plan(
        stores=list(kinds().values()),
        workloads=[WORKLOADS[name] for name in SPEEDS],
        data=data,
        repeats=repeats,
        operations=min(keys, OPERATIONS_MAX),
        slice_operations=SLICE_OPERATIONS,
        budget_s=math.inf if keys <= REPEATED_KEYS_MAX else LARGE_BUDGET_S,
        seed=seed,
        directory=directory,
        has_latencies=False,
        report=progress,
    )
    for row in measure(plan):
        kind = row.store.removeprefix("flash_kv-")
        case.samples[row.workload][kind] += [max(0.0, sample - row.subtract) for sample in row.samples]
    for number in range(repeats):
        progress(f"{keys:,} keys of {key_bytes} B: open, {number + 1} of {repeats}")
        root = directory / "opened"
        try:
            for kind, store in kinds().items():
                case.samples["memory"][kind].append(_load(store, root, data, seed + number))
            _measure_opens(case, root)
        finally:
            shutil.rmtree(root, ignore_errors=True)
    return case


def _load(store: Store, root: Path, data: Dataset, seed: int) -> float:
    """All keys, and a clean close; the index's bytes per key before it."""
    path = root / store.name
    path.mkdir(parents=True)
    handle = store.open(path)
    ordinals = list(range(data.key_count))
    if data.key_count <= REPEATED_KEYS_MAX or store.name.removeprefix("flash_kv-") not in ON_DISK:
        random.Random(seed).shuffle(ordinals)
    for part in in_slices(ordinals, SLICE_OPERATIONS):
        handle.put_many(data.pairs(part, 0))
    assert handle.index_bytes is not None
    found = handle.index_bytes() / data.key_count
    handle.close()
    return found


def _measure_opens(case: Case, root: Path) -> None:
    """What each store's directory takes to open: the first time with another kind, then with that kind again."""
    names = list(kinds())
    for place, kind in enumerate(names):
        path = root / kinds()[names[place - 1]].name
        opened_ms = [_open_ms(kinds()[kind], path) for _ in range(OPENS + 1)]
        case.samples["switch"][kind].append(opened_ms[0])
        case.samples["open"][kind].append(sorted(opened_ms[1:])[OPENS // 2])


def _open_ms(store: Store, path: Path) -> float:
    handles = []
    elapsed_ns = time_call_ns(lambda: handles.append(store.open(path)))
    handles[0].close()
    return elapsed_ns / 1e6


def table_of(cases: list[Case], measure: str) -> Table:
    """A row for each case, a column for each kind."""
    rows = [
        [f"{case.keys:,}", f"{case.key_bytes} B", *(str(case.figure(measure, kind)) for kind in kinds())]
        for case in cases
    ]
    return Table(MEASURES[measure], ["keys", "of", *kinds()], rows)


def _facts(machine: dict[str, object], repeats: int) -> list[str]:
    return [
        *machine_lines(machine),
        f"values of {VALUE_BYTES} B, one thread, {repeats} repeats: median [lowest-highest]; of more than "
        f"{REPEATED_KEYS_MAX:,} keys one repeat, at most {LARGE_BUDGET_S:.0f} s of each workload, and "
        f"{', '.join(ON_DISK)} is opened after a load in the order of keys",
        *busy_lines(machine),
    ]


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the tables, write the files."""
    parser = argparse.ArgumentParser(description="The kinds of index side by side.")
    parser.add_argument("--keys", type=_numbers, default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--key-bytes", type=_numbers, default=[16, 100])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--directory", type=Path, help="where the stores are made (default: temporary files)")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--plots", type=Path, help="a directory for a picture per size of keys")
    args = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="flash-kv-bench-", dir=args.directory))
    try:
        machine = machine_facts(directory, list(kinds().values()))
        cases = [
            measure_case(key_bytes, keys, repeats=args.repeats, seed=args.seed, directory=directory)
            for key_bytes in args.key_bytes
            for keys in args.keys
        ]
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    facts = _facts(machine, args.repeats)
    tables = [table_of(cases, measure) for measure in MEASURES]
    print("\n\n".join(["\n".join(facts), *(table.plain() for table in tables)]))
    if args.json is not None:
        document = {"machine": machine, "cases": [vars(case) for case in cases]}
        args.json.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if args.markdown is not None:
        parts = ["\n".join(f"- {fact}" for fact in facts), *(table.markdown() for table in tables)]
        args.markdown.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    if args.plots is not None:
        for key_bytes in args.key_bytes:
            draw([case for case in cases if case.key_bytes == key_bytes], MEASURES, args.plots)
    return 0


if __name__ == "__main__":
    sys.exit(main())
