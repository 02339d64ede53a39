"""Damage: small stores with one thing wrong, each opened, read, verified and repaired by a child, and judged.

A run takes one kind of specimen and each hundredth of its cases, or fewer where there are so many; the runs
with the seeds 0 to `len(sweep(index))` - 1 are the whole sweep: every bit, every length, every block, every file, and
files of two generations.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TypeAlias, cast

from flash_kv.options import IndexKind
from flash_kv.torture.apart import each_apart
from flash_kv.torture.damage import Case, cases
from flash_kv.torture.examination import Examiner
from flash_kv.torture.journal import Kind, Violation
from flash_kv.torture.runs import Run
from flash_kv.torture.specimen import KINDS, WITH_INDEX, SpecimenKind, make_specimen
from flash_kv.torture.tally import Tally

# Runs that all cases of a kind are dealt out to.
STRIDES: dict[SpecimenKind, int] = {
    "closed": 100,
    "killed": 100,
    "always": 100,
    "blocks": 100,
    "pages": 500,
    "replay": 100,
}


Numbered: TypeAlias = "tuple[int, Case]"


def sweep(index: IndexKind | None) -> list[tuple[SpecimenKind, int]]:
    """What each run does: the kind, and the first of its cases. With an index given, only the kinds that it wrote."""
    kinds = [kind for kind in KINDS if index is None or (kind in WITH_INDEX) == (index == "bptree")]
    return [
        (kind, first) for first in range(max(STRIDES.values())) for kind in kinds if first < STRIDES[kind]
    ]


class DamageRun(Run):
    """The cases of one seed."""

    part = "damage"

    def run(self) -> Tally:
        with self._working() as scratch:
            self._sweep(scratch)
        return self.tally

    def _sweep(self, scratch: Path) -> None:
        runs = sweep(self._settings.index)
        kind, first = runs[self._seed % len(runs)]
        specimen = make_specimen(kind, scratch / "specimen")
        chosen = list(itertools.islice(enumerate(cases(specimen)), first, None, STRIDES[kind]))
        examiner = Examiner(specimen, self._settings, scratch)

        def examine(piece: Numbered) -> list[tuple[str, str]]:
            number, case = piece
            return [(violation.kind, violation.text) for violation in examiner.examine(case, number)]

        for (_, case), found, end in each_apart(examine, chosen):
            self.tally.damages += 1
            self.tally.flips += case.is_flip
            told: list[tuple[Kind, str]] = [("other", end)]
            for broken, text in told if end else cast("list[tuple[Kind, str]]", found):
                self._record(case.text, Violation(broken, text))
            if self._is_over():
                break
