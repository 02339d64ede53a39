"""Damage: small stores with one thing wrong, each opened, read, verified and repaired by a child, and judged.

A run takes one kind of specimen and each hundredth of its cases; the runs with the seeds 0 to RUNS_IN_ALL - 1 are the
whole sweep: every bit, every length, every block, every file, and files of two generations.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias, cast

from flash_kv.torture.apart import each_apart
from flash_kv.torture.damage import Case, cases
from flash_kv.torture.examination import Examiner
from flash_kv.torture.journal import Kind, Violation
from flash_kv.torture.runs import Run
from flash_kv.torture.specimen import KINDS, make_specimen
from flash_kv.torture.tally import Tally

STRIDE = 100
RUNS_IN_ALL = STRIDE * len(KINDS)

Numbered: TypeAlias = "tuple[int, Case]"


class DamageRun(Run):
    """The cases of one seed."""

    part = "damage"

    def run(self) -> Tally:
        with self._working() as scratch:
            self._sweep(scratch)
        return self.tally

    def _sweep(self, scratch: Path) -> None:
        specimen = make_specimen(KINDS[self._seed % len(KINDS)], scratch / "specimen")
        numbered = list(enumerate(cases(specimen)))
        chosen = numbered[self._seed // len(KINDS) % STRIDE :: STRIDE]
        examiner = Examiner(specimen, self._settings, scratch)

        def examine(piece: Numbered) -> list[tuple[str, str]]:
            number, case = piece
            return [(violation.kind, violation.text) for violation in examiner.examine(case, number)]

        for (_, case), found, end in each_apart(examine, chosen):
            self.tally.damages += 1
            self.tally.flips += case.is_flip
            told: list[tuple[Kind, str]] = [("other", end)]
            for kind, text in told if end else cast("list[tuple[Kind, str]]", found):
                self._record(case.text, Violation(kind, text))
            if self._is_over():
                break
