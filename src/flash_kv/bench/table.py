"""A table of text, for a terminal and as Markdown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Table:
    """One table: a heading, its columns, its rows of text, and what has to be said under it."""

    heading: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""

    def plain(self) -> str:
        widths = [max(len(row[i]) for row in [self.columns, *self.rows]) for i in range(len(self.columns))]

        def line(row: list[str]) -> str:
            return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

        lines = [self.heading, line(self.columns), "  ".join("-" * width for width in widths)]
        lines += [line(row) for row in self.rows]
        return "\n".join([*lines, self.note] if self.note else lines)

    def markdown(self) -> str:
        def line(row: list[str]) -> str:
            return f"| {' | '.join(row)} |"

        lines = [f"### {self.heading}", "", line(self.columns), line(["---"] * len(self.columns))]
        lines += [line(row) for row in self.rows]
        return "\n".join([*lines, "", self.note] if self.note else lines)
