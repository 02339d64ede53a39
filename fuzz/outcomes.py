"""What a run has come to, told to the fuzzer as places in the code that were reached.

atheris counts how often each place of instrumented Python code runs and keeps inputs that reach a new one. Each outcome
gets a small function of its own, so a new outcome is a new place.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

COUNT = 1024


def _make(number: int) -> Callable[[], int]:
    namespace: dict[str, Callable[[], int]] = {}
    exec(f"def outcome_{number}():\n    return {number}", namespace)
    return namespace[f"outcome_{number}"]


_FUNCTIONS: list[Callable[[], int]] = []


def instrument() -> None:
    """Have outcomes counted from now on."""
    import atheris

    _FUNCTIONS[:] = [atheris.instrument_func(_make(number)) for number in range(COUNT)]


def tell(*outcome: object) -> None:
    """This has come of it; without a fuzzer nobody listens."""
    if _FUNCTIONS:
        _FUNCTIONS[zlib.crc32(repr(outcome).encode()) % COUNT]()


def size_class(number: int) -> int:
    """Numbers of about the same size are one outcome."""
    return number.bit_length()
