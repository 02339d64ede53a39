"""Reading: by key, many keys at once, without any lock.

A read looks the key up optimistically, checks the record's checksum and builds the value. It keeps the GIL,
so no segment is unmapped meanwhile; large values are checked and copied without it, under a pin.

A view copies nothing: it is a slice of the segment's memory, which stays mapped as long as any slice lives
(io/mapping_cy.py). Its record is checked too, a long one only when it is viewed for the first time since the open, so
that a view takes the same time whatever the value's size.
"""

from itertools import islice

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cython.cimports.cpython.memoryview import PyMemoryView_FromObject
from cython.cimports.cpython.sequence import PySequence_GetSlice
from cython.cimports.flash_kv.engine.arguments_cy import Borrowed, begin_key, borrow_key, release
from cython.cimports.flash_kv.engine.columns_cy import Column, KeyArray, key_column
from cython.cimports.flash_kv.engine.core_cy import DONE, FAILED_READ, Core, is_past
from cython.cimports.flash_kv.engine.reads_cy import entry_of
from cython.cimports.flash_kv.intrinsics import load_relaxed64, unlikely
from cython.cimports.flash_kv.io.mutex import lock_releasing_gil, pthread_mutex_unlock
from cython.cimports.flash_kv.log.format import (
    ENTRY_ERROR,
    KIND_EXTENDED,
    KIND_VALUE,
    RecordHeader,
    attributes_size,
    expires_ms,
    is_value,
    offset_of,
    record_size,
    segment_of,
    value_start,
)
from cython.cimports.flash_kv.log.table_cy import (
    VIEW_WINDOW,
    Key,
    SegmentRef,
    is_record_sound,
    is_viewed,
    load_record,
    mapped_record,
    mark_viewed,
    newest_position,
    pin,
    plain_size,
    plain_value,
    record_value,
    segment_ref,
    unpin,
)
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint8_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy

from flash_kv.errors import CorruptionError

