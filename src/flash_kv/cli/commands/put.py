"""`flash-kv put`: one value from the command line, a file or a pipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from flash_kv.cli.exits import ExitCode, InputError
from flash_kv.cli.keys import KeyCoding, coding_options
from flash_kv.cli.opening import STORE_PATH, StoreCommand, open_store, store_options
from flash_kv.cli.output import is_terminal, stdin_bytes

HELP = """Store a value under KEY; the store is made when there is none.

VALUE is text; with - or without it the value is what comes from stdin, byte for byte; --file F
takes the content of F. A KEY or VALUE that begins with - goes behind --."""


@click.command("put", cls=StoreCommand, help=HELP, short_help="Store a value under a key.")
@click.argument("path", type=STORE_PATH)
@click.argument("key")
@click.argument("value", required=False)
@click.option("--file", type=click.Path(path_type=Path, dir_okay=False), help="A file that is the value.")
@coding_options
@store_options
def command(
    path: Path, key: str, value: str | None, file: Path | None, coding: KeyCoding, options: dict[str, Any]
) -> ExitCode:
    wanted = coding.decode(key)
    content = _content(value, file)
    with open_store(path, options, create=True) as db:
        db.put(wanted, content)
    return ExitCode.OK


def _content(value: str | None, file: Path | None) -> bytes:
    if file is not None:
        if value is not None:
            raise click.UsageError("choose one of VALUE and --file")
        try:
            return file.read_bytes()
        except OSError as error:
            raise InputError(f"{file}: {error.strerror}") from error
    if value is not None and value != "-":
        return value.encode("utf-8", "surrogateescape")
    stream = stdin_bytes()
    if value is None and is_terminal(stream):
        raise click.UsageError("say what to store: VALUE, - for stdin, or --file")
    return stream.read()
