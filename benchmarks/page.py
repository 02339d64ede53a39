"""The page of figures: `python -m benchmarks.page RESULTS.json` makes docs/benchmarks.md, its pictures, and the table
of the README.

RESULTS.json is what `flash-kv bench --json RESULTS.json` wrote. What follows the marker in the page that is there is of
other commands, and stays; of the README only what stands between its two markers is replaced.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.bench_plots import draw_all
from benchmarks.goals import judge
from flash_kv.bench.figures import number
from flash_kv.bench.legend import titles_of
from flash_kv.bench.results import Results
from flash_kv.bench.table import Table
from flash_kv.bench.tables import facts, spread_of, store_facts, tables_of, where_peers_are_ahead

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "benchmarks.md"
README = ROOT / "README.md"
MARKER = "<!-- What follows is of other commands. -->"
README_BEGIN = "<!-- Made by benchmarks/page.py. -->"
README_END = "<!-- As far as here. -->"
# What the README shows, by the names that its readers know.
README_ROWS = {
    "fillrandom": "put, new keys in random order",
    "overwrite": "overwrite, random",
    "deleterandom": "delete, random",
    "fillbatch": "put_many(1,000), per record",
    "readrandom": "get, random",
    "readhot": "get, hot (16 keys)",
    "readmissing": "get, missing",
    "multireadrandom": "get_many(1,000), per key",
    "readseq": "scan items, per item",
    "ycsb-a": "YCSB A: half reads, half updates, zipfian",
}


def page(results: Results, pictures: list[tuple[str, Path]], command: str) -> str:
    """The part of the page that one run makes."""
    ahead = where_peers_are_ahead(results)
    verdicts = judge(results)
    goals = Table(
        "Goals",
        ["", "store", "goal", "measured", ""],
        [[v.workload, v.store, v.goal, v.measured, v.text] for v in verdicts],
    )
    parts = [
        "# Benchmarks",
        f"Made of one run of `{command}` by `python -m benchmarks.page`. How it measures is in\n"
        "[benchmarks/README.md](../benchmarks/README.md); where the time of ours goes, in\n"
        "[performance.md](performance.md).",
        "## Where a peer is ahead",
        "\n".join(f"- {line}" for line in ahead) if ahead else "In nothing that was measured.",
        "## What was measured, and where",
        "\n".join(
            f"- {line}" for line in [*facts(results), f"Spread: {_spread(results)}", *store_facts(results)]
        ),
        "## What each row measures",
        "\n".join(f"- {name}: {title}" for name, title in titles_of(results).items()),
        "## Figures",
        *(f"![{title}](images/{path.name})" for title, path in pictures),
        *(table.markdown() for table in tables_of(results)),
    ]
    if verdicts:
        missed = sum(not verdict.is_met for verdict in verdicts)
        parts += [goals.markdown(), f"{len(verdicts) - missed} of {len(verdicts)} met."]
    return "\n\n".join(parts) + "\n"


def readme_part(results: Results, command: str) -> str:
    """The table of the README and what has to be known to read it."""
    config, machine = results.config, results.machine
    stores = [store for store in results.stores if store.promise == "process" or store.is_floor]
    names = [f"`{store.name.removeprefix('flash_kv-')}`" if store.is_ours else store.name for store in stores]
    figures = {(name, store.name): results.us(name, store.name) for name in README_ROWS for store in stores}
    rows = [
        [
            text,
            *(
                "-" if (figure := figures[name, store.name]) is None else number(figure.median)
                for store in stores
            ),
        ]
        for name, text in README_ROWS.items()
    ]
    table = Table("", ["", *names], rows).markdown().split("\n", 2)[2]
    return (
        f"Microseconds per operation, median of {config['repeats']} repeats, {config['keys']:,} keys of "
        f"{config['key_bytes']} bytes, values of {config['value_bytes']}\nbytes, one thread, every write safe from "
        "`kill -9`, stores measured in turn within one run. Of those that store anything\nonly FlashKV checks a "
        f"checksum on every read.\n\n{table}\n\n`{command}`,\n{machine['date'][:10]}, {machine['cpu']}, "
        f"{machine['cores']} cores, {machine['system']}. Where a peer is ahead, which goals\nare missed, the spread, "
        "and the settings of each store: [docs/benchmarks.md](docs/benchmarks.md).\n"
    )


def _spread(results: Results) -> str:
    return f"the lowest and the highest repeat of a row are {spread_of(results):.0%} of its median apart, in the middle"


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Make docs/benchmarks.md and its pictures of a run's results."
    )
    parser.add_argument("results", type=Path)
    parser.add_argument(
        "--command", default="flash-kv bench --json results.json", help="the one that made them"
    )
    parser.add_argument("--page", type=Path, default=PAGE)
    arguments = parser.parse_args()
    results = Results.read(arguments.results)
    before = arguments.page.read_text("utf-8") if arguments.page.exists() else ""
    pictures = draw_all(results, arguments.page.parent / "images")
    rest = before[before.index(MARKER) :] if MARKER in before else ""
    text = page(results, pictures, arguments.command)
    arguments.page.write_text(f"{text}\n{rest}" if rest else text, encoding="utf-8")
    if arguments.page == PAGE:
        before, _, after = README.read_text("utf-8").partition(README_BEGIN)
        after = after.partition(README_END)[2]
        part = readme_part(results, arguments.command)
        README.write_text(f"{before}{README_BEGIN}\n{part}{README_END}{after}", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