LARGE_VALUE = cython.declare(uint64_t, 65536)
# Keys looked up at a time where only the answers have to be in memory together.
LOOKUP_PIECE = cython.declare(cython.Py_ssize_t, 1024)


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
        parsed: Key
        entry: uint64_t
        self.check_readable()
        entry = entry_of(self, key, cython.address(parsed))
        if entry == 0:
            return default
        return self.value_at(entry, cython.address(parsed), default, 0)

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
        return load_relaxed64(cython.address(self.key_count))

    def __bool__(self):
        return True

    def value_at(self, entry, key, default, moment_ms):
        """The value behind an index entry; `default` for a tombstone, and for what has expired then (0: now)."""
        header: cython.pointer(cython.const[RecordHeader])
        buffer: cython.pointer(uint8_t) = cython.NULL
        value: object
        position: uint64_t
        if unlikely(entry == ENTRY_ERROR):
            raise self.read_failure(key)
        position = newest_position(self.log, entry)
        if self.log.is_mapped:
            header = mapped_record(self.log, position)
            if header != cython.NULL and header.value_size >= LARGE_VALUE:
                return self.large_value_at(position, header, default, moment_ms)
            if unlikely(header == cython.NULL or not is_record_sound(self.log, position, header)):
                key.error = 0
                key.bad_position = position
                raise self.read_failure(key)
        else:
            header = self.load_copy(position, cython.address(buffer), key)
        value = default
        try:
            if header.kind == KIND_VALUE:
                value = PyBytes_FromStringAndSize(
                    cython.cast(cython.p_char, record_value(header)), header.value_size
                )
            elif header.kind == KIND_EXTENDED and not is_past(expires_ms(header), moment_ms):
                value = PyBytes_FromStringAndSize(
                    cython.cast(cython.p_char, plain_value(header)), plain_size(header)
                )
        finally:
            free(buffer)
        return value

    def load_copy(self, position, buffer, key):
        """The record at `position`, checked, in a buffer that the caller frees (io="file")."""
        header: cython.pointer(cython.const[RecordHeader])
        capacity: uint64_t = 0
        if segment_ref(self.log, segment_of(position)) == cython.NULL:
            key.error = 0
            key.bad_position = position
            raise self.read_failure(key)
        pin(self.log, position)
        with cython.nogil:
            header = load_record(self.log, position, buffer, cython.address(capacity), key)
        unpin(self.log, position)
        if header == cython.NULL:
            free(buffer[0])
            buffer[0] = cython.NULL
            raise self.read_failure(key)
        return header

    def large_value_at(self, position, header, default, moment_ms):
        """Check and copy without the GIL; the pin keeps the mapping."""
        # What the attributes say is not believed before the check, but no more is copied than the record has.
        skipped: uint64_t = min(attributes_size(header), cython.cast(uint64_t, header.value_size))
        size: uint64_t = header.value_size - skipped
        is_sound: cython.bint
        is_there: cython.bint = False
        value: object = PyBytes_FromStringAndSize(cython.NULL, size)
        target: cython.p_char = PyBytes_AS_STRING(value)
        key: Key
        pin(self.log, position)
        with cython.nogil:
            is_sound = is_value(header.kind) and is_record_sound(self.log, position, header)
            if is_sound:
                is_there = not is_past(expires_ms(header), moment_ms)
            if is_there:
                memcpy(target, record_value(header) + skipped, size)
        unpin(self.log, position)
        if not is_sound:
            key.error = 0
            key.bad_position = position
            raise self.read_failure(cython.address(key))
        return value if is_there else default

    def view(self, key, default=None, *, recheck: cython.bint = False):
        """The value of `key` as a read-only memoryview, or `default`: without a copy, where it lies in the log.

        It stays valid and unchanged as long as it lives, whatever becomes of the key and the store. A record is checked
        before its first view in this open, one under 512 bytes before each; `recheck`: in any case. With io="file" it
        looks at a copy. Raises as `get`.
        """
        parsed: Key
        entry: uint64_t
        self.check_readable()
        entry = entry_of(self, key, cython.address(parsed))
        if entry == 0:
            return default
        return self.view_at(entry, cython.address(parsed), default, recheck, 0)

    def view_at(self, entry, key, default, recheck, moment_ms):
        """As `value_at`, for a view."""
        header: cython.pointer(cython.const[RecordHeader])
        if unlikely(entry == ENTRY_ERROR):
            raise self.read_failure(key)
        if not self.log.is_mapped:
            value = self.value_at(entry, key, None, moment_ms)
            return default if value is None else PyMemoryView_FromObject(value)
        value = self.open_view(newest_position(self.log, entry), recheck, cython.address(header))
        if value is None or is_past(expires_ms(header), moment_ms):
            return default
        return value

    def open_view(self, position, recheck, header):
        """The value at `position`, checked, in its segment's memory; None for a tombstone. Requires: io="mmap".

        Whether it has expired is for the caller to say.

        What `header` is given is there as long as the value.
        """
        record: cython.pointer(cython.const[RecordHeader]) = mapped_record(self.log, position)
        ref: cython.pointer(SegmentRef)
        memory: object
        is_sound: cython.bint = record != cython.NULL
        start: uint64_t
        end: uint64_t
        has_value: cython.bint
        key: Key
        if is_sound:
            ref = segment_ref(self.log, segment_of(position))
            # From here on the pages stay, whatever Python code runs.
            memory = cython.cast(object, ref.memory)
            # Noted before the check, which may give up the GIL: a withdrawal would write over them.
            has_value = is_value(record.kind)
            start = offset_of(position) + value_start(record)
            end = start + record.value_size
            start += attributes_size(record)
            if record_size(record) < VIEW_WINDOW:
                is_sound = is_record_sound(self.log, position, record)
            elif recheck or not is_viewed(ref, offset_of(position)):
                is_sound = self.check_view(position, record)
        if unlikely(not is_sound):
            key.error = 0
            key.bad_position = position
            raise self.read_failure(cython.address(key))
        header[0] = record
        return PySequence_GetSlice(memory, start, end) if has_value else None

    def check_view(self, position, record):
        """Check a long record, and remember that; without the GIL when it is large."""
        is_sound: cython.bint
        if record.value_size < LARGE_VALUE:
            is_sound = is_record_sound(self.log, position, record)
        else:
            pin(self.log, position)
            with cython.nogil:
                is_sound = is_record_sound(self.log, position, record)
            unpin(self.log, position)
            self.check_readable()
        if is_sound:
            mark_viewed(segment_ref(self.log, segment_of(position)), offset_of(position))
        return is_sound

    def read_failure(self, key):
        """The exception for a record that could not be read."""
        position: uint64_t = key.bad_position
        # A store that was closed meanwhile is no damaged one.
        self.check_readable()
        path = self._segment_path(segment_of(position))
        if key.error == ENOMEM:
            return MemoryError(f"no memory to read a record at {path}, offset {offset_of(position)}")
        if key.error:
            return self._storage_error(key.error, path, offset_of(position))
        return CorruptionError(
            path,
            offset_of(position),
            "the checksum of a record does not hold",
        )

    def get_many(self, keys) -> list:
        """The values of `keys`, None for each that is absent; much faster than as many `get`s. Raises as `get`.

        `keys`: any iterable, or an array of keys of one width.
        """
        self.check_readable()
        column: Column = key_column(keys)
        array: KeyArray = KeyArray()
        i: cython.Py_ssize_t
        held: uint64_t = 0
        holds: cython.bint = False
        if column is not None:
            array.parse_column(column, 0, column.count, self.hash_key())
        else:
            array.parse(keys if type(keys) is list and self.log.is_mapped else tuple(keys), self.hash_key())
        try:
            # Made before the look: a new list may set off the collector of cycles, and with it any Python code.
            values: list = [None] * array.count
            if not self.log.is_mapped:
                self.hold(cython.address(held))
                holds = True
            self.index.find_many(array.keys, array.count, array.entries)
            if not self.settle_many(array.entries, array.count) and not holds:
                self.hold(cython.address(held))
                holds = True
                # Once more: before the hold began the GIL may have been given up, and what was found be gone.
                self.index.find_many(array.keys, array.count, array.entries)
                self.settle_many(array.entries, array.count)
            for i in range(array.count):
                if array.entries[i] != 0:
                    values[i] = self.value_at(array.entries[i], cython.address(array.keys[i]), None, 0)
            return values
        finally:
            if holds:
                self.let_go(held)

    def contains_many(self, keys) -> list:
        """For each of `keys` whether it is there; much faster than as many `in`s. Raises as `get`.

        `keys`: any iterable, or an array of keys of one width; taken in pieces of a thousand.
        """
        self.check_readable()
        column: Column = key_column(keys)
        array: KeyArray = KeyArray()
        answers: list = []
        start: cython.Py_ssize_t = 0
        if column is not None:
            while start < column.count:
                array.parse_column(column, start, min(LOOKUP_PIECE, column.count - start), self.hash_key())
                self.add_answers(array, answers)
                start += array.count
            return answers
        remaining = iter(keys)
        while piece := tuple(islice(remaining, LOOKUP_PIECE)):
            # What gives the keys may have closed the store.
            self.check_readable()
            array.parse(piece, self.hash_key())
            self.add_answers(array, answers)
        return answers

    def add_answers(self, array, answers):
        """Whether each key of the array is there."""
        i: cython.Py_ssize_t
        outcome: cython.int
        self.index.find_many(array.keys, array.count, array.entries)
        for i in range(array.count):
            outcome = self.look_at(cython.address(array.keys[i]), array.entries[i])
            if unlikely(outcome == FAILED_READ):
                raise self.read_failure(cython.address(array.keys[i]))
            answers.append(outcome == DONE)
        return 0

    def settle_many(self, entries, count):
        """Replace version chains by their newest positions; True when all can be read without giving up the GIL."""
        header: cython.pointer(cython.const[RecordHeader])
        i: cython.Py_ssize_t
        is_short: cython.bint = self.log.is_mapped
        for i in range(count):
            if entries[i] == 0 or entries[i] == ENTRY_ERROR:
                continue
            entries[i] = newest_position(self.log, entries[i])
            if self.log.is_mapped:
                header = mapped_record(self.log, entries[i])
                is_short = is_short and (header == cython.NULL or header.value_size < LARGE_VALUE)
        return is_short

    def hold(self, lsn):
        """Keep every segment there is from now on, as a snapshot does. What was found before may be gone after it."""
        failed: cython.int
        lock_releasing_gil(cython.address(self.mutex))
        lsn[0] = self.writer.next_lsn - 1
        failed = self.versions.open_snapshot(lsn[0])
        pthread_mutex_unlock(cython.address(self.mutex))
        if failed:
            raise MemoryError("no memory for one more snapshot")
        return 0

    def let_go(self, lsn):
        lock_releasing_gil(cython.address(self.mutex))
        self.versions.close_snapshot(lsn)
        pthread_mutex_unlock(cython.address(self.mutex))
