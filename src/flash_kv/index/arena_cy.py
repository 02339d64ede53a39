"""An arena: memory of an index, addressed by offsets from a base that never moves.

A large range of address space is reserved once and made accessible in steps as it is used, so growth copies nothing
and a reader that runs without a lock never sees its memory move. Nothing in an arena is a pointer: the same bytes can
later lie in a mapped file and be shared between processes.
"""

import cython
from cython.cimports.flash_kv.index.arena_cy import Arena
from cython.cimports.flash_kv.io.memory_cy import is_refused, map_range, unmap_range
from cython.cimports.libc.stdint import uint8_t, uint64_t
from cython.cimports.posix.mman import PROT_READ, PROT_WRITE, madvise, mprotect

# Address space asked for: room for a thousand million keys, and for hundreds of stores in one process. Halved until the
# system grants it (a limit on address space is common in containers).
RESERVED_BYTES_MAX = cython.declare(uint64_t, 1 << 36)
RESERVED_BYTES_MIN = cython.declare(uint64_t, 1 << 24)
STEP_BYTES_MIN = cython.declare(uint64_t, 1 << 16)
HUGE_PAGE_BYTES = cython.declare(uint64_t, 1 << 21)
MADV_DONTNEED = cython.declare(cython.int, 4)
MADV_HUGEPAGE = cython.declare(cython.int, 14)  # Linux; elsewhere madvise refuses it, which is harmless


@cython.cclass
class Arena:
    """Growable memory at a fixed address."""

    def __cinit__(self):
        address: cython.p_void = cython.NULL
        accessible: cython.size_t = 0
        size: uint64_t = RESERVED_BYTES_MAX
        while address == cython.NULL and size >= RESERVED_BYTES_MIN:
            address = map_range(size, cython.address(accessible))
            if address == cython.NULL:
                size >>= 1
        if address == cython.NULL:
            raise MemoryError(f"cannot reserve {RESERVED_BYTES_MIN} bytes of address space for an index")
        self._range = cython.cast(cython.pointer(uint8_t), address)
        self._range_size = size
        # Only a whole, aligned stretch of 2 MiB can become a huge page.
        slack: uint64_t = -cython.cast(uint64_t, address) & (HUGE_PAGE_BYTES - 1)
        self.data = self._range + slack
        self.reserved = (size - slack) & ~(HUGE_PAGE_BYTES - 1)
        self.committed = accessible - slack if accessible > slack else 0

    def __dealloc__(self):
        slack: uint64_t = self.data - self._range
        unmap_range(self._range, self._range_size, self.committed + slack)

    def reserve(self, size):
        wanted: uint64_t = self.used + size
        step: uint64_t
        if wanted <= self.committed:
            return 0
        # An eighth more than asked for keeps the number of calls small and the slack under 12 %.
        step = self.committed >> 3
        step = max(step, wanted - self.committed)
        end: uint64_t = self.committed + step
        unit: uint64_t = STEP_BYTES_MIN if end < HUGE_PAGE_BYTES else HUGE_PAGE_BYTES
        end = min((end + unit - 1) & ~(unit - 1), self.reserved)
        if (
            wanted > end
            or is_refused()
            or mprotect(self.data + self.committed, end - self.committed, PROT_READ | PROT_WRITE) != 0
        ):
            return -1
        if end > HUGE_PAGE_BYTES:
            # Fewer TLB misses on random access; without it everything still works.
            madvise(self.data, end, MADV_HUGEPAGE)
        self.committed = end
        return 0

    def shrink(self, used):
        """Give whole pages above `used` back to the system; they read as zeros if used again."""
        kept: uint64_t = (used + HUGE_PAGE_BYTES - 1) & ~(HUGE_PAGE_BYTES - 1)
        self.used = used
        if kept < self.committed:
            madvise(self.data + kept, self.committed - kept, MADV_DONTNEED)

    @property
    def bytes_used(self) -> int:
        """Bytes handed out."""
        return self.used
