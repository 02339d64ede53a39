"""Who may do what: the file of tokens, scopes, key prefixes, and the back-off after failures. See docs/http.md.

A token is `fkv_<name>_<secret>`. The secret is 32 random bytes, so its plain SHA-256 is kept: stretching is for what
people choose and others can guess; here it would only let strangers make the server compute. The file is TOML, one
table per token; it holds no secret, but who can write it can let himself in.

Invariants: secrets are compared in constant time, and for a name that is unknown too; an address that failed often is
refused before its token is looked at; an unreadable or broken file lets nobody in.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import time
import tomllib
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from flash_kv.errors import OptionsError
from flash_kv.server.http.problems import Problem

Scope = Literal["read", "write", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

NAME = re.compile(r"[A-Za-z0-9-]{1,64}")
_TOKEN = re.compile(rb"fkv_([A-Za-z0-9-]{1,64})_([A-Za-z0-9_-]{43})")
_BEARER = re.compile(rb"bearer +(\S+) *", re.IGNORECASE)
_NO_HASH = bytes(32)

# So many failures an address has free; then it waits twice as long after each, from one second to a minute.
FAILURES_FREE = 5
WAIT_S_MAX = 60.0
ADDRESSES_MAX = 4096
# How often the file is looked at.
LOOK_S = 1.0


@dataclass(frozen=True, slots=True)
class Grant:
    """What a request may do: its token's scopes and, where it has any, the key prefixes it is held to."""

    name: str
    scopes: frozenset[str]
    prefixes: tuple[bytes, ...] = ()

    def may_touch(self, key: bytes) -> bool:
        """True when `key`, or every key that begins with it, is within the prefixes."""
        return not self.prefixes or key.startswith(self.prefixes)


EVERYTHING = Grant("", frozenset(SCOPES))


@dataclass(frozen=True, slots=True)
class Token:
    """One entry of the file."""

    grant: Grant
    digest: bytes
    """SHA-256 of the secret."""


