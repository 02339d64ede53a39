"""`flash-kv stats`: the state of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flash_kv.cli.exits import ExitCode
from flash_kv.cli.opening import STORE_PATH, StoreCommand, open_store, store_options
from flash_kv.cli.output import count_of, print_fields, print_json, size

if TYPE_CHECKING:
    from flash_kv import Stats

HELP = """Show keys, segments, live and dead bytes, disk space, and what the last open had to do."""


@click.command("stats", cls=StoreCommand, help=HELP, short_help="Show the state of a store.")
@click.argument("path", type=STORE_PATH)
@click.option("--segments", "with_segments", is_flag=True, help="One line for each segment as well.")
@click.option("--json", "is_json", is_flag=True, help="Print everything as JSON.")
@store_options
def command(path: Path, with_segments: bool, is_json: bool, options: dict[str, Any]) -> ExitCode:
    with open_store(path, options, read_only=True) as db:
        stats = db.stats()
    if is_json:
        print_json(stats.as_dict())
        return ExitCode.OK
    print_fields(_fields(stats))
    if with_segments:
        click.echo(f"\n{'segment':>10}  {'state':<7} {'bytes':>10}  {'dead':>10}  dead ratio")
        for segment in stats.segment_stats:
            state = "sealed" if segment.is_sealed else "active"
            click.echo(
                f"{segment.segment_id:>10}  {state:<7} {size(segment.bytes):>10}  "
                f"{size(segment.dead_bytes):>10}  {segment.dead_ratio:.1%}"
            )
    return ExitCode.OK


def _fields(stats: Stats) -> list[tuple[str, str]]:
    recovery = stats.recovery
    how = "was closed" if recovery.was_clean else "was not closed (a kill, a crash or a power cut)"
    torn = f", torn tail of {size(recovery.torn_tail_bytes)} cut" if recovery.torn_tail_bytes else ""
    fields = [
        ("path", str(stats.path)),
        ("index", f"{stats.index}, {size(stats.index_bytes)} of memory"),
        ("codecs", "{} values under {} keys".format(*stats.codecs)),
        ("keys", f"{stats.keys:,}"),
        ("segments", f"{stats.segments:,}"),
        ("live", size(stats.live_bytes)),
        ("dead", f"{size(stats.dead_bytes)} ({stats.dead_ratio:.1%})"),
        ("disk", size(stats.disk_bytes)),
        ("LSN", f"{stats.lsn:,}, synced to {stats.synced_lsn:,}"),
        (
            "opening",
            f"{recovery.duration_s * 1e3:.1f} ms; {how}; {count_of(recovery.segments_from_hints, 'segment')} "
            f"from hints, {recovery.segments_scanned:,} scanned{torn}",
        ),
    ]
    if stats.is_poisoned:
        fields.append(("POISONED", "an earlier sync failed: the store takes no writes"))
    return fields
