"""Loading an index from sorted runs: the newest record of each key wins wherever it stands; what is live is counted."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flash_kv.index.load_cy import LoadError, load_index
from flash_kv.index.load_probe_cy import LoadProbe
from flash_kv.log.hints_cy import build_hint, load_hint
from flash_kv.log.records import KIND_VALUE
from support.segments import STORE_ID, SegmentBuilder

KINDS = ("hash", "btree", "skiplist", "bptree")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def probe_for(kind: str, segments: Sequence[SegmentBuilder]) -> LoadProbe:
    probe = LoadProbe(kind)
    for built in segments:
        probe.add_segment(built.content, store_id=STORE_ID, segment_id=built.segment_id, epoch=built.epoch)
    return probe


def runs_of(segments: Sequence[SegmentBuilder]) -> list[object]:
    """Every other one as a loaded hint file, the rest as built from the scan."""
    runs: list[object] = []
    for number, built in enumerate(segments):
        run = build_hint(built.scan())
        if number % 2:
            run = load_hint(
                b"".join(run.chunks()),
                store_id=STORE_ID,
                segment_id=built.segment_id,
                epoch=built.epoch,
                sealed_bytes=built.end,
            )
        runs.append(run)
    return runs


def newest(segments: Sequence[SegmentBuilder]) -> dict[bytes, tuple[int, int, int]]:
    """For each live key: segment, offset, bytes of the record."""
    found: dict[bytes, tuple[int, tuple[int, int, int] | None]] = {}
    for built in segments:
        for record in built.expected:
            size = -(-(24 + len(record.key) + record.value_size) // 8) * 8
            place = (built.segment_id, record.offset, size) if record.kind == KIND_VALUE else None
            if record.lsn > found.get(record.key, (0, None))[0]:
                found[record.key] = (record.lsn, place)
    return {key: place for key, (_, place) in found.items() if place is not None}


def check(kind: str, segments: Sequence[SegmentBuilder]) -> LoadProbe:
    """Load the segments and compare everything with what must come out."""
    probe = probe_for(kind, segments)
    result = probe.load(runs_of(segments))
    live = newest(segments)
    records = [record for built in segments for record in built.expected]
    assert result.keys == len(live)
    assert result.records == len(records)
    assert result.max_lsn == max((record.lsn for record in records), default=0)
    for key in {record.key for record in records}:
        assert probe.find(key) == (live[key][:2] if key in live else None)
    for built in segments:
        places = [place for place in live.values() if place[0] == built.segment_id]
        counts = probe.counts(built.segment_id)
        assert counts["live_records"] == len(places)
        assert counts["live_bytes"] == sum(size for _, _, size in places)
        assert counts["value_records"] == sum(record.kind == KIND_VALUE for record in built.expected)
        assert counts["tombstones"] == sum(record.kind != KIND_VALUE for record in built.expected)
    return probe


def two_segments() -> tuple[SegmentBuilder, SegmentBuilder]:
    return SegmentBuilder(1), SegmentBuilder(2, first_lsn=100)


def test_the_newest_record_wins_whatever_segment_it_stands_in(kind: str) -> None:
    first, second = two_segments()
    first.put(b"a", b"old")
    first.put(b"b", b"compacted into an older segment", lsn=500)
    second.put(b"a", b"new")
    second.put(b"b", b"old")
    probe = check(kind, [first, second])
    assert probe.find(b"a") == (2, 64)
    assert probe.find(b"b") == (1, 96)


def test_a_tombstone_takes_older_values_of_every_segment_away(kind: str) -> None:
    first, second = two_segments()
    first.put(b"deleted", b"value")
    first.put(b"written again", b"value")
    first.delete(b"written again")
    second.delete(b"deleted")
    second.put(b"written again", b"value")
    probe = check(kind, [second, first])
    assert probe.find(b"deleted") is None


def test_an_older_tombstone_takes_nothing_away(kind: str) -> None:
    first, second = two_segments()
    first.delete(b"key", lsn=600)
    second.put(b"key", b"value", lsn=601)
    assert check(kind, [first, second]).find(b"key") == (2, 64)


def test_a_record_copied_by_an_interrupted_compaction_counts_once(kind: str) -> None:
    first, second = two_segments()
    first.put(b"key", b"value", lsn=7)
    second.put(b"key", b"value", lsn=7)
    probe = probe_for(kind, [first, second])
    result = probe.load(runs_of([first, second]))
    assert (result.keys, result.records) == (1, 2)
    assert probe.find(b"key") in [(1, 64), (2, 64)]
    assert sum(probe.counts(segment)["live_records"] for segment in (1, 2)) == 1


def test_records_of_batches_are_loaded(kind: str) -> None:
    built = SegmentBuilder()
    built.put(b"b", b"old")
    built.batch([(b"a", b"1"), (b"b", None), (b"c", b"3")])
    probe = check(kind, [built])
    assert [probe.find(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]


def test_nothing_to_load_leaves_an_empty_index(kind: str) -> None:
    assert LoadProbe(kind).load([]) == (0, 0, 0, False)
    check(kind, [SegmentBuilder(1), SegmentBuilder(2)])


def test_withdrawn_lsns_count_for_the_highest(kind: str) -> None:
    built = SegmentBuilder()
    built.put(b"key", b"value")
    built.void(b"")
    assert probe_for(kind, [built]).load(runs_of([built])).max_lsn == 2


@pytest.mark.parametrize("count", [1, 2, 3, 5, 64, 300])
def test_any_number_of_runs_merges(kind: str, count: int, rng: random.Random) -> None:
    segments = []
    for number in range(count):
        built = SegmentBuilder(number * 5000 + 1, first_lsn=1 + number * 1000)
        for _ in range(rng.randrange(40)):
            built.put(b"%d" % rng.randrange(1000), b"v" * rng.randrange(9))
        for _ in range(rng.randrange(10)):
            built.delete(b"%d" % rng.randrange(1000))
        segments.append(built)
    check(kind, segments)


KEYS = st.one_of(st.binary(min_size=1, max_size=3), st.text("\0a", min_size=1, max_size=18).map(str.encode))
OPS = st.lists(st.tuples(KEYS, st.booleans(), st.integers(0, 3)), max_size=60)


@given(OPS, st.randoms(use_true_random=False), st.sampled_from(KINDS))
@example([(b"\xff" * 8, True, 0), (b"\xff" * 9, True, 1), (b"\xff" * 7, True, 1)], random.Random(0), "btree")
def test_any_history_loads_as_its_newest_state(
    ops: list[tuple[bytes, bool, int]], shuffle: random.Random, kind: str
) -> None:
    segments = [SegmentBuilder(number + 1) for number in range(4)]
    lsns = list(range(1, len(ops) + 1))
    # As after compactions: LSNs follow no file order.
    shuffle.shuffle(lsns)
    for (key, is_value, number), lsn in zip(ops, lsns, strict=True):
        if is_value:
            segments[number].put(key, b"v" * (lsn % 5), lsn=lsn)
        else:
            segments[number].delete(key, lsn=lsn)
    check(kind, segments)


def test_runs_that_do_not_fit_the_table_are_refused(kind: str) -> None:
    built = SegmentBuilder()
    built.put(b"key", b"value")
    runs = runs_of([built])
    with pytest.raises(ValueError, match="does not have the bytes of segment 7"):
        LoadProbe(kind).load(runs)
    with pytest.raises(ValueError, match="two runs of segment 7"):
        probe_for(kind, [built]).load(runs * 2)
    shorter = LoadProbe(kind)
    shorter.add_segment(built.content[:-8], store_id=STORE_ID, segment_id=7, epoch=3)
    with pytest.raises(ValueError, match="does not have the bytes of segment 7"):
        shorter.load(runs)


def test_an_index_that_is_not_empty_is_refused(kind: str) -> None:
    built = SegmentBuilder()
    built.put(b"key", b"value")
    probe = probe_for(kind, [built])
    probe.load(runs_of([built]))
    with pytest.raises(ValueError, match="not empty"):
        probe.load(runs_of([built]))


def test_only_an_index_and_a_table_are_taken() -> None:
    with pytest.raises(TypeError):
        load_index(None, "table", [])


def test_a_record_that_must_be_compared_and_is_damaged_is_named() -> None:
    # Keys that share their first bytes make the B+ tree look at the records themselves.
    segments = []
    for number in range(2):
        built = SegmentBuilder(number + 1, first_lsn=1 + 100_000 * number)
        for i in range(3000):
            built.put(b"prefix" * 10 + b"%06d" % (2 * i + number), b"v")
        segments.append(built)
    runs = runs_of(segments)
    probe = LoadProbe("btree")
    for built in segments:
        damaged = bytearray(built.content)
        for record in built.expected:
            damaged[record.offset + 24] ^= 1
        probe.add_segment(bytes(damaged), store_id=STORE_ID, segment_id=built.segment_id, epoch=3)
    with pytest.raises(LoadError) as caught:
        probe.load(runs)
    assert caught.value.segment_id in (1, 2)
    assert caught.value.offset in {record.offset for built in segments for record in built.expected}
    assert caught.value.errno == 0
