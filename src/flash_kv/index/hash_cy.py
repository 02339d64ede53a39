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
from cython.cimports.flash_kv.index.arena_cy import Arena
from cython.cimports.flash_kv.index.hash_cy import BUCKET_ENTRIES, BUCKETS_MIN, Bucket, Slot
from cython.cimports.flash_kv.index.index_cy import Index
from cython.cimports.flash_kv.intrinsics import (
    fence_acquire,
    fence_release,
    load_acquire32,
    load_acquire64,
    prefetch,
    store_release32,
    store_release64,
    unlikely,
)
from cython.cimports.flash_kv.log.format import ENTRY_ERROR, offset_of, segment_of
from cython.cimports.flash_kv.log.table_cy import (
    MATCH_NO,
    MATCH_YES,
    Key,
    MatchResult,
    SegmentRef,
    match_key,
    newest_position,
    segment_ref,
)
from cython.cimports.libc.errno import ENOBUFS
from cython.cimports.libc.stdint import int64_t, uint32_t, uint64_t
from cython.cimports.libc.string import memset

# A split when there are more than 7 keys a bucket, a merge when fewer than 2.
KEYS_PER_BUCKET_MAX = cython.declare(uint64_t, 7)
KEYS_PER_BUCKET_MIN = cython.declare(uint64_t, 2)
# Overflow buckets kept in reserve so that no upsert and no split runs out in the middle.
SPILL_MARGIN = cython.declare(uint64_t, 64)
# Longer than any chain of a keyed hash: a reader that counts further is reading a chain being rebuilt.
CHAIN_MAX = cython.declare(cython.int, 1 << 20)
GROUP = cython.declare(uint64_t, 16)
BUCKET_BYTES = cython.declare(uint64_t, cython.sizeof(Bucket))


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _begin_write(bucket: cython.pointer(Bucket)) -> cython.void:
    store_release32(cython.address(bucket.version), bucket.version + 1)
    fence_release()


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _end_write(bucket: cython.pointer(Bucket)) -> cython.void:
    store_release32(cython.address(bucket.version), bucket.version + 1)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _matches(bucket: cython.pointer(Bucket), hash: uint32_t) -> uint32_t:
    """A bit for each place with this hash; places may be free."""
    bits: uint32_t = 0
    i: cython.int
    for i in range(BUCKET_ENTRIES):
        bits |= cython.cast(uint32_t, bucket.hashes[i] == hash) << i
    return bits


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _level_bit(buckets: uint64_t) -> uint64_t:
    """The greatest power of two that is at most `buckets`."""
    bit: uint64_t = BUCKETS_MIN
    while bit * 2 <= buckets:
        bit *= 2
    return bit


