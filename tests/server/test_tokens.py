"""Tokens: the file, scopes, prefixes, back-off, and the address a server may listen at without any."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flash_kv import OptionsError
from flash_kv.server.auth import (
    ADDRESSES_MAX,
    FAILURES_FREE,
    Failures,
    Gate,
    add_token,
    read_tokens,
    remove_token,
)
from flash_kv.server.http.problems import Problem
from flash_kv.server.settings import ServerSettings
from support.servers import served


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def bearer(token: str) -> bytes:
    return f"Bearer {token}".encode()


def status_of(gate: Gate, authorization: bytes | None, scope: str = "read", client: str = "a") -> int:
    try:
        gate.admit(authorization, client, scope)  # type: ignore[arg-type]
    except Problem as problem:
        return problem.status
    return 200


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens.toml"


def test_a_token_opens_its_scopes_and_no_others(file: Path) -> None:
    token = add_token(file, "reader", ["read"])
    gate = Gate(file)
    assert status_of(gate, bearer(token)) == 200
    assert status_of(gate, bearer(token).replace(b"Bearer", b"bearer")) == 200
    assert status_of(gate, bearer(token), "write") == 403
    assert status_of(gate, bearer(token), "admin") == 403


def test_the_file_holds_no_secret_and_is_for_its_owner_only(file: Path) -> None:
    token = add_token(file, "one", ["read", "write"], [b"\xff", b"a"])
    assert token.rpartition("_")[2] not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600
    assert read_tokens(file)[b"one"].grant.prefixes == (b"\xff", b"a")
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        b"",
        b"Bearer",
        b"Bearer ",
        b"Basic abc",
        b"Bearer fkv_one_short",
        b"Bearer \xff\xfe",
        b"Bearer fkv__" + b"a" * 43,
    ],
    ids=repr,
)
def test_what_is_no_token_is_401(file: Path, wrong: bytes | None) -> None:
    add_token(file, "one", ["read"])
    assert status_of(Gate(file), wrong) == 401


def test_another_secret_or_another_name_is_401(file: Path) -> None:
    one, two = add_token(file, "one", ["read"]), add_token(file, "two", ["read"])
    gate = Gate(file)
    swapped = one.replace("_one_", "_two_")
    changed = two[:-2] + ("AA" if two[-2:] != "AA" else "BB")
    assert [status_of(gate, bearer(token)) for token in (swapped, changed, one, two)] == [401, 401, 200, 200]


def test_failures_make_an_address_wait_ever_longer_and_others_not(file: Path) -> None:
    clock = Clock()
    right = bearer(add_token(file, "one", ["read"]))
    gate = Gate(file, clock)
    wrong = b"Bearer fkv_one_" + b"a" * 43
    assert [status_of(gate, wrong) for _ in range(FAILURES_FREE + 1)] == [401] * FAILURES_FREE + [429]
    assert status_of(gate, right) == 429
    assert status_of(gate, right, client="b") == 200
    clock.now += 1.1
    assert status_of(gate, wrong) == 401
    clock.now += 1.1
    assert status_of(gate, right) == 429
    clock.now += 1.0
    assert status_of(gate, right) == 200
    assert status_of(gate, wrong) == 401


def test_the_memory_of_failures_is_bounded() -> None:
    failures = Failures(Clock())
    for number in range(ADDRESSES_MAX + 10):
        failures.count(str(number))
    assert len(failures._by_address) == ADDRESSES_MAX


def test_a_token_added_or_removed_is_known_within_a_second(file: Path) -> None:
    clock = Clock()
    one = bearer(add_token(file, "one", ["read"]))
    gate = Gate(file, clock)
    two = bearer(add_token(file, "two", ["read"]))
    assert remove_token(file, "one")
    assert (status_of(gate, one), status_of(gate, two)) == (200, 401)
    clock.now += 1.1
    assert (status_of(gate, one, client="b"), status_of(gate, two, client="c")) == (401, 200)


@pytest.mark.parametrize(
    "content", ["no toml", "[one]\nsha256 = 5\nscopes = []", '[one]\nsha256 = ""\nscopes = ["read"]', None]
)
def test_a_file_that_breaks_later_lets_nobody_in(file: Path, content: str | None) -> None:
    clock = Clock()
    one = bearer(add_token(file, "one", ["read"]))
    gate = Gate(file, clock)
    file.unlink()
    if content is not None:
        file.write_text(content)
        file.chmod(0o600)
        with pytest.raises(OptionsError, match="token_file"):
            Gate(file)
    clock.now += 1.1
    assert status_of(gate, one) == 401


def test_a_file_that_others_may_write_is_refused(file: Path) -> None:
    add_token(file, "one", ["read"])
    file.chmod(0o620)
    with pytest.raises(OptionsError, match="chmod 600"):
        Gate(file)


@pytest.mark.parametrize(
    ("name", "scopes", "prefixes"),
    [
        ("a_b", ["read"], []),
        ("", ["read"], []),
        ("a", [], []),
        ("a", ["root"], []),
        ("a", ["admin"], [b"x"]),
        ("a", ["read"], [b""]),
    ],
)
def test_a_token_that_makes_no_sense_is_not_written(
    file: Path, name: str, scopes: list[str], prefixes: list[bytes]
) -> None:
    with pytest.raises(OptionsError):
        add_token(file, name, scopes, prefixes)
    assert not file.exists()


@pytest.mark.parametrize(
    "address", ["0.0.0.0:0", "[::]:0", "192.168.1.2:80", "example.org:80", "127.0.0.1.example.org:1"]
)
def test_an_address_for_others_needs_tokens(file: Path, address: str) -> None:
    with pytest.raises(OptionsError, match="token_file"):
        ServerSettings(http=address)
    assert ServerSettings(http=address, token_file=file).http == address


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:0", "localhost:0", "127.8.0.1:5"])
def test_an_address_of_this_machine_needs_none(address: str) -> None:
    assert ServerSettings(http=address).address.is_loopback


def test_requests_are_held_to_scopes_and_prefixes(tmp_path: Path, file: Path) -> None:
    reader = add_token(file, "reader", ["read"], [b"a/"])
    writer = add_token(file, "writer", ["read", "write"])
    with served(tmp_path / "db", {"token_file": file}) as server:
        get, put = server.client.get, server.client.put
        assert get("/v1/kv/a/1").headers["www-authenticate"].startswith("Bearer")
        assert (
            put("/v1/kv/a/1", content=b"x", headers={"Authorization": f"Bearer {reader}"}).status_code == 403
        )
        assert (
            put("/v1/kv/a/1", content=b"x", headers={"Authorization": f"Bearer {writer}"}).status_code == 201
        )
        assert get("/v1/kv/a/1", headers={"Authorization": f"Bearer {reader}"}).content == b"x"
        assert get("/v1/kv/b", headers={"Authorization": f"Bearer {reader}"}).status_code == 403
        assert get("/v1/kv/b", headers={"Authorization": f"Bearer {writer}"}).status_code == 404


def test_the_owner_can_still_read_the_file_after_a_failed_write(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_token(file, "one", ["read"])

    def refuse(*paths: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="No space"):
        add_token(file, "two", ["read"])
    assert set(read_tokens(file)) == {b"one"}
    assert list(file.parent.iterdir()) == [file]
