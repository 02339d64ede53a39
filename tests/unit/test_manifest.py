"""MANIFEST: what is written is read; anything else is an error of ours; replacing it is atomic and durable."""

import dataclasses
import errno
import json
import os
import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flash_kv.errors import CorruptionError, FormatVersionError
from flash_kv.io.faulty import Fault, FaultySystem
from flash_kv.io.system import REAL
from flash_kv.log.checksum_cy import crc32c
from flash_kv.log.manifest import (
    MANIFEST_BYTES_MAX,
    RAW_CODECS,
    Manifest,
    SegmentEntry,
    decode_manifest,
    encode_manifest,
    read_manifest,
    write_manifest,
)
from flash_kv.log.names import MANIFEST, SEGMENT_ID_MAX

PATH = "/store/MANIFEST"

SEALED = SegmentEntry(1, 1, "writer", 4096, 1, 900, 900, 12)
ACTIVE = SegmentEntry(3, 2, "compaction", None, 0, 0, 0, 0)
SAMPLE = Manifest(
    store_id=bytes(range(16)),
    hash_key=bytes(range(16, 32)),
    epoch=2,
    next_segment_id=4,
    segments=(SEALED, ACTIVE),
)


@st.composite
def entries(draw: st.DrawFn) -> SegmentEntry:
    low, high = sorted((draw(st.integers(0, 2**64 - 1)), draw(st.integers(0, 2**64 - 1))))
    return SegmentEntry(
        segment_id=draw(st.integers(1, SEGMENT_ID_MAX)),
        epoch=draw(st.integers(0, 2**64 - 1)),
        origin=draw(st.sampled_from(("writer", "compaction"))),
        sealed_bytes=draw(st.none() | st.integers(0, 2**63 - 1)),
        min_lsn=low,
        max_lsn=high,
        records=draw(st.integers(0, 2**63 - 1)),
        tombstones=draw(st.integers(0, 2**63 - 1)),
    )


NAMES = st.from_regex(r"[a-z0-9][a-z0-9+._-]{0,63}", fullmatch=True)


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    segments = tuple(draw(st.lists(entries(), max_size=8, unique_by=lambda entry: entry.segment_id)))
    last = max((entry.segment_id for entry in segments), default=0)
    return Manifest(
        store_id=draw(st.binary(min_size=16, max_size=16)),
        hash_key=draw(st.binary(min_size=16, max_size=16)),
        epoch=draw(st.integers(0, 2**64 - 1)),
        next_segment_id=draw(st.integers(last + 1, SEGMENT_ID_MAX + 1)),
        codecs=draw(st.just(RAW_CODECS) | st.tuples(NAMES, NAMES)),
        segments=segments,
    )


def _signed(body: bytes) -> bytes:
    """`body` with the right checksum: what an attacker would write."""
    return body + b"crc32c:%08x\n" % crc32c(body)


def _with(old: str, new: str) -> bytes:
    body = encode_manifest(SAMPLE).rsplit(b"crc32c:", 1)[0].decode()
    assert old in body
    return _signed(body.replace(old, new, 1).encode())


@given(manifests())
def test_what_is_encoded_is_decoded(manifest: Manifest) -> None:
    assert decode_manifest(encode_manifest(manifest), PATH) == manifest


@given(manifests())
def test_second_line_is_compact_json_of_all_fields(manifest: Manifest) -> None:
    line = encode_manifest(manifest).decode("ascii").split("\n")[1]
    fields: dict[str, Any] = dataclasses.asdict(manifest)
    fields["store_id"] = manifest.store_id.hex()
    fields["hash_key"] = manifest.hash_key.hex()
    fields["segments"] = list(fields["segments"])
    if manifest.codecs == RAW_CODECS:
        del fields["codecs"]
    assert line == json.dumps(fields, separators=(",", ":"))


def test_first_and_last_line_are_magic_and_checksum() -> None:
    first, _, last, rest = encode_manifest(SAMPLE).split(b"\n")
    assert first == b"FLASHKV-MANIFEST 1"
    assert re.fullmatch(rb"crc32c:[0-9a-f]{8}", last)
    assert rest == b""


