"""`flash-kv demo`: the main job on real input, with proofs, measurements and what to try next."""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import click

from flash_kv.cli.demo.corpus import read_corpus, standard_library_root
from flash_kv.cli.demo.latency import KEY_BYTES, ROUNDS, VALUE_BYTES, Latency, machine
from flash_kv.cli.demo.story import Story
from flash_kv.cli.exits import ExitCode
from flash_kv.cli.output import count_of, print_json, rate, size
from flash_kv.cli.progress import progress_bar

STORE_NAME = "stdlib"
EXAMPLE_PREFIX = "json/"

HELP = f"""Store the standard library of the running Python, kill the process, and prove that all is there.

A child process puts every file of the standard library (path -> content) and is killed hard about
half-way. The store is opened again, everything that was acknowledged is compared byte for byte, the
rest is loaded and the whole tree compared; half is deleted and compacted. At the end: latencies
measured here and now, and commands to try. Exit code {ExitCode.NEGATIVE.value} if any proof fails.

The store stays, in a new temporary directory or in the directory given by --keep."""


@click.command("demo", help=HELP, short_help="Store, kill, prove, compact and measure, on real files.")
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="DIR", help="Make the store in this new directory."
)
@click.option("--remove", is_flag=True, help="Remove the store at the end.")
@click.option(
    "--records", type=click.IntRange(min=100), default=100_000, show_default=True, help="To measure with."
)
@click.option("--json", "is_json", is_flag=True, help="Print the results as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(keep: Path | None, remove: bool, records: int, is_json: bool, quiet: bool) -> ExitCode:
    directory = _directory(keep)
    corpus = read_corpus(standard_library_root())
    story = Story(directory / STORE_NAME, corpus, partial(progress_bar, is_wanted=not quiet, stays=True))
    results = _tell(story, records, _silent if is_json else click.echo)
    if remove:
        shutil.rmtree(directory)
    if is_json:
        print_json(results)
    elif remove:
        click.echo(f"\n{directory} is removed; without --remove it stays, to be tried.")
    else:
        _suggest(story.store, results["compaction"]["example_key"])
    return ExitCode.OK


def _tell(story: Story, records: int, say: Callable[[str], object]) -> dict[str, Any]:
    """The whole story, told while it happens."""
    corpus = story.corpus
    say(
        f"The standard library of Python {platform.python_version()}: "
        f"{count_of(len(corpus.sizes), 'file')}, {size(corpus.bytes_total)} below {corpus.root}\n"
    )
    say("1. A child process puts every file and is killed hard (SIGKILL) about half-way.")
    acknowledged = story.load_until_killed()
    share = len(acknowledged) / len(corpus.sizes)
    say(f"   Killed after {count_of(len(acknowledged), 'acknowledged put')}, at {share:.0%}.\n")

    say("2. The store is opened again.")
    reopened = story.reopen(acknowledged)
    for line in _recovery_lines(reopened):
        say(f"   {line}")

    say("\n3. The load goes on.")
    resumed = story.resume()
    say(f"   {rate(resumed['records'], resumed['bytes'], resumed['duration_s'])};")
    say(f"   {count_of(resumed['unchanged'], 'file')} found unchanged in the store and passed over.")
    say("   PROVED: store and directory are equal, file for file, byte for byte; nothing else is in the")
    say("   store; the same after a clean close and open; verify finds no damage.")

    say("\n4. Half of the files are deleted, then the store is compacted.")
    compacted = story.delete_half_and_compact()
    for line in _compaction_lines(compacted):
        say(f"   {line}")

    say(f"\n5. Latencies here and now: {machine()}.")
    say(
        f"   {records:,} records of {KEY_BYTES} + {VALUE_BYTES} bytes per round, {ROUNDS} rounds, btree index,"
    )
    say("   CRC checked on every read, loop included; microseconds per operation.\n")
    latencies = story.latencies(records)
    for line in _table(latencies):
        say(f"   {line}")
    return {
        "store": str(story.store),
        "corpus": {"root": str(corpus.root), "files": len(corpus.sizes), "bytes": corpus.bytes_total},
        "killed": {"acknowledged": len(acknowledged), "share": share},
        "reopened": reopened,
        "resumed": resumed,
        "compaction": compacted,
        "machine": machine(),
        "latencies": {
            "records": records,
            "rounds": ROUNDS,
            "operations": [latency.as_dict() for latency in latencies],
        },
    }


def _recovery_lines(reopened: dict[str, Any]) -> Iterator[str]:
    recovery = reopened["recovery"]
    yield (
        f"Open in {reopened['open_s'] * 1e3:.1f} ms: it was not closed; "
        f"{count_of(recovery['segments_from_hints'], 'segment')} loaded from hints, "
        f"{recovery['segments_scanned']:,} scanned,"
    )
    yield f"{count_of(recovery['records'], 'record')}, torn tail of {size(recovery['torn_tail_bytes'])}."
    yield f"PROVED: all {reopened['acknowledged']:,} acknowledged entries are there, byte for byte."
    if reopened["in_flight"]:
        yield f"({reopened['in_flight']:,} more had been put, whole, but could not tell us any more.)"


def _compaction_lines(compacted: dict[str, Any]) -> Iterator[str]:
    report = compacted["compaction"]
    pace = report["bytes_moved"] / max(report["duration_s"], 1e-9)
    yield (
        f"{count_of(compacted['deleted'], 'file')} deleted ({size(compacted['deleted_bytes'])}), "
        f"{compacted['kept']:,} kept."
    )
    yield (
        f"{size(report['bytes_moved'])} of live records moved in {report['duration_s'] * 1e3:.0f} ms "
        f"({size(pace)}/s)."
    )
    yield f"{'':24}{'before':>12}{'after':>12}{'won':>12}"
    for title, name in (("disk space, store says", "disk_bytes"), ("disk space, du says", "du_bytes")):
        before, after = compacted[f"{name}_before"], compacted[f"{name}_after"]
        yield f"{title:24}{size(before):>12}{size(after):>12}{size(before - after):>12}"
    yield "PROVED: what was deleted is gone, what was kept is equal, also after a close and open."


def _table(latencies: list[Latency]) -> Iterator[str]:
    width = max(len(latency.operation) for latency in latencies)
    yield f"{'operation':<{width}}{'median':>10}{'lowest':>10}{'highest':>10}{'per second':>14}"
    for latency in latencies:
        yield (
            f"{latency.operation:<{width}}{latency.median_us:>10.3f}{latency.lowest_us:>10.3f}"
            f"{latency.highest_us:>10.3f}{1e6 / latency.median_us:>14,.0f}"
        )


def _suggest(store: Path, example_key: str) -> None:
    path, key, program = shlex.quote(str(store)), shlex.quote(example_key), _program()
    script = f"import flash_kv; print(len(flash_kv.open({json.dumps(str(store))})))"
    click.echo("\nTry next:\n")
    for command_line in (
        f"{program} serve {path}    # then look at it in a browser: http://127.0.0.1:7380/",
        f"{program} get {path} {key} | head",
        f"{program} scan {path} --prefix {EXAMPLE_PREFIX}",
        f"{program} stats {path}",
        f"{program} dump {path} --prefix {EXAMPLE_PREFIX} | head -c 300",
        f"{program} verify {path}",
        f"{shlex.quote(sys.executable)} -c {shlex.quote(script)}",
        f"rm -r {shlex.quote(str(store.parent))}",
    ):
        click.echo(f"  {command_line}")


def _program() -> str:
    """How this program was called, in words that work again from the same directory."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m flash_kv.cli"
    found = shutil.which(called.name)
    if found is not None and Path(found).resolve() == called.resolve():
        return called.name
    return shlex.quote(str(called))


def _silent(text: str) -> None:
    """With --json only the results are printed."""


def _directory(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="flash-kv-demo-"))
    if keep.exists() and (not keep.is_dir() or any(keep.iterdir())):
        raise click.UsageError(f"{keep} is there already: --keep needs a new or an empty directory")
    keep.mkdir(parents=True, exist_ok=True)
    return keep.resolve()
