"""`flash-kv compact`: give the space of dead records back, now."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from flash_kv.cli.exits import ExitCode
from flash_kv.cli.opening import STORE_PATH, StoreCommand, open_store, store_options
from flash_kv.cli.output import count_of, notice, print_fields, print_json, size
from flash_kv.cli.progress import Bar, progress_bar

if TYPE_CHECKING:
    from flash_kv import CompactionProgress, CompactionReport

HELP = f"""Rewrite what is live and give the space of dead records back.

Ctrl-C ends it cleanly: what is compacted by then stays compacted (exit code {ExitCode.INTERRUPTED.value})."""


@click.command("compact", cls=StoreCommand, help=HELP, short_help="Give the space of dead records back.")
@click.argument("path", type=STORE_PATH)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what it would gain.")
@click.option("--json", "is_json", is_flag=True, help="Print the report as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@store_options
def command(path: Path, dry_run: bool, is_json: bool, quiet: bool, options: dict[str, Any]) -> ExitCode:
    with (
        open_store(path, {"compaction": "off", **options}, read_only=dry_run) as db,
        progress_bar("compacting", None, is_wanted=not quiet) as bar,
        cancel_on_interrupt() as cancel,
    ):
        report = db.compact(dry_run=dry_run, progress=lambda progress: follow(bar, progress) and not cancel)
    if is_json:
        print_json(report.as_dict())
    else:
        print_fields(_fields(report))
    return ExitCode.INTERRUPTED if report.is_cancelled else ExitCode.OK


def follow(bar: Bar, progress: CompactionProgress) -> bool:
    """Show where a compaction is; always True, which lets it go on."""
    bar.show(progress.bytes_done, total=progress.bytes_total)
    return True


@contextlib.contextmanager
def cancel_on_interrupt() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C; the second Ctrl-C is a KeyboardInterrupt as usual."""
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        signal.signal(signal.SIGINT, before)
        notice("stopping at the next safe place; Ctrl-C again stops at once")

    before = signal.signal(signal.SIGINT, ask)
    try:
        yield asked
    finally:
        signal.signal(signal.SIGINT, before)


def _fields(report: CompactionReport) -> Iterator[tuple[str, str]]:
    yield ("result", "dry run" if report.is_dry_run else "cancelled" if report.is_cancelled else "done")
    yield ("segments", f"{report.segments_compacted:,} rewritten as {report.segments_written:,}")
    yield ("moved", f"{count_of(report.records_moved, 'live record')}, {size(report.bytes_moved)}")
    yield ("tombstones", f"{report.tombstones_dropped:,} dropped")
    yield ("space", f"{size(report.bytes_before)} -> {size(report.bytes_after)}")
    yield ("reclaimed", size(report.bytes_reclaimed))
    yield ("duration", f"{report.duration_s:.2f} s")
