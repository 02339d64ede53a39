"""The page of figures is made of a run's results, peers that are ahead first; what other commands made stays in it."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from benchmarks import page

from flash_kv.bench import parts
from flash_kv.bench.compaction import READ_AT_REST, READ_DURING
from flash_kv.bench.results import LATENCY, Results
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
        others=("processes", "compaction", "opening"),
        log_bytes=1 << 20,
        budget_s=60.0,
        directory=tmp_path_factory.mktemp("bench"),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "READ_SECONDS_MAX", 0.02)
        found = Suite(settings, lambda _text: None).run()
    # A compaction of a megabyte may be over before any read beside it is.
    at_rest = found.find(READ_AT_REST, "flash_kv-hash", LATENCY)
    assert at_rest is not None
    others = [row for row in found.rows if row.workload != READ_DURING]
    return replace(found, rows=[*others, replace(at_rest, workload=READ_DURING)])


def test_the_page_begins_with_where_peers_are_ahead(results: Results) -> None:
    # A peer that takes no time, and a loop whose own time was not measured too high, as it is on a busy machine.
    for row in results.rows:
        if row.workload == "readrandom":
            row.subtract = 0.0
            row.samples = [0.0001 if row.store == "sqlite3" else 1.0] * len(row.samples)
    text = page.page(results, [("A picture", Path("bench-a.svg"))], "the command")
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings[0] == "## Where a peer is ahead"
    assert "- readrandom: sqlite3 " in text
    assert "Made of one run of `the command`" in text
    assert "![A picture](images/bench-a.svg)" in text


def test_the_page_has_every_table_and_what_its_rows_measure(results: Results) -> None:
    text = page.page(results, [], "the command")
    for line in (
        "- coldread: get, of keys read for the first time after a cold open",
        "- get, during a compaction: get, random, while another thread compacts, each call timed",
        "### A get at rest and while another thread compacts, us: median of the repeats [lowest-highest]",
        "### Opening and the first get, ms: median [lowest-highest]",
    ):
        assert line in text.splitlines()
    assert "| readrandom, 4 processes |" in text
    assert "| get, during a compaction | flash_kv-hash | p99 at most 2x that at rest |" in text
    assert "too little to quote their rates" in text
    # A power cut is simulated for ours alone.
    assert {row.store for row in results.rows if row.workload == "open after a power cut"} == {
        "flash_kv-hash"
    }


def test_a_store_that_did_less_is_told_with_how_much(results: Results) -> None:
    row = results.find("readrandom", "sqlite3")
    assert row is not None
    assert "Operations per repeat" not in page.page(results, [], "the command")
    done, row.operations = row.operations, [40]
    try:
        assert "| readrandom | 100 | 40 |" in page.page(results, [], "the command")
    finally:
        row.operations = done


def test_a_peer_that_answers_sooner_during_its_compaction_comes_first(results: Results) -> None:
    ours = results.find("get, during a compaction", "flash_kv-hash", LATENCY)
    assert ours is not None
    peer = replace(ours, store="sqlite3", percentiles={**ours.percentiles, "p99": [0.001]})
    rows = [row for row in results.rows if (row.workload, row.store) != (peer.workload, peer.store)]
    text = page.page(replace(results, rows=[*rows, peer]), [], "the command")
    assert "- get, during a compaction, p99, us: sqlite3 0.001" in text


def test_what_other_commands_made_stays(
    results: Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results.write(tmp_path / "results.json")
    (tmp_path / "page.md").write_text(f"of before\n{page.MARKER}\nkept\n", encoding="utf-8")
    monkeypatch.setattr(page, "draw_all", lambda _results, _directory: [])
    monkeypatch.setattr(
        sys, "argv", ["page", str(tmp_path / "results.json"), "--page", str(tmp_path / "page.md")]
    )
    assert page.main() == 0
    text = (tmp_path / "page.md").read_text("utf-8")
    assert text.startswith("# Benchmarks\n")
    assert "of before" not in text
    assert text.endswith(f"{page.MARKER}\nkept\n")


def test_each_picture_that_there_are_rows_for_is_drawn(results: Results, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from benchmarks.bench_plots import draw_all

    drawn = draw_all(results, tmp_path)
    assert [path.name for _, path in drawn] == [
        f"bench-{name}.svg" for name in ("latency", "processes", "compaction", "ratios")
    ]
    assert all(path.read_text("utf-8").startswith("<?xml") for _, path in drawn)
