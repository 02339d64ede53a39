"""Where compiled modules get memory from: `malloc`, `calloc` and `realloc` of the C library, which tests can make fail.

What these give is given back by the C library's `free`, what `map_pages` gives by `unmap_pages`. Between two
allocations nothing of this runs, and an allocation pays one call and one comparison more.

Requires: `refuse_allocation` while other threads allocate counts theirs too.
"""

import cython
from cython.cimports.flash_kv.intrinsics import unlikely
from cython.cimports.libc import stdlib
from cython.cimports.libc.stdint import uint64_t
from cython.cimports.posix.mman import (
    MAP_ANONYMOUS,
    MAP_FAILED,
    MAP_PRIVATE,
    PROT_READ,
    PROT_WRITE,
    mmap,
    munmap,
)

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


def map_pages(size):
    pages: cython.p_void
    if unlikely(_left != 0) and _is_due():
        return cython.NULL
    pages = mmap(cython.NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
    return cython.NULL if pages == MAP_FAILED else pages


def unmap_pages(pages, size):
    if pages != cython.NULL:
        munmap(pages, size)


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
