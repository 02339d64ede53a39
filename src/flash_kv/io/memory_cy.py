"""Where compiled modules get memory from: `malloc`, `calloc` and `realloc` of the C library, which tests can make fail.

What these give is given back by the C library's `free`, what `map_range` gives by `unmap_range`. Between two
allocations nothing of this runs, and an allocation pays one call and one comparison more.

A few ranges of stores that have been closed are kept, without their pages, for the stores opened next: most of the time
that a small store takes to open and close would be the system's, making and dropping page tables.

Requires: the GIL for `map_range` and `unmap_range`. `refuse_allocation` while other threads allocate counts theirs too.
"""

import sys

import cython
from cython.cimports.flash_kv.intrinsics import unlikely
from cython.cimports.libc import stdlib
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.posix.mman import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_PRIVATE,
    PROT_NONE,
    PROT_READ,
    PROT_WRITE,
    madvise,
    mmap,
    mprotect,
    munmap,
)

Spare = cython.struct(start=cython.p_void, size=cython.size_t, accessible=cython.size_t)

# Elsewhere what this advice leaves behind are not zeros.
SPARES_MAX = cython.declare(cython.int, 16 if sys.platform == "linux" else 0)
# Of what was used more the pages are not worth keeping apart, and huge pages are wanted.
SPARE_ACCESSIBLE_MAX = cython.declare(cython.size_t, 1 << 20)
MADV_DONTNEED = cython.declare(cython.int, 4)

_spares = cython.declare(Spare[16])
_spare_count = cython.declare(cython.int, 0)

# 0: none is refused. Else the how-many-th from now is.
_left = cython.declare(uint64_t, 0)
_is_for_good = cython.declare(cython.bint, False)
_refused = cython.declare(uint64_t, 0)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _is_due() -> cython.bint:
    global _left, _refused
    if _left > 1:
        _left -= 1
        return False
    if not _is_for_good:
        _left = 0
    _refused += 1
    return True


def is_refused():
    return unlikely(_left != 0) and _is_due()


def malloc(size):
    if unlikely(_left != 0) and _is_due():
        return cython.NULL
    return stdlib.malloc(size)


def calloc(count, size):
    if unlikely(_left != 0) and _is_due():
        return cython.NULL
    return stdlib.calloc(count, size)


def realloc(old, size):
    if unlikely(_left != 0) and _is_due():
        return cython.NULL
    return stdlib.realloc(old, size)


def map_range(size, accessible):
    global _spare_count
    i: cython.int
    start: cython.p_void
    if unlikely(_left != 0) and _is_due():
        return cython.NULL
    for i in range(_spare_count):
        if _spares[i].size == size:
            start = _spares[i].start
            accessible[0] = _spares[i].accessible
            _spare_count -= 1
            _spares[i] = _spares[_spare_count]
            return start
    accessible[0] = 0
    start = mmap(cython.NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    return cython.NULL if start == MAP_FAILED else start


def unmap_range(start, size, accessible):
    global _spare_count
    if start == cython.NULL:
        return
    if (
        _spare_count < SPARES_MAX
        and accessible <= SPARE_ACCESSIBLE_MAX
        and madvise(start, accessible, MADV_DONTNEED) == 0
    ):
        _spares[_spare_count] = Spare(start=start, size=size, accessible=accessible)
        _spare_count += 1
    else:
        munmap(start, size)


def map_pages(size):
    accessible: cython.size_t
    pages: cython.p_void = map_range(size, cython.address(accessible))
    if pages == cython.NULL:
        return cython.NULL
    if accessible < size and mprotect(pages, size, PROT_READ | PROT_WRITE) != 0:
        munmap(pages, size)
        return cython.NULL
    return pages


def unmap_pages(pages, size):
    unmap_range(pages, size, size)


def refuse_allocation(nth: int, is_for_good: bool = False) -> None:
    """From now on the `nth` allocation (from 1) of all compiled modules finds no memory, or it and all after it."""
    global _left, _is_for_good, _refused
    if nth < 1:
        raise ValueError(f"nth counts from 1, not {nth}")
    _is_for_good = is_for_good
    _refused = 0
    _left = nth


def allow_allocations() -> int:
    """Refuse none any more; how many were refused since `refuse_allocation`."""
    global _left
    _left = 0
    return _refused
