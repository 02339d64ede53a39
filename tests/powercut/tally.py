"""What was cut and what was found, summed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from flash_kv.torture.journal import KINDS, Violation


@dataclass
class Tally:
    states: int = 0
    """Stores that a power cut has left and that were opened and judged."""
    acknowledged: int = 0
    """Commits that had returned."""
    violations: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def record(self, where: str, violation: Violation) -> None:
        self.violations[violation.kind] += 1
        self.failures.append(f"{where}: {violation.kind}: {violation.text}")

    def add(self, other: Tally) -> None:
        self.states += other.states
        self.acknowledged += other.acknowledged
        self.violations.update(other.violations)
        self.failures += other.failures

    def __str__(self) -> str:
        counts = ", ".join(f"{self.violations[kind]} {kind}" for kind in KINDS)
        return f"{self.states} power cuts, {self.acknowledged} acknowledged commits: {counts}"
