"""Hint files: the newest record of each key of one sealed segment, sorted by key.

An index is loaded from hints instead of from segments: they are a fraction of the size, and sorted, so that all of them
merge into one ordered pass. A hint repeats what its segment says and is never the only copy of anything: whatever is
wrong with one, `HintError` says it and the caller scans the segment.

    header 128 bytes   magic, version, whose hint it is, counts, CRC32C of the entries, CRC32C of the header
    entry              LSN u64 | offset / 8 u32 | value size u32 | key size u32 | kind u8 | 0 0 0 | key | 0..
    ...                strictly ascending keys; the last entry ends the file

Invariants of a `HintRun`: both checksums held when it was made; every entry lies inside the run, names a record inside
the segment and has a key above the one before. A run built in memory from a scan has the same bytes as its file.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.flash_kv.intrinsics import byte_swap64, prefetch
from cython.cimports.flash_kv.io.memory_cy import malloc
from cython.cimports.flash_kv.log.checksum_cy import crc32c_extend
from cython.cimports.flash_kv.log.format import (
    ALIGN_MAX,
    HEADER_SIZE,
    KEY_SIZE_MAX,
    KIND_TOMBSTONE,
    SEGMENT_HEADER_SIZE,
    VALUE_SIZE_MAX,
    is_value,
    padded_size,
)
from cython.cimports.flash_kv.log.hints_cy import (
    HINT_ENTRY_SIZE,
    HINT_HEADER_SIZE,
    HintEntry,
    HintHeader,
    hint_entry_size,
    hint_key,
)
from cython.cimports.flash_kv.log.key_sort_cy import sort_newest
from cython.cimports.flash_kv.log.scan_cy import SegmentScan
from cython.cimports.flash_kv.log.scan_loop_cy import ScanRecord, ScanState
from cython.cimports.flash_kv.log.source_cy import Source
from cython.cimports.libc.stdint import int64_t, uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcmp, memcpy, memset

Bytes = cython.typedef(cython.pointer(cython.const[uint8_t]))
EntryPointer = cython.typedef(cython.pointer(cython.const[HintEntry]))

MAGIC = b"FKVHINT\x00"
VERSION = cython.declare(uint32_t, 1)
CHUNK_BYTES = 1 << 20
AHEAD = cython.declare(uint64_t, 12)


class HintError(Exception):
    """A hint file that cannot be used, for `reason`; the segment itself says all it said."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _checksum(data: Bytes, size: uint64_t) -> uint32_t:
    return ~crc32c_extend(0xFFFFFFFF, data, size)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _padded(size: uint64_t) -> uint64_t:
    return (size + 7) & ~cython.cast(uint64_t, 7)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _write_entries(
    scan: cython.pointer(ScanState),
    order: cython.pointer(uint32_t),
    count: uint64_t,
    place: cython.pointer(uint8_t),
) -> cython.void:
    i: uint64_t
    record: cython.pointer(ScanRecord)
    entry: cython.pointer(HintEntry)
    for i in range(count):
        if i + AHEAD < count:
            prefetch(scan.records + order[i + AHEAD])
        record = scan.records + order[i]
        entry = cython.cast(cython.pointer(HintEntry), place)
        entry.lsn = record.lsn
        entry.slot = record.slot
        entry.value_size = record.value_size
        entry.key_size = record.key_size
        entry.kind = record.kind
        entry.pad = record.pad
        entry.reserved = 0
        place += HINT_ENTRY_SIZE
        # The padding first; the key then covers what is its own of the last word.
        cython.cast(cython.pointer(uint64_t), place + _padded(record.key_size) - 8)[0] = 0
        memcpy(place, scan.data + (cython.cast(uint64_t, record.slot) << 3) + HEADER_SIZE, record.key_size)
        place += _padded(record.key_size)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _build(scan: cython.pointer(ScanState), header: cython.pointer(HintHeader)) -> cython.pointer(uint8_t):
    """The whole run, with `header` completed; NULL when memory is short."""
    order: cython.pointer(uint32_t)
    count: int64_t
    i: int64_t
    size: uint64_t = HINT_HEADER_SIZE
    run: cython.pointer(uint8_t) = cython.NULL
    order = cython.cast(cython.pointer(uint32_t), malloc((scan.count + 1) * cython.sizeof(uint32_t)))
    if order == cython.NULL:
        return cython.NULL
    count = sort_newest(scan.data, scan.records, scan.count, order)
    if count >= 0:
        for i in range(count):
            size += HINT_ENTRY_SIZE + _padded(scan.records[order[i]].key_size)
        run = cython.cast(cython.pointer(uint8_t), malloc(size))
    if run != cython.NULL:
        _write_entries(scan, order, count, run + HINT_HEADER_SIZE)
        header.entries = count
        header.entries_bytes = size - HINT_HEADER_SIZE
        header.entries_checksum = _checksum(run + HINT_HEADER_SIZE, header.entries_bytes)
        header.checksum = _checksum(cython.cast(Bytes, header), HINT_HEADER_SIZE - 4)
        memcpy(run, header, HINT_HEADER_SIZE)
    free(order)
    return run


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _head(key: Bytes) -> uint64_t:
    """The first eight bytes of a padded key, as a number that sorts like them."""
    word: uint64_t
    memcpy(cython.address(word), key, 8)
    return byte_swap64(word)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_above(entry: EntryPointer, before: EntryPointer) -> cython.bint:
    head: uint64_t = _head(hint_key(entry))
    head_before: uint64_t = _head(hint_key(before))
    order: cython.int
    if head != head_before:
        return head > head_before
    order = memcmp(hint_key(entry), hint_key(before), min(entry.key_size, before.key_size))
    return order > 0 or (order == 0 and entry.key_size > before.key_size)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _entry_fault(entry: EntryPointer, room: uint64_t, header: cython.pointer(HintHeader)) -> cython.p_char:
    """What is wrong with an entry with `room` bytes up to the end; NULL when nothing is."""
    end: uint64_t
    last_word: uint64_t
    if room < HINT_ENTRY_SIZE:
        return b"an entry runs past the end"
    if entry.key_size == 0 or entry.key_size > KEY_SIZE_MAX or hint_entry_size(entry) > room:
        return b"impossible key size"
    memcpy(cython.address(last_word), hint_key(entry) + _padded(entry.key_size) - 8, 8)
    # The order of keys is told by whole words.
    if entry.key_size & 7 and last_word >> ((entry.key_size & 7) << 3) != 0:
        return b"a key is not padded with zeros"
    if entry.kind != KIND_TOMBSTONE and not is_value(entry.kind):
        return b"unknown record kind"
    if entry.value_size > (0 if entry.kind == KIND_TOMBSTONE else VALUE_SIZE_MAX):
        return b"impossible value size"
    if entry.pad >= (1 if entry.kind == KIND_TOMBSTONE else ALIGN_MAX):
        return b"impossible padding"
    end = (cython.cast(uint64_t, entry.slot) << 3) + padded_size(entry.key_size, entry.pad, entry.value_size)
    if cython.cast(uint64_t, entry.slot) << 3 < SEGMENT_HEADER_SIZE or end > header.sealed_bytes:
        return b"an entry points outside the segment"
    if entry.lsn < header.min_lsn or entry.lsn > header.max_lsn or entry.lsn == 0:
        return b"an entry's LSN lies outside those of the segment"
    return cython.NULL


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _entries_fault(data: Bytes, header: cython.pointer(HintHeader)) -> cython.p_char:
    at: uint64_t = 0
    values: uint64_t = 0
    count: uint64_t
    fault: cython.p_char
    entry: EntryPointer
    before: EntryPointer = cython.NULL
    if _checksum(data, header.entries_bytes) != header.entries_checksum:
        return b"checksum mismatch in the entries"
    for count in range(header.entries):
        entry = cython.cast(EntryPointer, data + at)
        fault = _entry_fault(entry, header.entries_bytes - at, header)
        if fault != cython.NULL:
            return fault
        if before != cython.NULL and not _is_above(entry, before):
            return b"keys are not in ascending order"
        values += is_value(entry.kind)
        before = entry
        at += hint_entry_size(entry)
    if at != header.entries_bytes:
        return b"bytes after the last entry"
    if values > header.value_records or header.entries - values > header.tombstones:
        return b"more entries than records"
    return cython.NULL


