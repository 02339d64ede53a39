"""`flash-kv load`: JSON lines, CSV, TSV, NUL- or length-delimited pairs, or a directory tree into a store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import click

from flash_kv.cli.exits import BadRow, ExitCode, Failure, InputError
from flash_kv.cli.flags import Size
from flash_kv.cli.formats.choice import STREAM_FORMATS, TREE, format_of, make_reader
from flash_kv.cli.formats.rows import ReadOptions, RowReader
from flash_kv.cli.formats.tree import TreeReader
from flash_kv.cli.loading import Loader, LoadReport
from flash_kv.cli.marks import source_identity
from flash_kv.cli.opening import STORE_PATH, StoreCommand, open_store, store_options
from flash_kv.cli.output import count_of, is_terminal, notice, print_json, rate, stdin_bytes
from flash_kv.cli.progress import progress_bar
from flash_kv.cli.resuming import MarkedLoad

BUFFER_BYTES = 1 << 20
FILE_PATH = click.Path(path_type=Path)
BAD_ROWS_SHOWN = 10

HELP = f"""Load records from SOURCE (a file, a directory, or - for a pipe) into the store at PATH.

\b
Formats, guessed from the name; a pipe is jsonl:
  jsonl   {{"key": ..., "value": ...}}; key_b64 and value_b64 for bytes. With --key FIELD
          any objects: --value FIELD, or without it the whole object is the value.
  csv tsv a header with key and value (or key_b64, value_b64); other columns by name
          or number with --key and --value; --no-header: columns 1 and 2.
  nul     key NUL value NUL ...
  binary  u32le key size, u32le value size, key, value; any bytes; as dump writes it.
  tree    a directory: path below it -> content of the file.

A load that was killed goes on where it stopped when the same command runs again: after each
committed batch a small mark file beside the store says how far the input got. The records
around that place may be put twice, which changes nothing. The mark is ignored when the input
or the store is another one by now, and removed at the end. A pipe has no identity: it goes on
only with --resume FILE, and must bring the same bytes again. A tree needs no mark: files whose
content is in the store already are passed over.

