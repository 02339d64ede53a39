"""The hash index: point access with the least memory.

Linear hashing (Litwin 1980) over buckets of two cache lines: growth splits one bucket at a time, in order, so there is
no directory, no rehash and no slow insert. A bucket holds ten (hash, entry) pairs; what does not fit goes to a chain of
overflow buckets. At seven keys a bucket about one lookup in twenty touches an overflow bucket, and a key costs 19 to 22
bytes at every size. The home bucket is the low bits of the 32-bit hash kept beside each entry, so a split never reads
the log; the whole 32 bits are compared before a record is.

Keys are hashed by SipHash-1-3 with a key of the store's own.

Invariants: every entry stands in the chain of its home bucket; the version of a home bucket guards its whole chain;
the number of buckets is published after the split it announces is complete. Readers take no lock: they read version,
chain, version, and the number of buckets again, and start over when something moved.
"""

import cython
from cython.cimports.flash_kv.index.hash_buckets_cy import (
    BUCKET_ENTRIES,
    BUCKETS_MIN,
    Bucket,
    HashBuckets,
    begin_write,
    end_write,
    home_bucket,
    level_of,
    lowest_bit,
    matching,
    spilled_bucket,
)
from cython.cimports.flash_kv.index.index_cy import HOLD_NO, HOLD_UNKNOWN, HOLD_YES
from cython.cimports.flash_kv.intrinsics import (
    fence_acquire,
    load_acquire32,
    load_acquire64,
    load_fenced64,
    load_relaxed32,
    load_relaxed64,
    prefetch,
    store_release64,
    unlikely,
)
from cython.cimports.flash_kv.log.format import ENTRY_ERROR, ENTRY_VERSIONED, offset_of, segment_of
from cython.cimports.flash_kv.log.table_cy import (
    MATCH_NO,
    MATCH_YES,
    MatchResult,
    SegmentRef,
    match_key,
    newest_position,
    segment_ref,
)
from cython.cimports.libc.errno import ENOBUFS
from cython.cimports.libc.stdint import int64_t, uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memset

# A split when there are more than 7 keys a bucket, a merge when fewer than 2.
KEYS_PER_BUCKET_MAX = cython.declare(uint64_t, 7)
KEYS_PER_BUCKET_MIN = cython.declare(uint64_t, 2)
# Overflow buckets kept in reserve so that no upsert and no split runs out in the middle.
SPILL_MARGIN = cython.declare(uint64_t, 64)
# Longer than any chain of a keyed hash: a reader that counts further is reading a chain being rebuilt.
CHAIN_MAX = cython.declare(cython.int, 1 << 20)
GROUP = cython.declare(uint64_t, 16)
HOLD_AHEAD = cython.declare(uint64_t, 48)
BUCKET_BYTES = cython.declare(uint64_t, cython.sizeof(Bucket))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _is_unchanged(
    index: HashBuckets, home: cython.pointer(Bucket), version: uint32_t, buckets: uint64_t
) -> cython.bint:
    """May be concluded from what was read in the chain?"""
    fence_acquire()
    return (
        load_relaxed32(cython.address(home.version)) == version
        and load_relaxed64(cython.address(index.buckets)) == buckets
    )


