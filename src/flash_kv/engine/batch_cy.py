"""The body of a write batch, put together in memory as it will stand in the log.

A batch is one contiguous piece of one segment, so it is built as one piece: records back to back, complete but for what
only the place in the log decides (LSN, checksum). Committing copies it once.
"""

from collections.abc import Mapping

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.flash_kv.engine.arguments_cy import Borrowed, borrow_key, borrow_value, release
from cython.cimports.flash_kv.engine.columns_cy import Column, key_column, value_column
from cython.cimports.flash_kv.index.siphash import siphash13
from cython.cimports.flash_kv.intrinsics import unlikely
from cython.cimports.flash_kv.io.memory_cy import malloc, realloc
from cython.cimports.flash_kv.log.format import (
    HEADER_SIZE,
    KIND_EXTENDED,
    KIND_TOMBSTONE,
    KIND_VALUE,
    VALUE_SIZE_MAX,
    RecordHeader,
    padded_size,
    record_size,
)
from cython.cimports.flash_kv.log.table_cy import Key, plain_size, plain_value
from cython.cimports.flash_kv.log.writer_cy import Payload
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcmp, memcpy, memset

from flash_kv.engine.record import attributes_of, expected_lsn
from flash_kv.errors import BatchStateError, KeyOrderError, ValueSizeError
from flash_kv.log.records import decode_attributes

# Milliseconds since 1970 that no value expires at.
NEVER = cython.declare(object, 2**64)
CAPACITY_MIN = cython.declare(uint64_t, 4096)
LARGE_COPY = cython.declare(uint64_t, 65536)


