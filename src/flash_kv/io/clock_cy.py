"""The time of day for compiled code: what decides whether a value has expired.

It is the system's clock, which may be set forwards and back. Tests shift it.
"""

import cython
from cython.cimports.flash_kv.intrinsics import realtime_ms
from cython.cimports.libc.stdint import int64_t

_shift_ms = cython.declare(int64_t, 0)


def now_ms():
    return realtime_ms() + _shift_ms


def time_ms() -> int:
    """Milliseconds since 1970, as the engine sees them."""
    return now_ms()


def shift_clock(milliseconds: int) -> None:
    """From now on the clock is so far ahead of the system's. For tests, with 0 at their end."""
    global _shift_ms
    _shift_ms = milliseconds