@cython.final
@cython.cclass
class HashIndex(HashBuckets):
    """Entries by hash of the key; walks are unordered."""

    def __cinit__(self, table, hash_key):
        self.needs_hash = True
        self.is_ordered = False
        if self.reserve(1) != 0:
            raise MemoryError("no memory for a hash index")

    def reserve(self, count):
        if self.primary.reserve((count + 2) * BUCKET_BYTES) != 0:
            return -1
        return self.spill.reserve((count + SPILL_MARGIN) * BUCKET_BYTES)

    def expect(self, count):
        wanted: uint64_t = count // KEYS_PER_BUCKET_MAX + 1
        if self.keys != 0 or wanted <= self.buckets:
            return
        if self.primary.reserve((wanted - self.buckets) * BUCKET_BYTES) != 0:
            return
        memset(self.primary.data + self.primary.used, 0, (wanted - self.buckets) * BUCKET_BYTES)
        self.primary.used = wanted * BUCKET_BYTES
        self.level_bit = level_of(wanted)
        store_release64(cython.address(self.buckets), wanted)

    def find(self, key):
        buckets: uint64_t
        home: cython.pointer(Bucket)
        bucket: cython.pointer(Bucket)
        version: uint32_t
        bits: uint32_t
        steps: cython.int
        entry: uint64_t
        found: uint64_t
        match: MatchResult
        while True:
            buckets = load_acquire64(cython.address(self.buckets))
            home = home_bucket(self, key.hash, buckets)
            version = load_acquire32(cython.address(home.version))
            if unlikely(version & 1):
                continue
            bucket = home
            found = 0
            steps = 0
            while bucket != cython.NULL and found == 0 and steps < CHAIN_MAX:
                bits = matching(bucket, key.hash)
                while bits != 0:
                    # It may be replaced at any time, and leads to a record that has to be seen whole.
                    entry = load_acquire64(cython.address(bucket.entries[lowest_bit(bits)]))
                    bits &= bits - 1
                    if entry != 0:
                        match = match_key(self.log, entry, key)
                        if match == MATCH_YES:
                            found = entry
                            break
                        if unlikely(match != MATCH_NO):
                            found = ENTRY_ERROR
                            break
                steps += 1
                bucket = spilled_bucket(self, bucket.overflow)
            if _is_unchanged(self, home, version, buckets):
                return found

    def _locate(self, key, slot):
        """Write lock held: 1 and the slot when found, 0 when absent, -1 when a record could not be read."""
        bucket: cython.pointer(Bucket) = home_bucket(self, key.hash, self.buckets)
        bits: uint32_t
        i: uint32_t
        match: MatchResult
        while bucket != cython.NULL:
            bits = matching(bucket, key.hash)
            while bits != 0:
                i = lowest_bit(bits)
                bits &= bits - 1
                if bucket.entries[i] != 0:
                    match = match_key(self.log, bucket.entries[i], key)
                    if match == MATCH_YES:
                        slot.bucket = bucket
                        slot.index = i
                        return 1
                    if unlikely(match != MATCH_NO):
                        return -1
            bucket = spilled_bucket(self, bucket.overflow)
        return 0

    def upsert(self, key, entry):
        slot: Slot
        found: cython.int = self._locate(key, cython.address(slot))
        old: uint64_t
        home: cython.pointer(Bucket)
        if unlikely(found < 0):
            return ENTRY_ERROR
        if found:
            # One aligned word: a reader sees the old entry or the new one, both true.
            old = slot.bucket.entries[slot.index]
            store_release64(cython.address(slot.bucket.entries[slot.index]), entry)
            return old
        home = home_bucket(self, key.hash, self.buckets)
        begin_write(home)
        self._place(home, key.hash, entry)
        end_write(home)
        self.keys += 1
        if self.keys > self.buckets * KEYS_PER_BUCKET_MAX:
            self._split()
        return 0

    def remove(self, key):
        slot: Slot
        found: cython.int = self._locate(key, cython.address(slot))
        old: uint64_t
        home: cython.pointer(Bucket)
        if unlikely(found < 0):
            return ENTRY_ERROR
        if not found:
            return 0
        home = home_bucket(self, key.hash, self.buckets)
        old = slot.bucket.entries[slot.index]
        begin_write(home)
        store_release64(cython.address(slot.bucket.entries[slot.index]), 0)
        if home.overflow != 0:
            self._tidy(home)
        end_write(home)
        self.keys -= 1
        if self.keys < self.buckets * KEYS_PER_BUCKET_MIN and self.buckets > BUCKETS_MIN:
            self._merge()
        return old

    def replace(self, key, old, new):
        bucket: cython.pointer(Bucket) = home_bucket(self, key.hash, self.buckets)
        bits: uint32_t
        i: uint32_t
        while bucket != cython.NULL:
            bits = matching(bucket, key.hash)
            while bits != 0:
                i = lowest_bit(bits)
                bits &= bits - 1
                if bucket.entries[i] == old:
                    store_release64(cython.address(bucket.entries[i]), new)
                    return True
            bucket = spilled_bucket(self, bucket.overflow)
        return False

    def find_many(self, keys, count, entries):
        """Three stages, each a group behind the one before: bring the buckets in, bring the records in, look."""
        i: uint64_t
        end: uint64_t = count + 2 * GROUP
        for i in range(end):
            if i < count:
                self._prefetch_home(keys[i].hash)
            if i >= GROUP and i - GROUP < count and self.log.is_mapped:
                self._prefetch_record(cython.address(keys[i - GROUP]))
            if i >= 2 * GROUP:
                entries[i - 2 * GROUP] = self.find(cython.address(keys[i - 2 * GROUP]))

    def warm(self, key):
        self._prefetch_home(key.hash)

    def hold_many(self, keys, positions, count, answers):
        """Without a look at any record: the position itself is what is looked for."""
        i: uint64_t
        for i in range(min(HOLD_AHEAD, count)):
            self._prefetch_home(keys[i].hash)
        for i in range(count):
            if i + HOLD_AHEAD < count:
                self._prefetch_home(keys[i + HOLD_AHEAD].hash)
            answers[i] = self._holds(keys[i].hash, positions[i])

    def _holds(self, hash, position):
        buckets: uint64_t
        home: cython.pointer(Bucket)
        bucket: cython.pointer(Bucket)
        version: uint32_t
        bits: uint32_t
        entry: uint64_t
        steps: cython.int
        answer: uint8_t
        while True:
            buckets = load_acquire64(cython.address(self.buckets))
            home = home_bucket(self, hash, buckets)
            version = load_acquire32(cython.address(home.version))
            if unlikely(version & 1):
                continue
            bucket = home
            answer = HOLD_NO
            steps = 0
            while bucket != cython.NULL and answer != HOLD_YES and steps < CHAIN_MAX:
                bits = matching(bucket, hash)
                while bits != 0:
                    entry = load_fenced64(cython.address(bucket.entries[lowest_bit(bits)]))
                    bits &= bits - 1
                    if entry == position:
                        answer = HOLD_YES
                        break
                    if entry & ENTRY_VERSIONED:
                        answer = HOLD_UNKNOWN
                steps += 1
                bucket = spilled_bucket(self, bucket.overflow)
            if _is_unchanged(self, home, version, buckets):
                return answer

    def _prefetch_home(self, hash):
        home: cython.pointer(Bucket) = home_bucket(self, hash, self.buckets)
        prefetch(home)
        prefetch(cython.cast(cython.pointer(uint32_t), home) + 16)

    def _prefetch_record(self, key):
        """Bring the probable record into cache; a wrong guess costs nothing but time."""
        home: cython.pointer(Bucket) = home_bucket(self, key.hash, self.buckets)
        bits: uint32_t = matching(home, key.hash)
        position: uint64_t
        ref: cython.pointer(SegmentRef)
        if bits == 0:
            return
        position = newest_position(self.log, home.entries[lowest_bit(bits)])
        ref = segment_ref(self.log, segment_of(position))
        if position != 0 and ref != cython.NULL and ref.data != cython.NULL:
            prefetch(ref.data + offset_of(position))
            prefetch(ref.data + offset_of(position) + 64)
            prefetch(ref.data + offset_of(position) + 128)

    def walk(self, state, entries, capacity):
        """By residue class of the hash, modulo the level at the walk's start: splits and merges move a key between
        buckets but never between classes, so each key is seen once."""
        taken: uint64_t = 0
        got: int64_t
        if not state.is_started:
            state.is_started = True
            state.cursor = 0
            state.modulus = self.level_bit
        while state.cursor < state.modulus:
            got = self._take_class(state, entries + taken, capacity - taken)
            if got < 0:
                if taken == 0:
                    state.error = ENOBUFS
                return taken
            taken += got
            state.cursor += 1
        state.is_done = True
        return taken

    def _take_class(self, state, entries, capacity):
        """All entries whose hash is `cursor` modulo `modulus`, as of one moment; -1 when they do not fit."""
        buckets: uint64_t
        versions: uint64_t
        number: uint64_t
        taken: uint64_t
        i: cython.int
        steps: cython.int
        bucket: cython.pointer(Bucket)
        while True:
            buckets = load_acquire64(cython.address(self.buckets))
            versions = self._class_versions(state, buckets)
            number = state.cursor
            taken = 0
            while True:
                bucket = home_bucket(self, cython.cast(uint32_t, number), buckets)
                steps = 0
                while bucket != cython.NULL and steps < CHAIN_MAX:
                    for i in range(BUCKET_ENTRIES):
                        if bucket.entries[i] != 0 and bucket.hashes[i] & (state.modulus - 1) == state.cursor:
                            if taken < capacity:
                                entries[taken] = load_fenced64(cython.address(bucket.entries[i]))
                            taken += 1
                    steps += 1
                    bucket = spilled_bucket(self, bucket.overflow)
                number += state.modulus
                if number >= buckets:
                    break
            fence_acquire()
            if (
                load_relaxed64(cython.address(self.buckets)) == buckets
                and self._class_versions(state, buckets) == versions
                and not versions & 1
            ):
                return taken if taken <= capacity else -1

    def _class_versions(self, state, buckets):
        """A sum of the versions of the buckets of a class; odd while one is being written."""
        number: uint64_t = state.cursor
        total: uint64_t = 0
        odd: uint64_t = 0
        version: uint32_t
        while True:
            version = load_acquire32(
                cython.address(home_bucket(self, cython.cast(uint32_t, number), buckets).version)
            )
            total += version & ~cython.cast(uint32_t, 1)
            odd |= version & 1
            number += state.modulus
            if number >= buckets:
                return total | odd

    def clear(self):
        self.primary.shrink(0)
        self.spill.shrink(0)
        self._empty()

    def memory_bytes(self):
        return self.primary.used + self.spill.used
