"""Values with what the store knows of them: LSN, expiry, meta; and writes that depend on the LSN a key has.

A value whose time is up reads as absent everywhere from that moment on, and is deleted some time later
(expiry.py). The LSN is compared in one step with the write, under the write lock.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_FromStringAndSize
from cython.cimports.flash_kv.engine.core_cy import LSN_ANY, Commit, is_past
from cython.cimports.flash_kv.engine.reads_cy import entry_of
from cython.cimports.flash_kv.engine.writes_cy import EXPIRED, NOTHING, Writes
from cython.cimports.flash_kv.intrinsics import load_relaxed64
from cython.cimports.flash_kv.log.format import (
    ATTRIBUTES_SIZE,
    ENTRY_ERROR,
    KIND_EXTENDED,
    RecordHeader,
    expires_ms,
    is_value,
)
from cython.cimports.flash_kv.log.table_cy import (
    Key,
    newest_position,
    plain_size,
    plain_value,
    record_value,
)
from cython.cimports.libc.stdint import uint8_t, uint64_t
from cython.cimports.libc.stdlib import free

from flash_kv.engine.record import Record, attributes_of, durability_of, expected_lsn

_new_tuple = cython.declare(object, tuple.__new__)


def record_of(header, value):
    expires_at = None
    meta: bytes = b""
    if header.kind == KIND_EXTENDED:
        if expires_ms(header) != 0:
            expires_at = expires_ms(header) / 1000.0
        meta = PyBytes_FromStringAndSize(
            cython.cast(cython.p_char, record_value(header)) + ATTRIBUTES_SIZE,
            header.value_size - plain_size(header) - ATTRIBUTES_SIZE,
        )
    # What a named tuple's own __new__ comes to, without its call.
    return _new_tuple(Record, (value, header.lsn, expires_at, meta))


@cython.cclass
class Records(Writes):
    """The part of a store that speaks of records."""

    @property
    def last_lsn(self) -> int:
        """The LSN of the newest write. Every write of a key and every delete has its own, and they rise."""
        return load_relaxed64(cython.address(self.writer.next_lsn)) - 1

    def get_record(self, key, *, view: cython.bint = False):
        """The value of `key` with its LSN, expiry and meta as a `Record`, or None.

        `view`: the value as a memoryview without a copy, as `view` gives it. Raises as `get`.
        """
        header: cython.pointer(cython.const[RecordHeader])
        parsed: Key
        entry: uint64_t
        value: object
        self.check_readable()
        if not self.log.is_mapped:
            found = self.copied_record(key)
            return found if found is None or not view else found._replace(value=memoryview(found.value))
        entry = entry_of(self, key, cython.address(parsed))
        if entry == 0:
            return None
        if entry == ENTRY_ERROR:
            raise self.read_failure(cython.address(parsed))
        value = self.open_view(newest_position(self.log, entry), not view, cython.address(header))
        if value is None or is_past(expires_ms(header), 0):
            return None
        record = record_of(header, value)
        # A copy leaves nothing that keeps the segment in memory.
        return record if view else record._replace(value=bytes(value))

    def copied_record(self, key):
        """As `get_record`, with io="file"."""
        header: cython.pointer(cython.const[RecordHeader])
        buffer: cython.pointer(uint8_t) = cython.NULL
        parsed: Key
        entry: uint64_t = entry_of(self, key, cython.address(parsed))
        if entry == 0:
            return None
        if entry == ENTRY_ERROR:
            raise self.read_failure(cython.address(parsed))
        header = self.load_copy(
            newest_position(self.log, entry), cython.address(buffer), cython.address(parsed)
        )
        try:
            if not is_value(header.kind) or is_past(expires_ms(header), 0):
                return None
            return record_of(
                header,
                PyBytes_FromStringAndSize(
                    cython.cast(cython.p_char, plain_value(header)), plain_size(header)
                ),
            )
        finally:
            free(buffer)

    def put_record(
        self, key, value, *, ttl_s=None, expires_at=None, meta=b"", if_lsn=None, durability=None
    ) -> int:
        """Store `value` under `key` with what is to be known of it; the LSN of the write.

        `ttl_s`: seconds from now after which it is gone; `expires_at`: the same as seconds since 1970. `meta`: up to
        4,096 bytes kept with the value. `if_lsn`: only if the key has this LSN now, 0: is absent, -1: is there; else
        ConflictError, and nothing has changed. `durability`: of this write alone. Raises as `put`, and ValueError.
        """
        # A plain value under no condition has nothing to be looked at.
        is_plain: cython.bint = ttl_s is None and expires_at is None and isinstance(meta, bytes) and not meta
        head: bytes = None if is_plain else attributes_of(ttl_s, expires_at, meta)
        expected: uint64_t = LSN_ANY if if_lsn is None else expected_lsn(if_lsn)
        lsn: uint64_t = self.put_one(
            key, value, head, expected, None if durability is None else durability_of(durability)
        )
        if head is not None:
            self._sweeper.note(self, head)
        return lsn

    def delete_record(self, key, *, if_lsn=None, durability=None):
        """Delete `key`; the LSN of the delete, None when it was absent. `if_lsn` and `durability`: see `put_record`."""
        commit: Commit
        expected: uint64_t = expected_lsn(if_lsn)
        value = self.take_one(key, NOTHING, expected, durability_of(durability), cython.address(commit))
        return None if value is NOTHING else commit.lsn

    def _remove_if_expired(self, key) -> bool:
        """Delete `key` if its time is up at this moment."""
        commit: Commit
        return self.take_one(key, EXPIRED, LSN_ANY, None, cython.address(commit)) is not NOTHING
