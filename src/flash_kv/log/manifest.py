"""MANIFEST: which segments are live, and what was chosen when the store was created (docs/format.md).

    FLASHKV-MANIFEST 1\\n        what this is, and the format version
    {"store_id":"...", ...}\\n   one line of compact JSON
    crc32c:0a1b2c3d\\n           CRC32C of everything before this line

Invariants: the file is only ever replaced as a whole (write a temporary, sync it, rename, sync the directory),
so a reader finds the old one or the new one. What is read is exactly what this version would have written,
byte for byte: the JSON is matched against its one canonical form and never handed to a general parser, so that
hostile content costs no more than a small multiple of its own size, which is bounded.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Literal, get_args

from flash_kv.errors import CorruptionError, FormatVersionError, StrPath
from flash_kv.io.system import System
from flash_kv.log.checksum_cy import crc32c
from flash_kv.log.names import MANIFEST, SEGMENT_ID_MAX, temporary_name

FORMAT_VERSION = 1
MANIFEST_BYTES_MAX = 64 * 1024**2

Origin = Literal["writer", "compaction"]
_ORIGINS = get_args(Origin)
Codecs = tuple[str, str]
"""The names of the codecs of values and of keys: what the bytes mean, which the engine does not know."""

RAW_CODECS: Codecs = ("raw", "raw")

_LSN_MAX = 2**64 - 1
_EPOCH_MAX = 2**64 - 1
_COUNT_MAX = 2**63 - 1

_CODEC = rb"[a-z0-9][a-z0-9+._-]{0,63}"
_CODEC_NAME = re.compile(_CODEC.decode("ascii"))
_NUMBER = rb"(0|[1-9][0-9]{0,19})"
_MAGIC = re.compile(rb"FLASHKV-MANIFEST ([1-9][0-9]{0,8})\n")
_HEAD = re.compile(
    rb'\{"format_version":%(n)b,"store_id":"([0-9a-f]{32})","hash_key":"([0-9a-f]{32})",'
    rb'"epoch":%(n)b,"next_segment_id":%(n)b,"last_lsn":%(n)b,'
    rb'(?:"codecs":\["(%(c)b)","(%(c)b)"\],)?"segments":\[' % {b"n": _NUMBER, b"c": _CODEC}
)
_ENTRY = re.compile(
    rb'\{"segment_id":%(n)b,"epoch":%(n)b,"origin":"(writer|compaction)","sealed_bytes":(?:%(n)b|null),'
    rb'"min_lsn":%(n)b,"max_lsn":%(n)b,"records":%(n)b,"tombstones":%(n)b\}' % {b"n": _NUMBER}
)
_CHECKSUM = re.compile(rb"crc32c:([0-9a-f]{8})\n")
_CHECKSUM_BYTES = len(b"crc32c:00000000\n")


@dataclass(frozen=True, slots=True)
class SegmentEntry:
    """One live segment. ValueError when a field cannot be."""

    segment_id: int
    epoch: int
    origin: Origin
    sealed_bytes: int | None
    """Bytes of records of a sealed segment; None while it is the active one."""
    min_lsn: int
    max_lsn: int
    """LSNs of its records; 0 when unknown."""
    records: int
    tombstones: int

    def __post_init__(self) -> None:
        _check("segment_id", self.segment_id, 1, SEGMENT_ID_MAX)
        _check("epoch", self.epoch, 0, _EPOCH_MAX)
        if self.origin not in _ORIGINS:
            raise ValueError(f"origin is {self.origin!r}")
        if self.sealed_bytes is not None:
            _check("sealed_bytes", self.sealed_bytes, 0, _COUNT_MAX)
        _check("min_lsn", self.min_lsn, 0, _LSN_MAX)
        _check("max_lsn", self.max_lsn, 0, _LSN_MAX)
        if 0 < self.max_lsn < self.min_lsn:
            raise ValueError(f"min_lsn {self.min_lsn} is above max_lsn {self.max_lsn}")
        _check("records", self.records, 0, _COUNT_MAX)
        _check("tombstones", self.tombstones, 0, _COUNT_MAX)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The whole of it. ValueError when a field cannot be, or two disagree."""

    format_version: int = FORMAT_VERSION
    store_id: bytes
    hash_key: bytes
    epoch: int
    next_segment_id: int
    """Above every id ever given out, so that none is used twice."""
    last_lsn: int = 0
    """The newest LSN of all sealed segments there ever were: the first record of the first unsealed one comes next."""
    codecs: Codecs = RAW_CODECS
    """Chosen when the store is created. Plain bytes are not written down: so a store without names is one of those."""
    segments: tuple[SegmentEntry, ...]

    def __post_init__(self) -> None:
        _check("format_version", self.format_version, FORMAT_VERSION, FORMAT_VERSION)
        for name, value in (("store_id", self.store_id), ("hash_key", self.hash_key)):
            if type(value) is not bytes or len(value) != 16:
                raise ValueError(f"{name} is not 16 bytes")
        _check("epoch", self.epoch, 0, _EPOCH_MAX)
        # The id behind the last one is fine: it says that there are no more.
        _check("next_segment_id", self.next_segment_id, 1, SEGMENT_ID_MAX + 1)
        _check("last_lsn", self.last_lsn, 0, _LSN_MAX)
        for codec in self.codecs:
            require_codec_name(codec)
        seen: set[int] = set()
        for entry in self.segments:
            if entry.segment_id in seen:
                raise ValueError(f"segment {entry.segment_id} is listed twice")
            if entry.segment_id >= self.next_segment_id:
                raise ValueError(
                    f"segment {entry.segment_id} is not below next_segment_id {self.next_segment_id}"
                )
            seen.add(entry.segment_id)


