"""The page of figures: `python -m benchmarks.page RESULTS.json` makes docs/benchmarks.md and its pictures.

RESULTS.json is what `flash-kv bench --json RESULTS.json` wrote. What follows the marker in the page that is there is of
other commands, and stays.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.bench_plots import draw_all
from benchmarks.goals import judge
from flash_kv.bench.results import Results
from flash_kv.bench.table import Table
from flash_kv.bench.tables import facts, spread_of, store_facts, tables_of, where_peers_are_ahead

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
MARKER = "<!-- What follows is of other commands. -->"


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
        "## Figures",
        *(f"![{title}](images/{path.name})" for title, path in pictures),
        *(table.markdown() for table in tables_of(results)),
    ]
    if verdicts:
        missed = sum(not verdict.is_met for verdict in verdicts)
        parts += [goals.markdown(), f"{len(verdicts) - missed} of {len(verdicts)} met."]
    return "\n\n".join(parts) + "\n"


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
    return 0


if __name__ == "__main__":
    sys.exit(main())
