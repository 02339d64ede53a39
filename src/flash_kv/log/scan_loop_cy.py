"""The loop of a scan: from a segment's bytes to an array of sound records and a list of damaged ranges.

A scan believes nothing: each header field is checked before a byte it speaks of is touched, each checksum is
computed, a batch's records must fill its frame exactly. A place that holds no sound record means one of two things
(docs/format.md):

- in a **sealed** segment, damage. The scan goes on at the next sound record and lists every damaged range; records of
  a damaged batch that are sound themselves are kept apart as orphans.
- in the **active** segment after a crash, the torn tail, unless a sound record further on states, by its sync
  distance, that an LSN behind the last sound one was durable: then what is torn is damage as well.

Invariants: no read at or beyond `scan.size`; every kept record lies wholly below it; offsets are multiples of 8.
"""

import cython
from cython.cimports.flash_kv.io.memory_cy import realloc
from cython.cimports.flash_kv.log.checksum_cy import record_checksum
from cython.cimports.flash_kv.log.format import (
    FLAG_ALIGNED,
    FLAG_IN_BATCH,
    HEADER_SIZE,
    KEY_SIZE_MAX,
    KIND_BATCH,
    KIND_NONE,
    KIND_TOMBSTONE,
    KIND_VOID,
    PAD_SHIFT,
    VALUE_SIZE_MAX,
    RecordHeader,
    checksummed_size,
    has_sound_attributes,
    is_known_kind,
    is_value,
    record_size,
)
from cython.cimports.flash_kv.log.range_checksum_cy import range_checksum
from cython.cimports.flash_kv.log.scan_loop_cy import (
    FAULT_ATTRIBUTES,
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
    FAULT_VALUE_SIZE,
    PLACE_BATCH,
    PLACE_ORPHAN,
    PLACE_TOP,
    Damage,
    Fault,
    ScanRecord,
    ScanState,
)
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcpy

Scan = cython.typedef(cython.pointer(ScanState))
Header = cython.typedef(cython.pointer(cython.const[RecordHeader]))

# From this size on the search takes a checksum from prefixes; below, reading the bytes costs less.
LONG_RECORD = cython.declare(uint64_t, 16384)
RECORDS_MIN = cython.declare(uint64_t, 64)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _header_at(scan: Scan, offset: uint64_t) -> Header:
    return cython.cast(Header, scan.data + offset)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _may_have_flags(header: Header) -> cython.bint:
    """Nothing but FLAG_IN_BATCH, or, of a value, FLAG_ALIGNED and its zeros."""
    return header.flags <= FLAG_IN_BATCH or (is_value(header.kind) and header.flags & FLAG_ALIGNED != 0)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _field_fault(header: Header, room: uint64_t, in_batch: cython.bint) -> Fault:
    """The first header field that cannot be, for a record with `room` bytes up to its limit."""
    is_entry: cython.bint = header.kind == KIND_TOMBSTONE or is_value(header.kind)
    if header.kind == KIND_NONE:
        return FAULT_BLANK
    if not is_known_kind(header.kind) or (in_batch and not is_entry):
        return FAULT_KIND
    if not _may_have_flags(header):
        return FAULT_FLAGS
    if ((header.flags & FLAG_IN_BATCH) != 0) != in_batch:
        return FAULT_PLACE
    if is_entry:
        if header.key_size == 0 or header.key_size > KEY_SIZE_MAX:
            return FAULT_KEY_SIZE
        if header.value_size > (0 if header.kind == KIND_TOMBSTONE else VALUE_SIZE_MAX):
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
        and range_checksum(cython.address(scan.prefixes), scan.seed, offset, size, cython.address(checksum))
    ):
        checksum = record_checksum(
            scan.seed, offset, cython.cast(cython.pointer(cython.const[uint8_t]), header), size
        )
    if checksum != header.checksum:
        return FAULT_CHECKSUM
    return FAULT_NONE if has_sound_attributes(header) else FAULT_ATTRIBUTES


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
    record.pad = header.flags >> PAD_SHIFT
    record.is_aligned = header.flags & FLAG_ALIGNED != 0
    if place == PLACE_ORPHAN:
        scan.orphans += 1
        return
    if is_value(header.kind):
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
    return is_known_kind(header.kind) and _may_have_flags(header)


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
    """The first sound record from `offset` on that states an LSN behind the last sound one to have been durable.

    It begins before `end`. A record of a damaged batch counts: what it states was true when it was written. 0 when
    there is none, or when it cannot be told, because nothing is known to stand before the torn place.
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


def add_damage(scan, offset, size, fault):
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


def scan_records(scan, is_sealed):
    offset: uint64_t = scan.start
    synced: uint64_t = 0
    data_end: uint64_t
    begin: uint64_t
    fault: Fault
    scan.end = scan.start
    while offset < scan.size and not scan.is_out_of_memory:
        fault = _fault_at(scan, offset, False)
        if fault == FAULT_NONE:
            offset = _accept(scan, offset)
            continue
        if scan.prefixes.start == 0:
            scan.prefixes.start = offset
        # Up to a record known to prove a loss no place is a torn tail.
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
        add_damage(scan, begin, offset - begin, fault)
