"""`flash-kv get`: one value, exact for a pipe, readable for a terminal."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from flash_kv.cli.exits import ExitCode
from flash_kv.cli.keys import KeyCoding, coding_options
from flash_kv.cli.opening import STORE_PATH, StoreCommand, open_store, store_options
from flash_kv.cli.output import hex_dump, is_readable, is_terminal, notice, shown, stdout_bytes

HELP = f"""Write the value of KEY to stdout.

A pipe or a file gets exactly the value. A terminal gets text with a newline at its end, or a hex
dump when the value is not text. Exit code {ExitCode.NEGATIVE.value} when there is no such key."""


@click.command("get", cls=StoreCommand, help=HELP, short_help="Write the value of a key to stdout.")
@click.argument("path", type=STORE_PATH)
@click.argument("key")
@coding_options
@store_options
def command(path: Path, key: str, coding: KeyCoding, options: dict[str, Any]) -> ExitCode:
    wanted = coding.decode(key)
    with open_store(path, options, read_only=True) as db:
        value = db.get(wanted)
    if value is None:
        notice(f"no such key: {shown(wanted)}")
        return ExitCode.NEGATIVE
    if not is_terminal(sys.stdout):
        stream = stdout_bytes()
        stream.write(value)
        stream.flush()
    elif is_readable(value):
        click.echo(value.decode("utf-8"), nl=not value.endswith(b"\n"))
    else:
        for line in hex_dump(value):
            click.echo(line)
    return ExitCode.OK
