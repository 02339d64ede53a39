"""`flash-kv torture`: try to break a store on this machine, with these options."""

from __future__ import annotations

import os
import random
import shlex
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from flash_kv.cli.exits import ExitCode
from flash_kv.cli.flags import DurabilityType
from flash_kv.cli.output import count_of, is_terminal, notice, print_json
from flash_kv.cli.progress import progress_bar
from flash_kv.options import IndexKind, IoKind
from flash_kv.torture.campaign import Campaign
from flash_kv.torture.journal import KINDS
from flash_kv.torture.runs import PARTS
from flash_kv.torture.settings import Settings

if TYPE_CHECKING:
    from flash_kv.torture.tally import Failure, Tally

SEEDS = 2**31

HELP = f"""Crash stores, fail their calls, schedule their threads, damage them, check every promise.

crashes: at each call to the system and after each operation of a random history, states that a kill
or a power cut would leave are made (pages of 4 KiB lost, kept or torn at 512 bytes, sizes and names
that were not synced undone), opened and judged; recoveries are crashed in as well.
faults: calls to the system and allocations of memory fail, once or from then on.
schedules: threads that write, scan and compact are interrupted at up to three chosen points.
damage: every bit of the files of small stores is flipped, every length cut, blocks and files are
swapped, lost, doubled or replaced by older ones; the right answer or an error, never another value.

What a store holds afterwards must be the state after some prefix of its commits, with all that was
acknowledged (kill, failing call) or durable (power cut). See docs/durability.md. Works on stores of
its own in a temporary directory. Options that are left open are varied. Exit code
{ExitCode.NEGATIVE.value} when a promise is broken; the seed that is shown then repeats it."""


@click.command("torture", help=HELP, short_help="Crash, fail and damage stores, check every promise.")
@click.option("--seed", type=click.IntRange(0), help="Begin with this run; the default is by chance.")
@click.option("--states", type=click.IntRange(1), help="Until so many states are tried.  [2000]")
@click.option("--seconds", type=click.FloatRange(0, min_open=True), help="Until so much time has passed.")
@click.option("--only", "parts", type=click.Choice(PARTS), multiple=True, help="Only this; may be repeated.")
@click.option("--index", type=click.Choice(get_args(IndexKind)), help="Only this index.")
@click.option("--io", type=click.Choice(get_args(IoKind)), help="Only this way to read and write.")
@click.option("--durability", type=DurabilityType(), help="Only this durability.")
@click.option("--jobs", type=click.IntRange(1), help="Processes.  [one for each CPU]")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where to work.  [in memory, if there is a file system in it]",
)
@click.option("--json", "is_json", is_flag=True, help="Print the report as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    seed: int | None,
    states: int | None,
    seconds: float | None,
    parts: tuple[Any, ...],
    index: Any,
    io: Any,
    durability: Any,
    jobs: int | None,
    directory: Path | None,
    is_json: bool,
    quiet: bool,
) -> ExitCode:
    campaign = Campaign(
        seed=random.SystemRandom().randrange(SEEDS) if seed is None else seed,
        states=2000 if states is None and seconds is None else states,
        seconds=seconds,
        parts=parts or PARTS,
        settings=Settings(index=index, io=io, durability=durability),
        jobs=jobs or os.cpu_count() or 1,
        directory=directory,
    )
    started = time.monotonic()
    total = _run(campaign, is_shown=not quiet)
    duration_s = time.monotonic() - started
    if total is None:
        return ExitCode.INTERRUPTED
    if is_json:
        print_json({"seed": campaign.seed, "duration_s": duration_s, "is_ok": total.is_ok, **total.as_dict()})
    else:
        _print(campaign, total, duration_s)
    return ExitCode.OK if total.is_ok else ExitCode.NEGATIVE


def _run(campaign: Campaign, *, is_shown: bool) -> Tally | None:
    """The sum of all runs, or of those before Ctrl-C; None when there was none before it."""
    total: Tally | None = None
    by_time = campaign.seconds is not None
    goal = int(campaign.seconds) if campaign.seconds is not None else campaign.states
    started = time.monotonic()
    with progress_bar("torturing", goal, in_bytes=False, is_wanted=is_shown) as bar:
        try:
            for total in campaign.tallies():
                done = int(time.monotonic() - started) if by_time else total.tried
                bar.show(min(done, goal or done), total=goal)
        except KeyboardInterrupt:
            notice("interrupted: what follows is about what was tried until then")
    return total


def _print(campaign: Campaign, total: Tally, duration_s: float) -> None:
    rows = [
        ("states tried", f"{total.tried:,}", _kinds_of_states(total)),
        ("acknowledged writes", f"{total.acknowledged:,}", f"in {count_of(total.runs, 'run')}"),
        *(
            (kind if kind != "failed open" else "failed opens", f"{total.violations[kind]:,}", "")
            for kind in KINDS
        ),
    ]
    if is_terminal(sys.stdout):
        _draw(rows)
    else:
        for name, number, note in rows:
            click.echo(f"{name:<20}  {number:>10}  {note}".rstrip())
    click.echo(
        f"seed {campaign.seed}, {duration_s:.1f} s, {total.tried / max(duration_s, 1e-9):,.0f} states a second"
    )
    for failure in total.failures:
        click.echo(f"broken: {failure.violation.kind}: {failure.violation.text}; {failure.moment}")
        click.echo(f"  again: {_repeating(campaign, failure)}")
    if total.is_ok:
        click.echo("no promise was broken")


def _kinds_of_states(total: Tally) -> str:
    return (
        f"{total.states - total.kills:,} power cuts, {total.kills:,} kills ({total.in_recovery:,} of both during an "
        f"open), {total.faults:,} failing calls, {total.schedules:,} schedules, "
        f"{total.damages:,} damaged stores ({total.flips:,} flipped bits)"
    )


def _draw(rows: list[tuple[str, str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    for name, number, note in rows:
        is_broken = name in ("lost", "torn", "resurrected", "failed opens", "other") and number != "0"
        table.add_row(name, number, note, style="bold red" if is_broken else None)
    Console().print(table)


def _repeating(campaign: Campaign, failure: Failure) -> str:
    """The command that does the same run again and no other."""
    words = [
        "flash-kv",
        "torture",
        "--seed",
        str(failure.seed),
        "--only",
        failure.part,
        "--states",
        "1",
        "--jobs",
        "1",
    ]
    settings = campaign.settings
    for name, value in (("index", settings.index), ("io", settings.io)):
        if value is not None:
            words += [f"--{name}", value]
    if settings.durability is not None:
        spec = settings.durability
        words += ["--durability", spec if isinstance(spec, str) else f"{spec[0]}:{spec[1]}"]
    return shlex.join(words)
