"""The interleaved run: every workload on stores that need nothing installed, and stores that are wrong end it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import pytest

from flash_kv.bench.dataset import Dataset
from flash_kv.bench.results import LATENCY, US, Row
from flash_kv.bench.runner import Plan, Repeat, measure
from flash_kv.bench.stores import STORES, BenchmarkError
from flash_kv.bench.stores.base import Handle, Store
from flash_kv.bench.workloads import ORDER_NEEDED, WORKLOADS, Workload

HASH, BTREE, DICT, SQLITE = (STORES[name] for name in ("flash_kv-hash", "flash_kv-btree", "dict", "sqlite3"))


def silent(_text: str) -> None:
    return


def plan(directory: Path, stores: list[Store], workloads: Iterable[Workload], **more: object) -> Plan:
    settings = {
        "data": Dataset(2_000, 16, 100, 1),
        "repeats": 1,
        "operations": 1_000,
        "slice_operations": 500,
        "budget_s": 10.0,
        "seed": 1,
        "has_latencies": False,
        "report": silent,
        **more,
    }
    return Plan(stores=stores, workloads=list(workloads), directory=directory, **settings)  # type: ignore[arg-type]


def lying(store: Store, **wrong: Callable[[Handle], object]) -> Store:
    """`store` with some calls of its handle replaced."""

    def open_store(path: Path) -> Handle:
        handle = store.open(path)
        return replace(handle, **{name: make(handle) for name, make in wrong.items()})  # type: ignore[arg-type]

    return replace(store, open=open_store)


def by_name(rows: list[Row], unit: str) -> dict[tuple[str, str], Row]:
    return {(row.workload, row.store): row for row in rows if row.unit == unit}


def test_every_workload_gives_a_figure_to_every_store_that_has_it(tmp_path: Path) -> None:
    stores = [HASH, BTREE, SQLITE, DICT, STORES["flash_kv-btree-always"]]
    rows = measure(plan(tmp_path, stores, WORKLOADS.values(), has_latencies=True))
    found = by_name(rows, US)
    for name, workload in WORKLOADS.items():
        for store in stores:
            is_kept = (store.promise == "power") == (workload.promise == "power")
            is_able = store.is_ordered or name not in ORDER_NEEDED
            assert ((name, store.name) in found) == (is_kept and is_able), (name, store.name)
    assert all(row.figure.lowest >= 0 and row.samples[0] > 0 for row in found.values())
    latencies = by_name(rows, LATENCY)
    assert latencies["fillrandom", "sqlite3"].percentile("p50").median > 0
    assert latencies["overwrite", "flash_kv-hash"].curve[-1][0] == 1.0
    assert list(tmp_path.iterdir()) == []


def test_repeats_are_samples_and_the_lowest_overhead_is_subtracted(tmp_path: Path) -> None:
    rows = measure(plan(tmp_path, [BTREE], [WORKLOADS["fillrandom"], WORKLOADS["readrandom"]], repeats=3))
    row = by_name(rows, US)["readrandom", "flash_kv-btree"]
    assert len(row.samples) == 3
    assert (row.operations, row.planned) == ([1_000] * 3, 1_000)
    assert 0 < row.subtract < min(row.samples)
    assert row.figure.lowest == pytest.approx(min(row.samples) - row.subtract)


def test_a_slow_store_stops_after_its_time_and_still_has_every_key(tmp_path: Path) -> None:
    calls = []

    def counted(handle: Handle) -> Callable[[bytes, bytes], object]:
        def put(key: bytes, value: bytes) -> object:
            calls.append(key)
            return handle.put(key, value)

        return put

    rows = measure(
        plan(
            tmp_path,
            [lying(BTREE, put=counted)],
            map(WORKLOADS.__getitem__, ("fillrandom", "readseq")),
            budget_s=1e-9,
        )
    )
    assert len(calls) == 500
    row = by_name(rows, US)["fillrandom", "flash_kv-btree"]
    assert (row.operations, row.planned, row.done_part) == ([500], 2_000, 0.25)
    # The scan is checked to give all keys before it is timed.
    assert ("readseq", "flash_kv-btree") in by_name(rows, US)


def test_a_store_that_left_out_a_slice_does_no_shorter_one_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Repeat, "_has_time", lambda self, spent_ns, done, more: not done or more < 500)
    monkeypatch.setattr(Repeat, "_slices", lambda self, work: [work[:100], work[100:700], work[700:]])
    workloads = [WORKLOADS["fillrandom"], WORKLOADS["readseq"]]
    rows = measure(plan(tmp_path, [BTREE], workloads, data=Dataset(900, 16, 100, 1)))
    assert by_name(rows, US)["fillrandom", "flash_kv-btree"].operations == [100]
    # All that it left out was put in afterwards: the scan is checked before it is timed.
    assert ("readseq", "flash_kv-btree") in by_name(rows, US)


def test_latencies_of_each_repeat_are_kept_apart(tmp_path: Path) -> None:
    workloads = [WORKLOADS["fillrandom"], WORKLOADS["readrandom"]]
    rows = measure(plan(tmp_path, [BTREE], workloads, repeats=3, has_latencies=True))
    row = by_name(rows, LATENCY)["readrandom", "flash_kv-btree"]
    assert {name: len(found) for name, found in row.percentiles.items()} == dict.fromkeys(row.percentiles, 3)
    assert row.percentile("p50").lowest <= row.percentile("p50").highest <= row.percentile("p100").highest


def test_the_same_value_is_never_put_over_itself(tmp_path: Path) -> None:
    """A store may notice, and write and sync nothing."""
    held: dict[bytes, bytes] = {}

    def watched(handle: Handle) -> Callable[[bytes, bytes], object]:
        def put(key: bytes, value: bytes) -> object:
            assert held.get(key) != value
            held[key] = value
            return handle.put(key, value)

        return put

    store = lying(STORES["flash_kv-btree-always"], put=watched)
    measure(plan(tmp_path, [store], [WORKLOADS["fillsync"]], operations=20_000, has_latencies=True))
    assert len(held) == 20


def test_a_store_whose_load_takes_too_long_is_left_out_and_named(tmp_path: Path) -> None:
    left_out: list[str] = []
    workloads = [WORKLOADS["fillrandom"], WORKLOADS["readrandom"]]
    slow = plan(
        tmp_path, [BTREE, DICT], workloads, budget_s=1e-9, load_budget_s=-1.0, leave_out=left_out.append
    )
    rows = measure(replace(slow, repeats=2))
    assert {row.store for row in rows} == set()
    assert [text.split(" at ")[0] for text in left_out] == ["flash_kv-btree", "dict"]


def test_rounds_read_what_one_load_has_put(tmp_path: Path) -> None:
    workloads = [WORKLOADS[name] for name in ("fillrandom", "readrandom", "overwrite")]
    found = by_name(measure(plan(tmp_path, [BTREE], workloads, rounds=3)), US)
    samples = {name: len(row.samples) for (name, store), row in found.items() if store == BTREE.name}
    assert samples == {"fillrandom": 1, "readrandom": 3, "overwrite": 3}


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"get": lambda handle: lambda key: b"other"}, "is not what was put"),
        ({"get_missing": lambda handle: lambda key: b"other"}, "that was never put"),
        ({"get_many": lambda handle: lambda keys: [None] * len(keys)}, "get_many of"),
        ({"items": lambda handle: lambda: list(handle.items())[1:]}, "the scan gave 1999 items of 2000"),
        ({"items": lambda handle: lambda: list(handle.items())[::-1]}, "not in order"),
        ({"reverse": lambda handle: handle.items}, "backwards"),
        ({"scan_from": lambda handle: lambda key, count: []}, "a seek to"),
        ({"prefix": lambda handle: lambda prefix: []}, "the prefix"),
        ({"delete": lambda handle: lambda key: None}, "returned a deleted key"),
        ({"put": lambda handle: lambda key, value: None}, "is not what was put"),
    ],
)
def test_a_store_that_is_wrong_ends_the_run(
    wrong: dict[str, Callable[[Handle], object]], text: str, tmp_path: Path
) -> None:
    workloads = [WORKLOADS[name] for name in ("fillrandom", "readrandom", "deleterandom")]
    with pytest.raises(BenchmarkError, match=text):
        measure(plan(tmp_path, [lying(BTREE, **wrong)], workloads))
    assert list(tmp_path.iterdir()) == []