Everything before a bad row is loaded when a load stops at it (exit code {ExitCode.INPUT.value}); with
--on-error skip the exit code is {ExitCode.NEGATIVE.value} when rows were skipped."""


@click.command("load", cls=StoreCommand, help=HELP, short_help="Load records from a file, pipe or directory.")
@click.argument("path", type=STORE_PATH)
@click.argument("source", type=click.Path(path_type=Path, allow_dash=True), required=False)
@click.option("--format", "kind", type=click.Choice([*STREAM_FORMATS, TREE]), help="Default: by the name.")
@click.option("--key", "key_field", metavar="FIELD", help="Field or column that is the key.")
@click.option("--value", "value_field", metavar="FIELD", help="Field or column that is the value.")
@click.option(
    "--header/--no-header", "has_header", default=True, help="csv, tsv: the first row names columns."
)
@click.option(
    "--exclude", multiple=True, metavar="PATTERN", help="tree: leave out names like PATTERN; repeatable."
)
@click.option(
    "--on-error", type=click.Choice(["stop", "skip"]), default="stop", show_default=True, help="Bad rows."
)
@click.option(
    "--batch-bytes", type=Size(), default="4MiB", show_default=True, help="One commit holds about this."
)
@click.option(
    "--row-bytes-max", type=Size(), default="256MiB", show_default=True, help="A longer row is a bad row."
)
@click.option(
    "--resume", "mark_path", type=click.Path(path_type=Path), metavar="FILE", help="Keep the mark in FILE."
)
@click.option("--restart", is_flag=True, help="Ignore a mark: begin at the beginning.")
@click.option("--json", "is_json", is_flag=True, help="Print the summary as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary.")
@store_options
def command(source: Path | None, kind: str | None, is_json: bool, **arguments: Any) -> ExitCode:
    source = _checked_source(source)
    kind = format_of(source, kind)
    request = Request(source=source, kind=kind, **arguments)
    request.refuse_unused()
    report = _load_tree(request, source) if kind == TREE and source is not None else _load_stream(request)
    if is_json:
        print_json(report.as_dict())
    elif not request.quiet:
        _tell(report)
    return ExitCode.NEGATIVE if report.skipped else ExitCode.OK


@dataclass(frozen=True, kw_only=True)
class Request:
    """One command line of `load`; the fields are its options."""

    path: Path
    source: Path | None
    """None for a pipe."""
    kind: str
    key_field: str | None
    value_field: str | None
    has_header: bool
    exclude: tuple[str, ...]
    on_error: str
    batch_bytes: int
    row_bytes_max: int
    mark_path: Path | None
    restart: bool
    quiet: bool
    options: dict[str, Any]

    def refuse_unused(self) -> None:
        """An option that would be ignored was given by mistake."""
        unused = {
            "--key": self.key_field is not None and self.kind not in ("jsonl", "csv", "tsv"),
            "--value": self.value_field is not None and self.kind not in ("jsonl", "csv", "tsv"),
            "--no-header": not self.has_header and self.kind not in ("csv", "tsv"),
            "--exclude": bool(self.exclude) and self.kind != TREE,
            "--resume": self.mark_path is not None and self.kind == TREE,
        }
        for option, is_unused in unused.items():
            if is_unused:
                raise click.UsageError(f"{option} means nothing for the format {self.kind}")
        if self.kind == TREE and (self.source is None or not self.source.is_dir()):
            raise click.UsageError("the format tree needs a directory as SOURCE")
        if self.kind != TREE and self.source is not None and self.source.is_dir():
            raise click.UsageError(f"{self.source} is a directory: its format is tree, not {self.kind}")

    def loader(self, db: Any, rows: Any, **more: Any) -> Loader:
        skip_bad = _BadRows(is_shown=not self.quiet) if self.on_error == "skip" else None
        return Loader(db, rows, batch_bytes=self.batch_bytes, skip_bad=skip_bad, **more)


def _load_tree(request: Request, root: Path) -> LoadReport:
    tree = TreeReader(
        root, exclude=request.exclude, file_bytes_max=request.row_bytes_max, skipped_directory=request.path
    )
    with (
        open_store(request.path, request.options, create=True) as db,
        progress_bar("loading", None, is_wanted=not request.quiet) as bar,
    ):
        report = request.loader(db, tree, bar=bar, skip_identical=True).run()
    if not request.quiet:
        for what, number in sorted(tree.left_out.items()):
            notice(f"left out: {count_of(number, what)}")
    return report


def _load_stream(request: Request) -> LoadReport:
    source, is_pipe = request.source, request.source is None or not request.source.is_file()
    read_options = ReadOptions(
        key_field=request.key_field,
        value_field=request.value_field,
        has_header=request.has_header,
        row_bytes_max=request.row_bytes_max,
    )
    how = {
        "format": request.kind,
        "key": request.key_field,
        "value": request.value_field,
        "header": request.has_header,
    }
    with _opened(source) as stream:

        def open_reader() -> RowReader:
            if not is_pipe:
                stream.seek(0)
            return make_reader(request.kind, stream, read_options)

        identity = source_identity(None if is_pipe else source, how)
        total = None if is_pipe else identity["bytes"]
        with (
            open_store(request.path, request.options, create=True) as db,
            progress_bar("loading", total, is_wanted=not request.quiet) as bar,
        ):
            marked = MarkedLoad(db, request.path, identity, chosen_path=request.mark_path, is_pipe=is_pipe)
            reader = marked.begin(open_reader, restart=request.restart)
            loader = request.loader(db, reader, bar=bar, on_commit=marked.note)
            try:
                report = loader.run()
            except (KeyboardInterrupt, BadRow):
                _tell(loader.report, "loaded before that: ")
                raise
            marked.finish(report)
    return report


def _checked_source(source: Path | None) -> Path | None:
    if source is None or str(source) == "-":
        if source is None and is_terminal(stdin_bytes()):
            raise click.UsageError("say what to load: a file, a directory, or - for stdin")
        return None
    if not source.exists():
        raise Failure(f"{source}: no such file or directory", ExitCode.INPUT)
    return source


@contextlib.contextmanager
def _opened(source: Path | None) -> Iterator[BinaryIO]:
    if source is None:
        yield stdin_bytes()
        return
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise InputError(f"{source}: {error.strerror}") from error
    with open(descriptor, "rb", buffering=BUFFER_BYTES) as stream:
        yield stream


class _BadRows:
    """Names the first skipped rows; the rest are only counted."""

    def __init__(self, *, is_shown: bool) -> None:
        self._left = BAD_ROWS_SHOWN if is_shown else 0

    def __call__(self, bad: BadRow) -> None:
        if self._left:
            notice(f"skipped: {bad}")
            self._left -= 1
            if not self._left:
                notice("skipped: more rows, counted at the end")


def _tell(report: LoadReport, opening: str = "loaded ") -> None:
    notice(opening + rate(report.records, report.bytes, report.duration_s))
    if report.unchanged:
        notice(f"unchanged: {count_of(report.unchanged, 'file')}, the same in the store already")
    if report.skipped:
        notice(f"skipped: {count_of(report.skipped, 'bad row')}")