@cython.final
@cython.cclass
class HintRun:
    """The sorted run of one segment, built by `build_hint` or loaded by `load_hint`. Keeps its source alive."""

    def __dealloc__(self):
        free(self._owned)

    def begin(self):
        """Until `end()` the bytes stay where they are. Requires: GIL held."""
        if self._source is not None:
            return self._source.begin()
        return 0

    def end(self):
        if self._source is not None:
            return self._source.end()
        return 0

    @property
    def segment_id(self) -> int:
        return self.header.segment_id

    @property
    def epoch(self) -> int:
        return self.header.epoch

    @property
    def sealed_bytes(self) -> int:
        return self.header.sealed_bytes

    @property
    def entries(self) -> int:
        """Distinct keys."""
        return self.header.entries

    @property
    def value_records(self) -> int:
        """Of the segment in all."""
        return self.header.value_records

    @property
    def tombstones(self) -> int:
        """Of the segment in all."""
        return self.header.tombstones

    @property
    def tombstone_bytes(self) -> int:
        return self.header.tombstone_bytes

    @property
    def min_lsn(self) -> int:
        return self.header.min_lsn

    @property
    def max_lsn(self) -> int:
        return self.header.max_lsn

    @property
    def seen_lsn(self) -> int:
        """Highest of all records, withdrawn ones included."""
        return self.header.seen_lsn

    def chunks(self, chunk_bytes: int = CHUNK_BYTES):
        """The hint file's content, as consecutive bytes of at most `chunk_bytes`."""
        at: uint64_t = 0
        count: uint64_t
        limit: uint64_t = chunk_bytes
        chunk: bytes
        if limit == 0:
            raise ValueError("a chunk has at least one byte")
        while at < self.size:
            count = min(limit, self.size - at)
            self.begin()
            try:
                chunk = PyBytes_FromStringAndSize(cython.cast(cython.p_char, self.data + at), count)
            finally:
                self.end()
            at += count
            yield chunk

    def items(self):
        """(key, kind, lsn, offset, value size) of each entry, in key order; for verify, repair and tests."""
        at: uint64_t = HINT_HEADER_SIZE
        entry: EntryPointer
        key: bytes
        item: tuple
        while at < self.size:
            self.begin()
            try:
                entry = cython.cast(EntryPointer, self.data + at)
                key = PyBytes_FromStringAndSize(cython.cast(cython.p_char, hint_key(entry)), entry.key_size)
                item = (key, entry.kind, entry.lsn, cython.cast(uint64_t, entry.slot) << 3, entry.value_size)
                at += hint_entry_size(entry)
            finally:
                self.end()
            yield item


