"""The critical section of a write, over table, index, log writer and version chains.

A write is one critical section under the write lock: build the record at the tail, publish it, change the
index. Classes build on each other: `Core` here, `Reads` (reads_cy.py), `Writes` (writes_cy.py), `Store`
(store_cy.py), and `DB` (db.py), which adds policy: opening, making room, syncs, compaction.

Lock order: the space lock (segment_set.py), then the sync lock (durability.py), then the write lock (`mutex`
here). While the write lock is held no Python code runs and nothing is waited for, so it is held for
microseconds and can be taken with or without the GIL; the GIL is never held while waiting for it.

Invariants: log and index change together under the write lock; memory is reserved before a record is published,
and a record whose key cannot be indexed is unpublished again; segments are unmapped only under the GIL, so a read
that keeps the GIL needs no pin.
"""

import cython
from cython.cimports.flash_kv.engine.core_cy import (
    ABSENT,
    CONFLICT,
    DONE,
    FAILED_MEMORY,
    FAILED_READ,
    FAILED_WRITE,
    IS_CLOSED,
    LSN_SOME,
    NEEDS_ROOM,
    Facts,
    is_past,
)
from cython.cimports.flash_kv.intrinsics import add_relaxed64, unlikely
from cython.cimports.flash_kv.io.mutex import (
    lock_releasing_gil,
    pthread_atfork,
    pthread_mutex_destroy,
    pthread_mutex_init,
    pthread_mutex_unlock,
)
from cython.cimports.flash_kv.log.format import (
    ENTRY_ERROR,
    ENTRY_EXTENDED,
    ENTRY_VERSIONED,
    FLAG_ALIGNED,
    FLAG_IN_BATCH,
    HEADER_SIZE,
    KIND_BATCH,
    KIND_EXTENDED,
    KIND_TOMBSTONE,
    PAD_SHIFT,
    RecordHeader,
    entry_for,
    expires_ms,
    has_sound_attributes,
    pad_for,
    padded_size,
    position_of,
    record_size,
    segment_of,
)
from cython.cimports.flash_kv.log.table_cy import (
    Key,
    SegmentRef,
    load_record,
    mapped_record,
    newest_position,
    segment_ref,
)
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcpy, memset

# Keys of a batch whose places in the index are fetched ahead of their writes.
WARM_AHEAD = cython.declare(uint64_t, 4)

_forks = cython.declare(uint64_t, 0)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _count_fork() -> cython.void:
    global _forks
    _forks += 1


pthread_atfork(cython.NULL, cython.NULL, _count_fork)


