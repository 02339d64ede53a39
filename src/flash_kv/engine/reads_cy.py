"""Reading: by key, many keys at once, without any lock.

A read looks the key up optimistically, checks the record's checksum and builds the value. It keeps the GIL, so no segment
is unmapped meanwhile; large values are checked and copied without it, under a pin.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.flash_kv.engine.arguments_cy import Borrowed, begin_key, borrow_key, release
from cython.cimports.flash_kv.engine.core_cy import DONE, FAILED_READ, Core
from cython.cimports.flash_kv.intrinsics import add_atomic64, unlikely
from cython.cimports.flash_kv.log.format import ENTRY_ERROR, KIND_VALUE, RecordHeader, offset_of, segment_of
from cython.cimports.flash_kv.log.table_cy import (
    Key,
    SegmentRef,
    is_record_sound,
    load_record,
    mapped_record,
    newest_position,
    record_value,
    segment_ref,
)
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint8_t, uint64_t
from cython.cimports.libc.stdlib import calloc, free
from cython.cimports.libc.string import memcpy

from flash_kv.errors import CorruptionError

LARGE_VALUE = cython.declare(uint64_t, 65536)


@cython.cclass
class Reads(Core):
    """What needs no write lock."""

    def hash_key(self):
        return self.index.hash_key if self.index.needs_hash else cython.NULL

    def get(self, key, default=None):
        """The value of `key`, or `default`.

        Raises KeyTypeError, KeySizeError, ClosedError, ForkedError, CorruptionError (the record is damaged) and
        StorageError (it could not be read).
        """
        borrowed: Borrowed
        parsed: Key
        entry: uint64_t
        self.check_readable()
        borrow_key(key, cython.address(borrowed))
        begin_key(cython.address(parsed), cython.address(borrowed), self.hash_key())
        entry = self.index.find(cython.address(parsed))
        if borrowed.has_view:
            release(cython.address(borrowed))
        if entry == 0:
            return default
        return self.value_at(entry, cython.address(parsed), default)

    def __getitem__(self, key):
        value = self.get(key, None)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key):
        borrowed: Borrowed
        parsed: Key
        entry: uint64_t
        outcome: cython.int
        self.check_readable()
        borrow_key(key, cython.address(borrowed))
        begin_key(cython.address(parsed), cython.address(borrowed), self.hash_key())
        outcome = self.look(cython.address(parsed), cython.address(entry))
        release(cython.address(borrowed))
        if unlikely(outcome == FAILED_READ):
            raise self.read_failure(cython.address(parsed))
        return outcome == DONE

    def __len__(self):
        self.check_readable()
        return self.key_count

    def __bool__(self):
        return True

    def value_at(self, entry, key, default):
        """The value behind an index entry; `default` for a tombstone."""
        header: cython.pointer(cython.const[RecordHeader])
        buffer: cython.pointer(uint8_t) = cython.NULL
        capacity: uint64_t = 0
        value: object
        position: uint64_t
        if unlikely(entry == ENTRY_ERROR):
            raise self.read_failure(key)
        position = newest_position(self.log, entry)
        if self.log.is_mapped:
            header = mapped_record(self.log, position)
            if header != cython.NULL and header.value_size >= LARGE_VALUE:
                return self.large_value_at(position, header)
            if unlikely(header == cython.NULL or not is_record_sound(self.log, position, header)):
                key.error = 0
                key.bad_position = position
                raise self.read_failure(key)
        else:
            with cython.nogil:
                header = load_record(self.log, position, cython.address(buffer), cython.address(capacity), key)
            if header == cython.NULL:
                free(buffer)
                raise self.read_failure(key)
        if header.kind == KIND_VALUE:
            try:
                value = PyBytes_FromStringAndSize(
                    cython.cast(cython.p_char, record_value(header)), header.value_size
                )
            finally:
                free(buffer)
            return value
        free(buffer)
        return default

    def large_value_at(self, position, header):
        """Check and copy without the GIL; the pin keeps the mapping."""
        ref: cython.pointer(SegmentRef) = segment_ref(self.log, segment_of(position))
        size: uint64_t = header.value_size
        is_sound: cython.bint
        value: object = PyBytes_FromStringAndSize(cython.NULL, size)
        target: cython.p_char = PyBytes_AS_STRING(value)
        key: Key
        add_atomic64(cython.address(ref.pins), 1)
        with cython.nogil:
            is_sound = header.kind == KIND_VALUE and is_record_sound(self.log, position, header)
            if is_sound:
                memcpy(target, record_value(header), size)
            add_atomic64(cython.address(ref.pins), cython.cast(uint64_t, -1))
        if not is_sound:
            key.error = 0
            key.bad_position = position
            raise self.read_failure(cython.address(key))
        return value

    def read_failure(self, key):
        """The exception for a record that could not be read."""
        position: uint64_t = key.bad_position
        path = self._segment_path(segment_of(position))
        if key.error == ENOMEM:
            return MemoryError(f"no memory to read a record at {path}, offset {offset_of(position)}")
        if key.error:
            return self._storage_error(key.error, path, offset_of(position))
        return CorruptionError(
            path,
            offset_of(position),
            "the checksum of a record does not hold; run verify() for all damage, repair() to salvage the rest",
        )

    def get_many(self, keys) -> list:
        """The values of `keys`, None for each that is absent; much faster than as many `get`s."""
        i: cython.Py_ssize_t
        self.check_readable()
        owned = [key if type(key) is bytes or type(key) is str else bytes(memoryview(key)) for key in keys]
        count: cython.Py_ssize_t = len(owned)
        values: list = [None] * count
        if count == 0:
            return values
        parsed: cython.pointer(Key) = cython.cast(cython.pointer(Key), calloc(count, cython.sizeof(Key)))
        entries: cython.pointer(uint64_t) = cython.cast(cython.pointer(uint64_t), calloc(count, 8))
        borrowed: Borrowed
        hash_key: cython.pointer(cython.const[uint64_t]) = self.hash_key()
        try:
            if parsed == cython.NULL or entries == cython.NULL:
                raise MemoryError(f"no memory to look up {count} keys at once")
            for i in range(count):
                borrow_key(owned[i], cython.address(borrowed))
                begin_key(cython.address(parsed[i]), cython.address(borrowed), hash_key)
            self.index.find_many(parsed, count, entries)
            for i in range(count):
                if entries[i] != 0:
                    values[i] = self.value_at(entries[i], cython.address(parsed[i]), None)
        finally:
            free(parsed)
            free(entries)
        return values