def build_hint(scan: SegmentScan) -> HintRun:
    """The run of a scanned segment, sealed at `scan.end`. ValueError when the scan found damage."""
    if scan.state.damage_count:
        raise ValueError("a damaged segment has no hint")
    run: HintRun = HintRun()
    header: cython.pointer(HintHeader) = cython.address(run.header)
    memset(header, 0, HINT_HEADER_SIZE)
    memcpy(header.magic, PyBytes_AS_STRING(MAGIC), 8)
    memcpy(header.store_id, PyBytes_AS_STRING(scan.store_id), 16)
    header.version = VERSION
    header.segment_id = scan.segment_id
    header.epoch = scan.epoch
    header.sealed_bytes = scan.state.end
    header.value_records = scan.state.value_records
    header.tombstones = scan.state.tombstones
    header.tombstone_bytes = scan.state.tombstone_bytes
    header.min_lsn = scan.state.min_lsn
    header.max_lsn = scan.state.max_lsn
    header.seen_lsn = scan.state.seen_lsn
    scan.source.begin()
    try:
        with cython.nogil:
            run._owned = _build(cython.address(scan.state), header)
    finally:
        scan.source.end()
    if run._owned == cython.NULL:
        raise MemoryError("no memory for the hint of a segment")
    run.data = run._owned
    run.size = HINT_HEADER_SIZE + header.entries_bytes
    return run


@cython.cfunc
def _check_header(
    header: cython.pointer(HintHeader), size: uint64_t, store_id: bytes, segment_id: uint64_t, epoch: uint64_t
) -> str:
    """What is wrong with the header of a file of `size` bytes, or None."""
    if memcmp(header.magic, PyBytes_AS_STRING(MAGIC), 8) != 0:
        return "not a hint file: it does not begin with the magic bytes"
    if _checksum(cython.cast(Bytes, header), HINT_HEADER_SIZE - 4) != header.checksum:
        return "checksum mismatch in the header"
    if header.version != VERSION:
        return f"format version {header.version}, this version reads {VERSION}"
    if memcmp(header.store_id, PyBytes_AS_STRING(store_id), 16) != 0:
        return "hint of another store"
    if header.segment_id != segment_id:
        return f"hint of segment {header.segment_id}, not {segment_id}"
    if header.epoch != epoch:
        return f"hint of epoch {header.epoch}, not {epoch}"
    if header.entries_bytes != size - HINT_HEADER_SIZE:
        return f"{size} bytes instead of {HINT_HEADER_SIZE + header.entries_bytes}"
    return None


def load_hint(source, *, store_id: bytes, segment_id: int, epoch: int, sealed_bytes: int) -> HintRun:
    """The run in a hint file (a Mapping, or bytes-like), checked whole without the GIL. HintError says why not."""
    if len(store_id) != 16:
        raise ValueError(f"a store id has 16 bytes, not {len(store_id)}")
    fault: cython.p_char
    reason: object
    run: HintRun = HintRun()
    run._source = Source(source)
    run.size = run._source.size
    if run.size < HINT_HEADER_SIZE:
        raise HintError(f"{run.size} bytes are too few for a hint file")
    run.begin()
    try:
        run.data = run._source.data
        memcpy(cython.address(run.header), run.data, HINT_HEADER_SIZE)
        reason = _check_header(cython.address(run.header), run.size, store_id, segment_id, epoch)
        if reason is None and run.header.sealed_bytes != sealed_bytes:
            reason = f"made for {run.header.sealed_bytes} bytes of a segment that has {sealed_bytes}"
        if reason is not None:
            raise HintError(reason)
        with cython.nogil:
            fault = _entries_fault(run.data + HINT_HEADER_SIZE, cython.address(run.header))
    finally:
        run.end()
    if fault != cython.NULL:
        raise HintError(cython.cast(bytes, fault).decode("ascii"))
    return run
