"""Reading a segment back: which records are sound, where it ends, what is damaged.

A scan believes nothing: each header field is checked before a byte it speaks of is touched, each checksum is computed, a
batch's records must fill its frame exactly. It runs without the GIL. What it finds is one array of `ScanRecord`, in
file order, from which hints are built, indexes loaded and stores repaired.

A place that does not hold a sound record means one of two things (docs/format.md):

- in a **sealed** segment, damage. The scan goes on at the next sound record and lists every damaged range; records of a
  damaged batch that are sound themselves are kept apart as orphans.
- in the **active** segment after a crash, the torn tail, unless a sound record further on states, by its sync distance,
  that an LSN behind the last sound one was durable: then what is torn is damage as well.

Invariants: no read at or beyond `state.size`; every kept record lies wholly below it; offsets are multiples of 8.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.flash_kv.log.checksum_cy import record_checksum, segment_seed
from cython.cimports.flash_kv.log.format import (
    FLAG_IN_BATCH,
    HEADER_SIZE,
    KEY_SIZE_MAX,
    KIND_BATCH,
    KIND_NONE,
    KIND_TOMBSTONE,
    KIND_VALUE,
    KIND_VOID,
    SEGMENT_HEADER_SIZE,
    VALUE_SIZE_MAX,
    RecordHeader,
    checksummed_size,
    record_size,
)
from cython.cimports.flash_kv.log.range_checksum_cy import range_checksum
from cython.cimports.flash_kv.log.scan_cy import (
    FAULT_BLANK,
    FAULT_BODY,
    FAULT_BOUNDS,
    FAULT_CHECKSUM,
    FAULT_COUNT,
    FAULT_FLAGS,
    FAULT_KEY_SIZE,
    FAULT_KIND,
    FAULT_LSN,
    FAULT_NONE,
    FAULT_ORDER,
    FAULT_PLACE,
    FAULT_SHORT,
    FAULT_TRUNCATED,
    FAULT_VALUE_SIZE,
    PLACE_BATCH,
    PLACE_ORPHAN,
    PLACE_TOP,
    Damage,
    Fault,
    ScanRecord,
    ScanState,
)
from cython.cimports.flash_kv.log.source_cy import Source
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free, realloc
from cython.cimports.libc.string import memcpy

from flash_kv.errors import CorruptionError
from flash_kv.log.records import DamagedRange, Record

Scan = cython.typedef(cython.pointer(ScanState))
Header = cython.typedef(cython.pointer(cython.const[RecordHeader]))

# Offsets are kept as 32 bits of offset / 8.
SEGMENT_SIZE_MAX = 2**35
# From this size on the search takes a checksum from prefixes; below, reading the bytes costs less.
LONG_RECORD = cython.declare(uint64_t, 16384)
RECORDS_MIN = cython.declare(uint64_t, 64)

_REASONS = {
    FAULT_BLANK: "zeros where a record should begin",
    FAULT_SHORT: "too few bytes for a record header",
    FAULT_KIND: "unknown record kind",
    FAULT_FLAGS: "unknown record flags",
    FAULT_PLACE: "a record of a batch outside its frame",
    FAULT_KEY_SIZE: "impossible key size",
    FAULT_VALUE_SIZE: "impossible value size",
    FAULT_COUNT: "impossible number of records in a batch",
    FAULT_LSN: "impossible LSN",
    FAULT_ORDER: "an LSN not above that of the record before",
    FAULT_BOUNDS: "a record that runs past the end of the segment",
    FAULT_CHECKSUM: "checksum mismatch",
    FAULT_BODY: "the records of a batch do not fill its frame",
    FAULT_TRUNCATED: "the file ends before the end of the segment",
}


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _header_at(scan: Scan, offset: uint64_t) -> Header:
    return cython.cast(Header, scan.data + offset)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _field_fault(header: Header, room: uint64_t, in_batch: cython.bint) -> Fault:
    """The first header field that cannot be, for a record with `room` bytes up to its limit."""
    if header.kind == KIND_NONE:
        return FAULT_BLANK
    if header.kind > (KIND_TOMBSTONE if in_batch else KIND_VOID):
        return FAULT_KIND
    if header.flags > FLAG_IN_BATCH:
        return FAULT_FLAGS
    if ((header.flags & FLAG_IN_BATCH) != 0) != in_batch:
        return FAULT_PLACE
    if header.kind <= KIND_TOMBSTONE:
        if header.key_size == 0 or header.key_size > KEY_SIZE_MAX:
            return FAULT_KEY_SIZE
        if header.value_size > (VALUE_SIZE_MAX if header.kind == KIND_VALUE else 0):
            return FAULT_VALUE_SIZE
    elif header.kind == KIND_BATCH:
        # The smallest record has 32 bytes, four of the frame's units.
        if header.key_size == 0 or header.key_size > header.value_size // 4:
            return FAULT_COUNT
    if header.kind != KIND_VOID and (header.lsn == 0 or header.lsn + header.key_size < header.lsn):
        return FAULT_LSN
    if record_size(header) > room:
        return FAULT_BOUNDS
    return FAULT_NONE


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _record_fault(
    scan: Scan, offset: uint64_t, limit: uint64_t, in_batch: cython.bint, is_search: cython.bint
) -> Fault:
    """Is there one sound record at `offset`, ending at `limit` at the latest?"""
    header: Header = _header_at(scan, offset)
    fault: Fault
    size: uint64_t
    checksum: uint32_t
    if limit - offset < HEADER_SIZE:
        return FAULT_SHORT
    fault = _field_fault(header, limit - offset, in_batch)
    if fault != FAULT_NONE:
        return fault
    size = checksummed_size(header)
    if not (
        is_search
        and size >= LONG_RECORD
        and range_checksum(
            cython.address(scan.prefixes), scan.seed, offset, size, cython.address(checksum)
        )
    ):
        checksum = record_checksum(
            scan.seed, offset, cython.cast(cython.pointer(cython.const[uint8_t]), header), size
        )
    return FAULT_NONE if checksum == header.checksum else FAULT_CHECKSUM


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _fault_at(scan: Scan, offset: uint64_t, is_search: cython.bint) -> Fault:
    """Is there a sound record at the top level at `offset`, with all of its batch if it is a frame?"""
    header: Header = _header_at(scan, offset)
    inner: Header
    at: uint64_t = offset + HEADER_SIZE
    end: uint64_t
    i: uint32_t
    fault: Fault = _record_fault(scan, offset, scan.size, False, is_search)
    if fault != FAULT_NONE:
        return fault
    if scan.is_ordered and header.kind != KIND_VOID and header.lsn <= scan.last_lsn:
        return FAULT_ORDER
    if header.kind != KIND_BATCH:
        return FAULT_NONE
    end = offset + record_size(header)
    for i in range(header.key_size):
        inner = _header_at(scan, at)
        if _record_fault(scan, at, end, True, is_search) != FAULT_NONE or inner.lsn != header.lsn + i:
            return FAULT_BODY
        at += record_size(inner)
    return FAULT_NONE if at == end else FAULT_BODY


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _stated_lsn(scan: Scan, header: Header) -> uint64_t:
    """The LSN up to which all was durable when the sound record `header` was written; 0 when it does not say."""
    stated: uint64_t = 0
    if header.sync_distance != 0 and header.lsn > header.sync_distance:
        stated = header.lsn - header.sync_distance
        scan.stated_lsn = max(scan.stated_lsn, stated)
    return stated


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _add_record(scan: Scan, offset: uint64_t, place: uint8_t) -> cython.void:
    """Keep the sound value or tombstone record at `offset`."""
    header: Header = _header_at(scan, offset)
    record: cython.pointer(ScanRecord)
    capacity: uint64_t
    if scan.count == scan.capacity:
        capacity = max(RECORDS_MIN, 2 * scan.capacity)
        record = cython.cast(
            cython.pointer(ScanRecord), realloc(scan.records, capacity * cython.sizeof(ScanRecord))
        )
        if record == cython.NULL:
            scan.is_out_of_memory = True
            return
        scan.records = record
        scan.capacity = capacity
    _stated_lsn(scan, header)
    record = scan.records + scan.count
    scan.count += 1
    record.lsn = header.lsn
    record.slot = cython.cast(uint32_t, offset >> 3)
    record.value_size = header.value_size
    record.key_size = header.key_size
    record.kind = header.kind
    record.place = place
    record.reserved = 0
    if place == PLACE_ORPHAN:
        scan.orphans += 1
        return
    if header.kind == KIND_VALUE:
        scan.value_records += 1
        scan.value_bytes += record_size(header)
    else:
        scan.tombstones += 1
        scan.tombstone_bytes += record_size(header)
    if scan.min_lsn == 0 or header.lsn < scan.min_lsn:
        scan.min_lsn = header.lsn
    scan.max_lsn = max(scan.max_lsn, header.lsn)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _accept(scan: Scan, offset: uint64_t) -> uint64_t:
    """Keep what stands at `offset`, known to be sound; where the next record begins."""
    header: Header = _header_at(scan, offset)
    end: uint64_t = offset + record_size(header)
    at: uint64_t = offset + HEADER_SIZE
    last: uint64_t = header.lsn
    if header.kind == KIND_VOID:
        scan.voids += 1
    elif header.kind == KIND_BATCH:
        scan.batches += 1
        _stated_lsn(scan, header)
        last += header.key_size - 1
        while at < end:
            _add_record(scan, at, PLACE_BATCH)
            at += record_size(_header_at(scan, at))
    else:
        _add_record(scan, offset, PLACE_TOP)
    if header.kind != KIND_VOID:
        scan.last_lsn = last
    if scan.first_lsn == 0:
        scan.first_lsn = header.lsn
    scan.seen_lsn = max(scan.seen_lsn, last)
    scan.end = end
    return end


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _may_be_header(scan: Scan, offset: uint64_t) -> cython.bint:
    """Known kind, known flags: all that most places of a search fail."""
    header: Header = _header_at(scan, offset)
    return header.kind != KIND_NONE and header.kind <= KIND_VOID and header.flags <= FLAG_IN_BATCH


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _data_end(scan: Scan, offset: uint64_t) -> uint64_t:
    """The end of the last byte from `offset` on that is not zero; `offset` when there is none."""
    word: uint64_t = 0
    end: uint64_t = scan.size
    while end - offset >= 8:
        memcpy(cython.address(word), scan.data + end - 8, 8)
        if word != 0:
            break
        end -= 8
    while end > offset and scan.data[end - 1] == 0:
        end -= 1
    return end


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _find_synced(scan: Scan, offset: uint64_t, end: uint64_t) -> uint64_t:
    """The first sound record, from `offset` on and before `end`, by which a record behind the last sound one was durable.

    A record of a damaged batch counts: what it states was true when it was written. 0 when there is none, or when it
    cannot be told, because nothing is known to stand before the torn place.
    """
    last: uint64_t = max(scan.previous_lsn, scan.seen_lsn)
    header: Header
    fault: Fault
    while offset < end and scan.size - offset >= HEADER_SIZE:
        if not _may_be_header(scan, offset):
            offset += 8
            continue
        header = _header_at(scan, offset)
        if header.flags & FLAG_IN_BATCH:
            fault = _record_fault(scan, offset, scan.size, True, True)
        else:
            fault = _fault_at(scan, offset, True)
        if fault != FAULT_NONE:
            offset += 8
            continue
        if scan.sound_after == 0 and not header.flags & FLAG_IN_BATCH:
            scan.sound_after = offset
        if _stated_lsn(scan, header) > last and last != 0:
            return offset
        offset += record_size(header)
    return 0


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _resynchronise(scan: Scan, offset: uint64_t) -> uint64_t:
    """The next sound record of the top level, or the end; sound records of damaged batches are kept as orphans."""
    header: Header
    while offset < scan.size and scan.size - offset >= HEADER_SIZE:
        if _may_be_header(scan, offset):
            header = _header_at(scan, offset)
            if header.flags & FLAG_IN_BATCH:
                if _record_fault(scan, offset, scan.size, True, True) == FAULT_NONE:
                    _add_record(scan, offset, PLACE_ORPHAN)
                    offset += record_size(header)
                    continue
            elif _fault_at(scan, offset, True) == FAULT_NONE:
                return offset
        offset += 8
    return scan.size


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _add_damage(scan: Scan, offset: uint64_t, size: uint64_t, fault: Fault) -> cython.void:
    grown: cython.pointer(Damage)
    capacity: uint64_t
    if scan.damage_count == scan.damage_capacity:
        capacity = max(RECORDS_MIN, 2 * scan.damage_capacity)
        grown = cython.cast(cython.pointer(Damage), realloc(scan.damages, capacity * cython.sizeof(Damage)))
        if grown == cython.NULL:
            scan.is_out_of_memory = True
            return
        scan.damages = grown
        scan.damage_capacity = capacity
    grown = scan.damages + scan.damage_count
    grown.offset = offset
    grown.size = size
    grown.fault = fault
    scan.damage_count += 1


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _scan(scan: Scan, is_sealed: cython.bint) -> cython.void:
    offset: uint64_t = SEGMENT_HEADER_SIZE
    synced: uint64_t = 0
    data_end: uint64_t
    begin: uint64_t
    fault: Fault
    scan.end = SEGMENT_HEADER_SIZE
    while offset < scan.size and not scan.is_out_of_memory:
        fault = _fault_at(scan, offset, False)
        if fault == FAULT_NONE:
            offset = _accept(scan, offset)
            continue
        if scan.prefixes.start == 0:
            scan.prefixes.start = offset
        if not is_sealed and synced <= offset:
            data_end = _data_end(scan, offset)
            scan.sound_after = 0
            synced = _find_synced(scan, offset, data_end)
            if synced == 0:
                scan.torn_bytes = data_end - offset
                scan.torn_fault = fault
                return
        begin = offset
        offset = _resynchronise(scan, begin)
        _add_damage(scan, begin, offset - begin, fault)


@cython.final
@cython.cclass
class SegmentScan:
    """What one segment holds; made by `scan_segment`. Keeps its source alive."""

    def __dealloc__(self):
        free(self.state.records)
        free(self.state.damages)
        free(self.state.prefixes.registers)

    def _run(self):
        seed: uint32_t = segment_seed(
            cython.cast(cython.pointer(cython.const[uint8_t]), PyBytes_AS_STRING(self.store_id)),
            self.segment_id,
            self.epoch,
        )
        self.source.begin()
        try:
            self.state.data = self.source.data
            self.state.prefixes.data = self.source.data
            self.state.seed = seed
            with cython.nogil:
                _scan(cython.address(self.state), self.is_sealed)
        finally:
            self.source.end()
        if self._missing != 0:
            _add_damage(cython.address(self.state), self.state.size, self._missing, FAULT_TRUNCATED)
        free(self.state.prefixes.registers)
        self.state.prefixes.registers = cython.NULL
        if self.state.is_out_of_memory:
            raise MemoryError("no memory for the records of a segment")
        return 0

    @property
    def end(self) -> int:
        """Where the last sound record ends: the size to seal an unsealed segment at."""
        return self.state.end

    @property
    def record_count(self) -> int:
        """Value and tombstone records, those of batches included, orphans not."""
        return self.state.value_records + self.state.tombstones

    @property
    def value_records(self) -> int:
        return self.state.value_records

    @property
    def value_bytes(self) -> int:
        """Bytes of value records, headers and padding included."""
        return self.state.value_bytes

    @property
    def tombstones(self) -> int:
        return self.state.tombstones

    @property
    def tombstone_bytes(self) -> int:
        return self.state.tombstone_bytes

    @property
    def batches(self) -> int:
        return self.state.batches

    @property
    def voids(self) -> int:
        return self.state.voids

    @property
    def orphans(self) -> int:
        """Sound records of damaged batches."""
        return self.state.orphans

    @property
    def first_lsn(self) -> int:
        """Of the first sound record in the file, withdrawn or not; 0 when there is none."""
        return self.state.first_lsn

    @property
    def min_lsn(self) -> int:
        """Lowest of value and tombstone records; 0 when there is none."""
        return self.state.min_lsn

    @property
    def max_lsn(self) -> int:
        """Highest of value and tombstone records; 0 when there is none."""
        return self.state.max_lsn

    @property
    def seen_lsn(self) -> int:
        """Highest of all sound records, withdrawn ones included: the next LSN must be above it."""
        return self.state.seen_lsn

    @property
    def stated_lsn(self) -> int:
        """Highest that a sound record, behind a torn place too, states to have been durable; 0 when none says so."""
        return self.state.stated_lsn

    @property
    def torn_bytes(self) -> int:
        """From `end` to the last byte that is not zero, in an unsealed segment whose tail was never durable."""
        return self.state.torn_bytes

    @property
    def sound_after(self) -> int | None:
        """Offset of the first sound record behind the torn place; None when nothing sound follows."""
        return self.state.sound_after or None

    @property
    def is_sound(self) -> bool:
        """No damage. A torn tail is none."""
        return self.state.damage_count == 0

    @property
    def bad_offset(self) -> int | None:
        """The first damaged place, else the torn one, else None."""
        if self.state.damage_count:
            return self.state.damages[0].offset
        return self.state.end if self.state.torn_bytes else None

    @property
    def reason(self) -> str | None:
        """Why no sound record stands at `bad_offset`."""
        if self.state.damage_count:
            return _REASONS[self.state.damages[0].fault]
        return _REASONS[self.state.torn_fault] if self.state.torn_bytes else None

    @property
    def damage(self) -> list[DamagedRange]:
        """Every damaged range, in file order."""
        i: uint64_t
        found: list = []
        for i in range(self.state.damage_count):
            found.append(
                DamagedRange(
                    self.state.damages[i].offset,
                    self.state.damages[i].size,
                    _REASONS[self.state.damages[i].fault],
                )
            )
        return found

    def require_sound(self, path) -> None:
        """CorruptionError with `path`, offset and reason of the first damaged range, if there is one."""
        if self.state.damage_count:
            raise CorruptionError(path, self.bad_offset, self.reason)

    def records(self, orphans: bool = False):
        """The value and tombstone records as `Record`, in file order; with `orphans` those of damaged batches too."""
        i: uint64_t
        found: ScanRecord
        offset: uint64_t
        key: bytes
        for i in range(self.state.count):
            found = self.state.records[i]
            if found.place == PLACE_ORPHAN and not orphans:
                continue
            offset = cython.cast(uint64_t, found.slot) << 3
            self.source.begin()
            try:
                key = PyBytes_FromStringAndSize(
                    cython.cast(cython.p_char, self.source.data + offset + HEADER_SIZE), found.key_size
                )
            finally:
                self.source.end()
            yield Record(
                offset, found.kind, found.lsn, key, offset + HEADER_SIZE + found.key_size, found.value_size
            )


def scan_segment(
    source,
    size: int,
    *,
    store_id: bytes,
    segment_id: int,
    epoch: int,
    is_sealed: bool,
    is_ordered: bool = False,
    previous_lsn: int = 0,
) -> SegmentScan:
    """Scan the first `size` bytes of `source` (a Mapping, or bytes-like) behind the segment header.

    `is_sealed`: the records must fill exactly `size` bytes. `is_ordered`: written by put and batch, so LSNs
    increase along the file. `previous_lsn`: the highest LSN of all the log before this segment, 0 when
    that is not known: when not even the first record of an unsealed segment is sound the scan then cannot tell a torn
    tail from damage, says torn tail, and leaves it to its caller to compare `stated_lsn` with what the log still
    has. Damage is returned, not raised: see `SegmentScan.require_sound`. The segment header is not
    looked at: see `records.check_segment_header`.
    """
    if len(store_id) != 16:
        raise ValueError(f"a store id has 16 bytes, not {len(store_id)}")
    if not 0 <= size <= SEGMENT_SIZE_MAX:
        raise ValueError(f"a segment has at most {SEGMENT_SIZE_MAX} bytes, not {size}")
    count: uint64_t = size
    least: uint64_t = SEGMENT_HEADER_SIZE
    scan: SegmentScan = SegmentScan()
    scan.source = Source(source)
    scan.store_id = store_id
    scan.segment_id = segment_id
    scan.epoch = epoch
    scan.is_sealed = is_sealed
    scan.state.is_ordered = is_ordered
    scan.state.previous_lsn = previous_lsn
    scan.state.size = min(count, scan.source.size)
    if is_sealed:
        # A file shorter than even the header is damaged too.
        scan._missing = max(count, least) - scan.state.size
    scan._run()
    return scan
