"""Keys and key ranges on the command line: text as UTF-8, or hexadecimal or base64 for any bytes."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(frozen=True, kw_only=True)
class KeyCoding:
    """How the keys of one command line are written."""

    is_hex: bool = False
    is_base64: bool = False

    def decode(self, text: str) -> bytes:
        """The key's bytes; `click.UsageError` when the text is not what was announced, or empty."""
        key = self._bytes(text)
        if not key:
            raise click.UsageError("a key cannot be empty")
        return key

    def bound(self, text: str | None) -> bytes | None:
        """A bound of a range: as a key, but it may be absent or empty."""
        return None if text is None else self._bytes(text)

    def _bytes(self, text: str) -> bytes:
        if self.is_hex and self.is_base64:
            raise click.UsageError("choose one of --hex and --base64")
        try:
            if self.is_hex:
                return bytes.fromhex(text)
            if self.is_base64:
                return base64.b64decode(text, validate=True)
        except (ValueError, binascii.Error) as error:
            kind = "hexadecimal" if self.is_hex else "base64"
            raise click.UsageError(f"{text!r} is not {kind}: {error}") from error
        # An argument that is not UTF-8 arrives with surrogates; this gives back its very bytes.
        return text.encode("utf-8", "surrogateescape")


@dataclass(frozen=True, kw_only=True)
class KeyRange:
    """Which keys, in which order, how many: `start` inclusive, `stop` exclusive."""

    prefix: bytes | None = None
    start: bytes | None = None
    stop: bytes | None = None
    is_reverse: bool = False
    limit: int | None = None

    @property
    def is_everything(self) -> bool:
        """True when every key is meant, whatever the order."""
        return self.limit is None and not self.bounds

    @property
    def bounds(self) -> dict[str, Any]:
        """The bounds that were given, as arguments of `db.keys()` or `db.delete_range()`."""
        named = {"prefix": self.prefix, "start": self.start, "stop": self.stop}
        return {name: bound for name, bound in named.items() if bound is not None}

    @property
    def view_arguments(self) -> dict[str, Any]:
        """The arguments of `db.items()` and its kin."""
        return {**self.bounds, "reverse": True} if self.is_reverse else dict(self.bounds)


def coding_options(command: Command) -> Command:
    """`--hex` and `--base64`; the command gets `coding: KeyCoding`."""
    options = [
        click.option("--hex", "is_hex", is_flag=True, help="Keys are given in hexadecimal."),
        click.option("--base64", "is_base64", is_flag=True, help="Keys are given in base64."),
    ]
    return _folding(command, options, "coding", lambda given: KeyCoding(**given), ("is_hex", "is_base64"))


def range_options(*, has_order: bool = True) -> Callable[[Command], Command]:
    """`--prefix`, `--start`, `--stop` (and `--reverse`, `--limit`).

    The command gets `bounds`, the texts as given, for `make_range`.
    """
    names = ["prefix", "start", "stop"]
    options = [
        click.option("--prefix", metavar="KEY", help="Only keys that begin with KEY."),
        click.option("--start", metavar="KEY", help="Only keys from KEY on."),
        click.option("--stop", metavar="KEY", help="Only keys before KEY."),
    ]
    if has_order:
        names += ["is_reverse", "limit"]
        options += [
            click.option("--reverse", "is_reverse", is_flag=True, help="From the last key to the first."),
            click.option("--limit", type=click.IntRange(min=0), metavar="N", help="At most N records."),
        ]

    def decorate(command: Command) -> Command:
        return _folding(command, options, "bounds", dict, tuple(names))

    return decorate


def make_range(coding: KeyCoding, bounds: dict[str, Any]) -> KeyRange:
    """The range that `range_options` collected, its keys read as `coding` says."""
    order = {name: bounds[name] for name in ("is_reverse", "limit") if name in bounds}
    return KeyRange(
        # An empty prefix or start is every key; so is none at all, which every index kind can answer.
        prefix=coding.bound(bounds["prefix"]) or None,
        start=coding.bound(bounds["start"]) or None,
        stop=coding.bound(bounds["stop"]),
        **order,
    )


def _folding(
    command: Command,
    options: Sequence[Callable[[Any], Any]],
    name: str,
    build: Callable[[dict[str, Any]], Any],
    parts: tuple[str, ...],
) -> Command:
    """`command` with `options`, their values handed over as the one argument `name`."""

    def folded(**arguments: Any) -> Any:
        arguments[name] = build({part: arguments.pop(part) for part in parts})
        return command(**arguments)

    folded.__doc__ = command.__doc__
    folded.__name__ = getattr(command, "__name__", name)
    folded.__click_params__ = getattr(command, "__click_params__", [])  # type: ignore[attr-defined]
    wrapped: Any = folded
    for option in reversed(options):
        wrapped = option(wrapped)
    result: Command = wrapped
    return result
