"""What goes to stdout and stderr: exact bytes for pipes, readable text for terminals, JSON for scripts."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, BinaryIO

import click

HEX_ROW_BYTES = 16


def stdout_bytes() -> BinaryIO:
    """The binary side of stdout: what is written there arrives exactly."""
    return sys.stdout.buffer


def stdin_bytes() -> BinaryIO:
    return sys.stdin.buffer


def is_terminal(descriptor_of: Any) -> bool:
    """True when the stream is a terminal; a closed or replaced stream is none."""
    try:
        return bool(descriptor_of.isatty())
    except (AttributeError, ValueError):
        return False


def silence_stdout() -> None:
    """Send what is still buffered for a vanished reader nowhere, so that the exit stays quiet."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)


def notice(text: str) -> None:
    """One line for the person, beside the data."""
    click.echo(text, err=True)


def print_json(value: Mapping[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def print_fields(fields: Iterable[tuple[str, str]]) -> None:
    """Aligned `name  value` lines."""
    rows = list(fields)
    width = max((len(name) for name, _ in rows), default=0)
    for name, value in rows:
        click.echo(f"{name:<{width}}  {value}")


def size(count: int | float) -> str:
    """Bytes as a person reads them: `1.5 MiB`."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(amount) < 1024:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1024
    return f"{amount:.1f} TiB"


def count_of(number: int, noun: str, plural: str | None = None) -> str:
    """`1 record`, `2,000 records`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def rate(records: int, count: int, duration_s: float) -> str:
    """`N records, S in T s (N/s, S/s)`."""
    seconds = max(duration_s, 1e-9)
    return (
        f"{count_of(records, 'record')}, {size(count)} in {duration_s:.2f} s "
        f"({records / seconds:,.0f} records/s, {size(count / seconds)}/s)"
    )


def shown(data: bytes, *, limit: int | None = None) -> str:
    """Bytes as unambiguous printable text: UTF-8 where it is, `\\xNN` elsewhere, `...` beyond `limit`."""
    head = data if limit is None else data[: 4 * limit]
    text = "".join(_escaped(head.decode("utf-8", "surrogateescape")))
    if limit is not None and (len(text) > limit or len(head) < len(data)):
        return text[: max(limit - 3, 0)] + "..."
    return text


def _escaped(text: str) -> Iterator[str]:
    for character in text:
        code = ord(character)
        if character == "\\":
            yield "\\\\"
        elif character.isprintable():
            yield character
        elif 0xDC80 <= code <= 0xDCFF:
            yield f"\\x{code - 0xDC00:02x}"
        elif character in "\n\r\t":
            yield {"\n": "\\n", "\r": "\\r", "\t": "\\t"}[character]
        elif code < 0x80:
            yield f"\\x{code:02x}"
        else:
            yield "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8"))


def is_readable(data: bytes) -> bool:
    """True when a terminal shows the bytes as they are: UTF-8 of printable characters, tabs and newlines."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(part.isprintable() for part in text.replace("\t", " ").replace("\r\n", "\n").split("\n"))


def hex_dump(data: bytes) -> Iterator[str]:
    """Rows of offset, 16 bytes in hexadecimal, and their ASCII."""
    for offset in range(0, len(data), HEX_ROW_BYTES):
        row = data[offset : offset + HEX_ROW_BYTES]
        letters = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in row)
        yield f"{offset:08x}  {row.hex(' '):<{HEX_ROW_BYTES * 3 - 1}}  |{letters}|"