@cython.final
@cython.cclass
class BatchBuffer:
    """Puts and deletes in the order they were made."""

    def __dealloc__(self):
        free(self.data)
        free(self.keys)
        free(self.offsets)
        free(self.entries)
        free(self.expected)

    def forget(self):
        """Make it empty, with its memory kept for the next batch."""
        self.size = 0
        self.count = 0
        self.puts = 0
        self.is_ascending = False
        self.last = 0
        self.conditions = None

    def require_idle(self):
        """BatchStateError while another thread is at this batch without the GIL."""
        if self.is_busy:
            raise BatchStateError("in use by another thread")
        return 0

    def reserve(self, size):
        """Room for `size` more bytes."""
        capacity: uint64_t = self.capacity
        grown: cython.pointer(uint8_t)
        if self.size + size <= capacity:
            return 0
        capacity = max(max(capacity * 2, CAPACITY_MIN), self.size + size)
        grown = cython.cast(cython.pointer(uint8_t), realloc(self.data, capacity))
        if grown == cython.NULL:
            raise MemoryError(
                f"no memory for a write batch of {self.size + size} bytes; commit in smaller batches"
            )
        self.data = grown
        self.capacity = capacity
        return 0

    def add(self, kind, key, key_size, payload):
        value_size: uint64_t = payload.head_size + payload.value_size
        size: uint64_t = padded_size(key_size, 0, value_size)
        place: cython.pointer(uint8_t)
        header: cython.pointer(RecordHeader)
        self.require_idle()
        self.reserve(size)
        place = self.data + self.size
        cython.cast(cython.pointer(uint64_t), place + size - 8)[0] = 0
        memset(place, 0, HEADER_SIZE)
        header = cython.cast(cython.pointer(RecordHeader), place)
        header.kind = kind
        header.key_size = key_size
        header.value_size = cython.cast(uint32_t, value_size)
        place += HEADER_SIZE
        memcpy(place, key, key_size)
        place += key_size
        if payload.head_size:
            memcpy(place, payload.head, payload.head_size)
            place += payload.head_size
        if payload.value_size >= LARGE_COPY:
            self.is_busy = True
            with cython.nogil:
                memcpy(place, payload.value, payload.value_size)
            self.is_busy = False
        elif payload.value_size:
            memcpy(place, payload.value, payload.value_size)
        self.size += size
        self.count += 1
        if kind != KIND_TOMBSTONE:
            self.puts += 1
        return 0

    def add_condition(self, key, expected):
        """The commit fails unless `key` has this LSN then."""
        borrowed: Borrowed
        grown: cython.pointer(uint64_t)
        count: uint64_t = 0 if self.conditions is None else len(self.conditions)
        self.require_idle()
        borrow_key(key, cython.address(borrowed))
        try:
            copy = PyBytes_FromStringAndSize(cython.cast(cython.p_char, borrowed.data), borrowed.size)
        finally:
            release(cython.address(borrowed))
        if count == self.expected_size:
            grown = cython.cast(cython.pointer(uint64_t), realloc(self.expected, (2 * count + 8) * 8))
            if grown == cython.NULL:
                raise MemoryError("no memory for one more condition of a write batch")
            self.expected = grown
            self.expected_size = 2 * count + 8
        if self.conditions is None:
            self.conditions = []
        self.conditions.append(copy)
        self.expected[count] = expected
        return 0

    def add_put(self, key, value, head):
        borrowed_key: Borrowed
        borrowed_value: Borrowed
        payload: Payload
        kind: cython.int = KIND_VALUE
        payload.head_size = 0
        if head is not None:
            kind = KIND_EXTENDED
            payload.head = cython.cast(cython.pointer(uint8_t), PyBytes_AS_STRING(head))
            payload.head_size = PyBytes_GET_SIZE(head)
        borrow_key(key, cython.address(borrowed_key))
        try:
            borrow_value(value, cython.address(borrowed_value))
            try:
                payload.value = borrowed_value.data
                payload.value_size = borrowed_value.size
                if unlikely(payload.head_size + payload.value_size > VALUE_SIZE_MAX):
                    raise ValueSizeError(payload.value_size, VALUE_SIZE_MAX - payload.head_size)
                self.add(
                    kind,
                    borrowed_key.data,
                    cython.cast(uint32_t, borrowed_key.size),
                    cython.address(payload),
                )
            finally:
                release(cython.address(borrowed_value))
        finally:
            release(cython.address(borrowed_key))
        return 0

    def add_delete(self, key):
        borrowed: Borrowed
        payload: Payload
        payload.head_size = 0
        payload.value_size = 0
        borrow_key(key, cython.address(borrowed))
        try:
            self.add(
                KIND_TOMBSTONE, borrowed.data, cython.cast(uint32_t, borrowed.size), cython.address(payload)
            )
        finally:
            release(cython.address(borrowed))
        return 0

    def add_column(self, keys, values):
        """A put for each pair of items, or a delete for each key when `values` is None."""
        i: cython.Py_ssize_t
        if values is not None:
            require_pairs(keys, values)
        for i in range(keys.count):
            self.add_item(keys, values, i)
        return 0

    def add_item(self, keys, values, number):
        key: Borrowed
        value: Borrowed
        payload: Payload
        payload.head_size = 0
        payload.value_size = 0
        keys.borrow_key(number, cython.address(key))
        if values is None:
            return self.add(
                KIND_TOMBSTONE, key.data, cython.cast(uint32_t, key.size), cython.address(payload)
            )
        values.borrow(number, cython.address(value))
        if unlikely(value.size > VALUE_SIZE_MAX):
            raise ValueSizeError(value.size, VALUE_SIZE_MAX)
        payload.value = value.data
        payload.value_size = value.size
        return self.add(KIND_VALUE, key.data, cython.cast(uint32_t, key.size), cython.address(payload))

    def add_piece(self, keys, values, number, size):
        """Puts from pair `number` on, in order, until there are `size` bytes; the number of the next pair."""
        while self.size < size and number < cython.cast(uint64_t, keys.count):
            self.add_item(keys, values, number)
            self.require_order(number)
            number += 1
        return number

    def require_order(self, number):
        """KeyOrderError unless the key of the put just added, number `number`, is at or above the one before it."""
        header: cython.pointer(RecordHeader)
        key: cython.pointer(uint8_t)
        before: cython.pointer(uint8_t)
        before_size: uint32_t
        order: cython.int
        place: uint64_t = 0
        if self.count > 1:
            place = self.last + record_size(cython.cast(cython.pointer(RecordHeader), self.data + self.last))
            header = cython.cast(cython.pointer(RecordHeader), self.data + self.last)
            before = self.data + self.last + HEADER_SIZE
            before_size = header.key_size
        elif self.last_key is not None:
            before = cython.cast(cython.pointer(uint8_t), PyBytes_AS_STRING(self.last_key))
            before_size = cython.cast(uint32_t, PyBytes_GET_SIZE(self.last_key))
        else:
            self.last = 0
            return 0
        header = cython.cast(cython.pointer(RecordHeader), self.data + place)
        key = self.data + place + HEADER_SIZE
        order = memcmp(before, key, min(before_size, header.key_size))
        if unlikely(order > 0 or (order == 0 and before_size > header.key_size)):
            raise KeyOrderError(
                number, PyBytes_FromStringAndSize(cython.cast(cython.p_char, key), header.key_size)
            )
        self.last = place
        return 0

    def keep_last(self):
        """Make it empty, but remember the last key."""
        header: cython.pointer(RecordHeader)
        if self.count != 0:
            header = cython.cast(cython.pointer(RecordHeader), self.data + self.last)
            self.last_key = PyBytes_FromStringAndSize(
                cython.cast(cython.p_char, self.data + self.last + HEADER_SIZE), header.key_size
            )
        self.forget()

    def add_puts(self, pairs, values):
        """A put for each pair; with `values` not None, `pairs` are the keys."""
        keys: Column
        column: Column
        if values is not None:
            keys, column = key_column(pairs), value_column(values)
            if keys is not None and column is not None:
                return self.add_column(keys, column)
            pairs = zip(pairs, values, strict=True)
        for key, value in pairs:
            self.add_put(key, value, None)
        return 0

    def add_deletes(self, keys):
        column: Column = key_column(keys)
        if column is not None:
            return self.add_column(column, None)
        for key in keys:
            self.add_delete(key)
        return 0

    def find_last(self, start: int, overlay: dict) -> int:
        """Enter the records from byte `start` on into `overlay`: key -> value, None for a delete. The new start."""
        offset: uint64_t = start
        header: cython.pointer(RecordHeader)
        body: cython.p_char
        self.require_idle()
        while offset < self.size:
            header = cython.cast(cython.pointer(RecordHeader), self.data + offset)
            body = cython.cast(cython.p_char, self.data + offset + HEADER_SIZE)
            key = PyBytes_FromStringAndSize(body, header.key_size)
            if header.kind == KIND_TOMBSTONE:
                overlay[key] = None
            else:
                overlay[key] = PyBytes_FromStringAndSize(
                    cython.cast(cython.p_char, plain_value(header)), plain_size(header)
                )
            offset += record_size(header)
        return offset

    def make_arrays(self, size):
        free(self.keys)
        free(self.offsets)
        free(self.entries)
        self.array_size = 0
        self.keys = cython.cast(cython.pointer(Key), malloc(size * cython.sizeof(Key)))
        self.offsets = cython.cast(cython.pointer(uint64_t), malloc(size * 8))
        self.entries = cython.cast(cython.pointer(uint64_t), malloc(size * 8))
        if self.keys == cython.NULL or self.offsets == cython.NULL or self.entries == cython.NULL:
            raise MemoryError(
                f"no memory to commit a write batch of {size - 1} records; commit in smaller batches"
            )
        self.array_size = size
        return 0

    def index_keys(self, hash_key):
        """Make the arrays a commit works on."""
        count: uint64_t = self.count
        i: uint64_t
        offset: uint64_t = 0
        header: cython.pointer(RecordHeader)
        if count >= self.array_size:
            self.make_arrays(count + 1)
        for i in range(count):
            header = cython.cast(cython.pointer(RecordHeader), self.data + offset)
            self.offsets[i] = offset
            self.keys[i].data = self.data + offset + HEADER_SIZE
            self.keys[i].size = header.key_size
            self.keys[i].error = 0
            self.keys[i].place = 0
            self.keys[i].bad_position = 0
            self.keys[i].hash = 0
            if hash_key != cython.NULL:
                self.keys[i].hash = cython.cast(
                    uint32_t, siphash13(hash_key, self.keys[i].data, header.key_size)
                )
            offset += record_size(header)
        self.offsets[count] = offset
        return 0


