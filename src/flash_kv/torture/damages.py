"""Damage: small stores with one thing wrong, each opened, read, verified and repaired by a child, and judged.

A run takes one kind of specimen and each hundredth of its cases; the runs with the seeds 0 to RUNS_IN_ALL - 1 are the
whole sweep: every bit, every length, every block, every file, and files of two generations.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias, cast

from flash_kv.torture.apart import each_apart
from flash_kv.torture.damage import Case, cases
from flash_kv.torture.examination import Examiner
from flash_kv.torture.journal import Kind, Violation
from flash_kv.torture.settings import Settings
from flash_kv.torture.specimen import KINDS, make_specimen
from flash_kv.torture.tally import Failure, Tally

STRIDE = 100
RUNS_IN_ALL = STRIDE * len(KINDS)

Numbered: TypeAlias = "tuple[int, Case]"


class DamageRun:
    """One run in the new directory `scratch`, which is removed again. The same seed gives the same run."""

    def __init__(
        self, seed: int, settings: Settings, scratch: Path, *, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        self.tally = Tally(runs=1)
        self._seed = seed
        self._settings = settings
        self._scratch = scratch
        self._is_over = is_over

    def run(self) -> Tally:
        self._scratch.mkdir()
        try:
            self._sweep()
        finally:
            shutil.rmtree(self._scratch)
        return self.tally

    def _sweep(self) -> None:
        specimen = make_specimen(KINDS[self._seed % len(KINDS)], self._scratch / "specimen")
        numbered = list(enumerate(cases(specimen)))
        chosen = numbered[self._seed // len(KINDS) % STRIDE :: STRIDE]
        examiner = Examiner(specimen, self._settings, self._scratch)

        def examine(piece: Numbered) -> list[tuple[str, str]]:
            number, case = piece
            return [(violation.kind, violation.text) for violation in examiner.examine(case, number)]

        for (_, case), found, end in each_apart(examine, chosen):
            self.tally.damages += 1
            self.tally.flips += case.is_flip
            told: list[tuple[Kind, str]] = [("other", end)]
            for kind, text in told if end else cast("list[tuple[Kind, str]]", found):
                self.tally.record(Failure(self._seed, "damage", case.text, Violation(kind, text)))
            if self._is_over():
                break
