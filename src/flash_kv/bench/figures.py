"""From samples to figures: the median and its spread, overhead subtracted, as numbers and as text."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figure:
    """The median of the repeats between the lowest and the highest."""

    median: float
    lowest: float
    highest: float

    @classmethod
    def of(cls, samples: list[float], subtract: float = 0.0) -> Figure:
        """A figure of at least one sample; what overhead exceeds becomes 0, never negative."""
        less = [max(0.0, sample - subtract) for sample in samples]
        return cls(median(less), min(less), max(less))

    def __str__(self) -> str:
        return f"{number(self.median)} [{number(self.lowest)}-{number(self.highest)}]"


def number(value: float) -> str:
    """Three digits that mean something, no exponent."""
    if value < 1:
        return f"{value:.3f}"
    if value < 10:
        return f"{value:.2f}"
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def ratio(value: float) -> str:
    return f"{value:.2f}x" if value < 10 else f"{value:.1f}x"
