"""`flash-kv delete`: named keys, or a range of keys in one commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flash_kv.cli.exits import ExitCode
from flash_kv.cli.keys import KeyCoding, coding_options, make_range, range_options
from flash_kv.cli.opening import STORE_PATH, StoreCommand, open_store, store_options
from flash_kv.cli.output import count_of, is_terminal, notice, print_json, stdin_bytes

HELP = f"""Delete KEYS, or every key of a range (--prefix, or --start and --stop), in one commit.

A range asks before it deletes; --yes answers. Exit code {ExitCode.NEGATIVE.value} when a named key was
not there."""


@click.command("delete", cls=StoreCommand, help=HELP, short_help="Delete keys, or a range of keys.")
@click.argument("path", type=STORE_PATH)
@click.argument("keys", nargs=-1)
@range_options(has_order=False)
@coding_options
@click.option("-y", "--yes", is_flag=True, help="Do not ask before deleting a range.")
@click.option("--json", "is_json", is_flag=True, help="Print the counts as JSON.")
@store_options
def command(
    path: Path,
    keys: tuple[str, ...],
    bounds: dict[str, Any],
    coding: KeyCoding,
    yes: bool,
    is_json: bool,
    options: dict[str, Any],
) -> ExitCode:
    key_range = make_range(coding, bounds)
    if bool(keys) == bool(key_range.bounds):
        raise click.UsageError("say what to delete: KEYS, or a range by --prefix, --start, --stop")
    wanted = list(dict.fromkeys(coding.decode(key) for key in keys))
    missing = 0
    with open_store(path, options) as db:
        if wanted:
            deleted = db.delete_many(wanted)
            missing = len(wanted) - deleted
        else:
            if not yes and not _confirmed(sum(1 for _ in db.keys(**key_range.bounds))):
                notice("nothing deleted")
                return ExitCode.NEGATIVE
            deleted = db.delete_range(**key_range.bounds)
    if is_json:
        print_json({"deleted": deleted, "missing": missing})
    else:
        absent = f", {count_of(missing, 'key')} not there" if missing else ""
        notice(f"deleted {count_of(deleted, 'key')}{absent}")
    return ExitCode.NEGATIVE if missing else ExitCode.OK


def _confirmed(number: int) -> bool:
    if not is_terminal(stdin_bytes()):
        raise click.UsageError(f"this deletes {count_of(number, 'key')}: add --yes")
    return click.confirm(f"delete {count_of(number, 'key')}?", err=True)
