"""Writing: single records, read-and-write in one step, batches.

Each call borrows its arguments, enters the critical section of `Core`, and when the log has no room leaves
it, makes room and tries again. Whatever is raised, the store is unchanged.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cython.cimports.cpython.ref import Py_REFCNT
from cython.cimports.flash_kv.engine.arguments_cy import (
    Borrowed,
    begin_key,
    borrow_key,
    borrow_value,
    release,
)
from cython.cimports.flash_kv.engine.batch_cy import BatchBuffer, require_pairs
from cython.cimports.flash_kv.engine.columns_cy import Column, KeyArray, key_column, value_column
from cython.cimports.flash_kv.engine.core_cy import (
    ABSENT,
    CONFLICT,
    DONE,
    FAILED_READ,
    FAILED_WRITE,
    LSN_ANY,
    LSN_SOME,
    NEEDS_ROOM,
    Commit,
)
from cython.cimports.flash_kv.engine.reads_cy import Reads
from cython.cimports.flash_kv.intrinsics import unlikely
from cython.cimports.flash_kv.io.mutex import lock_releasing_gil, pthread_mutex_unlock
from cython.cimports.flash_kv.log.format import (
    HEADER_SIZE,
    KIND_EXTENDED,
    KIND_TOMBSTONE,
    KIND_VALUE,
    VALUE_SIZE_MAX,
    padded_size,
)
from cython.cimports.flash_kv.log.table_cy import Key
from cython.cimports.flash_kv.log.writer_cy import Payload
from cython.cimports.libc.stdint import uint8_t, uint64_t

from flash_kv.errors import ConflictError, ValueSizeError

LARGE_VALUE = cython.declare(uint64_t, 65536)
NOGIL_BATCH = cython.declare(uint64_t, 64)

# A buffer up to this size is kept for the next batch.
KEPT_BYTES = cython.declare(uint64_t, 1 << 20)
KEPT_RECORDS = cython.declare(uint64_t, 1 << 14)

# What a sorted load commits at a time: it stays in the cache from one step to the next.
PIECE_BYTES = cython.declare(uint64_t, 1 << 17)

# How often one call has the index on disk make room, which a second time it should not need.
INDEX_ROOMS_MAX = cython.declare(cython.int, 2)

BATCH_RECORDS_MAX = cython.declare(uint64_t, 0xFFFFFFFF)

NOTHING = object()
EXPIRED = object()


@cython.cclass
class Writes(Reads):
    """What takes the write lock."""

    def raise_failure(self, outcome, key):
        """Requires: write lock released."""
        if self.writer.is_spoiled:
            self._spoil()
        if outcome == FAILED_READ:
            raise self.read_failure(key)
        if outcome == FAILED_WRITE:
            raise self._storage_error(
                self.write_errno, self._segment_path(self.writer.segment_id), self.writer.tail
            )
        raise MemoryError("no memory for the index of one more key; the store is unchanged")

    def raise_conflict(self, key, expected, found):
        wanted: object = expected
        if expected == LSN_SOME:
            wanted = -1
        raise ConflictError(key, wanted, found)

    def finish(self, commit, durability):
        """What durability asks for after a commit; returns when the promise holds. None: that of the store."""
        if self.waits_for_sync or durability is not None:
            self._after_commit(commit.segment_id, commit.offset, commit.size, commit.lsn, durability)
        return 0

    def enter(self):
        """Take the write lock of a store that accepts writes."""
        while True:
            self.check_writable()
            lock_releasing_gil(cython.address(self.mutex))
            if self.state == 0:
                return 0
            pthread_mutex_unlock(cython.address(self.mutex))

    def write_locked(self, key, kind, payload, commit):
        """One record, without the GIL when it is long or goes through system calls."""
        outcome: cython.int
        if payload.value_size >= LARGE_VALUE or not self.writer.is_mapped:
            with cython.nogil:
                outcome = self.write_one(key, kind, payload, commit)
            return outcome
        return self.write_one(key, kind, payload, commit)

    def put_one(self, key, value, head, expected, durability):
        """The LSN of the record."""
        borrowed_key: Borrowed
        borrowed_value: Borrowed
        parsed: Key
        payload: Payload
        commit: Commit
        kind: cython.int = KIND_VALUE
        outcome: cython.int
        payload.head_size = 0
        if head is not None:
            kind = KIND_EXTENDED
            payload.head = cython.cast(cython.pointer(uint8_t), PyBytes_AS_STRING(head))
            payload.head_size = PyBytes_GET_SIZE(head)
        borrow_key(key, cython.address(borrowed_key))
        try:
            borrow_value(value, cython.address(borrowed_value))
            try:
                begin_key(cython.address(parsed), cython.address(borrowed_key), self.hash_key())
                payload.value = borrowed_value.data
                payload.value_size = borrowed_value.size
                if unlikely(payload.head_size + payload.value_size > VALUE_SIZE_MAX):
                    raise ValueSizeError(payload.value_size, VALUE_SIZE_MAX - payload.head_size)
                while True:
                    self.enter()
                    outcome = DONE
                    if unlikely(expected != LSN_ANY):
                        outcome = self.check_condition(
                            cython.address(parsed), expected, cython.address(commit.conflict_lsn)
                        )
                    if outcome == DONE:
                        outcome = self.write_locked(
                            cython.address(parsed), kind, cython.address(payload), cython.address(commit)
                        )
                    pthread_mutex_unlock(cython.address(self.mutex))
                    if outcome == DONE:
                        break
                    if outcome == CONFLICT:
                        self.raise_conflict(key, expected, commit.conflict_lsn)
                    if outcome != NEEDS_ROOM:
                        self.raise_failure(outcome, cython.address(parsed))
                    self._make_room(
                        padded_size(
                            parsed.size, self.writer.align - 1, payload.head_size + payload.value_size
                        ),
                        False,
                    )
            finally:
                release(cython.address(borrowed_value))
        finally:
            release(cython.address(borrowed_key))
        self.finish(cython.address(commit), durability)
        return commit.lsn

    def put(self, key, value) -> None:
        """Store `value` under `key`. Back when it is as durable as the store's `durability` says.

        Raises KeyTypeError, KeySizeError, ValueTypeError, ValueSizeError, StoreFullError, StorageError,
        PoisonedError, ReadOnlyError, ClosedError, ForkedError; whatever is raised, the store is unchanged.
        """
        self.put_one(key, value, None, LSN_ANY, None)

    def __setitem__(self, key, value):
        self.put_one(key, value, None, LSN_ANY, None)

    def delete_one(self, key):
        """1 when there was such a key, 0 when there was not."""
        commit: Commit
        return self.take_one(key, NOTHING, LSN_ANY, None, cython.address(commit)) is not NOTHING

    def take_one(self, key, wanted, expected, durability, commit):
        """Delete a key in one step with reading it; its value, None when `wanted` is NOTHING or EXPIRED.

        NOTHING when it is absent, and with EXPIRED unless its time is up.
        """
        borrowed: Borrowed
        parsed: Key
        payload: Payload
        entry: uint64_t
        outcome: cython.int
        index_rooms: cython.int = 0
        value: object = wanted
        payload.head_size = 0
        payload.value_size = 0
        borrow_key(key, cython.address(borrowed))
        try:
            begin_key(cython.address(parsed), cython.address(borrowed), self.hash_key())
            while True:
                self.enter()
                try:
                    outcome = self.look(cython.address(parsed), cython.address(entry))
                    if wanted is EXPIRED:
                        if outcome != FAILED_READ:
                            outcome = DONE if self.has_expired(entry) else ABSENT
                    elif expected != LSN_ANY and outcome != FAILED_READ:
                        outcome = self.check_condition(
                            cython.address(parsed), expected, cython.address(commit.conflict_lsn)
                        )
                        if outcome == DONE and commit.conflict_lsn == 0:
                            outcome = ABSENT
                    if outcome == DONE and wanted is not NOTHING and wanted is not EXPIRED:
                        value = self.value_at(entry, cython.address(parsed), NOTHING, 0)
                    elif outcome == DONE:
                        value = None
                    if outcome == DONE:
                        outcome = self.write_locked(
                            cython.address(parsed), KIND_TOMBSTONE, cython.address(payload), commit
                        )
                finally:
                    pthread_mutex_unlock(cython.address(self.mutex))
                if outcome == CONFLICT:
                    self.raise_conflict(key, expected, commit.conflict_lsn)
                if outcome == ABSENT:
                    return NOTHING
                if outcome == DONE:
                    break
                if outcome == FAILED_READ and index_rooms < INDEX_ROOMS_MAX and parsed.error != 0:
                    index_rooms += 1
                    if self._index_keeper.make_room(parsed.error, index_rooms):
                        continue
                if outcome != NEEDS_ROOM:
                    self.raise_failure(outcome, cython.address(parsed))
                self._make_room(padded_size(parsed.size, 0, 0), True)
        finally:
            release(cython.address(borrowed))
        self.finish(commit, durability)
        return value

    def delete(self, key) -> bool:
        """Delete `key`: True when it was there. Raises as `put`."""
        return self.delete_one(key) != 0

    def __delitem__(self, key):
        if not self.delete_one(key):
            raise KeyError(key)

    def pop(self, key, *default):
        """Delete `key` and return its value, in one step; `default`, or KeyError, when it is absent."""
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        commit: Commit
        value = self.take_one(key, None, LSN_ANY, None, cython.address(commit))
        if value is not NOTHING:
            return value
        if default:
            return default[0]
        raise KeyError(key)

    def setdefault(self, key, default=b""):
        """The value of `key`; when it is absent, `default` after storing it, in one step."""
        borrowed_key: Borrowed
        borrowed_value: Borrowed
        parsed: Key
        payload: Payload
        commit: Commit
        entry: uint64_t
        outcome: cython.int
        value: object = None
        borrow_key(key, cython.address(borrowed_key))
        try:
            borrow_value(default, cython.address(borrowed_value))
            try:
                begin_key(cython.address(parsed), cython.address(borrowed_key), self.hash_key())
                payload.head_size = 0
                payload.value = borrowed_value.data
                payload.value_size = borrowed_value.size
                while True:
                    self.enter()
                    try:
                        outcome = self.look(cython.address(parsed), cython.address(entry))
                        if outcome == DONE:
                            return self.value_at(entry, cython.address(parsed), None, 0)
                        if outcome == ABSENT:
                            outcome = self.write_locked(
                                cython.address(parsed),
                                KIND_VALUE,
                                cython.address(payload),
                                cython.address(commit),
                            )
                    finally:
                        pthread_mutex_unlock(cython.address(self.mutex))
                    if outcome == DONE:
                        break
                    if outcome != NEEDS_ROOM:
                        self.raise_failure(outcome, cython.address(parsed))
                    self._make_room(
                        padded_size(parsed.size, self.writer.align - 1, borrowed_value.size), False
                    )
                value = PyBytes_FromStringAndSize(
                    cython.cast(cython.p_char, borrowed_value.data), borrowed_value.size
                )
            finally:
                release(cython.address(borrowed_value))
        finally:
            release(cython.address(borrowed_key))
        self.finish(cython.address(commit), None)
        return value

    def commit_batch(self, batch, commit):
        batch.require_idle()
        batch.is_busy = True
        try:
            return self.commit_busy(batch, commit)
        finally:
            batch.is_busy = False

    def commit_busy(self, batch, commit):
        outcome: cython.int
        conditions: KeyArray = None
        index_rooms: cython.int = 0
        batch.index_keys(self.hash_key())
        if batch.conditions is not None:
            conditions = KeyArray()
            conditions.parse(tuple(batch.conditions), self.hash_key())
        commit.size = 0
        while True:
            self.enter()
            outcome = DONE
            if unlikely(conditions is not None):
                outcome = self.check_conditions(conditions, batch, commit)
            if outcome != DONE:
                pass
            elif batch.count == 0:
                outcome = ABSENT
            elif batch.count >= NOGIL_BATCH or batch.size >= LARGE_VALUE or not self.writer.is_mapped:
                with cython.nogil:
                    outcome = self.write_batch(batch, commit)
            else:
                outcome = self.write_batch(batch, commit)
            pthread_mutex_unlock(cython.address(self.mutex))
            if outcome == DONE or outcome == ABSENT:
                return outcome
            if outcome == CONFLICT:
                self.raise_conflict(
                    batch.conditions[commit.conflict], batch.expected[commit.conflict], commit.conflict_lsn
                )
            if (
                outcome == FAILED_READ
                and commit.size == 0
                and batch.puts == 0
                and index_rooms < INDEX_ROOMS_MAX
            ):
                index_rooms += 1
                if self._index_keeper.make_room(batch.keys[0].error, index_rooms):
                    # The keys were moved about: by what failed, and by the leaving out of those that are absent.
                    batch.index_keys(self.hash_key())
                    continue
            if outcome != NEEDS_ROOM:
                if self.writer.is_spoiled and commit.size != 0:
                    # It is in the log, and in the index in part.
                    self._unwind(commit.segment_id, commit.offset, commit.size, commit.lsn)
                self.raise_failure(outcome, cython.address(batch.keys[0]))
            self._make_room(HEADER_SIZE + self.batch_room(batch), batch.puts == 0)

    def check_conditions(self, conditions, batch, commit):
        """DONE, or CONFLICT or FAILED_READ at the first key whose LSN is not the one it has to be."""
        i: cython.Py_ssize_t
        outcome: cython.int
        for i in range(conditions.count):
            outcome = self.check_condition(
                cython.address(conditions.keys[i]), batch.expected[i], cython.address(commit.conflict_lsn)
            )
            if outcome != DONE:
                commit.conflict = i
                if outcome == FAILED_READ:
                    # Where the caller looks for what went wrong; there is room for one in any case.
                    batch.keys[0] = conditions.keys[i]
                return outcome
        return DONE

    def _commit_waiting(self, batch: BatchBuffer, durability: object) -> int:
        """Commit a batch, all or nothing; how many of its keys existed before.

        `durability` None: as the store's; else a Durability for this batch alone.
        """
        commit: Commit
        if batch.count == 0 and batch.conditions is None:
            self.check_writable()
            return 0
        if batch.count > BATCH_RECORDS_MAX:
            raise ValueError(f"a write batch holds at most {BATCH_RECORDS_MAX} records, not {batch.count}")
        batch.first_lsn = batch.end_lsn = 0
        if self.commit_batch(batch, cython.address(commit)) == ABSENT:
            return 0
        found: uint64_t = commit.found
        batch.first_lsn = commit.lsn + 1 - commit.count
        batch.end_lsn = commit.lsn + 1
        self.finish(cython.address(commit), durability)
        return found

    def _take_buffer(self) -> BatchBuffer:
        """An empty buffer: the last batch's, whose memory is there already, or a new one."""
        buffer: BatchBuffer = self.spare_buffer
        self.spare_buffer = None
        return BatchBuffer() if buffer is None else buffer

    def _give_back(self, buffer: BatchBuffer) -> None:
        """A batch has ended; one that failed need not be given back. What another thread is still at is not kept."""
        is_mine: cython.bint = Py_REFCNT(buffer) == 1 and not buffer.is_busy
        if is_mine and buffer.capacity <= KEPT_BYTES and buffer.array_size <= KEPT_RECORDS:
            buffer.forget()
            buffer.last_key = None
            self.spare_buffer = buffer

    def put_many(self, pairs, values=None, *, sorted: cython.bint = False) -> None:
        """Store all `(key, value)` pairs, or the items of a mapping, as one batch: all of them or none.

        With `values`, `pairs` are the keys: two iterables of the same length, or arrays of items of one width. All are
        gathered in memory first; when an iterable raises, nothing is written. Raises as `put`.

        `sorted`: they come in ascending order of keys, any number of them: written in pieces of about 128 KiB, each
        a batch, by way of the end of the index where they lie behind its last key. KeyOrderError at the first key that
        is below the one before it. Whatever is raised, the pieces before are stored.
        """
        batch: BatchBuffer
        self.check_writable()
        if values is None and type(pairs) is dict:
            pairs = pairs.items()
        elif values is None and hasattr(pairs, "keys"):
            pairs = [(key, pairs[key]) for key in pairs.keys()]
        batch = self._take_buffer()
        if sorted:
            self.put_sorted(batch, pairs, values)
        else:
            batch.add_puts(pairs, values)
            self._commit_waiting(batch, None)
        self._give_back(batch)

    def put_sorted(self, batch, pairs, values):
        """The pieces of a sorted `put_many`."""
        keys: Column = None
        column: Column = None
        number: uint64_t = 0
        piece_bytes: uint64_t = min(PIECE_BYTES, self.options.segment_bytes_max // 4)
        if values is not None:
            keys, column = key_column(pairs), value_column(values)
            if keys is not None and column is not None:
                require_pairs(keys, column)
                while number < cython.cast(uint64_t, keys.count):
                    number = batch.add_piece(keys, column, number, piece_bytes)
                    self.commit_piece(batch)
                return 0
            pairs = zip(pairs, values, strict=True)
        for key, value in pairs:
            batch.add_put(key, value, None)
            batch.require_order(number)
            number += 1
            if batch.size >= piece_bytes:
                self.commit_piece(batch)
        self.commit_piece(batch)
        return 0

    def commit_piece(self, batch):
        """Commit what a sorted load has gathered, and go on with the last key at hand to compare the next with."""
        batch.is_ascending = True
        self._commit_waiting(batch, None)
        batch.keep_last()
        return 0

    def delete_many(self, keys) -> int:
        """Delete all `keys`, any iterable or an array of one width, as one batch; how many of them were there.

        Raises as `put`.
        """
        batch: BatchBuffer
        self.check_writable()
        batch = self._take_buffer()
        batch.add_deletes(keys)
        found: int = self._commit_waiting(batch, None)
        self._give_back(batch)
        return found
