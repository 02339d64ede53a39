"""How long a run may take: parts of it with shares of the time, rounds of a part until its share is spent.

Invariants:
- A part's share is of what is left when it begins, so that time a part does not need goes to those after it.
- A round begins only if the longest so far would end in time. A part's first one is made whenever there is any time
  at all, that of the main part always, so a run ends late by one round at most.
- Without a limit every round is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from time import monotonic


class Part:
    """The time of one part, from the moment it is made."""

    def __init__(self, seconds: float) -> None:
        self._begin = monotonic()
        self._end = self._begin + seconds

    @property
    def seconds_left(self) -> float:
        """Infinite without a limit, never negative."""
        return max(0.0, self._end - monotonic())

    def rounds(self, count: int, *, at_least: int = 0) -> Iterator[int]:
        """0, 1, ... below `count`, as many as there is time for, and `at_least` so many in any case."""
        longest = 0.0
        for number in range(count):
            begin = monotonic()
            if number >= at_least and (begin >= self._end or begin + longest > self._end):
                return
            yield number
            longest = max(longest, monotonic() - begin)


class Budget:
    """The time of a run. `weights`: the parts in their order, with what they need of it in proportion."""

    def __init__(self, weights: dict[str, float], seconds: float | None = None) -> None:
        self._end = math.inf if seconds is None else monotonic() + seconds
        self._weights = dict(weights)

    def part(self, name: str) -> Part:
        """Begin the part `name`; those that come before it and have not begun are taken to be left out."""
        for passed in list(self._weights):
            if passed == name:
                break
            del self._weights[passed]
        share = self._weights[name] / sum(self._weights.values())
        del self._weights[name]
        return Part(share * max(0.0, self._end - monotonic()))
