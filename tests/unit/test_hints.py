"""Hint files: the newest record of each key, sorted; anything wrong with one is a HintError, never a wrong entry."""

from __future__ import annotations

import random
import struct
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flash_kv.io.system import REAL
from flash_kv.log.checksum_cy import crc32c
from flash_kv.log.hints_cy import HintError, HintRun, build_hint, load_hint
from support.segments import STORE_ID, SegmentBuilder, sample_segment

HEADER_BYTES = 128
# Offsets of header fields.
SEALED_BYTES, ENTRIES, ENTRIES_BYTES, VALUE_RECORDS, MIN_LSN, MAX_LSN = 48, 56, 64, 72, 96, 104


def hint_of(built: SegmentBuilder) -> bytes:
    return b"".join(build_hint(built.scan()).chunks())


def load(built: SegmentBuilder, hint: bytes, **other: Any) -> HintRun:
    expected: dict[str, Any] = {
        "store_id": STORE_ID,
        "segment_id": built.segment_id,
        "epoch": built.epoch,
        "sealed_bytes": built.end,
    }
    return load_hint(hint, **(expected | other))


def newest(built: SegmentBuilder) -> list[tuple[bytes, int, int, int, int]]:
    """What the hint of a segment has to hold."""
    found = {}
    for record in sorted(built.expected, key=lambda record: record.lsn):
        found[record.key] = (record.key, record.kind, record.lsn, record.offset, record.value_size)
    return sorted(found.values())


def signed(hint: bytes) -> bytes:
    """`hint` with both checksums made to hold."""
    entries = crc32c(hint[HEADER_BYTES:])
    head = hint[:120] + struct.pack("<I", entries)
    return head + struct.pack("<I", crc32c(head)) + hint[HEADER_BYTES:]


def with_field(hint: bytes, offset: int, value: int) -> bytes:
    return hint[:offset] + struct.pack("<Q", value) + hint[offset + 8 :]


def test_a_hint_knows_what_stands_between_key_and_value() -> None:
    built = SegmentBuilder()
    built.put_aligned(b"k", b"v" * 100)
    built.put(b"l", b"v")
    hint = hint_of(built)
    assert list(load(built, hint).items()) == newest(built)
    place = HEADER_BYTES + 21
    assert hint[place] == -(64 + 24 + 1) % 64
    for pad in (64, 255):
        with pytest.raises(HintError, match="impossible padding"):
            load(built, signed(hint[:place] + bytes([pad]) + hint[place + 1 :]))
    tombstone = SegmentBuilder()
    tombstone.delete(b"k")
    hint = hint_of(tombstone)
    with pytest.raises(HintError, match="impossible padding"):
        load(tombstone, signed(hint[:place] + b"\1" + hint[place + 1 :]))


def test_a_hint_holds_the_newest_record_of_each_key_in_key_order() -> None:
    built = sample_segment()
    assert list(load(built, hint_of(built)).items()) == newest(built)


def test_a_run_built_in_memory_and_its_file_are_the_same() -> None:
    built = sample_segment()
    run = build_hint(built.scan())
    loaded = load(built, b"".join(run.chunks()))
    assert list(run.items()) == list(loaded.items())
    for name in ("size", "segment_id", "epoch", "sealed_bytes", "entries", "value_records", "tombstones"):
        assert getattr(run, name) == getattr(loaded, name)
    for name in ("tombstone_bytes", "min_lsn", "max_lsn", "seen_lsn"):
        assert getattr(run, name) == getattr(loaded, name)


def test_counts_are_those_of_the_whole_segment() -> None:
    built = sample_segment()
    run = load(built, hint_of(built))
    assert (run.entries, run.value_records, run.tombstones) == (5, 5, 2)
    assert (run.tombstone_bytes, run.min_lsn, run.max_lsn, run.seen_lsn) == (80, 1, 8, 8)
    assert run.sealed_bytes == built.end


def test_the_lsn_not_the_place_in_the_file_says_which_record_is_newest() -> None:
    built = SegmentBuilder()
    newer = built.put(b"key", b"newer", lsn=9)
    built.put(b"key", b"older", lsn=4)
    built.delete(b"key", lsn=7)
    assert [item[2:4] for item in build_hint(built.scan()).items()] == [(9, newer)]


def test_an_empty_segment_has_an_empty_hint() -> None:
    built = SegmentBuilder()
    hint = hint_of(built)
    assert len(hint) == HEADER_BYTES
    assert list(load(built, hint).items()) == []


