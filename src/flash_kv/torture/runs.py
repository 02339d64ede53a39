"""What the four kinds of runs have in common: a seed, options, a directory to work in, and a sum of what was found."""

from __future__ import annotations

import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Literal, TypeAlias, get_args

from flash_kv.torture.journal import Violation
from flash_kv.torture.settings import Settings
from flash_kv.torture.tally import Failure, Tally

Part: TypeAlias = Literal["crashes", "faults", "schedules", "damage"]
PARTS: tuple[Part, ...] = get_args(Part)


class Run(ABC):
    """One run: the same seed and settings do the same. It works in the new directory `scratch` and removes it again."""

    part: ClassVar[Part]

    def __init__(
        self, seed: int, settings: Settings, scratch: Path, *, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        self.tally = Tally(runs=1)
        self._seed = seed
        self._settings = settings
        self._scratch = scratch
        self._is_over = is_over

    @abstractmethod
    def run(self) -> Tally:
        """All of it, or what is done once `is_over()`."""

    @contextmanager
    def _working(self) -> Iterator[Path]:
        """The directory, while there is something in it."""
        self._scratch.mkdir()
        try:
            yield self._scratch
        finally:
            shutil.rmtree(self._scratch)

    def _record(self, moment: str, violation: Violation) -> None:
        self.tally.record(Failure(self._seed, self.part, moment, violation))
