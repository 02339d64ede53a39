"""Which key comes next: the choosers of YCSB (Cooper et al., Benchmarking Cloud Serving Systems with YCSB, 2010).

Zipfian numbers are drawn by the method of Gray et al., Quickly Generating Billion-Record Synthetic Databases, 1994:
item 0 is the most frequent, item i is drawn with a chance proportional to 1 / (i + 1)^theta. YCSB scatters them over
the keys by FNV-1a ("scrambled"), with the zeta of 10^10 items; here it is that of the keys themselves, so that the
shares are those of the definition. "Latest" draws the same from the newest key down.
"""

from __future__ import annotations

import math
import random
from functools import lru_cache

THETA = 0.99
_FNV_OFFSET = 0xCBF29CE484222325
_FNV_PRIME = 0x100000001B3
_MASK = (1 << 64) - 1


@lru_cache(maxsize=64)
def zeta(items: int, theta: float = THETA) -> float:
    """Sum of 1 / i^theta for i from 1 to `items`: what the chances are divided by."""
    return math.fsum(math.pow(i, -theta) for i in range(1, items + 1))


class Zipfian:
    """Draws 0 .. items - 1, low numbers most."""

    def __init__(self, items: int, rng: random.Random, theta: float = THETA) -> None:
        if items < 1:
            raise ValueError("a distribution needs at least one item")
        self.items = items
        self._rng = rng
        self._theta = theta
        self._zeta_n = zeta(items, theta)
        self._alpha = 1 / (1 - theta)
        self._first_two = 1 + 0.5**theta
        self._eta = 1.0
        if items > 2:
            self._eta = (1 - (2 / items) ** (1 - theta)) / (1 - zeta(2, theta) / self._zeta_n)

    def draw(self) -> int:
        u = self._rng.random()
        scaled = u * self._zeta_n
        if scaled < 1 or self.items == 1:
            return 0
        if scaled < self._first_two or self.items == 2:
            return 1
        return min(self.items - 1, int(self.items * (self._eta * u - self._eta + 1) ** self._alpha))


class Scrambled:
    """Zipfian, the frequent items scattered over the keys; two items may fall on one key, as in YCSB."""

    def __init__(self, items: int, rng: random.Random) -> None:
        self.items = items
        self._zipfian = Zipfian(items, rng)

    def draw(self) -> int:
        return fnv1a(self._zipfian.draw()) % self.items


class Latest:
    """Zipfian from the newest key down; `items` grows with each insert."""

    def __init__(self, items: int, rng: random.Random) -> None:
        self.items = items
        self._zipfian = Zipfian(items, rng)

    def draw(self) -> int:
        # The few inserts of a run hardly move zeta, which is therefore that of the keys at the beginning.
        return self.items - 1 - self._zipfian.draw()


class Uniform:
    def __init__(self, items: int, rng: random.Random) -> None:
        self.items = items
        self._rng = rng

    def draw(self) -> int:
        return self._rng.randrange(self.items)


def fnv1a(number: int) -> int:
    """FNV-1a over the 8 bytes of `number`, 64 bits."""
    found = _FNV_OFFSET
    for byte in number.to_bytes(8, "little"):
        found = (found ^ byte) * _FNV_PRIME & _MASK
    return found
