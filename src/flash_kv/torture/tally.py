"""What was tried and what was found, summed over runs."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from flash_kv.torture.journal import KINDS, Violation

FAILURES_MAX = 20
COUNTS = ("runs", "states", "kills", "in_recovery", "faults", "schedules", "damages", "flips", "acknowledged")


@dataclass(frozen=True)
class Failure:
    """A violation with where it was found."""

    seed: int
    part: str
    """"crashes", "faults", "schedules" or "damage"."""
    moment: str
    violation: Violation

    def __str__(self) -> str:
        return f"seed {self.seed}, {self.part}, {self.moment}: {self.violation.kind}: {self.violation.text}"


@dataclass
class Tally:
    """Sums of one run or of many."""

    runs: int = 0
    states: int = 0
    """Stores that a crash has left and that were opened and judged."""
    kills: int = 0
    """Of these, those after the death of the process; the others are power cuts."""
    in_recovery: int = 0
    """Of these, those in the middle of an open."""
    faults: int = 0
    """Histories in which a call failed."""
    schedules: int = 0
    """Orders in which threads were let run."""
    damages: int = 0
    """Stores that were damaged, read, verified and repaired."""
    flips: int = 0
    """Of these, those with one bit flipped."""
    acknowledged: int = 0
    """Writes that returned."""
    violations: Counter[str] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)
    """The first of them."""

    def add(self, other: Tally) -> None:
        for name in COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.violations.update(other.violations)
        self.failures = [*self.failures, *other.failures][:FAILURES_MAX]

    def record(self, failure: Failure) -> None:
        self.violations[failure.violation.kind] += 1
        if len(self.failures) < FAILURES_MAX:
            self.failures.append(failure)

    @property
    def tried(self) -> int:
        """States, faults, schedules and damages together."""
        return self.states + self.faults + self.schedules + self.damages

    @property
    def is_ok(self) -> bool:
        return not self.violations

    def as_dict(self) -> dict[str, Any]:
        return {
            "runs": self.runs,
            "states": self.states,
            "kills": self.kills,
            "power_cuts": self.states - self.kills,
            "in_recovery": self.in_recovery,
            "faults": self.faults,
            "schedules": self.schedules,
            "damages": self.damages,
            "flips": self.flips,
            "acknowledged_writes": self.acknowledged,
            **{kind.replace(" ", "_"): self.violations[kind] for kind in KINDS},
            "failures": [str(failure) for failure in self.failures],
        }
