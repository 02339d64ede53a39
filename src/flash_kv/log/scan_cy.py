"""Reading a segment back: which records are sound, where it ends, what is damaged.

A `SegmentScan` is what recovery, hint building, `verify` and `repair` know of a segment. The loop that fills it, and
what it takes for sound, is in scan_loop_cy; it runs without the GIL.

Invariant: the source outlives the scan, which keeps offsets into it and no copy of anything.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.flash_kv.log.checksum_cy import segment_seed
from cython.cimports.flash_kv.log.format import HEADER_SIZE, KIND_TOMBSTONE, SEGMENT_HEADER_SIZE, padded_size
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
    FAULT_ORDER,
    FAULT_PLACE,
    FAULT_SHORT,
    FAULT_TRUNCATED,
    FAULT_VALUE_SIZE,
    PLACE_ORPHAN,
    ScanRecord,
    add_damage,
    scan_records,
)
from cython.cimports.flash_kv.log.source_cy import Source
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free

from flash_kv.errors import CorruptionError
from flash_kv.log.records import DamagedRange, Record

# Offsets are kept as 32 bits of offset / 8.
SEGMENT_SIZE_MAX = 2**35

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
    FAULT_ATTRIBUTES: "impossible attributes of a value",
    FAULT_BODY: "the records of a batch do not fill its frame",
    FAULT_TRUNCATED: "the file ends before the end of the segment",
}


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
                scan_records(cython.address(self.state), self.is_sealed)
        finally:
            self.source.end()
        if self._missing != 0:
            add_damage(cython.address(self.state), self.state.size, self._missing, FAULT_TRUNCATED)
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

    def leave_out(self, offset: int, size: int) -> None:
        """Forget the records in these bytes of the file, as if they were void."""
        first: uint64_t = offset
        end: uint64_t = first + size
        at: uint64_t
        i: uint64_t
        kept: uint64_t = 0
        for i in range(self.state.count):
            at = cython.cast(uint64_t, self.state.records[i].slot) << 3
            if first <= at < end:
                if self.state.records[i].kind == KIND_TOMBSTONE:
                    self.state.tombstones -= 1
                    self.state.tombstone_bytes -= padded_size(self.state.records[i].key_size, 0, 0)
                else:
                    self.state.value_records -= 1
                continue
            self.state.records[kept] = self.state.records[i]
            kept += 1
        self.state.count = kept

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
                offset,
                found.kind,
                found.lsn,
                key,
                offset + HEADER_SIZE + found.key_size + found.pad,
                found.value_size,
                found.is_aligned != 0,
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
    start: int = SEGMENT_HEADER_SIZE,
) -> SegmentScan:
    """Scan the first `size` bytes of `source` (a Mapping, or bytes-like) behind the segment header, or from `start`.

    `is_sealed`: the records must fill exactly `size` bytes. `is_ordered`: written by put and batch, so LSNs
    increase along the file. `previous_lsn`: the highest LSN of all the log before what is looked at, 0 when
    that is not known: when not even the first record of an unsealed segment is sound the scan then cannot tell a torn
    tail from damage, says torn tail, and leaves it to its caller to compare `stated_lsn` with what the log still
    has. Damage is returned, not raised: see `SegmentScan.require_sound`. The segment header is not
    looked at: see `records.check_segment_header`.
    """
    if len(store_id) != 16:
        raise ValueError(f"a store id has 16 bytes, not {len(store_id)}")
    if not 0 <= size <= SEGMENT_SIZE_MAX:
        raise ValueError(f"a segment has at most {SEGMENT_SIZE_MAX} bytes, not {size}")
    if not SEGMENT_HEADER_SIZE <= start <= max(size, SEGMENT_HEADER_SIZE):
        raise ValueError(f"a segment of {size} bytes cannot be scanned from {start} on")
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
    scan.state.start = start
    scan.state.size = min(count, scan.source.size)
    if is_sealed:
        # A file shorter than even the header is damaged too.
        scan._missing = max(count, least) - scan.state.size
    scan._run()
    return scan
