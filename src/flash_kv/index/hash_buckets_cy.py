"""The buckets of the hash index and how they grow: linear hashing, one bucket split at a time.

Invariants: every entry stands in the chain of its home bucket; the version of a home bucket guards its whole chain;
the number of buckets is published after the split it announces is complete. Requires: write lock held.
"""

import cython
from cython.cimports.flash_kv.index.arena_cy import Arena
from cython.cimports.flash_kv.index.hash_buckets_cy import (
    BUCKET_ENTRIES,
    BUCKETS_MIN,
    Bucket,
    begin_write,
    end_write,
    level_of,
    spilled_bucket,
)
from cython.cimports.flash_kv.index.index_cy import Index
from cython.cimports.flash_kv.intrinsics import clear_words, store_release64
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memset

BUCKET_BYTES = cython.declare(uint64_t, cython.sizeof(Bucket))


@cython.cclass
class HashBuckets(Index):
    """Buckets, overflow buckets, splits and merges."""

    def __cinit__(self, table, hash_key):
        self.primary = Arena()
        self.spill = Arena()
        self._empty()

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

    def _place(self, home, hash, entry):
        """Put a new pair into the chain of `home`; `reserve` has seen to the room."""
        bucket: cython.pointer(Bucket) = home
        i: cython.int
        number: uint32_t
        while True:
            for i in range(BUCKET_ENTRIES):
                if bucket.entries[i] == 0:
                    bucket.hashes[i] = hash
                    store_release64(cython.address(bucket.entries[i]), entry)
                    return
            if bucket.overflow == 0:
                number = self._take_spill()
                bucket.overflow = number
            bucket = spilled_bucket(self, bucket.overflow)

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
        clear_words(cython.cast(cython.pointer(uint64_t), bucket), BUCKET_BYTES // 8)
        return number

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
            last = spilled_bucket(self, home.overflow)
            while last.overflow != 0:
                before = last
                last = spilled_bucket(self, last.overflow)
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
                    target = spilled_bucket(self, target.overflow)
                    i = 0
                if target == last:
                    return
                target.hashes[i] = last.hashes[j]
                store_release64(cython.address(target.entries[i]), last.entries[j])
                store_release64(cython.address(last.entries[j]), 0)
            number = before.overflow
            before.overflow = 0
            last.overflow = self.free_spill
            self.free_spill = number
            self.spill_free_count += 1

    def _chain_length(self, home):
        length: uint64_t = 0
        bucket: cython.pointer(Bucket) = spilled_bucket(self, home.overflow)
        while bucket != cython.NULL:
            length += 1
            bucket = spilled_bucket(self, bucket.overflow)
        return length

    def _split(self):
        """Move the half of one bucket that belongs to the next new one."""
        number: uint64_t = self.buckets
        bit: uint64_t = level_of(number)
        source: cython.pointer(Bucket) = cython.cast(cython.pointer(Bucket), self.primary.data) + (
            number - bit
        )
        target: cython.pointer(Bucket) = cython.cast(cython.pointer(Bucket), self.primary.data) + number
        bucket: cython.pointer(Bucket) = source
        i: cython.int
        if self.primary.reserve(BUCKET_BYTES) != 0:
            return
        if self.spill.reserve((self._chain_length(source) + 1) * BUCKET_BYTES) != 0:
            return
        self.primary.used += BUCKET_BYTES
        clear_words(cython.cast(cython.pointer(uint64_t), target), BUCKET_BYTES // 8)
        begin_write(source)
        while bucket != cython.NULL:
            for i in range(BUCKET_ENTRIES):
                if bucket.entries[i] != 0 and bucket.hashes[i] & bit:
                    self._place(target, bucket.hashes[i], bucket.entries[i])
                    store_release64(cython.address(bucket.entries[i]), 0)
            bucket = spilled_bucket(self, bucket.overflow)
        self._tidy(source)
        self.level_bit = bit
        store_release64(cython.address(self.buckets), number + 1)
        end_write(source)

    def _merge(self):
        """Undo the last split."""
        number: uint64_t = self.buckets - 1
        bit: uint64_t = level_of(number)
        target: cython.pointer(Bucket) = cython.cast(cython.pointer(Bucket), self.primary.data) + (
            number - bit
        )
        source: cython.pointer(Bucket) = cython.cast(cython.pointer(Bucket), self.primary.data) + number
        bucket: cython.pointer(Bucket) = source
        i: cython.int
        if self.spill.reserve((self._chain_length(source) + 2) * BUCKET_BYTES) != 0:
            return
        begin_write(source)
        begin_write(target)
        store_release64(cython.address(self.buckets), number)
        while bucket != cython.NULL:
            for i in range(BUCKET_ENTRIES):
                if bucket.entries[i] != 0:
                    self._place(target, bucket.hashes[i], bucket.entries[i])
                    store_release64(cython.address(bucket.entries[i]), 0)
            bucket = spilled_bucket(self, bucket.overflow)
        self._tidy(source)
        end_write(target)
        end_write(source)
        self.level_bit = level_of(number)
        self.primary.used -= BUCKET_BYTES
        if number == bit:
            self.primary.shrink(self.primary.used)