def _expires(attributes: bytes) -> int:
    """When a value with these expires, for finding the earliest."""
    return decode_attributes(attributes).expires_ms or NEVER


def require_pairs(keys, values):
    """As many keys as values?"""
    if keys.count != values.count:
        raise ValueError(f"{keys.count} keys and {values.count} values do not make pairs")
    return 0


@cython.cclass
class BatchWrites:
    """The compiled part of a `WriteBatch`: what is called for each record."""

    def __cinit__(self, *args, **kwargs):
        self.state = "not begun"

    def opened(self):
        """What has been gathered, for a caller who keeps it alive: another thread may end the batch meanwhile."""
        if unlikely(self.buffer is None):
            raise BatchStateError(self.state)
        return self.buffer

    def _begin(self, buffer: BatchBuffer) -> None:
        """Gather writes in this empty buffer."""
        self.buffer = buffer
        self.state = "open"

    def _open_buffer(self) -> BatchBuffer:
        """What has been gathered. BatchStateError when the batch has ended."""
        return self.opened()

    def _end(self, state: str) -> BatchBuffer:
        """The buffer, which is the caller's from now on; the batch is "committed" or "discarded".

        BatchStateError when another thread has ended it meanwhile.
        """
        buffer: BatchBuffer = self.buffer
        if buffer is None:
            raise BatchStateError(self.state)
        # Numbers, not an object: there may be no memory for one, and the batch is committed all the same.
        self.first_lsn, self.end_lsn = buffer.first_lsn, buffer.end_lsn
        self.buffer = None
        self.state = state
        return buffer

    @property
    def _state(self) -> str:
        return self.state

    def put(self, key, value) -> None:
        """Store `value` under `key` when the batch commits."""
        buffer: BatchBuffer = self.opened()
        buffer.add_put(key, value, None)

    def __setitem__(self, key, value):
        buffer: BatchBuffer = self.opened()
        buffer.add_put(key, value, None)

    def delete(self, key) -> None:
        """Delete `key`, if it is there, when the batch commits."""
        buffer: BatchBuffer = self.opened()
        buffer.add_delete(key)

    def __delitem__(self, key):
        buffer: BatchBuffer = self.opened()
        buffer.add_delete(key)

    def put_many(self, pairs, values=None) -> None:
        """Add a put for each pair, or for each item of a mapping; with `values`, `pairs` are the keys."""
        buffer: BatchBuffer = self.opened()
        if values is not None:
            keys: Column = key_column(pairs)
            column: Column = value_column(values)
            if keys is not None and column is not None:
                buffer.add_column(keys, column)
                return
            pairs = zip(pairs, values, strict=True)
        for key, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
            buffer = self.opened()
            buffer.add_put(key, value, None)

    def delete_many(self, keys) -> None:
        """Add a delete for each key."""
        buffer: BatchBuffer = self.opened()
        column: Column = key_column(keys)
        if column is not None:
            buffer.add_column(column, None)
            return
        for key in keys:
            buffer = self.opened()
            buffer.add_delete(key)

    def put_record(self, key, value, *, ttl_s=None, expires_at=None, meta=b"") -> None:
        """Store `value` with what `DB.put_record` says of it when the batch commits."""
        # Before the batch is looked at: it may run Python code of the caller's, which may end the batch.
        head: bytes = attributes_of(ttl_s, expires_at, meta)
        buffer: BatchBuffer = self.opened()
        buffer.add_put(key, value, head)
        if head is not None:
            self.attributes = head if self.attributes is None else min(self.attributes, head, key=_expires)

    def require(self, key, lsn) -> None:
        """Commit only if `key` has this LSN then: 0 it has to be absent, -1 it has to be there. Else ConflictError."""
        expected: uint64_t = expected_lsn(lsn)
        buffer: BatchBuffer = self.opened()
        buffer.add_condition(key, expected)

    def __len__(self):
        """The number of puts and deletes so far."""
        return 0 if self.buffer is None else self.buffer.count

    @property
    def _attributes(self) -> object:
        """Those of its values that expire first; None without any."""
        return self.attributes

    @property
    def _written(self) -> object:
        """The LSNs of what the batch has written."""
        return range(self.first_lsn, self.end_lsn)

    @property
    def size_bytes(self) -> int:
        """Bytes the batch will take in the log."""
        return 0 if self.buffer is None else self.buffer.size
