"""The keys and values of a run: made from ordinals, so that nothing has to be kept to check an answer.

Invariants:
- Key `i` is the decimal of `2 * i`, zero-padded to the key size: LevelDB's db_bench keys. The odd numbers
  are the missing keys, which therefore fall between the present ones, not behind the last.
- Every list is made of new objects in the order of their use. A key that is looked up is never the object
  that was inserted, has no hash cached in it, and is as warm as one a caller has just received.
- Values are cut from random bytes, so no store gains from compressing them.
"""

from __future__ import annotations

import random

from flash_kv.bench.stores.base import Pairs

_POOL_BYTES = 1 << 20
_STRIDE = 7919
_VERSION_STRIDE = 104_729


class Dataset:
    """`keys` keys of `key_bytes` and their values of `value_bytes`, in any number of versions."""

    def __init__(self, keys: int, key_bytes: int, value_bytes: int, seed: int) -> None:
        if len(str(2 * keys)) > key_bytes:
            raise ValueError(f"{keys} keys don't fit {key_bytes} decimal digits; use fewer or longer keys")
        self.key_count = keys
        self.key_bytes = key_bytes
        self.value_bytes = value_bytes
        self._format = b"%%0%dd" % key_bytes
        self._pool = random.Random(seed).randbytes(_POOL_BYTES + value_bytes)

    @property
    def payload_bytes(self) -> int:
        """Key and value of one record, the same for every store whatever its own overhead."""
        return self.key_bytes + self.value_bytes

    def keys(self, ordinals: list[int]) -> list[bytes]:
        make = self._format
        return [make % (2 * ordinal) for ordinal in ordinals]

    def missing_keys(self, ordinals: list[int]) -> list[bytes]:
        make = self._format
        return [make % (2 * ordinal + 1) for ordinal in ordinals]

    def values(self, ordinals: list[int], version: int) -> list[bytes]:
        pool, size, shift = self._pool, self.value_bytes, version * _VERSION_STRIDE
        starts = [(ordinal * _STRIDE + shift) % _POOL_BYTES for ordinal in ordinals]
        return [pool[start : start + size] for start in starts]

    def pairs(self, ordinals: list[int], version: int) -> Pairs:
        return list(zip(self.keys(ordinals), self.values(ordinals, version), strict=True))


def in_slices(ordinals: list[int], size: int) -> list[list[int]]:
    """`ordinals` cut into lists of `size`, the last one shorter."""
    return [ordinals[start : start + size] for start in range(0, len(ordinals), size)]