class Gate:
    """Decides on each request; without a file of tokens everybody may do everything."""

    def __init__(self, token_file: Path | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.token_file = token_file
        self._clock = clock
        self._failures = Failures(clock)
        self._tokens: dict[bytes, Token] = {}
        self._stamp: tuple[int, int, int] | None = None
        self._looked_at = 0.0
        if token_file is not None:
            # A server that cannot read its tokens at the start says so; later it only lets nobody in.
            self._tokens = read_tokens(token_file)
            self._stamp = _stamp(token_file)
            self._looked_at = clock()

    @property
    def is_open(self) -> bool:
        """True when no request needs a token."""
        return self.token_file is None

    def admit(self, authorization: bytes | None, client: str, scope: Scope | None) -> Grant:
        """The grant of an `Authorization` header. Problem 401, 403 or 429 when it gives no right to `scope`."""
        if self.token_file is None or scope is None:
            return EVERYTHING
        self._look(self.token_file)
        wait_s = self._failures.wait_s(client)
        if wait_s > 0:
            retry = b"%d" % (int(wait_s) + 1)
            raise Problem(
                429, "too many wrong tokens: wait", slug="back-off", headers=[(b"retry-after", retry)]
            )
        if authorization is None:
            raise _unauthorized("a token is needed: Authorization: Bearer fkv_...")
        token = self._find(authorization)
        if token is None:
            self._failures.count(client)
            raise _unauthorized("this token is not known here")
        self._failures.forget(client)
        grant = token.grant
        if scope not in grant.scopes:
            raise Problem(403, f"the token {grant.name!r} has no scope {scope!r}", slug="scope", scope=scope)
        return grant

    def _find(self, authorization: bytes) -> Token | None:
        bearer = _BEARER.fullmatch(authorization)
        match = None if bearer is None else _TOKEN.fullmatch(bearer[1])
        name, secret = (b"", b"") if match is None else match.groups()
        token = self._tokens.get(name)
        # The same work whether the name is known or not.
        digest = _NO_HASH if token is None else token.digest
        is_right = hmac.compare_digest(hashlib.sha256(secret).digest(), digest)
        return token if is_right else None

    def _look(self, path: Path) -> None:
        now = self._clock()
        if now - self._looked_at < LOOK_S:
            return
        self._looked_at = now
        stamp = _stamp(path)
        if stamp == self._stamp:
            return
        self._stamp = stamp
        try:
            self._tokens = read_tokens(path)
        except OptionsError:
            self._tokens = {}


class Failures:
    """Wrong tokens by address, of so many addresses at most."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_address: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait_s(self, client: str) -> float:
        """How long this address has to wait; 0 when it may try."""
        count, since = self._by_address.get(client, (0, 0.0))
        if count < FAILURES_FREE:
            return 0.0
        wait_s = min(WAIT_S_MAX, 2.0 ** min(count - FAILURES_FREE, 16))
        return max(0.0, since + wait_s - self._clock())

    def count(self, client: str) -> None:
        """One more wrong token from this address."""
        count = self._by_address.pop(client, (0, 0.0))[0]
        self._by_address[client] = (count + 1, self._clock())
        if len(self._by_address) > ADDRESSES_MAX:
            self._by_address.popitem(last=False)

    def forget(self, client: str) -> None:
        """A right token from this address."""
        if self._by_address:
            self._by_address.pop(client, None)


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, slug="token", headers=[(b"www-authenticate", b'Bearer realm="flash-kv"')])


# The file


def read_tokens(path: Path) -> dict[bytes, Token]:
    """The tokens of a file by their names. OptionsError when it cannot be read, is broken, or others may write it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            entries = tomllib.load(file)
    except OSError as error:
        raise OptionsError([f"token_file {path}: {error.strerror}"]) from error
    except ValueError as error:
        raise OptionsError([f"token_file {path}: {error}"]) from error
    if mode & 0o022:
        raise OptionsError([f"token_file {path} can be written by others: chmod 600 {path}"])
    found, faults = {}, []
    for name, entry in entries.items():
        try:
            found[name.encode()] = _token(name, entry)
        except (KeyError, TypeError, ValueError) as error:
            faults.append(f"token_file {path}: the entry {name!r} is none of 'flash-kv token' ({error})")
    if faults:
        raise OptionsError(faults)
    return found


def _token(name: str, entry: dict[str, object]) -> Token:
    digest, scopes, prefixes = entry["sha256"], entry["scopes"], entry.get("prefixes_hex", [])
    if not (isinstance(digest, str) and isinstance(scopes, list) and isinstance(prefixes, list)):
        raise TypeError("a field has another type")
    if not NAME.fullmatch(name) or not set(scopes) <= set(SCOPES) or len(bytes.fromhex(digest)) != 32:
        raise ValueError("a field has another form")
    grant = Grant(name, frozenset(scopes), tuple(bytes.fromhex(prefix) for prefix in prefixes))
    return Token(grant, bytes.fromhex(digest))


def add_token(path: Path, name: str, scopes: Collection[str], prefixes: Collection[bytes] = ()) -> str:
    """Write one more token to the file, which is made when there is none; the token, which is kept nowhere."""
    faults = []
    if not NAME.fullmatch(name):
        faults.append(f"a name has 1 to 64 letters, digits and dashes, {name!r} does not")
    if not scopes or not set(scopes) <= set(SCOPES):
        faults.append(f"scopes are {', '.join(SCOPES)}; at least one of them")
    if "admin" in scopes and prefixes:
        faults.append("a token with the scope admin is for the whole store: leave out the prefixes")
    if b"" in prefixes:
        faults.append("a prefix has at least one byte")
    tokens = read_tokens(path) if path.exists() else {}
    if name.encode() in tokens:
        faults.append(f"there is a token {name!r} already: choose another name, or remove that one")
    if faults:
        raise OptionsError(faults)
    secret = secrets.token_urlsafe(32)
    grant = Grant(name, frozenset(scopes), tuple(prefixes))
    tokens[name.encode()] = Token(grant, hashlib.sha256(secret.encode()).digest())
    _write_tokens(path, tokens)
    return f"fkv_{name}_{secret}"


def remove_token(path: Path, name: str) -> bool:
    """Take a token out of the file; False when there is none of that name."""
    tokens = read_tokens(path)
    if tokens.pop(name.encode(), None) is None:
        return False
    _write_tokens(path, tokens)
    return True


def _write_tokens(path: Path, tokens: dict[bytes, Token]) -> None:
    # Whole or not at all: a server may read it at any time.
    temporary = path.with_name(f"tmp-{secrets.token_hex(8)}-{path.name}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.writelines(_spelled(token) for token in tokens.values())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _spelled(token: Token) -> str:
    grant = token.grant
    scopes = ", ".join(f'"{scope}"' for scope in SCOPES if scope in grant.scopes)
    lines = [f"[{grant.name}]", f'sha256 = "{token.digest.hex()}"', f"scopes = [{scopes}]"]
    if grant.prefixes:
        listed = ", ".join(f'"{prefix.hex()}"' for prefix in grant.prefixes)
        lines.append(f"prefixes_hex = [{listed}]")
    return "\n".join([*lines, "", ""])


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
