"""Scanning a segment: what is sound is found, what is not is damage or a torn tail, and no byte is ever believed."""

from __future__ import annotations

import random
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flash_kv.errors import CorruptionError
from flash_kv.io.system import REAL
from flash_kv.log.records import (
    FLAG_IN_BATCH,
    KIND_EXTENDED,
    KIND_TOMBSTONE,
    KIND_VALUE,
    encode_batch,
    encode_record,
)
from flash_kv.log.scan_cy import SegmentScan, scan_segment
from support.segments import HEADER_SIZE, SEGMENT_HEADER_SIZE, STORE_ID, SegmentBuilder, sample_segment

PAGE = 4096
ZEROS = bytes(8192)


def changed(content: bytes, offset: int, data: bytes) -> bytes:
    return content[:offset] + data + content[offset + len(data) :]


def test_every_record_of_a_sealed_segment_is_found() -> None:
    built = sample_segment()
    scan = built.scan(is_ordered=True)
    assert list(scan.records()) == built.expected
    assert scan.is_sound
    assert scan.end == built.end
    assert scan.bad_offset is None
    assert scan.reason is None


def test_counters_are_those_of_the_records() -> None:
    scan = sample_segment().scan()
    assert (scan.value_records, scan.tombstones, scan.record_count) == (5, 2, 7)
    assert (scan.batches, scan.voids, scan.orphans) == (1, 1, 0)
    assert scan.value_bytes == 40 + 48 + 40 + 72 + 96
    assert scan.tombstone_bytes == 32 + 48
    assert (scan.first_lsn, scan.min_lsn, scan.max_lsn, scan.seen_lsn) == (1, 1, 8, 8)


def test_an_lsn_that_was_withdrawn_is_seen_but_not_counted() -> None:
    built = SegmentBuilder(first_lsn=5)
    built.void(b"first")
    built.put(b"k", b"v")
    built.void(b"last")
    scan = built.scan()
    assert (scan.first_lsn, scan.min_lsn, scan.max_lsn, scan.seen_lsn) == (5, 6, 6, 7)


def test_an_empty_sealed_segment_is_sound() -> None:
    scan = SegmentBuilder().scan()
    assert scan.is_sound
    assert (scan.end, scan.record_count, scan.min_lsn, scan.max_lsn) == (SEGMENT_HEADER_SIZE, 0, 0, 0)


def test_a_segment_is_scanned_in_a_mapping(tmp_path: Path) -> None:
    built = sample_segment()
    path = tmp_path / "segment"
    path.write_bytes(built.content)
    with path.open("rb") as file:
        mapping = REAL.map(file.fileno(), built.end, False)
    scan = scan_segment(mapping, built.end, store_id=STORE_ID, segment_id=7, epoch=3, is_sealed=True)
    assert list(scan.records()) == built.expected
    mapping.close()
    with pytest.raises(ValueError, match="closed"):
        list(scan.records())


def test_only_the_first_size_bytes_are_looked_at() -> None:
    built = sample_segment()
    end = built.end
    built.put(b"later", b"v")
    assert built.scan(size=end).is_sound
    assert built.scan(size=end).end == end


@pytest.mark.parametrize(
    "place", [{"store_id": bytes(16)}, {"segment_id": 8}, {"epoch": 4}], ids=["store", "segment", "epoch"]
)
def test_records_of_another_place_never_verify(place: dict[str, object]) -> None:
    scan = sample_segment().scan(**place)
    assert list(scan.records()) == []
    assert not scan.is_sound


def test_a_record_moved_to_another_offset_never_verifies() -> None:
    built = SegmentBuilder()
    first = built.put(b"key", b"value")
    record = built.content[first:]
    scan = built.scan(built.content + record)
    assert [found.offset for found in scan.records()] == [first]
    assert scan.reason == "checksum mismatch"


@pytest.mark.parametrize("is_sealed", [True, False])
@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_anywhere_never_yields_a_wrong_record(bit: int, is_sealed: bool) -> None:
    built = sample_segment()
    void_body = range(built.content.index(b"what was here"), built.content.index(b"what was here") + 32)
    for offset in range(SEGMENT_HEADER_SIZE, built.end):
        damaged = changed(built.content, offset, bytes([built.content[offset] ^ 1 << bit]))
        scan = built.scan(damaged, is_sealed=is_sealed)
        assert set(scan.records()) <= set(built.expected)
        if offset in void_body:
            assert scan.is_sound
        elif is_sealed:
            assert not scan.is_sound
            assert scan.bad_offset <= offset
        else:
            assert scan.torn_bytes > 0
            assert scan.end <= offset