@cython.final
@cython.cclass
class HashIndex(Index):
    """Entries by hash of the key; walks are unordered."""

    def __cinit__(self, table, hash_key):
        self.needs_hash = True
        self.is_ordered = False
        self.primary = Arena()
        self.spill = Arena()
        self._empty()
        if self.reserve(1) != 0:
            raise MemoryError("no memory for a hash index")

    def _empty(self):
        if self.primary.reserve(BUCKETS_MIN * BUCKET_BYTES) == 0:
            memset(self.primary.data, 0, BUCKETS_MIN * BUCKET_BYTES)
            self.primary.used = BUCKETS_MIN * BUCKET_BYTES
        self.buckets = BUCKETS_MIN
        self.level_bit = BUCKETS_MIN
        self.spill.used = BUCKET_BYTES
        self.free_spill = 0
        self.spill_free_count = 0
        self.keys = 0

    def reserve(self, count):
        if self.primary.reserve((count + 2) * BUCKET_BYTES) != 0:
            return -1
        return self.spill.reserve((count + SPILL_MARGIN) * BUCKET_BYTES)

    def _home(self, hash, buckets):
        bit: uint64_t = self.level_bit
        number: uint64_t
        if unlikely(bit * 2 <= buckets or bit > buckets):
            bit = _level_bit(buckets)
        number = hash & (2 * bit - 1)
        if number >= buckets:
            number -= bit
        return cython.cast(cython.pointer(Bucket), self.primary.data) + number

    def _spilled(self, number):
        """The overflow bucket, or NULL at the end of the chain or on a number read while it changed."""
        if number == 0 or (cython.cast(uint64_t, number) + 1) * BUCKET_BYTES > self.spill.used:
            return cython.NULL
        return cython.cast(cython.pointer(Bucket), self.spill.data) + number

    def find(self, key):
        buckets: uint64_t
        home: cython.pointer(Bucket)
        bucket: cython.pointer(Bucket)
        version: uint32_t
        bits: uint32_t
        i: cython.int
        steps: cython.int
        entry: uint64_t
        found: uint64_t
        match: MatchResult
        while True:
            buckets = load_acquire64(cython.address(self.buckets))
            home = self._home(key.hash, buckets)
            version = load_acquire32(cython.address(home.version))
            if unlikely(version & 1):
                continue
            bucket = home
            found = 0
            steps = 0
            while bucket != cython.NULL and found == 0 and steps < CHAIN_MAX:
                bits = _matches(bucket, key.hash)
                i = 0
                while bits != 0:
                    if bits & 1:
                        entry = bucket.entries[i]
                        if entry != 0:
                            match = match_key(self.log, entry, key)
                            if match == MATCH_YES:
                                found = entry
                                break
                            if unlikely(match != MATCH_NO):
                                found = ENTRY_ERROR
                                break
                    bits >>= 1
                    i += 1
                steps += 1
                bucket = self._spilled(bucket.overflow)
            fence_acquire()
            if home.version == version and self.buckets == buckets:
                return found

    def _locate(self, key, slot):
        """Write lock held: 1 and the slot when found, 0 when absent, -1 when a record could not be read."""
        bucket: cython.pointer(Bucket) = self._home(key.hash, self.buckets)
        bits: uint32_t
        i: cython.int
        match: MatchResult
        while bucket != cython.NULL:
            bits = _matches(bucket, key.hash)
            i = 0
            while bits != 0:
                if bits & 1 and bucket.entries[i] != 0:
                    match = match_key(self.log, bucket.entries[i], key)
                    if match == MATCH_YES:
                        slot.bucket = bucket
                        slot.index = i
                        return 1
                    if unlikely(match != MATCH_NO):
                        return -1
                bits >>= 1
                i += 1
            bucket = self._spilled(bucket.overflow)
        return 0

    def _place(self, home, hash, entry):
        """Put a new pair into the chain of `home`; `reserve` has seen to the room."""
        bucket: cython.pointer(Bucket) = home
        i: cython.int
        number: uint32_t
        while True:
            for i in range(BUCKET_ENTRIES):
                if bucket.entries[i] == 0:
                    bucket.hashes[i] = hash
                    bucket.entries[i] = entry
                    return
            if bucket.overflow == 0:
                number = self._take_spill()
                bucket.overflow = number
            bucket = self._spilled(bucket.overflow)

    def _take_spill(self):
        number: uint32_t = self.free_spill
        bucket: cython.pointer(Bucket)
        if number != 0:
            bucket = cython.cast(cython.pointer(Bucket), self.spill.data) + number
            self.free_spill = bucket.overflow
            self.spill_free_count -= 1
        else:
            number = cython.cast(uint32_t, self.spill.used // BUCKET_BYTES)
            self.spill.used += BUCKET_BYTES
            bucket = cython.cast(cython.pointer(Bucket), self.spill.data) + number
        memset(bucket, 0, BUCKET_BYTES)
        return number

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
        home = self._home(key.hash, self.buckets)
        _begin_write(home)
        self._place(home, key.hash, entry)
        _end_write(home)
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
        home = self._home(key.hash, self.buckets)
        old = slot.bucket.entries[slot.index]
        _begin_write(home)
        slot.bucket.entries[slot.index] = 0
        if home.overflow != 0:
            self._tidy(home)
        _end_write(home)
        self.keys -= 1
        if self.keys < self.buckets * KEYS_PER_BUCKET_MIN and self.buckets > BUCKETS_MIN:
            self._merge()
        return old

    def replace(self, key, old, new):
        bucket: cython.pointer(Bucket) = self._home(key.hash, self.buckets)
        bits: uint32_t
        i: cython.int
        while bucket != cython.NULL:
            bits = _matches(bucket, key.hash)
            for i in range(BUCKET_ENTRIES):
                if (bits >> i) & 1 and bucket.entries[i] == old:
                    store_release64(cython.address(bucket.entries[i]), new)
                    return True
            bucket = self._spilled(bucket.overflow)
        return False

    def _tidy(self, home):
        """Fill free places of the chain from its end and free the overflow buckets that become empty."""
        last: cython.pointer(Bucket)
        before: cython.pointer(Bucket)
        target: cython.pointer(Bucket)
        number: uint32_t
        i: cython.int
        j: cython.int
        while home.overflow != 0:
            before = home
            last = self._spilled(home.overflow)
            while last.overflow != 0:
                before = last
                last = self._spilled(last.overflow)
            target = home
            i = 0
            for j in range(BUCKET_ENTRIES):
                if last.entries[j] == 0:
                    continue
                while target != last:
                    while i < BUCKET_ENTRIES and target.entries[i] != 0:
                        i += 1
                    if i < BUCKET_ENTRIES:
                        break
                    target = self._spilled(target.overflow)
                    i = 0
                if target == last:
                    return
                target.hashes[i] = last.hashes[j]
                target.entries[i] = last.entries[j]
                last.entries[j] = 0
            number = before.overflow
            before.overflow = 0
            last.overflow = self.free_spill
            self.free_spill = number
            self.spill_free_count += 1

    def _chain_length(self, home):
        length: uint64_t = 0
        bucket: cython.pointer(Bucket) = self._spilled(home.overflow)
        while bucket != cython.NULL:
            length += 1
            bucket = self._spilled(bucket.overflow)
        return length

    def _split(self):
        """Move the half of one bucket that belongs to the next new one."""
        number: uint64_t = self.buckets
        bit: uint64_t = _level_bit(number)
        source: cython.pointer(Bucket) = cython.cast(cython.pointer(Bucket), self.primary.data) + (number - bit)
        target: cython.pointer(Bucket) = cython.cast(cython.pointer(Bucket), self.primary.data) + number
        bucket: cython.pointer(Bucket) = source
        i: cython.int
        if self.primary.reserve(BUCKET_BYTES) != 0:
            return
        if self.spill.reserve((self._chain_length(source) + 1) * BUCKET_BYTES) != 0:
            return
        self.primary.used += BUCKET_BYTES
        memset(target, 0, BUCKET_BYTES)
        _begin_write(source)
        while bucket != cython.NULL:
            for i in range(BUCKET_ENTRIES):
                if bucket.entries[i] != 0 and bucket.hashes[i] & bit:
                    self._place(target, bucket.hashes[i], bucket.entries[i])
                    bucket.entries[i] = 0
            bucket = self._spilled(bucket.overflow)
        self._tidy(source)
        self.level_bit = bit
        store_release64(cython.address(self.buckets), number + 1)
        _end_write(source)

    def _merge(self):
        """Undo the last split."""
        number: uint64_t = self.buckets - 1
        bit: uint64_t = _level_bit(number)
        target: cython.pointer(Bucket) = cython.cast(cython.pointer(Bucket), self.primary.data) + (number - bit)
        source: cython.pointer(Bucket) = cython.cast(cython.pointer(Bucket), self.primary.data) + number
        bucket: cython.pointer(Bucket) = source
        i: cython.int
        if self.spill.reserve((self._chain_length(source) + 2) * BUCKET_BYTES) != 0:
            return
        _begin_write(source)
        _begin_write(target)
        store_release64(cython.address(self.buckets), number)
        while bucket != cython.NULL:
            for i in range(BUCKET_ENTRIES):
                if bucket.entries[i] != 0:
                    self._place(target, bucket.hashes[i], bucket.entries[i])
                    bucket.entries[i] = 0
            bucket = self._spilled(bucket.overflow)
        self._tidy(source)
        _end_write(target)
        _end_write(source)
        self.level_bit = _level_bit(number)
        self.primary.used -= BUCKET_BYTES
        if number == bit:
            self.primary.shrink(self.primary.used)

    def find_many(self, keys, count, entries):
        """Two passes over each group: bring the buckets in, bring the records in; then look."""
        start: uint64_t = 0
        end: uint64_t
        i: uint64_t
        while start < count:
            end = min(start + GROUP, count)
            for i in range(start, end):
                home: cython.pointer(Bucket) = self._home(keys[i].hash, self.buckets)
                prefetch(home)
                prefetch(cython.cast(cython.pointer(uint32_t), home) + 16)
            if self.log.is_mapped:
                for i in range(start, end):
                    self._prefetch_record(cython.address(keys[i]))
            for i in range(start, end):
                entries[i] = self.find(cython.address(keys[i]))
            start = end

    def _prefetch_record(self, key):
        """Bring the probable record into cache; a wrong guess costs nothing but time."""
        home: cython.pointer(Bucket) = self._home(key.hash, self.buckets)
        bits: uint32_t = _matches(home, key.hash)
        position: uint64_t
        ref: cython.pointer(SegmentRef)
        i: cython.int
        for i in range(BUCKET_ENTRIES):
            if (bits >> i) & 1:
                position = newest_position(self.log, home.entries[i])
                ref = segment_ref(self.log, segment_of(position))
                if position != 0 and ref != cython.NULL and ref.data != cython.NULL:
                    prefetch(ref.data + offset_of(position))
                    prefetch(ref.data + offset_of(position) + 64)
                    prefetch(ref.data + offset_of(position) + 128)
                return

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
                bucket = self._home(cython.cast(uint32_t, number), buckets)
                steps = 0
                while bucket != cython.NULL and steps < CHAIN_MAX:
                    for i in range(BUCKET_ENTRIES):
                        if bucket.entries[i] != 0 and bucket.hashes[i] & (state.modulus - 1) == state.cursor:
                            if taken < capacity:
                                entries[taken] = bucket.entries[i]
                            taken += 1
                    steps += 1
                    bucket = self._spilled(bucket.overflow)
                number += state.modulus
                if number >= buckets:
                    break
            fence_acquire()
            if self.buckets == buckets and self._class_versions(state, buckets) == versions and not versions & 1:
                return taken if taken <= capacity else -1

    def _class_versions(self, state, buckets):
        """A sum of the versions of the buckets of a class; odd while one is being written."""
        number: uint64_t = state.cursor
        total: uint64_t = 0
        odd: uint64_t = 0
        version: uint32_t
        while True:
            version = load_acquire32(cython.address(self._home(cython.cast(uint32_t, number), buckets).version))
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
