"""The kinds of index side by side, in a small run: each kind gets a figure for each measure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from benchmarks import indexes


def test_every_kind_gets_a_figure_for_every_measure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "OPENS", 1)
    arguments = ["--keys", "1000", "--key-bytes", "16", "--repeats", "1", "--directory", str(tmp_path)]
    arguments += ["--json", str(tmp_path / "found.json"), "--markdown", str(tmp_path / "tables.md")]
    assert indexes.main(arguments) == 0
    (case,) = json.loads((tmp_path / "found.json").read_text("utf-8"))["cases"]
    assert set(case["samples"]) == set(indexes.MEASURES)
    for samples in case["samples"].values():
        assert set(samples) == set(indexes.kinds()) == {"hash", "btree", "skiplist", "bptree"}
    printed, written = capsys.readouterr().out, (tmp_path / "tables.md").read_text("utf-8")
    for title in indexes.MEASURES.values():
        assert title in printed
        assert title in written
