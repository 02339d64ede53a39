"""Who may do what: the file of tokens, scopes, key prefixes, and the back-off after failures. See docs/http.md."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Scope = Literal["read", "write", "admin"]


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request may do: its token's scopes and, where it has any, the key prefixes it is held to."""

    name: str
    scopes: frozenset[str]
    prefixes: tuple[bytes, ...] = ()

    def may_touch(self, key: bytes) -> bool:
        """True when `key`, or every key that begins with it, is within the prefixes."""
        return not self.prefixes or key.startswith(self.prefixes)


EVERYTHING = Grant("", frozenset(("read", "write", "admin")))


class Gate:
    """Decides on each request; without a file of tokens everybody may do everything."""

    def __init__(self, token_file: Path | None) -> None:
        self.token_file = token_file

    def admit(self, authorization: bytes | None, client: str, scope: Scope | None) -> Grant:
        """The grant of a request's `Authorization` header."""
        return EVERYTHING
