"""`flash-kv count`: how many keys there are, in all or in a range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flash_kv.cli.exits import ExitCode
from flash_kv.cli.keys import KeyCoding, coding_options, make_range, range_options
from flash_kv.cli.opening import STORE_PATH, StoreCommand, open_store, store_options

HELP = """Print the number of keys: all (at once, whatever the size), or those of a range (by reading it)."""


@click.command("count", cls=StoreCommand, help=HELP, short_help="Print the number of keys.")
@click.argument("path", type=STORE_PATH)
@range_options(has_order=False)
@coding_options
@store_options
def command(path: Path, bounds: dict[str, Any], coding: KeyCoding, options: dict[str, Any]) -> ExitCode:
    key_range = make_range(coding, bounds)
    with open_store(path, options, read_only=True) as db:
        number = len(db) if key_range.is_everything else sum(1 for _ in db.keys(**key_range.bounds))
    click.echo(number)
    return ExitCode.OK