def test_a_sealed_segment_cut_anywhere_is_damaged() -> None:
    built = sample_segment()
    for size in range(built.end):
        scan = built.scan(built.content[:size], size=built.end)
        assert not scan.is_sound
        assert scan.damage[-1] == (size, built.end - size, "the file ends before the end of the segment")
        assert list(scan.records()) == [
            record for record in built.expected if record.value_offset + record.value_size <= scan.end
        ]


def test_an_aligned_value_is_found_where_it_begins() -> None:
    built = SegmentBuilder()
    built.put(b"a", b"b")
    for size in range(70):
        built.put_aligned(b"k" * (size + 1), b"v" * size)
    scan = built.scan()
    assert scan.is_sound
    assert list(scan.records()) == built.expected
    assert {record.value_offset % 64 for record in built.expected[1:]} == {0}


def test_an_unsealed_segment_cut_anywhere_keeps_what_is_whole() -> None:
    built = sample_segment()
    for size in range(SEGMENT_HEADER_SIZE, built.end):
        scan = built.scan(built.content[:size] + ZEROS, is_sealed=False)
        assert scan.is_sound
        kept = list(scan.records())
        assert kept == built.expected[: len(kept)]
        assert scan.end + scan.torn_bytes <= max(size, scan.end)
        assert all(record.offset < scan.end for record in kept)


@given(st.binary(max_size=600), st.booleans())
@example(bytes(24), True)
@example(b"\xff" * 64, False)
def test_arbitrary_bytes_are_never_records(data: bytes, is_sealed: bool) -> None:
    built = sample_segment()
    scan = built.scan(built.content + data, is_sealed=is_sealed)
    assert list(scan.records()) == built.expected
    assert is_sealed or scan.end + scan.torn_bytes == built.end + len(data.rstrip(b"\0"))
    assert not is_sealed or scan.is_sound == (not data)


HEADER_FAULTS: dict[str, tuple[dict[str, int], str]] = {
    "a kind from the future": ({"kind": 6}, "unknown record kind"),
    "no room for attributes": (
        {"kind": 5, "key_size": 1, "value_size": 15},
        "impossible attributes of a value",
    ),
    "zeros behind the key of a record that is not aligned": ({"flags": 8 << 2}, "unknown record flags"),
    "a tombstone that is aligned": (
        {"kind": KIND_TOMBSTONE, "flags": 2, "value_size": 0},
        "unknown record flags",
    ),
    "a frame that is aligned": ({"kind": 3, "flags": 2, "value_size": 2}, "unknown record flags"),
    "a void that is aligned": ({"kind": 4, "flags": 2, "value_size": 2}, "unknown record flags"),
    "zeros beyond the end": ({"flags": 2 | 63 << 2}, "a record that runs past the end of the segment"),
    "a batch's record without its frame": ({"flags": FLAG_IN_BATCH}, "a record of a batch outside its frame"),
    "an empty key": ({"key_size": 0, "value_size": 16}, "impossible key size"),
    "a key above 64 KiB": ({"key_size": 65537}, "impossible key size"),
    "a value above the limit": ({"value_size": 2**32 - 1}, "impossible value size"),
    "a tombstone with a value": ({"kind": KIND_TOMBSTONE}, "impossible value size"),
    "a frame without records": ({"kind": 3, "key_size": 0}, "impossible number of records in a batch"),
    "a frame with more records than fit": (
        {"kind": 3, "key_size": 2, "value_size": 7},
        "impossible number of records in a batch",
    ),
    "LSN zero": ({"lsn": 0}, "impossible LSN"),
    "the last LSN of all": ({"lsn": 2**64 - 1}, "impossible LSN"),
    "a body beyond the end": ({"value_size": 4096}, "a record that runs past the end of the segment"),
    "a void beyond the end": (
        {"kind": 4, "value_size": 2**32 - 1},
        "a record that runs past the end of the segment",
    ),
}


