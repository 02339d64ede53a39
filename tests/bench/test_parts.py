"""What has processes of its own: opens of every kind, readers in several processes, compaction beside reads."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from flash_kv.bench import compaction, opening, processes
from flash_kv.bench.budget import Part
from flash_kv.bench.dataset import Dataset
from flash_kv.bench.histogram import Histogram
from flash_kv.bench.page_cache import can_drop_pages, drop_pages
from flash_kv.bench.results import US
from flash_kv.bench.rows import Rows
from flash_kv.bench.stores import STORES, BenchmarkError
from flash_kv.bench.stores.power_cut import power_cutter
from flash_kv.engine.db import DB
from flash_kv.options import IndexKind, Options
from support.waiting import wait_until

DATA = Dataset(1_000, 16, 100, 1)
BTREE, SQLITE = STORES["flash_kv-btree"], STORES["sqlite3"]


def test_ours_is_opened_after_a_close_a_kill_and_a_power_cut_and_read_cold(tmp_path: Path) -> None:
    found = {name: sample for name, _, sample, _ in opening.measure_opening(BTREE, DATA, tmp_path)}
    cold = {opening.COLD, opening.COLDREAD} if can_drop_pages() else set()
    assert set(found) == {opening.CLEAN, opening.KILLED, opening.CUT, *cold}
    assert all(sample > 0 for sample in found.values())


def test_a_peer_has_no_power_cut() -> None:
    assert [store.name for store in STORES.values() if opening.can_do(opening.CUT, store)] == [
        "flash_kv-hash",
        "flash_kv-btree",
        "flash_kv-skiplist",
        "flash_kv-bptree",
    ]


@pytest.mark.parametrize("index", ["hash", "bptree"])
def test_a_power_cut_leaves_what_was_synced_and_not_all_of_the_rest(index: IndexKind, tmp_path: Path) -> None:
    cut = power_cutter(index)
    cut(tmp_path / "store", lambda number: DATA.pairs(list(range(100 * number, 100 * number + 100)), 0), 10)
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    with DB(tmp_path / "store", Options(index=index)) as db:
        assert db.get_many(DATA.keys(list(range(500)))) == DATA.values(list(range(500)), 0)
        assert 500 <= len(db) < 1_000


@pytest.mark.usefixtures("real_syncs")
def test_dropped_pages_have_to_be_read_from_the_disk(disk_path: Path) -> None:
    if not can_drop_pages() or not hasattr(os, "RWF_NOWAIT"):
        pytest.skip("this system can't tell")
    path = disk_path / "below" / "file"
    path.parent.mkdir()
    path.write_bytes(os.urandom(1 << 20))

    def is_cached() -> bool:
        with path.open("rb") as file:
            try:
                return os.preadv(file.fileno(), [bytearray(4096)], 1 << 19, os.RWF_NOWAIT) == 4096
            except OSError as error:
                if error.errno == errno.EOPNOTSUPP:
                    pytest.skip("this file system, one in memory, has no other place for its pages")
                assert error.errno == errno.EAGAIN
                return False

    assert is_cached()

    def is_dropped() -> bool:
        drop_pages(disk_path)
        # Asked once: the question itself makes the system read the page.
        return not is_cached()

    # A page that some processor has at hand just now stays.
    wait_until(is_dropped)


def test_processes_that_read_at_once_are_counted_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "COUNTS", (2,))
    rows = Rows(DATA.key_count, DATA.value_bytes)
    stores = [BTREE, SQLITE, STORES["dict"]]
    processes.measure_processes(
        stores, DATA, rows, part=Part(60.0), repeats=1, seconds=0.01, directory=tmp_path, seed=1
    )
    found = {row.store: row for row in rows.finished()}
    assert set(found) == {"flash_kv-btree", "sqlite3"}
    for row in found.values():
        assert (row.workload, row.unit, len(row.samples)) == ("readrandom, 2 processes", US, 1)
        assert row.operations[0] >= 2_000
        assert 0 < row.subtract < row.samples[0]
    assert list(tmp_path.iterdir()) == []


def test_a_process_that_cannot_read_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(
        BenchmarkError, match=r"(?s)flash_kv-btree: a process that reads ended: .*StoreNotFoundError"
    ):
        processes._read(BTREE, tmp_path / "nothing", DATA, 1, 0.01)


def test_compaction_gives_a_rate_space_back_and_the_latencies_of_reads(tmp_path: Path) -> None:
    found = compaction.measure_compaction(BTREE, 4 << 20, DATA, tmp_path, load_budget_s=60.0, seed=1)
    assert found is not None
    assert found.keys == compaction.key_count(4 << 20, DATA.payload_bytes) == 24_105
    assert found.mb_s is not None
    assert found.mb_s > 0
    assert found.at_rest is not None
    assert Histogram.decoded(found.at_rest).total > 0
    assert DATA.payload_bytes < found.compacted_bytes_per_key <= found.churned_bytes_per_key
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_a_compaction_has_none(tmp_path: Path) -> None:
    assert compaction.measure_compaction(STORES["dict"], 1, DATA, tmp_path, load_budget_s=9.0, seed=1) is None


def test_a_load_that_takes_too_long_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(compaction.TooSlowError, match="were not in it after"):
        compaction.measure_compaction(BTREE, 1, DATA, tmp_path, load_budget_s=0.0, seed=1)
    assert list(tmp_path.iterdir()) == []
