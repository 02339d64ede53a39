"""The screen of `flash-kv top`: two charts, a table, and the compaction, renewed with each sample."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.widgets import DataTable, Footer, Header, ProgressBar, Sparkline, Static

from flash_kv.cli.top.feed import Refused, Sample
from flash_kv.cli.top.figures import compaction, duration, number, part, requests, rows

Feed = Callable[[], AsyncGenerator[Sample | None, None]]
# As many seconds as the charts go back.
HISTORY = 120
WAITING = "waiting for the server ..."


class Top(App[str]):
    """The figures of one server until the person leaves; its result is why it ended by itself, if it did."""

    CSS = """
    #charts { height: 9; }
    #charts Vertical { padding: 0 1; }
    Sparkline { height: 6; }
    DataTable { height: 1fr; }
    #compaction { height: auto; padding: 0 1; }
    #compaction Static { width: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q", "quit", "Quit"),
        Binding("p", "pause", "Pause"),
        Binding("space", "pause", "Pause", show=False),
    ]
    # The palette of commands has nothing that is of use here.
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, feed: Feed, title: str) -> None:
        super().__init__()
        self._feed = feed
        self.title = title
        self.sub_title = WAITING
        self.is_paused = False
        self._requests: deque[float] = deque([0.0] * HISTORY, HISTORY)
        self._latencies: deque[float] = deque([0.0] * HISTORY, HISTORY)

    def compose(self) -> ComposeResult:
        yield Header()
        with Horizontal(id="charts"):
            with Vertical():
                yield Static("requests/s", id="requests-title")
                yield Sparkline(list(self._requests), id="requests")
            with Vertical():
                yield Static("latency p99", id="latency-title")
                yield Sparkline(list(self._latencies), id="latency")
        table: DataTable[str] = DataTable(show_header=False, cursor_type="none", zebra_stripes=True)
        yield table
        with Horizontal(id="compaction"):
            yield Static("", id="compaction-text")
            yield ProgressBar(total=1.0, show_eta=False, id="progress")
        yield Footer()

    def on_mount(self) -> None:
        table = self.query_one(DataTable)
        table.add_columns("figure", "value")
        self.query_one("#progress").display = False
        self.run_worker(self._follow(), name="figures", exit_on_error=True)

    async def _follow(self) -> None:
        try:
            async with aclosing(self._feed()) as samples:
                async for sample in samples:
                    if not self.is_running:
                        # It is ending, and its widgets are going.
                        return
                    if sample is None:
                        self.sub_title = "not reachable, trying again"
                    elif not self.is_paused:
                        self.show_sample(sample)
        except Refused as refusal:
            self.exit(str(refusal))

    def show_sample(self, sample: Sample) -> None:
        """Put one sample on the screen."""
        self.sub_title = "live"
        self._requests.append(requests(sample))
        self._latencies.append(number(part(sample, "latency_us").get("p99")))
        self.query_one("#requests", Sparkline).data = list(self._requests)
        self.query_one("#latency", Sparkline).data = list(self._latencies)
        self.query_one("#requests-title", Static).update(f"requests/s  {self._requests[-1]:,.0f}")
        self.query_one("#latency-title", Static).update(f"latency p99  {duration(self._latencies[-1])}")
        self._fill_table(rows(sample))
        text, progress = compaction(sample)
        self.query_one("#compaction-text", Static).update(text)
        bar = self.query_one("#progress", ProgressBar)
        bar.display = progress is not None
        bar.update(progress=progress or 0.0)

    def _fill_table(self, figures: list[tuple[str, str]]) -> None:
        table = self.query_one(DataTable)
        if table.row_count == 0:
            for name, text in figures:
                table.add_row(name, text, key=name)
            return
        # Cell by cell, so that it does not scroll back.
        column = list(table.columns)[1]
        for name, text in figures:
            table.update_cell(name, column, text)

    def action_pause(self) -> None:
        """Hold the figures, or let them go on."""
        self.is_paused = not self.is_paused
        self.sub_title = "paused" if self.is_paused else "live"
