"""Waiting for what happens in the background: until it has, with a deadline that only a defect reaches."""

from __future__ import annotations

import time
from collections.abc import Callable

# Far beyond what a busy machine needs: who reaches it has waited for what never comes.
DEADLINE_S = 60.0


def wait_until(is_so: Callable[[], object], timeout_s: float = DEADLINE_S) -> None:
    """Back as soon as `is_so()` is true; AssertionError when it is not in time."""
    ends = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < ends, f"not so after {timeout_s} s"
        time.sleep(0.001)