@pytest.mark.parametrize(("fields", "reason"), HEADER_FAULTS.values(), ids=list(HEADER_FAULTS))
def test_a_header_that_cannot_be_is_refused_whatever_its_checksum(
    fields: dict[str, int], reason: str
) -> None:
    built = SegmentBuilder()
    header = {"kind": KIND_VALUE, "flags": 0, "key_size": 3, "value_size": 13, "lsn": 1} | fields
    packed = struct.pack(
        "<BBHIIQ", header["kind"], header["flags"], 0, header["key_size"], header["value_size"], header["lsn"]
    )
    offset = built.raw(_with_checksum(built, packed + b"keyvalue is 13bytes"[:16]))
    scan = built.scan()
    assert list(scan.records()) == []
    assert (scan.bad_offset, scan.reason) == (offset, reason)


@pytest.mark.parametrize(
    "attributes",
    [
        pytest.param(struct.pack("<HHIQ", 15, 0, 0, 0), id="shorter than they can be"),
        pytest.param(struct.pack("<HHIQ", 18, 0, 0, 0), id="longer than the value"),
        pytest.param(struct.pack("<HHIQ", 16, 1, 0, 0), id="reserved bytes"),
        pytest.param(struct.pack("<HHIQ", 16, 0, 1, 0), id="more reserved bytes"),
        pytest.param(struct.pack("<HHIQ", 4113, 0, 0, 0) + bytes(5000), id="too much meta"),
    ],
)
def test_attributes_that_cannot_be_are_refused_whatever_their_checksum(attributes: bytes) -> None:
    built = SegmentBuilder()
    offset = built.raw(encode_record(built.seed, built.end, KIND_EXTENDED, 0, b"key", attributes + b"v", 1))
    scan = built.scan()
    assert (scan.bad_offset, scan.reason) == (offset, "impossible attributes of a value")


def _with_checksum(built: SegmentBuilder, rest: bytes) -> bytes:
    """`rest` of a record with the checksum that would hold for it at the end of the segment."""
    from flash_kv.log.checksum_cy import crc32c

    crc = crc32c(struct.pack("<Q", built.end) + rest, ~built.seed & 0xFFFFFFFF)
    return struct.pack("<I", crc) + rest