def test_the_hint_of_an_unsealed_segment_is_for_what_is_whole() -> None:
    built = SegmentBuilder()
    built.put(b"kept", b"value")
    end = built.end
    built.put(b"torn", b"value")
    scan = built.scan(built.content[:-10], is_sealed=False)
    run = build_hint(scan)
    assert run.sealed_bytes == end
    assert [item[0] for item in run.items()] == [b"kept"]


def test_a_damaged_segment_has_no_hint() -> None:
    built = sample_segment()
    with pytest.raises(ValueError, match="damaged"):
        build_hint(built.scan(built.content[:-1] + b"?"))


def test_a_hint_is_read_from_a_mapping(tmp_path: Path) -> None:
    built = sample_segment()
    path = tmp_path / "hint"
    path.write_bytes(hint_of(built))
    with path.open("rb") as file:
        mapping = REAL.map(file.fileno(), path.stat().st_size, False)
    run = load_hint(mapping, store_id=STORE_ID, segment_id=7, epoch=3, sealed_bytes=built.end)
    assert list(run.items()) == newest(built)
    mapping.close()
    with pytest.raises(ValueError, match="closed"):
        next(run.items())


@pytest.mark.parametrize("chunk_bytes", [1, 7, 128, 1 << 20])
def test_chunks_of_any_size_make_the_same_file(chunk_bytes: int) -> None:
    run = build_hint(sample_segment().scan())
    chunks = list(run.chunks(chunk_bytes))
    assert b"".join(chunks) == b"".join(run.chunks())
    assert {len(chunk) for chunk in chunks[:-1]} <= {chunk_bytes}
    assert len(b"".join(chunks)) == run.size


# Sorting

KEYS = st.one_of(
    st.binary(min_size=1, max_size=40),
    # Few letters, zeros among them: long common prefixes, keys that are prefixes of others.
    st.text("\0\1a", min_size=1, max_size=40).map(str.encode),
    st.sampled_from([b"p" * 8, b"p" * 16, b"p" * 17]).flatmap(
        lambda prefix: st.binary(max_size=12).map(prefix.__add__)
    ),
)


@given(st.lists(st.tuples(KEYS, st.booleans()), max_size=80))
@example([(b"a", True), (b"a\0", True), (b"a\0\0", False), (b"a" * 8, True), (b"a" * 8 + b"\0", True)])
def test_any_keys_come_out_sorted_and_once(ops: list[tuple[bytes, bool]]) -> None:
    built = SegmentBuilder()
    for key, is_value in ops:
        if is_value:
            built.put(key, b"v")
        else:
            built.delete(key)
    assert list(load(built, hint_of(built)).items()) == newest(built)


@pytest.mark.parametrize(
    "make_key",
    [
        pytest.param(lambda rng: rng.randbytes(16), id="random"),
        pytest.param(lambda rng: b"user:%08d" % rng.randrange(4000), id="numbered, many twice"),
        pytest.param(lambda rng: b"p" * 200 + rng.randbytes(2), id="a long common prefix"),
        pytest.param(lambda rng: bytes(rng.randrange(1, 300)), id="nothing but zeros"),
        pytest.param(lambda rng: rng.randbytes(1), id="one byte"),
    ],
)
def test_many_keys_come_out_sorted_and_once(make_key: Any, rng: random.Random) -> None:
    built = SegmentBuilder()
    for _ in range(5000):
        built.put(make_key(rng), b"")
    assert list(load(built, hint_of(built)).items()) == newest(built)


def test_keys_of_64_kib_that_differ_in_their_last_byte_are_sorted() -> None:
    built = SegmentBuilder()
    for last in (3, 1, 2, 1):
        built.put(bytes(65535) + bytes([last]), b"")
    assert [item[0][-1] for item in build_hint(built.scan()).items()] == [1, 2, 3]


# What is wrong with a hint


@pytest.mark.parametrize("bit", range(8))
def test_a_flipped_bit_anywhere_makes_a_hint_unusable(bit: int) -> None:
    built = sample_segment()
    hint = hint_of(built)
    for offset in range(len(hint)):
        damaged = hint[:offset] + bytes([hint[offset] ^ 1 << bit]) + hint[offset + 1 :]
        with pytest.raises(HintError):
            load(built, damaged)


def test_a_hint_cut_anywhere_or_with_bytes_behind_its_end_is_unusable() -> None:
    built = sample_segment()
    hint = hint_of(built)
    for size in range(len(hint)):
        with pytest.raises(HintError):
            load(built, hint[:size])
    with pytest.raises(HintError, match="bytes instead of"):
        load(built, hint + bytes(8))


