"""The page of figures is made of a run's results, peers that are ahead first; what other commands made stays in it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import page

from flash_kv.bench.results import Results
from flash_kv.bench.suite import QUICK, Suite


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    settings = replace(
        QUICK,
        keys=1_000,
        repeats=1,
        operations=100,
        slice_operations=100,
        stores=("flash_kv-hash", "sqlite3", "dict"),
        workloads=("fillrandom", "readrandom", "overwrite"),
        has_memory=False,
        has_opening=False,
        directory=tmp_path_factory.mktemp("bench"),
    )
    return Suite(settings, lambda _text: None).run()


def test_the_page_begins_with_where_peers_are_ahead(results: Results) -> None:
    # A peer that takes no time.
    for row in results.rows:
        if row.store == "sqlite3" and row.workload == "readrandom":
            row.samples = [row.subtract + 0.0001] * len(row.samples)
    text = page.page(results, [("A picture", Path("bench-a.svg"))], "the command")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[0] == "## Where a peer is ahead"
    assert "- readrandom: sqlite3 " in text
    assert "Made of one run of `the command`" in text
    assert "![A picture](images/bench-a.svg)" in text


def test_what_other_commands_made_stays(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.write(tmp_path / "results.json")
    (tmp_path / "page.md").write_text(f"old\n{page.MARKER}\nkept\n", encoding="utf-8")
    monkeypatch.setattr(page, "draw_all", lambda _results, _directory: [])
    monkeypatch.setattr(
        sys, "argv", ["page", str(tmp_path / "results.json"), "--page", str(tmp_path / "page.md")]
    )
    assert page.main() == 0
    text = (tmp_path / "page.md").read_text("utf-8")
    assert text.startswith("# Benchmarks\n")
    assert "old" not in text
    assert text.endswith(f"{page.MARKER}\nkept\n")


def test_each_picture_that_there_are_rows_for_is_drawn(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.bench_plots import draw_all

    drawn = draw_all(results, tmp_path)
    assert [path.name for _, path in drawn] == ["bench-latency.svg", "bench-ratios.svg"]
    assert all(path.read_text("utf-8").startswith("<?xml") for _, path in drawn)
