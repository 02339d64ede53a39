"""`python -m benchmarks.compare`: ours, the peers and a dict, interleaved in one run, judged by the goals.

See `benchmarks/README.md` for the method and its limits.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.dataset import Dataset
from benchmarks.goals import Verdict, judge
from benchmarks.kill_check import check_survives_kill
from benchmarks.latency import Latencies, measure_latencies
from benchmarks.machine import machine_facts
from benchmarks.memory import MemoryPerKey, is_measurable, measure_memory
from benchmarks.report import markdown_report, plain_report
from benchmarks.results import Results
from benchmarks.runner import Plan, measure, progress
from benchmarks.stores import DEFAULT_STORES, STORES, BenchmarkError, Store, names_of, select

KEY_BYTES = 16
VALUE_BYTES = 100
LONG_KEY_BYTES = 200
QUICK_KEYS = 50_000
FULL_KEYS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The command line, with the defaults of `--quick` or of a full run filled in."""

    keys: int
    repeats: int
    operations: int
    slice_operations: int
    latency_keys: int
    latency_repeats: int
    memory_keys: int
    seed: int
    stores: list[str]
    directory: Path | None
    json_path: Path | None
    markdown_path: Path | None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    add = parser.add_argument
    add(
        "--quick",
        action="store_true",
        help=f"{QUICK_KEYS:,} keys and 3 repeats: about a minute, rough figures",
    )
    add("--keys", type=int, help=f"keys in each store (default {FULL_KEYS:,})")
    add("--repeats", type=int, help="repeats, each from fresh directories (default 5)")
    add(
        "--operations",
        type=int,
        default=200_000,
        help="operations of each workload per repeat (default 200,000)",
    )
    add("--slice", type=int, default=50_000, help="operations a store does in its turn (default 50,000)")
    add("--latency-keys", type=int, help="keys of the put-latency load, 0 for none (default as --keys)")
    add("--latency-repeats", type=int, help="repeats of the put-latency load (default 3)")
    add("--memory-keys", type=int, help="keys of the memory runs, 0 for none (default as --keys)")
    add("--seed", type=int, default=1, help="seed of every shuffle (default 1)")
    add("--stores", help=f'comma-separated, of {", ".join(STORES)}; "all": all of one promise')
    add(
        "--promise",
        choices=("process", "power"),
        default="process",
        help="what the stores of --stores all survive: the death of the process (the default), or a power cut as well",
    )
    add(
        "--directory",
        type=Path,
        help="where the stores live while they run (default: the temporary directory)",
    )
    add("--json", type=Path, metavar="FILE", help="write every sample and figure there")
    add("--markdown", type=Path, metavar="FILE", help="write the report there as Markdown")
    return parser


def _settings(arguments: list[str] | None) -> Settings:
    parser = _parser()
    args = parser.parse_args(arguments)

    def either(given: int | None, quick: int, full: int) -> int:
        if given is not None:
            return given
        return quick if args.quick else full

    keys = either(args.keys, QUICK_KEYS, FULL_KEYS)
    settings = Settings(
        keys=keys,
        repeats=either(args.repeats, 3, 5),
        operations=min(keys, args.operations),
        slice_operations=args.slice,
        latency_keys=either(args.latency_keys, keys, keys),
        latency_repeats=either(args.latency_repeats, 3, 3),
        memory_keys=either(args.memory_keys, keys, keys),
        seed=args.seed,
        stores=DEFAULT_STORES if args.stores is None else names_of(args.stores, args.promise),
        directory=args.directory,
        json_path=args.json,
        markdown_path=args.markdown,
    )
    least = min(settings.keys, settings.repeats, settings.operations, settings.slice_operations)
    if least < 1 or settings.keys < 16 or settings.latency_repeats < 1:
        parser.error("--repeats, --operations, --slice and --latency-repeats start at 1, --keys at 16")
    return settings


def run(settings: Settings) -> tuple[Results, list[Verdict]]:
    """Measure everything the settings ask for."""
    stores, not_installed = select(settings.stores)
    for name in not_installed:
        progress(f"{name} is not installed and will be missing: pip install {STORES[name].distribution}")
    if settings.directory is not None:
        settings.directory.mkdir(parents=True, exist_ok=True)
    directory = Path(tempfile.mkdtemp(prefix="flash-kv-bench-", dir=settings.directory))
    try:
        machine = machine_facts(directory, stores)
        for store in stores:
            if store.promise != "nothing":
                progress(f"killed and reopened: {store.name}")
                check_survives_kill(store, directory)
        plan = Plan(
            stores=stores,
            data=Dataset(settings.keys, KEY_BYTES, VALUE_BYTES, settings.seed),
            repeats=settings.repeats,
            operations=settings.operations,
            slice_operations=settings.slice_operations,
            seed=settings.seed,
            directory=directory,
        )
        results = Results(
            machine=machine,
            config=_config(settings),
            stores=stores,
            not_installed=not_installed,
            measured=measure(plan),
            latencies=_latencies(settings, stores, directory),
            memory=_memory(settings, stores, directory),
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return results, judge(results)


def _config(settings: Settings) -> dict[str, object]:
    return {
        "keys": settings.keys,
        "key_bytes": KEY_BYTES,
        "value_bytes": VALUE_BYTES,
        "repeats": settings.repeats,
        "operations": settings.operations,
        "slice_operations": settings.slice_operations,
        "latency_keys": settings.latency_keys,
        "latency_repeats": settings.latency_repeats,
        "memory_keys": settings.memory_keys,
        "seed": settings.seed,
    }


def _latencies(settings: Settings, stores: list[Store], directory: Path) -> Latencies | None:
    if settings.latency_keys == 0:
        return None
    return measure_latencies(
        stores,
        Dataset(settings.latency_keys, KEY_BYTES, VALUE_BYTES, settings.seed),
        repeats=settings.latency_repeats,
        slice_operations=settings.slice_operations,
        seed=settings.seed,
        directory=directory,
    )


def _memory(settings: Settings, stores: list[Store], directory: Path) -> list[MemoryPerKey]:
    if settings.memory_keys == 0:
        return []
    if not is_measurable():
        progress("memory per key is not measured: this system has no /proc/self/status")
        return []
    found = []
    for store in stores:
        for key_bytes in (KEY_BYTES, LONG_KEY_BYTES):
            progress(f"memory per key: {store.name}, keys of {key_bytes} B")
            found.append(measure_memory(store, settings.memory_keys, key_bytes, VALUE_BYTES, directory))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run, print the report, write the files; 0 whether or not every goal is met, 1 when the run failed."""
    settings = _settings(arguments)
    try:
        results, verdicts = run(settings)
    except BenchmarkError as error:
        print(f"benchmarks.compare: {error}", file=sys.stderr)
        return 1
    print(plain_report(results, verdicts))
    if settings.json_path is not None:
        document = {**results.as_json(), "goals": [{**vars(v), "is_met": v.is_met} for v in verdicts]}
        settings.json_path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    if settings.markdown_path is not None:
        settings.markdown_path.write_text(markdown_report(results, verdicts), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
