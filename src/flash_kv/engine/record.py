"""A value with what the store knows of it, and the attributes that are kept with a value."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from flash_kv.io.clock_cy import time_ms
from flash_kv.log.records import META_SIZE_MAX, encode_attributes
from flash_kv.options import Durability, DurabilitySpec, parse_durability

if TYPE_CHECKING:
    from typing_extensions import Buffer

# Milliseconds since 1970 up to the year 9999, which is as far as datetime goes.
EXPIRES_MS_MAX = 253_402_300_799_999

LSN_ANY = 2**64 - 1
LSN_SOME = 2**64 - 2


class Record(NamedTuple):
    """What `DB.get_record` finds under a key."""

    value: bytes | memoryview
    lsn: int
    """The log sequence number of this write of the key: another one for every write, and rising."""
    expires_at: float | None
    """Seconds since 1970 from which on it is gone; None: never."""
    meta: bytes
    """What was stored with the value, up to 4,096 bytes that mean nothing to the store."""


def attributes_of(ttl_s: float | None, expires_at: float | None, meta: str | Buffer) -> bytes | None:
    """The attributes as the log keeps them, None for none. ValueError for what cannot be."""
    if ttl_s is not None and expires_at is not None:
        raise ValueError("give ttl_s or expires_at, not both")
    expires_ms = 0
    if ttl_s is not None:
        if not 0 < ttl_s < math.inf:
            raise ValueError(f"ttl_s must be a number of seconds above 0, not {ttl_s!r}")
        # Rounded up: a value lives at least as long as was asked for.
        expires_ms = time_ms() + math.ceil(ttl_s * 1000)
    elif expires_at is not None:
        if not 0 < expires_at < math.inf:
            raise ValueError(f"expires_at must be a number of seconds since 1970, not {expires_at!r}")
        expires_ms = max(round(expires_at * 1000), 1)
    if expires_ms > EXPIRES_MS_MAX:
        raise ValueError(
            "a value expires before the year 10,000 or never: leave ttl_s and expires_at out for never"
        )
    kept = meta.encode() if isinstance(meta, str) else bytes(meta)
    if len(kept) > META_SIZE_MAX:
        raise ValueError(f"meta of {len(kept)} bytes is over the limit of {META_SIZE_MAX} bytes")
    return encode_attributes(expires_ms, kept) if expires_ms or kept else None


def durability_of(durability: DurabilitySpec | None) -> Durability | None:
    """That of one write, taken apart; None: as the store's."""
    return None if durability is None else parse_durability(durability)


def expected_lsn(if_lsn: int | None) -> int:
    """A condition as the engine compares it: None for none, 0 absent, -1 there, n that LSN."""
    match if_lsn:
        case None:
            return LSN_ANY
        case -1:
            return LSN_SOME
        case int() if 0 <= if_lsn < LSN_SOME and not isinstance(if_lsn, bool):
            return if_lsn
    raise ValueError(
        f"an LSN to compare with is a positive int, 0 for an absent key, or -1 for any, not {if_lsn!r}"
    )
