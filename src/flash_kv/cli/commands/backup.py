"""`flash-kv backup`: a copy of a store as of now, itself a store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flash_kv.cli.exits import ExitCode
from flash_kv.cli.opening import STORE_PATH, StoreCommand, open_store, store_options
from flash_kv.cli.output import count_of, print_json, size

HELP = """Copy the store at PATH to the new directory DEST, which opens as a store by itself.

Sealed segments are hard-linked where the file system allows: they take no new space."""


@click.command("backup", cls=StoreCommand, help=HELP, short_help="Copy a store as of now.")
@click.argument("path", type=STORE_PATH)
@click.argument("dest", type=STORE_PATH)
@click.option("--json", "is_json", is_flag=True, help="Print the report as JSON.")
@store_options
def command(path: Path, dest: Path, is_json: bool, options: dict[str, Any]) -> ExitCode:
    with open_store(path, options) as db:
        report = db.backup(dest)
    if is_json:
        print_json(report.as_dict())
    else:
        click.echo(
            f"{count_of(report.keys, 'key')} in {count_of(report.segments, 'segment')} at {report.path}: "
            f"{size(report.bytes_linked)} linked, {size(report.bytes_copied)} copied in {report.duration_s:.2f} s"
        )
    return ExitCode.OK
