"""The interface of an index: from a key to its entry, the newest record's position or version chain.

Keys stay in the log; an index keeps what it needs to find the one candidate record and compares the key there, through
the segment table. What each method guarantees:

`reserve(count)`
    After it returns 0 the next `count` upserts cannot fail for want of memory. -1: memory is short, or the disk, which
    `refusal` then says (only an index on disk); nothing changed.
`reserve_removals(count)`
    The same for as many removals, or upserts of keys that are there, which an index on disk has room for when its file
    can grow no more.
`expect(count)`
    About `count` keys are coming: an empty index may take their room at once. Changes nothing else.
`find(key)`
    The entry, 0 when the key is absent, ENTRY_ERROR with `key.bad_position` (and `key.error`, an errno, unless it is
    damage) when a record that had to be compared cannot be read. Takes no lock: runs beside one writer, with or
    without the GIL, validates node versions and retries.
`is_above(key)`
    True when the key is sure to be above all there are, so that inserting it and what is above it takes no search.
    Write lock held.
`warm(key)`
    A write of this key comes soon, and `find_many` has been asked for it: bring in what the write will touch.

`ask_for(key)`
    Have the system read what an index on disk holds this key in, without waiting for it. Write lock held.

After `find`, `find_many` and `hold_many` a key remembers its place in the index (`Key.place`), and a write of it begins
there instead of searching. Between the two the write lock may not have been given up, but for `replace`.

`upsert(key, entry)`
    Sets the entry, returns the one before, 0 when there was none, ENTRY_ERROR with nothing changed. Write lock held.
`remove(key)`
    Takes the key out, returns its entry, 0 when absent, ENTRY_ERROR with nothing changed. Write lock held.
`replace(key, old, new)`
    Sets the entry to `new` if it is exactly `old`; True if so. Write lock held. Never allocates. False with
    `key.error` set when that cannot be told (only an index on disk): nothing changed, and it may still be `old`.
`find_many(keys, count, entries)`
    As `find` for each, with the memory of several keys prefetched together.
`hold_many(keys, positions, count, answers)`
    Is the entry of each key exactly this position? HOLD_UNKNOWN where only the write lock can tell. Takes no
    lock; HOLD_NO is as sure as HOLD_YES, for compaction drops a record that is not held.
`walk(state, entries, capacity)`
    Up to `capacity` next entries, in key order (or reverse) from `state.key` on when the index `is_ordered`,
    else in any order through `state.cursor` such that a key present all the while is seen exactly once. A
    reverse walk begins strictly before `state.key` (its exclusive stop), a forward one at it. 0 with
    `state.is_done` at the end, 0 with `state.bad_position` on failure. The caller keeps `state.key` pointing
    at the key of the last entry it took and sets `is_started`; then the walk goes on strictly after it. Takes
    no lock.
`clear()`
    Empties the index and gives memory back. Write lock held, no reader running.
`freeze()`
    A checkpoint of the index on disk will hold what is in it now. Write lock held.
`list_loose(positions, capacity)`
    How many keys a checkpoint would not find in pages, and their positions if there is room for all. ENTRY_ERROR when
    one of them cannot be read. Write lock held.
"""

import cython
from cython.cimports.flash_kv.index.index_cy import HOLD_NO, HOLD_UNKNOWN, HOLD_YES, Index
from cython.cimports.flash_kv.log.format import ENTRY_ERROR, ENTRY_VERSIONED
from cython.cimports.flash_kv.log.table_cy import SegmentTable
from cython.cimports.libc.stdint import uint64_t

HOLD_GROUP = cython.declare(uint64_t, 64)


@cython.cclass
class Index:
    """What all kinds share: the table their entries point into."""

    def __cinit__(self, table: SegmentTable, hash_key: bytes):
        if len(hash_key) != 16:
            raise ValueError(f"a hash key is 16 bytes, not {len(hash_key)}")
        self.table = table
        self.log = cython.address(table.state)
        self.hash_key[0] = int.from_bytes(hash_key[:8], "little")
        self.hash_key[1] = int.from_bytes(hash_key[8:], "little")

    def reserve(self, count):
        return -1

    def reserve_removals(self, count):
        return self.reserve(count)

    def expect(self, count):
        pass

    def find(self, key):
        return ENTRY_ERROR

    def upsert(self, key, entry):
        return ENTRY_ERROR

    def remove(self, key):
        return ENTRY_ERROR

    def replace(self, key, old, new):
        return False

    def find_many(self, keys, count, entries):
        i: uint64_t
        for i in range(count):
            entries[i] = self.find(cython.address(keys[i]))

    def is_above(self, key):
        return False

    def warm(self, key):
        pass

    def ask_for(self, key):
        pass

    def hold_many(self, keys, positions, count, answers):
        entries: uint64_t[64]
        start: uint64_t = 0
        size: uint64_t
        i: uint64_t
        while start < count:
            size = min(HOLD_GROUP, count - start)
            self.find_many(keys + start, size, entries)
            for i in range(size):
                if entries[i] == ENTRY_ERROR or entries[i] & ENTRY_VERSIONED:
                    answers[start + i] = HOLD_UNKNOWN
                else:
                    answers[start + i] = HOLD_YES if entries[i] == positions[start + i] else HOLD_NO
            start += size

    def walk(self, state, entries, capacity):
        state.is_done = True
        return 0

    def clear(self):
        pass

    def memory_bytes(self):
        return 0

    def freeze(self):
        pass

    def list_loose(self, positions, capacity):
        return 0