@cython.no_gc_clear
@cython.cclass
class Core:
    """State and critical section of a store."""

    def __cinit__(self, *args, **kwargs):
        pthread_mutex_init(cython.address(self.mutex), cython.NULL)
        self.state = IS_CLOSED
        self.generation = _forks

    def __dealloc__(self):
        # After a fork the mutex may have been copied while a thread of the parent held it.
        if self.generation == _forks:
            pthread_mutex_destroy(cython.address(self.mutex))

    # -- states

    def check_readable(self):
        if unlikely(self.state & IS_CLOSED or self.generation != _forks):
            self._refuse(False)
        return 0

    def check_writable(self):
        if unlikely(self.state != 0 or self.generation != _forks):
            self._refuse(True)
        return 0

    def _has_forked(self) -> bool:
        return self.generation != _forks

    def _set_state(self, bits: int, is_set: bool) -> None:
        if self.generation != _forks:
            # Another thread of the parent may have held the lock; the child has this one thread.
            self.state = (self.state | bits) if is_set else (self.state & ~bits)
            return
        lock_releasing_gil(cython.address(self.mutex))
        self.state = (self.state | bits) if is_set else (self.state & ~bits)
        pthread_mutex_unlock(cython.address(self.mutex))

    def _state(self) -> int:
        return self.state

    # Requires, from here on: write lock held.

    def inspect(self, position, facts):
        """What a record that the index points to says; 0, an errno, or -1 when it is damaged."""
        header: cython.pointer(cython.const[RecordHeader])
        buffer: cython.pointer(uint8_t) = cython.NULL
        capacity: uint64_t = 0
        key: Key
        if self.log.is_mapped:
            header = mapped_record(self.log, position)
        else:
            header = load_record(
                self.log, position, cython.address(buffer), cython.address(capacity), cython.address(key)
            )
        if header == cython.NULL:
            free(buffer)
            return key.error if not self.log.is_mapped and key.error else -1
        facts.kind = header.kind
        facts.lsn = header.lsn
        facts.size = record_size(header)
        facts.expires_ms = 0
        if unlikely(header.kind == KIND_EXTENDED):
            if not has_sound_attributes(header):
                free(buffer)
                return -1
            facts.expires_ms = expires_ms(header)
        free(buffer)
        return 0

    def look(self, key, entry):
        """DONE and the entry of a live key, ABSENT, or FAILED_READ. Needs no lock."""
        entry[0] = self.index.find(key)
        return self.look_at(key, entry[0])

    def look_at(self, key, entry):
        """As `look`, of an entry that was just found."""
        facts: Facts
        position: uint64_t
        if entry == 0:
            return ABSENT
        if entry == ENTRY_ERROR:
            return FAILED_READ
        if entry & (ENTRY_VERSIONED | ENTRY_EXTENDED):
            position = newest_position(self.log, entry)
            failure: cython.int = self.inspect(position, cython.address(facts))
            if failure != 0:
                key.error = max(failure, 0)
                key.bad_position = position
                return FAILED_READ
            return ABSENT if facts.kind == KIND_TOMBSTONE or is_past(facts.expires_ms, 0) else DONE
        return DONE

    def has_expired(self, entry):
        """Does it stand for a value whose time is up?"""
        facts: Facts
        if entry == 0 or entry == ENTRY_ERROR or not entry & (ENTRY_VERSIONED | ENTRY_EXTENDED):
            return False
        return self.inspect(newest_position(self.log, entry), cython.address(facts)) == 0 and is_past(
            facts.expires_ms, 0
        )

    def check_condition(self, key, expected, found):
        """DONE when the key has the LSN it is to have, CONFLICT and the one it has (0: absent), or FAILED_READ."""
        facts: Facts
        entry: uint64_t = 0
        position: uint64_t
        failure: cython.int
        outcome: cython.int = self.look(key, cython.address(entry))
        found[0] = 0
        if outcome == FAILED_READ:
            return outcome
        if outcome == DONE:
            position = newest_position(self.log, entry)
            failure = self.inspect(position, cython.address(facts))
            if failure != 0:
                key.error = max(failure, 0)
                key.bad_position = position
                return FAILED_READ
            found[0] = facts.lsn
        if found[0] == expected or (expected == LSN_SOME and found[0] != 0):
            return DONE
        return CONFLICT

    def count_new(self, ref, kind, size, lsn):
        if kind != KIND_TOMBSTONE:
            ref.value_records += 1
            ref.live_records += 1
            ref.live_bytes += size
        else:
            ref.tombstones += 1
            ref.tombstone_bytes += size
        if ref.min_lsn == 0 or lsn < ref.min_lsn:
            ref.min_lsn = lsn
        if lsn > ref.max_lsn:
            ref.max_lsn = lsn

    def count_dead(self, position):
        """The value record at `position` is no longer the newest of its key."""
        ref: cython.pointer(SegmentRef) = segment_ref(self.log, segment_of(position))
        header: cython.pointer(cython.const[RecordHeader])
        facts: Facts
        if ref == cython.NULL:
            return
        # Also when it cannot be read now (io="file"): a segment with a dead value keeps the tombstones of others alive.
        # Its bytes then stay counted as live, which costs a later compaction and nothing else.
        ref.live_records -= 1
        if self.log.is_mapped:
            header = mapped_record(self.log, position)
            if header != cython.NULL:
                ref.live_bytes -= record_size(header)
        elif self.inspect(position, cython.address(facts)) == 0:
            ref.live_bytes -= facts.size

    def apply(self, key, kind, position, lsn, size, old):
        """Bring the index to a record just built: DONE, or a failure with nothing changed."""
        ref: cython.pointer(SegmentRef) = self.writer.ref
        if unlikely(self.versions.newest_snapshot != 0 or self.versions.pending_count != 0):
            return self.apply_versioned(key, kind, position, lsn, size, old)
        if kind != KIND_TOMBSTONE:
            old[0] = self.index.upsert(key, position)
        else:
            old[0] = self.index.remove(key)
        if unlikely(old[0] == ENTRY_ERROR):
            return FAILED_MEMORY if key.error == ENOMEM else FAILED_READ
        if old[0] != 0:
            self.count_dead(old[0])
        if kind != KIND_TOMBSTONE:
            add_relaxed64(cython.address(self.key_count), old[0] == 0)
        else:
            add_relaxed64(cython.address(self.key_count), -(old[0] != 0))
        self.count_new(ref, kind, size, lsn)
        return DONE

    def apply_versioned(self, key, kind, position, lsn, size, old):
        """As `apply`, while snapshots are open or chains are left."""
        before: uint64_t = self.index.find(key)
        newest: uint64_t
        entry: uint64_t = position
        facts: Facts
        facts.kind = KIND_TOMBSTONE
        facts.lsn = 0
        if before == ENTRY_ERROR:
            return FAILED_MEMORY if key.error == ENOMEM else FAILED_READ
        newest = newest_position(self.log, before)
        failure: cython.int = 0
        if before != 0:
            failure = self.inspect(newest, cython.address(facts))
        if failure != 0:
            key.error = max(failure, 0)
            key.bad_position = newest
            return FAILED_MEMORY if failure == ENOMEM else FAILED_READ
        is_live: cython.bint = before != 0 and facts.kind != KIND_TOMBSTONE
        if before & ENTRY_VERSIONED or (before != 0 and facts.lsn <= self.versions.newest_snapshot):
            entry = self.versions.push(before, facts.lsn, position, lsn)
        elif kind == KIND_TOMBSTONE:
            entry = 0
        changed: uint64_t = before
        if entry == 0:
            if before != 0:
                changed = self.index.remove(key)
        elif entry != before:
            changed = self.index.upsert(key, entry)
        if unlikely(changed == ENTRY_ERROR):
            # With io="file" the index reads records to find the key, and what could be read before need not be now.
            if entry & ENTRY_VERSIONED:
                self.versions.unpush(entry, before)
            return FAILED_MEMORY if key.error == ENOMEM else FAILED_READ
        if is_live:
            self.count_dead(newest)
        if kind != KIND_TOMBSTONE:
            add_relaxed64(cython.address(self.key_count), not is_live)
        else:
            add_relaxed64(cython.address(self.key_count), -is_live)
        old[0] = newest if is_live else 0
        self.count_new(self.writer.ref, kind, size, lsn)
        return DONE

    def refused(self, key):
        """What to say after the index would not reserve: of an index on disk it may be the disk."""
        key.error = self.index.refusal
        key.bad_position = 0
        return FAILED_READ if key.error != 0 else FAILED_MEMORY

    def write_one(self, key, kind, payload, commit):
        """One record: built, indexed, published."""
        size: uint64_t
        pad: uint64_t = 0
        flags: cython.int = 0
        lsn: uint64_t = self.writer.next_lsn
        place: cython.pointer(uint8_t)
        word: uint64_t
        old: uint64_t = 0
        outcome: cython.int
        position: uint64_t
        if unlikely(self.writer.align != 1) and kind != KIND_TOMBSTONE:
            pad = pad_for(self.writer.tail, key.size + payload.head_size, self.writer.align)
            flags = FLAG_ALIGNED | cython.cast(cython.int, pad << PAD_SHIFT)
        size = padded_size(key.size, pad, payload.head_size + payload.value_size)
        if not self.writer.has_room(size):
            return NEEDS_ROOM
        # A delete on a full disk goes on: it needs no new page, and if a page cannot be changed it is taken back.
        if unlikely(
            (self.index.reserve(1) != 0 and (kind != KIND_TOMBSTONE or self.index.refusal == 0))
            or self.versions.reserve(1) != 0
        ):
            return self.refused(key)
        place = self.writer.begin(size)
        if place == cython.NULL:
            return FAILED_MEMORY
        position = entry_for(position_of(self.writer.segment_id, self.writer.tail), kind)
        self.writer.fill(place, key.data, key.size, pad, payload, lsn)
        word = self.writer.seal_record(place, self.writer.tail, size, kind, flags)
        commit.segment_id = self.writer.segment_id
        commit.offset = self.writer.tail
        commit.size = size
        commit.lsn = lsn
        self.write_errno = self.writer.publish(place, size, word, 1)
        if unlikely(self.write_errno != 0):
            return FAILED_WRITE
        # Published before it is indexed: a reader without the GIL never finds a record that is not yet whole.
        outcome = self.apply(key, kind, position, lsn, size, cython.address(old))
        if unlikely(outcome != DONE):
            self.writer.unpublish(place, size, 1)
        commit.found = old != 0
        return outcome

    def batch_room(self, batch):
        """Bytes that the records of a batch take at most, wherever they stand."""
        if self.writer.align == 1:
            return batch.size
        # The zeros before the value, and those that fill up the end anew.
        return batch.size + batch.puts * (self.writer.align + 7)

    def place_record(self, place, offset, gathered, size, lsn):
        """One record of a batch as it will stand at `offset`, from how it was gathered; its size there."""
        flags: cython.int = FLAG_IN_BATCH
        if unlikely(self.writer.align != 1) and gathered.kind != KIND_TOMBSTONE:
            size = self.writer.fill_aligned(place, offset, gathered, self.writer.align, cython.address(flags))
        else:
            memcpy(place + 8, cython.cast(cython.pointer(uint8_t), gathered) + 8, size - 8)
        cython.cast(cython.pointer(RecordHeader), place).lsn = lsn
        cython.cast(cython.pointer(uint64_t), place)[0] = self.writer.seal_record(
            place, offset, size, gathered.kind, flags
        )
        return size

    def write_batch(self, batch, commit):
        """All records of a batch under one frame. A batch of deletes alone leaves absent keys out."""
        first: uint64_t = self.writer.next_lsn
        start: uint64_t = self.writer.tail
        place: cython.pointer(uint8_t)
        header: cython.pointer(RecordHeader)
        room: uint64_t = HEADER_SIZE + self.batch_room(batch)
        size: uint64_t = HEADER_SIZE
        count: uint64_t = 0
        i: uint64_t
        word: uint64_t
        failure: cython.int
        if not self.writer.has_room(room):
            return NEEDS_ROOM
        failure = self.index.reserve(batch.count) if batch.puts else self.index.reserve_removals(batch.count)
        if failure != 0 or self.versions.reserve(batch.count) != 0:
            return self.refused(batch.keys)
        place = self.writer.begin(room)
        if place == cython.NULL:
            return FAILED_MEMORY
        if batch.is_ascending and self.index.is_above(cython.address(batch.keys[0])):
            # None of them is there, and each is put behind the last key: neither needs a search.
            memset(batch.entries, 0, batch.count * 8)
        else:
            batch.is_ascending = False
            self.index.find_many(batch.keys, batch.count, batch.entries)
        for i in range(batch.count):
            if batch.entries[i] == ENTRY_ERROR:
                batch.keys[0] = batch.keys[i]
                return FAILED_READ
        for i in range(batch.count):
            if batch.puts == 0 and batch.entries[i] == 0:
                continue
            batch.entries[count] = size
            batch.keys[count] = batch.keys[i]
            size += self.place_record(
                place + size,
                start + size,
                cython.cast(cython.pointer(RecordHeader), batch.data + batch.offsets[i]),
                batch.offsets[i + 1] - batch.offsets[i],
                first + count,
            )
            count += 1
        commit.found = 0
        commit.size = 0
        if count == 0:
            return ABSENT
        header = cython.cast(cython.pointer(RecordHeader), place)
        header.key_size = cython.cast(uint32_t, count)
        header.value_size = cython.cast(uint32_t, (size - HEADER_SIZE) >> 3)
        header.lsn = first
        word = self.writer.seal_record(place, start, size, KIND_BATCH, 0)
        self.write_errno = self.writer.publish(place, size, word, count)
        if self.write_errno:
            return FAILED_WRITE
        commit.segment_id = self.writer.segment_id
        commit.offset = start
        commit.size = size
        commit.lsn = first + count - 1
        commit.count = count
        return self.index_batch(batch, place, start, count, commit)

    def index_batch(self, batch, place, start, count, commit):
        """Bring the index to a batch just published at `start`, built at `place`."""
        header: cython.pointer(RecordHeader)
        i: uint64_t
        old: uint64_t = 0
        outcome: cython.int
        warmed: uint64_t = 0 if batch.is_ascending else count
        for i in range(min(warmed, WARM_AHEAD)):
            self.index.warm(cython.address(batch.keys[i]))
        for i in range(count):
            if i + WARM_AHEAD < warmed:
                self.index.warm(cython.address(batch.keys[i + WARM_AHEAD]))
            header = cython.cast(cython.pointer(RecordHeader), place + batch.entries[i])
            outcome = self.apply(
                cython.address(batch.keys[i]),
                header.kind,
                entry_for(position_of(self.writer.segment_id, start + batch.entries[i]), header.kind),
                header.lsn,
                record_size(header),
                cython.address(old),
            )
            if outcome != DONE:
                batch.keys[0] = batch.keys[i]
                if i == 0:
                    # A neighbour is damaged that only an insertion looks at. Nothing has changed yet.
                    self.writer.unpublish(place, commit.size, count)
                else:
                    # Memory and log no longer agree, so nothing more is written.
                    self.writer.is_spoiled = True
                return outcome
            commit.found += old != 0 and not self.has_expired(old)
        return DONE