@pytest.mark.parametrize(
    "inner",
    [
        pytest.param(
            lambda seed, at: encode_record(seed, at, 1, 0, b"k", b"v", 1), id="not marked as its own"
        ),
        pytest.param(lambda seed, at: encode_record(seed, at, 1, 1, b"k", b"v", 2), id="with another LSN"),
        pytest.param(
            lambda seed, at: encode_record(seed, at + 8, 1, 1, b"k", b"v", 1), id="from another offset"
        ),
        pytest.param(
            lambda seed, at: encode_record(seed, at, 1, 1, b"k", b"v", 1) + bytes(8), id="too short"
        ),
        pytest.param(lambda seed, at: encode_batch(seed, at, 1, [(b"k", b"v")], 1), id="itself a frame"),
    ],
)
def test_a_frame_whose_record_is_wrong_is_damage_though_its_checksum_holds(
    inner: Callable[[int, int], bytes],
) -> None:
    built = SegmentBuilder()
    body = inner(built.seed, built.end + HEADER_SIZE)
    header = struct.pack("<BBHIIQ", 3, 0, 0, 1, len(body) // 8, 1)
    offset = built.raw(_with_checksum(built, header + body))
    scan = built.scan()
    assert (scan.bad_offset, scan.reason) == (offset, "the records of a batch do not fill its frame")
    assert scan.batches == 0


@pytest.mark.parametrize("lsn", [4, 9])
def test_lsns_must_increase_where_the_writer_wrote(lsn: int) -> None:
    built = SegmentBuilder()
    built.put(b"a", b"", lsn=9)
    second = built.put(b"b", b"", lsn=lsn)
    assert built.scan().is_sound
    scan = built.scan(is_ordered=True)
    assert (scan.bad_offset, scan.reason) == (second, "an LSN not above that of the record before")


def test_a_key_and_a_batch_may_be_as_large_as_the_limits() -> None:
    built = SegmentBuilder()
    built.put(b"k" * 65536, b"v" * 100_000)
    built.batch([(b"%d" % i, b"v") for i in range(10_000)])
    assert list(built.scan(is_ordered=True).records()) == built.expected


# Damage


def test_every_damaged_range_is_listed_and_the_rest_found() -> None:
    built = SegmentBuilder()
    offsets = [built.put(b"key%d" % i, b"v" * 50) for i in range(10)]
    content = built.content
    for number in (2, 5, 6):
        content = changed(content, offsets[number] + 30, b"??")
    scan = built.scan(content)
    size = offsets[1] - offsets[0]
    assert scan.damage == [
        (offsets[2], size, "checksum mismatch"),
        (offsets[5], 2 * size, "checksum mismatch"),
    ]
    assert list(scan.records()) == [
        record for record in built.expected if record.offset not in (offsets[2], offsets[5], offsets[6])
    ]


def test_a_damaged_length_does_not_hide_what_follows() -> None:
    built = SegmentBuilder()
    first = built.put(b"a", b"value")
    second = built.put(b"b", b"value")
    scan = built.scan(changed(built.content, first + 12, struct.pack("<I", 2**31)))
    assert scan.damage == [(first, second - first, "a record that runs past the end of the segment")]
    assert [record.key for record in scan.records()] == [b"b"]


@pytest.mark.parametrize("size", [16_383, 16_384, 20_000, 65_536, 1_000_003])
def test_long_records_behind_a_damaged_place_are_found(size: int, rng: random.Random) -> None:
    built = SegmentBuilder()
    first = built.put(b"damaged", b"value")
    second = built.put(b"long", rng.randbytes(size))
    built.batch([(b"long in a batch", rng.randbytes(size)), (b"short", b"")])
    damaged = built.put(b"long and damaged", rng.randbytes(size))
    built.put(b"longer", rng.randbytes(size + 5000))
    content = changed(changed(built.content, first, b"\0"), damaged + 40, b"\0\0\0\0")
    scan = built.scan(content)
    assert [damage.offset for damage in scan.damage] == [first, damaged]
    assert scan.damage[0].size == second - first
    assert list(scan.records()) == [
        record for record in built.expected if record.offset not in (first, damaged)
    ]


def test_sound_records_of_a_damaged_batch_are_orphans() -> None:
    built = SegmentBuilder()
    frame = built.batch([(b"a", b"1"), (b"b", b"2"), (b"c", None)])
    built.put(b"z", b"")
    scan = built.scan(changed(built.content, built.expected[1].value_offset, b"?"))
    assert [record.key for record in scan.records()] == [b"z"]
    assert [record.key for record in scan.records(orphans=True)] == [b"a", b"c", b"z"]
    assert (scan.orphans, scan.record_count, scan.tombstones) == (2, 1, 0)
    assert scan.bad_offset == frame


def test_require_sound_names_file_offset_and_reason() -> None:
    built = sample_segment()
    built.scan().require_sound("/store/7.seg")
    scan = built.scan(changed(built.content, SEGMENT_HEADER_SIZE, b"\xff"))
    with pytest.raises(CorruptionError, match="checksum mismatch") as caught:
        scan.require_sound("/store/7.seg")
    assert (caught.value.path, caught.value.offset) == ("/store/7.seg", SEGMENT_HEADER_SIZE)


def test_bytes_that_look_like_headers_of_long_records_do_not_slow_the_search_down() -> None:
    trap = struct.pack("<IBBHIIQ", 1, 1, 0, 0, 16, 4 << 20, 5) + bytes(8)
    built = SegmentBuilder()
    built.raw(trap * (8 << 15))
    last = built.put(b"k", b"v", lsn=1)
    began = time.perf_counter()
    scan = built.scan()
    # Without care each of the 130,000 traps costs a checksum of 4 MiB: minutes.
    assert time.perf_counter() - began < 10
    assert [record.offset for record in scan.records()] == [last]


# Torn tails: named by what of the last records reached the disk


def _intact() -> SegmentBuilder:
    built = SegmentBuilder()
    built.put(b"kept", b"value")
    return built


def _nothing() -> tuple[SegmentBuilder, bytes, int]:
    built = _intact()
    return built, built.content + ZEROS, 0


def _header_only() -> tuple[SegmentBuilder, bytes, int]:
    built = _intact()
    end = built.end
    built.put(b"torn", b"v" * 100)
    # The header's last bytes are zeros of its LSN, which no one can tell from unwritten ones.
    return built, built.content[: end + 24] + ZEROS, 17


def _half_a_header() -> tuple[SegmentBuilder, bytes, int]:
    built = _intact()
    end = built.end
    built.put(b"torn", b"v" * 100)
    return built, built.content[: end + 12] + ZEROS, 9


def _body_without_its_first_word() -> tuple[SegmentBuilder, bytes, int]:
    built = _intact()
    end = built.end
    built.put(b"torn", b"v" * 100)
    return built, changed(built.content, end, bytes(8)) + ZEROS, 24 + 4 + 100


def _all_but_the_last_byte() -> tuple[SegmentBuilder, bytes, int]:
    built = _intact()
    built.put(b"torn", b"v" * 100)
    return built, built.content[:-1] + ZEROS, 24 + 4 + 99


def _a_page_in_the_middle_lost() -> tuple[SegmentBuilder, bytes, int]:
    built = _intact()
    end = built.end
    built.put(b"torn", b"v" * (3 * PAGE - 28))
    return built, changed(built.content, end + PAGE, bytes(PAGE)) + ZEROS, 3 * PAGE


def _a_batch_without_its_frame_header() -> tuple[SegmentBuilder, bytes, int]:
    built = _intact()
    end = built.end
    built.batch([(b"a", b"1" * 7), (b"b", b"2" * 7)])
    return built, changed(built.content, end, bytes(24)) + ZEROS, 24 + 2 * 32


def _a_batch_without_its_last_record() -> tuple[SegmentBuilder, bytes, int]:
    built = _intact()
    built.batch([(b"a", b"1" * 7), (b"b", b"2" * 7)])
    return built, built.content[:-32] + ZEROS, 24 + 32


def _a_record_lost_and_later_ones_kept() -> tuple[SegmentBuilder, bytes, int]:
    built = _intact()
    end = built.end
    built.put(b"lost", b"v" * 4, sync_distance=1)
    built.put(b"later", b"v" * 3, sync_distance=2)
    return built, changed(built.content, end, bytes(32)) + ZEROS, 64


def _old_bytes_of_a_recycled_block() -> tuple[SegmentBuilder, bytes, int]:
    built = _intact()
    other = SegmentBuilder(epoch=2)
    other.put(b"old", b"value")
    other.put(b"older", b"v" * 11, sync_distance=1)
    return built, built.content + other.content[built.end :] + ZEROS, other.end - built.end


TAILS = {
    "nothing": _nothing,
    "the header alone": _header_only,
    "half a header": _half_a_header,
    "a body without its first word": _body_without_its_first_word,
    "all but the last byte": _all_but_the_last_byte,
    "all but a page in the middle": _a_page_in_the_middle_lost,
    "a batch without its frame's header": _a_batch_without_its_frame_header,
    "a batch without its last record": _a_batch_without_its_last_record,
    "not this record, but later ones": _a_record_lost_and_later_ones_kept,
    "old bytes of a recycled block": _old_bytes_of_a_recycled_block,
}


@pytest.mark.parametrize("tail", TAILS.values(), ids=list(TAILS))
def test_a_torn_tail_is_no_damage(tail: Callable[[], tuple[SegmentBuilder, bytes, int]]) -> None:
    built, content, torn_bytes = tail()
    scan = built.scan(content, is_sealed=False, is_ordered=True)
    assert scan.is_sound
    assert [record.key for record in scan.records()] == [b"kept"]
    assert (scan.end, scan.torn_bytes) == (_intact().end, torn_bytes)
    assert (scan.bad_offset is None) == (torn_bytes == 0)


def test_an_unsealed_segment_filled_to_its_last_byte_has_no_torn_tail() -> None:
    built = sample_segment()
    scan = built.scan(is_sealed=False)
    assert (scan.end, scan.torn_bytes, scan.bad_offset) == (built.end, 0, None)


@pytest.mark.parametrize("room", [1, 8, 23])
def test_a_rest_too_small_for_a_header_is_torn_only_if_written_to(room: int) -> None:
    built = _intact()
    assert built.scan(built.content + bytes(room), is_sealed=False).torn_bytes == 0
    assert built.scan(built.content + bytes(room - 1) + b"x", is_sealed=False).torn_bytes == room


def test_a_sound_record_behind_the_torn_place_is_pointed_out() -> None:
    built = _intact()
    lost = built.put(b"lost", b"value")
    later = built.put(b"later", b"value")
    scan = built.scan(changed(built.content, lost, b"\xff"), is_sealed=False)
    assert scan.is_sound
    assert scan.sound_after == later
    assert scan.reason == "checksum mismatch"
    assert built.scan(built.content[:lost] + ZEROS, is_sealed=False).sound_after is None


def _durable_and_lost(build: Callable[[SegmentBuilder], object]) -> tuple[SegmentBuilder, int, SegmentScan]:
    built = _intact()
    lost = built.put(b"durable", b"value")
    build(built)
    return built, lost, built.scan(changed(built.content, lost + 25, b"?") + ZEROS, is_sealed=False)


@pytest.mark.parametrize(
    "witness",
    [
        pytest.param(lambda built: built.put(b"w", b"", sync_distance=1), id="the next record"),
        pytest.param(lambda built: built.batch([(b"w", b"")], sync_distance=1), id="a batch"),
        pytest.param(
            lambda built: (built.put(b"x", b""), built.delete(b"w", sync_distance=2)),
            id="a tombstone further on",
        ),
    ],
)
def test_damage_to_what_was_durable_is_corruption_not_a_torn_tail(
    witness: Callable[[SegmentBuilder], object],
) -> None:
    _, lost, scan = _durable_and_lost(witness)
    assert scan.damage == [(lost, 40, "checksum mismatch")]
    assert scan.torn_bytes == 0
    assert b"w" in [record.key for record in scan.records()]
    with pytest.raises(CorruptionError):
        scan.require_sound("segment")


def test_a_statement_about_what_is_still_there_proves_nothing() -> None:
    _, lost, scan = _durable_and_lost(lambda built: built.put(b"w", b"", sync_distance=2))
    assert scan.is_sound
    assert scan.end == lost
    assert scan.stated_lsn == 1


def test_a_segment_with_damage_and_a_torn_tail_reports_both() -> None:
    built = _intact()
    lost = built.put(b"durable", b"value")
    built.put(b"witness", b"value", sync_distance=1)
    end = built.end
    built.put(b"torn", b"value")
    scan = built.scan(changed(built.content, lost + 25, b"?")[:-8] + ZEROS, is_sealed=False)
    assert [damage.offset for damage in scan.damage] == [lost]
    assert (scan.end, scan.torn_bytes) == (end, 32)


def test_before_the_first_sound_record_the_callers_lsn_decides() -> None:
    built = SegmentBuilder(first_lsn=11)
    built.put(b"lost", b"value")
    built.put(b"later", b"value", sync_distance=2)
    content = changed(built.content, SEGMENT_HEADER_SIZE, b"\xff")
    assert built.scan(content, is_sealed=False, previous_lsn=10).is_sound
    assert not built.scan(content, is_sealed=False, previous_lsn=9).is_sound
    unknown = built.scan(content, is_sealed=False)
    assert unknown.is_sound
    assert unknown.stated_lsn == 10


# Calls that make no sense


def test_impossible_arguments_are_refused() -> None:
    built = sample_segment()
    with pytest.raises(ValueError, match="16 bytes"):
        built.scan(store_id=b"short")
    with pytest.raises(ValueError, match="at most"):
        built.scan(size=-1)
    with pytest.raises(ValueError, match="at most"):
        built.scan(size=2**36)
    with pytest.raises(ValueError, match="aligned"):
        built.scan(memoryview(built.content)[4:])  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        built.scan(3.5, size=64)  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [0, 1, 63])
def test_a_file_shorter_than_a_header_is_damaged_when_sealed_and_empty_when_not(size: int) -> None:
    built = SegmentBuilder()
    assert built.scan(built.content[:size]).damage == [
        (size, 64 - size, "the file ends before the end of the segment")
    ]
    scan = built.scan(built.content[:size], is_sealed=False)
    assert scan.is_sound
    assert scan.record_count == 0
