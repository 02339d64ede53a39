"""`flash-kv dump`: records to a file, a pipe or a directory, in formats that `load` reads back."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import click

from flash_kv.cli.commands.scan import records
from flash_kv.cli.exits import ExitCode, Failure
from flash_kv.cli.formats.choice import (
    BINARY_FORMATS,
    STREAM_FORMATS,
    TREE,
    RecordWriter,
    format_of,
    make_writer,
)
from flash_kv.cli.formats.tree import TreeWriter
from flash_kv.cli.keys import KeyCoding, coding_options, make_range, range_options
from flash_kv.cli.opening import STORE_PATH, StoreCommand, open_store, store_options
from flash_kv.cli.output import is_terminal, notice, rate, stdout_bytes
from flash_kv.cli.progress import progress_bar

BUFFER_BYTES = 1 << 20
PROGRESS_RECORDS = 1024

HELP = f"""Write the records of the store at PATH to DEST (a file, a directory, or - for stdout).

The dump shows one moment of the store. jsonl and binary load back byte for byte, whatever the
bytes; csv and tsv need --base64-fields for bytes that are not UTF-8, nul cannot hold a NUL, tree
makes each key a path below a new directory and refuses keys that could leave it. The format is
guessed from the name of DEST; for stdout it is jsonl.

A file appears under its name only when it is complete, and an existing one is replaced only with
--force. Exit code {ExitCode.INPUT.value} when a record does not fit the format."""


@click.command("dump", cls=StoreCommand, help=HELP, short_help="Write records to a file, pipe or directory.")
@click.argument("path", type=STORE_PATH)
@click.argument("dest", type=click.Path(path_type=Path, allow_dash=True), required=False)
@click.option("--format", "kind", type=click.Choice([*STREAM_FORMATS, TREE]), help="Default: by the name.")
@range_options()
@coding_options
@click.option("--base64-fields", is_flag=True, help="csv, tsv: keys and values in base64.")
@click.option("--force", is_flag=True, help="Replace an existing file.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
@store_options
def command(
    path: Path,
    dest: Path | None,
    kind: str | None,
    bounds: dict[str, Any],
    coding: KeyCoding,
    base64_fields: bool,
    force: bool,
    quiet: bool,
    options: dict[str, Any],
) -> ExitCode:
    dest = None if dest is not None and str(dest) == "-" else dest
    kind = format_of(dest, kind)
    if dest is None and kind == TREE:
        raise click.UsageError("the format tree needs a directory as DEST")
    on_terminal = dest is None and is_terminal(sys.stdout)
    if on_terminal and kind in BINARY_FORMATS:
        raise click.UsageError(f"{kind} is not for a terminal: name a DEST or redirect the output")
    key_range = make_range(coding, bounds)
    began, written, number = time.perf_counter(), 0, 0
    with contextlib.ExitStack() as stack:
        db = stack.enter_context(open_store(path, options, read_only=True))
        writer = stack.enter_context(_writer(dest, kind, is_base64=base64_fields, force=force))
        total = len(db) if key_range.is_everything else key_range.limit
        is_wanted = not quiet and not on_terminal
        bar = stack.enter_context(progress_bar("dumping", total, in_bytes=False, is_wanted=is_wanted))
        for key, value in records(db, key_range, keys_only=False):
            written += writer.write(key, value)
            number += 1
            if number % PROGRESS_RECORDS == 0:
                bar.show(number)
    if not quiet:
        notice("dumped " + rate(number, written, time.perf_counter() - began))
    return ExitCode.OK


@contextlib.contextmanager
def _writer(dest: Path | None, kind: str, *, is_base64: bool, force: bool) -> Iterator[RecordWriter]:
    if kind == TREE:
        assert dest is not None
        yield TreeWriter(dest)
        return
    with contextlib.ExitStack() as stack:
        stream = stdout_bytes() if dest is None else stack.enter_context(_new_file(dest, force=force))
        yield make_writer(kind, stream, is_base64=is_base64)
        stream.flush()


@contextlib.contextmanager
def _new_file(dest: Path, *, force: bool) -> Iterator[BinaryIO]:
    """A file that takes its name when it is whole; a device or a named pipe is written as it is."""
    if dest.exists():
        if not stat.S_ISREG(dest.stat().st_mode):
            with open(dest, "wb", buffering=BUFFER_BYTES) as stream:
                yield stream
            return
        if not force:
            raise Failure(f"{dest} is there already: choose another name or add --force", ExitCode.USAGE)
    if not dest.absolute().parent.is_dir():
        raise Failure(f"{dest}: there is no directory {dest.parent}: make it first", ExitCode.USAGE)
    temporary = dest.with_name(f".{dest.name}.{os.getpid()}.part")
    try:
        with open(temporary, "xb", buffering=BUFFER_BYTES) as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, dest)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
