"""`flash-kv bench`: a small run from the command line, its table and its file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from flash_kv.bench.results import Results

Run = Callable[..., Any]
SMALL = (
    *("bench", "--quick", "--quiet", "--keys", "1000", "--operations", "200", "--repeats", "2"),
    *("--store", "flash_kv-btree", "--store", "sqlite3", "--store", "dict"),
)


def test_it_prints_the_ratio_to_the_best_peer_and_writes_what_it_found(run: Run, tmp_path: Path) -> None:
    outcome = run(*SMALL, "--workload", "readrandom", "--json", "found.json", "--dir", tmp_path)
    assert outcome.code == 0, outcome.stderr
    results = Results.read(tmp_path / "found.json")
    ours, peer = (results.us("readrandom", name) for name in ("flash_kv-btree", "sqlite3"))
    assert ours is not None
    assert peer is not None
    assert (
        f"({peer.median / ours.median:.2f}x)" in outcome.text
        or f"({peer.median / ours.median:.1f}x)" in outcome.text
    )
    assert "a peer is ahead" in outcome.text or "No peer is ahead" in outcome.text
    assert [path.name for path in tmp_path.iterdir()] == ["found.json"]


def test_memory_and_opens_are_part_of_a_run_of_everything(run: Run) -> None:
    outcome = run(
        *("bench", "--quick", "--quiet", "--keys", "1000", "--operations", "200", "--repeats", "1"),
        *("--store", "flash_kv-btree", "--store", "dict"),
    )
    assert outcome.code == 0, outcome.stderr
    for text in (
        "open after a close",
        "open after a kill",
        "ycsb-f",
        "fillseq",
        "space after churn",
        "processes",
    ):
        assert text in outcome.text


def test_a_list_says_what_each_workload_measures(run: Run) -> None:
    outcome = run("bench", "--list")
    assert outcome.code == 0
    lines = outcome.text.splitlines()
    assert any(line.split(maxsplit=1) == ["readmissing", "get, of keys that are not there"] for line in lines)
    assert any(line.startswith("compaction ") for line in lines)


def test_what_there_was_no_time_for_is_told(run: Run) -> None:
    outcome = run(*SMALL, "--workload", "readrandom", "--sweep-keys", "2000", "--minutes", "0.00001")
    assert outcome.code == 0, outcome.stderr
    assert "Left out: 1 of 2 repeats: no time left" in outcome.text
    assert "Left out: 2,000 keys of 100 B values: no time left" in outcome.text


def test_a_part_is_measured_alone(run: Run) -> None:
    outcome = run(*SMALL, "--workload", "memory")
    assert outcome.code == 0, outcome.stderr
    assert "memory of the process" in outcome.text
    assert "fillrandom" not in outcome.text


def test_a_store_that_is_not_installed_is_told(run: Run, monkeypatch: Any) -> None:
    from flash_kv.bench.stores import STORES

    monkeypatch.setitem(vars(STORES["sqlite3"]), "module", "no_such_module")
    outcome = run(*SMALL, "--workload", "fillseq")
    assert outcome.code == 0
    assert "sqlite3 is not installed and is left out" in outcome.stderr
    assert "Not installed, so not measured: sqlite3" in outcome.text


def test_wrong_usage_is_told(run: Run) -> None:
    assert run("bench", "--store", "nothing").code == 2
    assert run("bench", "--workload", "nothing").code == 2
    assert run("bench", "--keys", "1").code == 2
