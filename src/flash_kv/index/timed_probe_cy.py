"""Loops over an index in C: what benchmarks measure, and what runs beside another thread without the GIL.

The keys of the loops are numbered and lie one after another in one piece of memory; each has two records in the log.
"""

from time import perf_counter_ns

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING
from cython.cimports.flash_kv.index.index_cy import Walk
from cython.cimports.flash_kv.index.probe_cy import Bytes, IndexProbe
from cython.cimports.flash_kv.index.timed_probe_cy import TimedProbe
from cython.cimports.flash_kv.io.memory_cy import malloc
from cython.cimports.flash_kv.log.format import ENTRY_ERROR
from cython.cimports.flash_kv.log.table_cy import Key, load_key
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import memcmp, memcpy, memset

WALK_CAPACITY = cython.declare(uint64_t, 256)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _mixed(x: uint64_t) -> uint64_t:
    """A bijection of 64-bit numbers without pattern, by shifts and odd factors."""
    odd: uint64_t = 0x9E3779B9
    odd = odd << 32 | 0x7F4A7C15
    x = (x + 1) * odd
    x ^= x >> 30
    x *= odd ^ (odd << 7)
    x ^= x >> 27
    x *= odd
    return x ^ (x >> 31)


@cython.cclass
class TimedProbe(IndexProbe):
    """A probe with numbered keys."""

    def __dealloc__(self):
        self._forget_keys()

    def _forget_keys(self):
        free(self.key_bytes)
        free(self.key_offsets)
        free(self.positions)
        self.key_bytes = cython.NULL
        self.key_offsets = cython.NULL
        self.positions = cython.NULL
        self.key_count = 0

    def prepare(self, keys: list) -> None:
        """Set the numbered keys of the compiled loops, and append two records for each."""
        count: uint64_t = len(keys)
        joined: bytes = b"".join(keys)
        i: uint64_t
        offset: uint64_t = 0
        self._forget_keys()
        self._allocate_keys(count, len(joined))
        memcpy(self.key_bytes, PyBytes_AS_STRING(joined), len(joined))
        for i in range(count):
            self.key_offsets[i] = offset
            offset += len(keys[i])
        self.key_offsets[count] = offset
        for i in range(2 * count):
            self.positions[i] = self._append(
                self.key_bytes + self.key_offsets[i % count], len(keys[i % count])
            )

    def _allocate_keys(self, count, size):
        self.key_bytes = cython.cast(cython.pointer(uint8_t), malloc(size + 1))
        self.key_offsets = cython.cast(
            cython.pointer(uint64_t), malloc((count + 1) * cython.sizeof(uint64_t))
        )
        self.positions = cython.cast(
            cython.pointer(uint64_t), malloc((2 * count + 1) * cython.sizeof(uint64_t))
        )
        if self.key_bytes == cython.NULL or self.key_offsets == cython.NULL or self.positions == cython.NULL:
            raise MemoryError("no memory for the keys")
        self.key_count = count
        return 0

    def prepare_many(self, count: int, size: int, is_decimal: bool, order: str) -> None:
        """Numbered keys made here, of random bytes or a decimal number with zeros before it; each with one record."""
        i: uint64_t
        j: uint64_t
        rest: uint64_t
        data: cython.pointer(uint8_t)
        key_size: uint64_t = size
        total: uint64_t = count
        self._forget_keys()
        self._allocate_keys(total, key_size * total)
        for i in range(total):
            data = self.key_bytes + i * key_size
            rest = total - 1 - i if order == "descending" else i
            for j in range(key_size):
                if is_decimal:
                    data[key_size - 1 - j] = cython.cast(uint8_t, 48 + rest % 10)
                    rest //= 10
                else:
                    data[j] = cython.cast(uint8_t, _mixed(i * key_size + j) & 255)
        for i in range(total + 1):
            self.key_offsets[i] = i * key_size
        if order == "shuffled":
            self._shuffle(key_size)
        for i in range(total):
            self.positions[i] = self._append(self.key_bytes + i * key_size, key_size)
            self.positions[total + i] = self.positions[i]

    def _shuffle(self, size):
        i: uint64_t
        j: uint64_t
        spare = cython.cast(cython.pointer(uint8_t), malloc(size))
        if spare == cython.NULL:
            raise MemoryError("no memory for a key")
        for i in range(1, self.key_count):
            j = _mixed(i) % (i + 1)
            memcpy(spare, self.key_bytes + i * size, size)
            memcpy(self.key_bytes + i * size, self.key_bytes + j * size, size)
            memcpy(self.key_bytes + j * size, spare, size)
        free(spare)
        return 0

    def _numbered(self, number):
        return self._key(
            self.key_bytes + self.key_offsets[number],
            cython.cast(uint32_t, self.key_offsets[number + 1] - self.key_offsets[number]),
        )

    def time_upserts(self, start: int, end: int) -> float:
        """Nanoseconds for each upsert of the numbered keys, in their order."""
        i: uint64_t
        low: uint64_t = start
        high: uint64_t = end
        key: Key
        failed: uint64_t = 0
        begun: int = perf_counter_ns()
        with cython.nogil:
            for i in range(low, high):
                key = self._numbered(i)
                failed += self.index.reserve(1) != 0
                failed += self.index.upsert(cython.address(key), self.positions[i]) == ENTRY_ERROR
        if failed:
            raise RuntimeError(f"{failed} upserts failed")
        return (perf_counter_ns() - begun) / max(1, end - start)

    def time_finds(self, count: int, seed: int, is_missing: bool = False) -> float:
        """Nanoseconds for each find of a random numbered key, or of one that differs in the middle."""
        i: uint64_t
        j: uint64_t
        total: uint64_t = count
        at: uint64_t = seed
        entry: uint64_t
        key: Key
        wrong: uint64_t = 0
        # The keys are copied in the order they are used, so that reading them does not count.
        size: uint64_t = self.key_offsets[1]
        copies = cython.cast(cython.pointer(uint8_t), malloc(total * size))
        expected = cython.cast(cython.pointer(uint64_t), malloc(total * cython.sizeof(uint64_t)))
        for i in range(total):
            j = _mixed(at + i) % self.key_count
            memcpy(copies + i * size, self.key_bytes + j * size, size)
            expected[i] = 0 if is_missing else self.positions[j]
            if is_missing:
                copies[i * size + size // 2 - 1] ^= 128
        begun: int = perf_counter_ns()
        with cython.nogil:
            for i in range(total):
                key = self._key(copies + i * size, cython.cast(uint32_t, size))
                entry = self.index.find(cython.address(key))
                wrong += entry != expected[i]
        elapsed: int = perf_counter_ns() - begun
        free(copies)
        free(expected)
        if wrong:
            raise RuntimeError(f"{wrong} of {count} finds were wrong")
        return elapsed / count

    def time_find_many(self, count: int, seed: int, batch: int) -> float:
        """Nanoseconds a key for find_many of `batch` random numbered keys at a time."""
        i: uint64_t
        j: uint64_t
        k: uint64_t
        total: uint64_t = count // batch * batch
        step: uint64_t = batch
        at: uint64_t = seed
        wrong: uint64_t = 0
        size: uint64_t = self.key_offsets[1]
        copies = cython.cast(cython.pointer(uint8_t), malloc(total * size))
        expected = cython.cast(cython.pointer(uint64_t), malloc(total * cython.sizeof(uint64_t)))
        keys = cython.cast(cython.pointer(Key), malloc(step * cython.sizeof(Key)))
        entries = cython.cast(cython.pointer(uint64_t), malloc(step * cython.sizeof(uint64_t)))
        for i in range(total):
            j = _mixed(at + i) % self.key_count
            memcpy(copies + i * size, self.key_bytes + j * size, size)
            expected[i] = self.positions[j]
        begun: int = perf_counter_ns()
        with cython.nogil:
            for i in range(total // step):
                for k in range(step):
                    keys[k] = self._key(copies + (i * step + k) * size, cython.cast(uint32_t, size))
                self.index.find_many(keys, step, entries)
                for k in range(step):
                    wrong += entries[k] != expected[i * step + k]
        elapsed: int = perf_counter_ns() - begun
        free(copies)
        free(expected)
        free(keys)
        free(entries)
        if wrong:
            raise RuntimeError(f"{wrong} of {count} finds were wrong")
        return elapsed / total

    def time_removes(self, start: int, end: int) -> float:
        """Nanoseconds for each removal of the numbered keys, in their order."""
        i: uint64_t
        low: uint64_t = start
        high: uint64_t = end
        key: Key
        wrong: uint64_t = 0
        begun: int = perf_counter_ns()
        with cython.nogil:
            for i in range(low, high):
                key = self._numbered(i)
                wrong += self.index.remove(cython.address(key)) != self.positions[i]
        if wrong:
            raise RuntimeError(f"{wrong} removals were wrong")
        return (perf_counter_ns() - begun) / max(1, end - start)

    def count_walk(self, stable_max: int = 0, is_reverse: bool = False) -> tuple:
        """Walk over everything: entries, those at most `stable_max`, keys out of order, and elapsed nanoseconds.

        With `stable_max` 0 the order is not checked and only the last key of each call is read.
        """
        entries: uint64_t[256]
        state: Walk
        taken: uint64_t
        i: uint64_t
        total: uint64_t = 0
        stable: uint64_t = 0
        disorder: uint64_t = 0
        limit: uint64_t = stable_max
        size: uint32_t = 0
        data: Bytes = cython.NULL
        previous: Bytes = cython.NULL
        previous_size: uint32_t = 0
        order: cython.int
        unused: cython.pointer(uint8_t) = cython.NULL
        unused_size: uint64_t = 0
        key: Key
        if not self.is_mapped:
            raise ValueError("keys must be mapped")
        memset(cython.address(state), 0, cython.sizeof(Walk))
        state.is_reverse = is_reverse
        begun: int = perf_counter_ns()
        with cython.nogil:
            while not state.is_done:
                taken = self.index.walk(cython.address(state), entries, WALK_CAPACITY)
                if taken == 0:
                    disorder += state.bad_position != 0
                    break
                for i in range(0 if limit else taken - 1, taken):
                    data = load_key(
                        self.index.log,
                        entries[i],
                        cython.address(size),
                        cython.address(unused),
                        cython.address(unused_size),
                        cython.address(key),
                    )
                    if previous != cython.NULL and self.index.is_ordered:
                        order = memcmp(previous, data, min(previous_size, size))
                        if order == 0:
                            order = -1 if previous_size < size else 1
                        disorder += order > 0 if not is_reverse else order < 0
                    previous = data
                    previous_size = size
                    stable += entries[i] <= limit
                total += taken
                state.key = data
                state.key_size = size
                state.has_key = True
                state.is_started = True
        return total, stable, disorder, perf_counter_ns() - begun

    def churn(self, count: int, seed: int) -> int:
        """Insert, overwrite and remove random numbered keys `count` times, without the GIL; the failures."""
        i: uint64_t
        j: uint64_t
        total: uint64_t = count
        at: uint64_t = seed
        failed: uint64_t = 0
        key: Key
        old: uint64_t
        choice: uint64_t
        with cython.nogil:
            for i in range(total):
                choice = _mixed(at + i)
                j = (choice >> 8) % self.key_count
                key = self._numbered(j)
                old = self.index.find(cython.address(key))
                if old == 0:
                    failed += self.index.reserve(1) != 0
                    failed += self.index.upsert(cython.address(key), self.positions[j]) != 0
                elif choice & 3 == 0:
                    choice = (
                        self.positions[j] if old != self.positions[j] else self.positions[self.key_count + j]
                    )
                    failed += not self.index.replace(cython.address(key), old, choice)
                else:
                    failed += self.index.remove(cython.address(key)) != old
        return failed

    def watch(self, keys: list, rounds: int) -> int:
        """Find keys that are in the index again and again, one by one and together, without the GIL; the failures."""
        count: uint64_t = len(keys)
        many: uint64_t = rounds
        failed: uint64_t = 0
        i: uint64_t
        turn: uint64_t
        looked = cython.cast(cython.pointer(Key), malloc((count + 1) * cython.sizeof(Key)))
        entries = cython.cast(cython.pointer(uint64_t), malloc((count + 1) * cython.sizeof(uint64_t)))
        for i in range(count):
            looked[i] = self._key(cython.cast(Bytes, PyBytes_AS_STRING(keys[i])), len(keys[i]))
        with cython.nogil:
            for turn in range(many):
                if turn & 1:
                    self.index.find_many(looked, count, entries)
                for i in range(count):
                    if not turn & 1:
                        entries[i] = self.index.find(cython.address(looked[i]))
                    failed += entries[i] == 0 or entries[i] == ENTRY_ERROR
        free(looked)
        free(entries)
        return failed

    def time_hot_finds(self, count: int, keys: int) -> float:
        """Nanoseconds for each find of the first `keys` numbered keys, again and again."""
        i: uint64_t
        total: uint64_t = count
        few: uint64_t = keys
        entry: uint64_t
        key: Key
        wrong: uint64_t = 0
        begun: int = perf_counter_ns()
        with cython.nogil:
            for i in range(total):
                key = self._numbered(i % few)
                entry = self.index.find(cython.address(key))
                wrong += entry != self.positions[i % few]
        if wrong:
            raise RuntimeError(f"{wrong} of {count} finds were wrong")
        return (perf_counter_ns() - begun) / count
