"""Progress on a terminal's stderr; silence everywhere else, so that pipes and logs stay clean."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from flash_kv.cli.output import is_terminal, size

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

RATES_AFTER_S = 0.2


class Bar(Protocol):
    """What a command tells about its progress: the totals so far, not steps."""

    def show(self, done: int, *, records: int | None = None, total: int | None = None) -> None:
        """`done` of `total` bytes or items are finished, holding `records` records."""


class _Silent:
    def show(self, done: int, *, records: int | None = None, total: int | None = None) -> None:
        return


@contextlib.contextmanager
def progress_bar(
    title: str, total: int | None, *, in_bytes: bool = True, is_wanted: bool = True, stays: bool = False
) -> Iterator[Bar]:
    """A bar for one long task; `total=None` when the end is not known. `stays`: it is left on the screen."""
    if not is_wanted or not is_terminal(sys.stderr):
        yield _Silent()
        return
    from rich import progress as rich_progress
    from rich.console import Console

    amount: rich_progress.ProgressColumn = rich_progress.MofNCompleteColumn()
    if in_bytes:
        amount = rich_progress.DownloadColumn(binary_units=True)
    display = rich_progress.Progress(
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        amount,
        rich_progress.TextColumn("{task.fields[note]}"),
        rich_progress.TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=not stays,
    )
    with display:
        task = display.add_task(title, total=total, note="")
        yield _Drawn(display, task, in_bytes)


class _Drawn:
    """The bar on the terminal; redraws at rich's own pace, however often `show` is called."""

    def __init__(self, display: Progress, task: TaskID, in_bytes: bool) -> None:
        self._display = display
        self._task = task
        self._in_bytes = in_bytes

    def show(self, done: int, *, records: int | None = None, total: int | None = None) -> None:
        elapsed = self._display.tasks[0].elapsed or 0.0
        notes = []
        if elapsed > RATES_AFTER_S:
            if self._in_bytes:
                notes.append(f"{size(done / elapsed)}/s")
            if records is not None:
                notes.append(f"{records / elapsed:,.0f} records/s")
        self._display.update(self._task, completed=done, total=total, note=" ".join(notes))
