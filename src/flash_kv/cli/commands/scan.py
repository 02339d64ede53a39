"""`flash-kv scan`: records in key order, as a table on a terminal and in a format for a pipe."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flash_kv.cli.exits import ExitCode
from flash_kv.cli.formats.choice import BINARY_FORMATS, STREAM_FORMATS, make_writer
from flash_kv.cli.keys import KeyCoding, KeyRange, coding_options, make_range, range_options
from flash_kv.cli.opening import STORE_PATH, StoreCommand, open_store, store_options
from flash_kv.cli.output import is_terminal, shown, size, stdout_bytes

if TYPE_CHECKING:
    import flash_kv

SIZE_WIDTH = 10
KEY_WIDTH_MIN = 16

HELP = """Show records in key order.

A terminal gets one line per record: key, size of the value, beginning of the value; what is not
printable as \\xNN. A pipe gets --format: jsonl, or with --keys-only one bare key a line (lines; nul
for keys that may hold newlines)."""


@click.command("scan", cls=StoreCommand, help=HELP, short_help="Show records in key order.")
@click.argument("path", type=STORE_PATH)
@range_options()
@coding_options
@click.option("--keys-only", is_flag=True, help="Keys without values.")
@click.option("--format", "kind", type=click.Choice([*STREAM_FORMATS, "lines"]), help="Also on a terminal.")
@click.option("--base64-fields", is_flag=True, help="csv, tsv: keys and values in base64.")
@store_options
def command(
    path: Path,
    bounds: dict[str, Any],
    coding: KeyCoding,
    keys_only: bool,
    kind: str | None,
    base64_fields: bool,
    options: dict[str, Any],
) -> ExitCode:
    key_range = make_range(coding, bounds)
    on_terminal = is_terminal(sys.stdout)
    if kind is None and not on_terminal:
        kind = "lines" if keys_only else "jsonl"
    if kind == "lines" and not keys_only:
        raise click.UsageError("the format lines needs --keys-only")
    if on_terminal and kind in BINARY_FORMATS:
        raise click.UsageError(f"{kind} is not for a terminal: redirect the output")
    with open_store(path, options, read_only=True) as db:
        found = records(db, key_range, keys_only=keys_only)
        if kind is None:
            _print_table(found)
        else:
            stream = stdout_bytes()
            writer = make_writer(kind, stream, is_base64=base64_fields, has_value=not keys_only)
            for key, value in found:
                writer.write(key, value)
            stream.flush()
    return ExitCode.OK


def records(db: flash_kv.DB, key_range: KeyRange, *, keys_only: bool) -> Iterator[tuple[bytes, bytes | None]]:
    """The records of a range, streamed; `None` for the values of `keys_only`."""
    found: Iterable[tuple[bytes, bytes | None]]
    if keys_only:
        found = ((key, None) for key in db.keys(**key_range.view_arguments))
    else:
        found = db.items(**key_range.view_arguments)
    return islice(found, key_range.limit)


def _print_table(found: Iterator[tuple[bytes, bytes | None]]) -> None:
    width = shutil.get_terminal_size().columns - 1
    key_width = max(KEY_WIDTH_MIN, width // 3)
    for key, value in found:
        if value is None:
            click.echo(shown(key))
            continue
        name = shown(key, limit=max(key_width, 4))
        rest = max(width - key_width - SIZE_WIDTH - 3, 8)
        click.echo(f"{name:<{key_width}} {size(len(value)):>{SIZE_WIDTH}}  {shown(value, limit=rest)}")
