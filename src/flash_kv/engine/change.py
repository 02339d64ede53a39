"""One change of a store, as it is read back out of the log."""

from __future__ import annotations

from typing import NamedTuple


class Change(NamedTuple):
    """A put or a delete that was committed."""

    lsn: int
    """Its place in the order of all changes; each has its own."""
    key: bytes
    value: bytes | None
    """None for a delete, and where the value is larger than was asked for."""
    is_delete: bool
    value_size: int
    """Bytes of the value; 0 for a delete."""