def test_written_manifest_is_read(tmp_path: Path) -> None:
    write_manifest(REAL, tmp_path, SAMPLE)
    assert read_manifest(REAL, tmp_path) == SAMPLE
    replaced = dataclasses.replace(SAMPLE, epoch=3)
    write_manifest(REAL, tmp_path, replaced)
    assert read_manifest(REAL, tmp_path) == replaced
    assert os.listdir(tmp_path) == [MANIFEST]
    assert (tmp_path / MANIFEST).stat().st_mode & 0o777 == 0o600


def test_missing_manifest_is_file_not_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_manifest(REAL, tmp_path)


# Damage


@settings(max_examples=500)
@given(st.binary(max_size=300))
def test_any_bytes_are_an_error_of_ours(content: bytes) -> None:
    with pytest.raises((CorruptionError, FormatVersionError)):
        decode_manifest(content, PATH)


@settings(max_examples=500)
@given(
    st.one_of(
        st.binary(max_size=300), st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
    )
)
def test_any_bytes_under_the_right_magic_and_checksum_are_corruption(content: bytes) -> None:
    with pytest.raises(CorruptionError):
        decode_manifest(_signed(b"FLASHKV-MANIFEST 1\n" + content), PATH)


def test_every_flipped_bit_is_detected() -> None:
    content = encode_manifest(SAMPLE)
    for position in range(8 * len(content)):
        damaged = bytearray(content)
        damaged[position // 8] ^= 1 << (position % 8)
        with pytest.raises((CorruptionError, FormatVersionError)):
            decode_manifest(bytes(damaged), PATH)


def test_every_truncation_is_detected() -> None:
    content = encode_manifest(SAMPLE)
    for size in range(len(content)):
        with pytest.raises(CorruptionError):
            decode_manifest(content[:size], PATH)


@given(st.binary(min_size=1, max_size=50))
def test_anything_appended_is_detected(tail: bytes) -> None:
    with pytest.raises(CorruptionError):
        decode_manifest(encode_manifest(SAMPLE) + tail, PATH)


@settings(max_examples=300)
@given(st.integers(0, 2**32), st.integers(1, 4))
def test_signed_mutations_are_corruption_or_another_valid_manifest(seed: int, count: int) -> None:
    rng = random.Random(seed)
    body = bytearray(encode_manifest(SAMPLE).rsplit(b"crc32c:", 1)[0])
    for _ in range(count):
        at = rng.randrange(len(body))
        body[at : at + rng.randrange(3)] = rng.choice(
            [b"", b"0", b"9", b",", b"{", b"]", b"null", b"-", b"\0"]
        )
    content = _signed(bytes(body))
    try:
        manifest = decode_manifest(content, PATH)
    except (CorruptionError, FormatVersionError):
        return
    assert encode_manifest(manifest) == content


def test_error_names_path_and_place(tmp_path: Path) -> None:
    content = bytearray(encode_manifest(SAMPLE))
    content[60] ^= 1
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(CorruptionError, match="checksum") as caught:
        read_manifest(REAL, tmp_path)
    assert caught.value.path == str(tmp_path / MANIFEST)
    assert caught.value.offset == len(content) - len("crc32c:00000000\n")


def test_broken_entry_is_named_by_its_offset() -> None:
    content = _with('"origin":"compaction"', '"origin":"fairies"')
    with pytest.raises(CorruptionError) as caught:
        decode_manifest(content, PATH)
    assert caught.value.offset == content.index(b'{"segment_id":3')


def test_other_format_version_is_told_apart_whatever_follows() -> None:
    with pytest.raises(FormatVersionError) as caught:
        decode_manifest(b"FLASHKV-MANIFEST 27\nwho knows", PATH)
    assert (caught.value.found, caught.value.supported) == (27, 1)


HOSTILE = {
    "duplicate id": ('"segment_id":3', '"segment_id":1'),
    "id 0": ('"segment_id":3', '"segment_id":0'),
    "id not below next": ('"next_segment_id":4', '"next_segment_id":3'),
    "next id 0": ('"next_segment_id":4', '"next_segment_id":0'),
    "next id too large": ('"next_segment_id":4', f'"next_segment_id":{SEGMENT_ID_MAX + 2}'),
    "id too large": ('"segment_id":3', f'"segment_id":{SEGMENT_ID_MAX + 1}'),
    "two versions": ('"format_version":1', '"format_version":2'),
    "short store id": ('"store_id":"00', '"store_id":"'),
    "upper-case hex": ("0a0b", "0A0B"),
    "float": ('"epoch":2', '"epoch":2.0'),
    "bool": ('"epoch":2', '"epoch":true'),
    "text": ('"epoch":2', '"epoch":"2"'),
    "negative": ('"epoch":2', '"epoch":-2'),
    "leading zero": ('"epoch":2', '"epoch":02'),
    "exponent": ('"epoch":2', '"epoch":2e0'),
    "not a number": ('"epoch":2', '"epoch":NaN'),
    "epoch beyond 64 bits": ('"epoch":2', f'"epoch":{2**64}'),
    "endless number": ('"epoch":2', '"epoch":' + "9" * 10_000),
    "LSN beyond 64 bits": ('"max_lsn":900', f'"max_lsn":{2**64}'),
    "LSNs swapped": ('"min_lsn":1,', '"min_lsn":901,'),
    "size beyond 63 bits": ('"sealed_bytes":4096', f'"sealed_bytes":{2**63}'),
    "field twice": ('"epoch":2', '"epoch":2,"epoch":2'),
    "field too many": ('"epoch":2', '"epoch":2,"extra":1'),
    "field missing": ('"epoch":2,', ""),
    "space": ('"epoch":2', '"epoch": 2'),
    "comma too many": ('"tombstones":0}]', '"tombstones":0},]'),
    "comma missing": ("},{", "}{"),
    "leading comma": ("[{", "[,{"),
    "unclosed": ("}]}\n", "}]\n"),
    "line too many": ("}]}\n", "}]}\n\n"),
    "codecs of plain bytes": ('"segments":[', '"codecs":["raw","raw"],"segments":['),
    "one codec": ('"segments":[', '"codecs":["json"],"segments":['),
    "codec without a name": ('"segments":[', '"codecs":["","raw"],"segments":['),
    "codec in capitals": ('"segments":[', '"codecs":["JSON","raw"],"segments":['),
    "endless codec": ('"segments":[', f'"codecs":["{"a" * 65}","raw"],"segments":['),
    "quote in a codec": ('"segments":[', '"codecs":["a\\"","raw"],"segments":['),
    "deep nesting": ('"segments":[', '"segments":' + "[" * 100_000),
}


@pytest.mark.parametrize(("old", "new"), HOSTILE.values(), ids=HOSTILE)
def test_signed_nonsense_is_corruption(old: str, new: str) -> None:
    with pytest.raises(CorruptionError):
        decode_manifest(_with(old, new), PATH)


def test_too_large_file_is_corruption_and_costs_little_memory(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST).open("wb") as file:
        file.truncate(100 * MANIFEST_BYTES_MAX)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptionError, match="at most"):
            read_manifest(REAL, tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 3 * MANIFEST_BYTES_MAX
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("kind", ["directory", "pipe", "link"])
def test_something_else_of_that_name_is_an_os_error_and_no_hang(tmp_path: Path, kind: str) -> None:
    if kind == "directory":
        (tmp_path / MANIFEST).mkdir()
    elif kind == "pipe":
        os.mkfifo(tmp_path / MANIFEST)
    else:
        (tmp_path / MANIFEST).symlink_to("/dev/zero")
    system = FaultySystem()
    with pytest.raises(OSError):
        read_manifest(system, tmp_path)
    assert system.open_paths == {}


# Replacing it


def test_content_is_durable_before_the_name_and_the_name_before_the_return(tmp_path: Path) -> None:
    system = FaultySystem(is_tracing=True)
    write_manifest(system, tmp_path, SAMPLE)
    temporary, path = str(tmp_path / "tmp-MANIFEST"), str(tmp_path / MANIFEST)
    assert system.trace == [
        ("open", temporary),
        ("write_at", temporary),
        ("sync_file", temporary),
        ("close", temporary),
        ("rename", f"{temporary} -> {path}"),
        ("sync_directory", str(tmp_path)),
    ]


@pytest.mark.parametrize("operation", ["open", "write_at", "sync_file", "close", "rename"])
@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_failure_before_the_rename_leaves_the_old_manifest_alone(
    tmp_path: Path, operation: str, code: int
) -> None:
    write_manifest(REAL, tmp_path, SAMPLE)
    system = FaultySystem(Fault(operation, errno=code))
    with pytest.raises(OSError) as caught:
        write_manifest(system, tmp_path, dataclasses.replace(SAMPLE, epoch=9))
    assert caught.value.errno == code
    assert os.listdir(tmp_path) == [MANIFEST]
    assert read_manifest(REAL, tmp_path) == SAMPLE
    assert system.open_paths == {}


def test_short_write_leaves_the_old_manifest_alone(tmp_path: Path) -> None:
    write_manifest(REAL, tmp_path, SAMPLE)
    with pytest.raises(OSError):
        write_manifest(FaultySystem(Fault("write_at", action="short")), tmp_path, SAMPLE)
    assert os.listdir(tmp_path) == [MANIFEST]
    assert read_manifest(REAL, tmp_path) == SAMPLE


def test_failed_directory_sync_is_reported(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        write_manifest(FaultySystem(Fault("sync_directory")), tmp_path, SAMPLE)
    assert read_manifest(REAL, tmp_path) == SAMPLE


def test_failed_cleanup_is_noted_on_the_first_error(tmp_path: Path) -> None:
    system = FaultySystem(Fault("sync_file", errno=errno.EIO), Fault("unlink", errno=errno.EROFS))
    with pytest.raises(OSError) as caught:
        write_manifest(system, tmp_path, SAMPLE)
    assert caught.value.errno == errno.EIO
    assert "left behind" in caught.value.__notes__[0]


def test_leftover_of_an_interrupted_write_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "tmp-MANIFEST").write_bytes(b"x" * 10_000)
    write_manifest(REAL, tmp_path, SAMPLE)
    assert read_manifest(REAL, tmp_path) == SAMPLE


def test_failed_read_closes_its_descriptor(tmp_path: Path) -> None:
    write_manifest(REAL, tmp_path, SAMPLE)
    system = FaultySystem(Fault("read_at"))
    with pytest.raises(OSError):
        read_manifest(system, tmp_path)
    assert system.open_paths == {}


# What cannot be is refused before it is written


@pytest.mark.parametrize(
    "change",
    [
        {"segment_id": 0},
        {"segment_id": SEGMENT_ID_MAX + 1},
        {"epoch": -1},
        {"epoch": True},
        {"origin": "fairies"},
        {"sealed_bytes": -1},
        {"sealed_bytes": 1.5},
        {"min_lsn": 901},
        {"max_lsn": 2**64},
        {"records": "1"},
        {"tombstones": None},
    ],
    ids=str,
)
def test_impossible_entries_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(SEALED, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"format_version": 2},
        {"store_id": b"short"},
        {"hash_key": "0" * 16},
        {"epoch": 2**64},
        {"next_segment_id": 3},
        {"next_segment_id": 0},
        {"codecs": ("json", "")},
        {"codecs": ("a" * 65, "raw")},
        {"codecs": ('a"', "raw")},
        {"codecs": (None, "raw")},
    ],
    ids=str,
)
def test_impossible_manifests_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(change))):
        dataclasses.replace(SAMPLE, **change)


def test_segment_listed_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="listed twice"):
        dataclasses.replace(SAMPLE, segments=(SEALED, SEALED))


def test_active_segment_may_know_its_first_lsn_only() -> None:
    assert dataclasses.replace(ACTIVE, min_lsn=7).max_lsn == 0