def require_codec_name(name: object) -> None:
    """ValueError unless `name` can stand in a manifest as that of a codec."""
    if not isinstance(name, str) or _CODEC_NAME.fullmatch(name) is None:
        raise ValueError(
            f"codecs are named by 1 to 64 lower-case letters and digits, and '+._-' behind the first: not {name!r}"
        )


def read_manifest(system: System, directory: StrPath) -> Manifest:
    """The manifest of the store in `directory`.

    FileNotFoundError when there is none, OSError when it cannot be read, FormatVersionError when another version
    wrote it, CorruptionError for any other content.
    """
    path = os.path.join(os.fspath(directory), MANIFEST)
    # O_NONBLOCK: a pipe of that name would make the open wait for ever. It means nothing for a file.
    fd = system.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    try:
        content = system.read_at(fd, MANIFEST_BYTES_MAX + 1, 0)
    finally:
        system.close(fd)
    return decode_manifest(content, path)


def write_manifest(system: System, directory: StrPath, manifest: Manifest) -> None:
    """Replace the manifest of the store in `directory`, atomically and durably.

    OSError from any step. Before the rename the old manifest stands and the temporary is removed again; a failed
    sync of the directory leaves it open which of the two a power cut would bring back.
    """
    path = os.path.join(os.fspath(directory), MANIFEST)
    temporary = os.path.join(os.fspath(directory), temporary_name(MANIFEST))
    content = encode_manifest(manifest)
    # O_TRUNC: a leftover of an interrupted write is no obstacle.
    fd = system.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            system.write_at(fd, content, 0)
            # Durability: the content first, or a power cut after the rename could leave an empty MANIFEST.
            system.sync_file(fd)
        finally:
            system.close(fd)
        system.rename(temporary, path)
    except BaseException as error:
        try:
            system.unlink(temporary)
        except OSError as cleanup_error:
            error.add_note(f"{temporary} is left behind: {cleanup_error}")
        raise
    system.sync_directory(directory)