@given(st.binary(max_size=400))
@example(b"")
@example(bytes(128))
def test_arbitrary_bytes_are_no_hint(data: bytes) -> None:
    with pytest.raises(HintError):
        load(sample_segment(), data)


@given(st.data())
def test_entries_that_cannot_be_are_refused_though_the_checksums_hold(data: st.DataObject) -> None:
    built = sample_segment()
    hint = hint_of(built)
    offset = data.draw(st.integers(HEADER_BYTES, len(hint) - 1))
    patch = data.draw(st.binary(min_size=1, max_size=8))
    changed = signed((hint[:offset] + patch + hint[offset + len(patch) :])[: len(hint)])
    try:
        run = load(built, changed)
    except HintError:
        return
    items = list(run.items())
    assert [item[0] for item in items] == sorted({item[0] for item in items})
    for key, _, lsn, place, value_size in items:
        assert 64 <= place <= built.end - 24 - len(key) - value_size
        assert run.min_lsn <= lsn <= run.max_lsn


def test_counts_that_cannot_be_are_refused_though_the_checksums_hold() -> None:
    built = sample_segment()
    hint = hint_of(built)
    for field, value, reason in [
        (ENTRIES, 4, "bytes after the last entry"),
        (ENTRIES, 6, "an entry runs past the end"),
        (ENTRIES, 2**63, "an entry runs past the end"),
        (ENTRIES_BYTES, 2**64 - 128, "bytes instead of"),
        (VALUE_RECORDS, 2, "more entries than records"),
        (MAX_LSN, 7, "outside those of the segment"),
    ]:
        with pytest.raises(HintError, match=reason):
            load(built, signed(with_field(hint, field, value)))


def test_a_key_that_is_not_padded_with_zeros_is_refused_though_the_checksums_hold() -> None:
    """Keys are compared by whole words, padding included: "b" with "b" behind it would pass for more than "ba"."""
    built = SegmentBuilder()
    built.put(b"ba", b"")
    hint = bytearray(hint_of(built))
    for offset in range(HEADER_BYTES + 24 + 2, len(hint)):
        changed = bytearray(hint)
        changed[offset] = 1
        with pytest.raises(HintError, match="not padded with zeros"):
            load(built, signed(bytes(changed)))
    for size in range(1, 17):
        built = SegmentBuilder()
        built.put(b"\xff" * size, b"")
        assert [item[0] for item in load(built, hint_of(built)).items()] == [b"\xff" * size]


def test_an_entry_with_lsn_zero_is_refused_though_the_checksums_hold() -> None:
    built = SegmentBuilder()
    built.put(b"a", b"v")
    hint = with_field(with_field(hint_of(built), MIN_LSN, 0), HEADER_BYTES, 0)
    with pytest.raises(HintError, match="outside those of the segment"):
        load(built, signed(hint))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        pytest.param({"store_id": bytes(16)}, "hint of another store", id="of another store"),
        pytest.param({"segment_id": 8}, "hint of segment 7, not 8", id="of another segment"),
        pytest.param({"epoch": 4}, "hint of epoch 3, not 4", id="of another epoch"),
        pytest.param({"sealed_bytes": 4096}, "of a segment that has 4096", id="older than the data"),
    ],
)
def test_a_hint_for_something_else_is_unusable(other: dict[str, Any], reason: str) -> None:
    built = sample_segment()
    with pytest.raises(HintError, match=reason):
        load(built, hint_of(built), **other)


def test_a_hint_pointing_outside_its_segment_is_unusable() -> None:
    built = sample_segment()
    hint = signed(with_field(hint_of(built), SEALED_BYTES, built.end - 8))
    with pytest.raises(HintError, match="points outside the segment"):
        load(built, hint, sealed_bytes=built.end - 8)


def test_an_unsorted_hint_is_unusable() -> None:
    built = SegmentBuilder()
    built.put(b"a", b"v")
    built.put(b"b", b"v")
    hint = hint_of(built)
    swapped = hint[:HEADER_BYTES] + hint[HEADER_BYTES + 32 :] + hint[HEADER_BYTES : HEADER_BYTES + 32]
    with pytest.raises(HintError, match="not in ascending order"):
        load(built, signed(swapped))


def test_a_hint_of_another_format_version_says_which() -> None:
    built = sample_segment()
    hint = hint_of(built)
    with pytest.raises(HintError, match="format version 2"):
        load(built, signed(hint[:8] + struct.pack("<I", 2) + hint[12:]))
