"""Which format a name means, and the reader or writer that speaks it."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO, Protocol

import click

from flash_kv.cli.formats.jsonl import JsonLinesReader, JsonLinesWriter
from flash_kv.cli.formats.pairs import BinaryReader, BinaryWriter, LinesWriter, NulReader, NulWriter
from flash_kv.cli.formats.rows import ReadOptions, RowReader
from flash_kv.cli.formats.table import TableReader, TableWriter

STREAM_FORMATS = ("jsonl", "csv", "tsv", "nul", "binary")
TREE = "tree"
BINARY_FORMATS = ("nul", "binary")

SUFFIXES = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".tsv": "tsv",
    ".tab": "tsv",
    ".nul": "nul",
    ".bin": "binary",
    ".fkv": "binary",
}


class RecordWriter(Protocol):
    """Writes records one by one; `value=None` writes the key alone. Returns the bytes written."""

    def write(self, key: bytes, value: bytes | None) -> int: ...


def format_of(path: Path | None, given: str | None) -> str:
    """The format that was `given`, else what the name says; a pipe (`path=None`) is `jsonl`."""
    if given is not None:
        return given
    if path is None:
        return "jsonl"
    if path.is_dir():
        return TREE
    try:
        return SUFFIXES[path.suffix.lower()]
    except KeyError:
        known = ", ".join(SUFFIXES)
        raise click.UsageError(f"the name {path} says no format ({known}): add --format") from None


def make_reader(kind: str, stream: BinaryIO, options: ReadOptions) -> RowReader:
    """The reader of a stream format."""
    match kind:
        case "jsonl":
            return JsonLinesReader(stream, options)
        case "csv":
            return TableReader(stream, options, ",")
        case "tsv":
            return TableReader(stream, options, "\t")
        case "nul":
            return NulReader(stream, options)
    return BinaryReader(stream, options)


def make_writer(
    kind: str, stream: BinaryIO, *, is_base64: bool = False, has_value: bool = True
) -> RecordWriter:
    """The writer of a stream format; `lines` writes bare keys."""
    match kind:
        case "jsonl":
            return JsonLinesWriter(stream)
        case "csv":
            return TableWriter(stream, ",", is_base64=is_base64, has_value=has_value)
        case "tsv":
            return TableWriter(stream, "\t", is_base64=is_base64, has_value=has_value)
        case "nul":
            return NulWriter(stream)
        case "lines":
            return LinesWriter(stream)
    return BinaryWriter(stream)