def encode_manifest(manifest: Manifest) -> bytes:
    """The file's content. ValueError when it would be larger than a reader accepts."""
    entries = ",".join(
        f'{{"segment_id":{entry.segment_id},"epoch":{entry.epoch},"origin":"{entry.origin}",'
        f'"sealed_bytes":{"null" if entry.sealed_bytes is None else entry.sealed_bytes},'
        f'"min_lsn":{entry.min_lsn},"max_lsn":{entry.max_lsn},'
        f'"records":{entry.records},"tombstones":{entry.tombstones}}}'
        for entry in manifest.segments
    )
    codecs = "" if manifest.codecs == RAW_CODECS else '"codecs":["{}","{}"],'.format(*manifest.codecs)
    body = (
        f"FLASHKV-MANIFEST {manifest.format_version}\n"
        f'{{"format_version":{manifest.format_version},"store_id":"{manifest.store_id.hex()}",'
        f'"hash_key":"{manifest.hash_key.hex()}","epoch":{manifest.epoch},'
        f'"next_segment_id":{manifest.next_segment_id},"last_lsn":{manifest.last_lsn},{codecs}"segments":[{entries}]}}\n'
    ).encode("ascii")
    content = body + b"crc32c:%08x\n" % crc32c(body)
    if len(content) > MANIFEST_BYTES_MAX:
        raise ValueError(
            f"a manifest of {len(manifest.segments)} segments has more than {MANIFEST_BYTES_MAX} bytes"
        )
    return content


def decode_manifest(content: bytes, path: str) -> Manifest:
    """The manifest in `content`; `path` is for the errors (FormatVersionError, CorruptionError)."""
    if len(content) > MANIFEST_BYTES_MAX:
        raise CorruptionError(path, MANIFEST_BYTES_MAX, f"a manifest has at most {MANIFEST_BYTES_MAX} bytes")
    magic = _MAGIC.match(content)
    if magic is None:
        raise CorruptionError(path, 0, "it does not begin as a manifest")
    if int(magic[1]) != FORMAT_VERSION:
        # Before the checksum: another version may have another one.
        raise FormatVersionError(path, int(magic[1]), FORMAT_VERSION)
    body_bytes = max(len(content) - _CHECKSUM_BYTES, magic.end())
    checksum = _CHECKSUM.fullmatch(content, body_bytes)
    if checksum is None:
        raise CorruptionError(path, body_bytes, "it does not end in its checksum")
    if int(checksum[1], 16) != crc32c(content[:body_bytes]):
        raise CorruptionError(path, body_bytes, "the checksum does not match the content")
    return _parse(content, magic.end(), body_bytes, path)


def _parse(content: bytes, start: int, end: int, path: str) -> Manifest:
    """The JSON line from `start` to `end`. A right checksum proves nothing: anybody can compute one."""
    head = _HEAD.match(content, start, end)
    if head is None:
        raise CorruptionError(path, start, "the fields are not those of a manifest")
    entries: list[SegmentEntry] = []
    position = head.end()
    while content[position : position + 1] != b"]":
        if entries:
            if content[position : position + 1] != b",":
                raise CorruptionError(path, position, "the list of segments is broken")
            position += 1
        match = _ENTRY.match(content, position, end)
        if match is None:
            raise CorruptionError(path, position, "this is no entry of a segment")
        try:
            entries.append(_entry(match))
        except ValueError as error:
            raise CorruptionError(path, position, str(error)) from None
        position = match.end()
    if content[position:end] != b"]}\n":
        raise CorruptionError(path, position, "there is something behind the list of segments")
    codecs = RAW_CODECS
    if head[7] is not None:
        codecs = (head[7].decode("ascii"), head[8].decode("ascii"))
        if codecs == RAW_CODECS:
            raise CorruptionError(path, start, "it names the codecs of plain bytes, which have no name")
    try:
        return Manifest(
            format_version=int(head[1]),
            store_id=bytes.fromhex(head[2].decode("ascii")),
            hash_key=bytes.fromhex(head[3].decode("ascii")),
            epoch=int(head[4]),
            next_segment_id=int(head[5]),
            last_lsn=int(head[6]),
            codecs=codecs,
            segments=tuple(entries),
        )
    except ValueError as error:
        raise CorruptionError(path, start, str(error)) from None


def _entry(match: re.Match[bytes]) -> SegmentEntry:
    segment_id, epoch, origin, sealed_bytes, min_lsn, max_lsn, records, tombstones = match.groups()
    return SegmentEntry(
        int(segment_id),
        int(epoch),
        "writer" if origin == b"writer" else "compaction",
        None if sealed_bytes is None else int(sealed_bytes),
        int(min_lsn),
        int(max_lsn),
        int(records),
        int(tombstones),
    )


def _check(name: str, value: int, low: int, high: int) -> None:
    # bool is an int to isinstance, and would be written as one that cannot be read.
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} {value!r} is not a number from {low} to {high}")
