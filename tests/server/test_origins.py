"""What a web page can make a browser ask of a server without tokens: nothing that changes it, nothing it can read."""

from __future__ import annotations

from pathlib import Path

import pytest

from flash_kv.server.auth import add_token
from flash_kv.server.http.origins import is_local
from support.servers import Served, served


@pytest.mark.parametrize(
    "host",
    [
        b"localhost",
        b"localhost:80",
        b"LocalHost:1",
        b"a.localhost",
        b"127.0.0.1:80",
        b"[::1]:80",
        b"10.1.2.3",
    ],
)
def test_names_of_this_machine_and_addresses_are_local(host: bytes) -> None:
    assert is_local(host)


@pytest.mark.parametrize(
    "host",
    [b"", b"example.org", b"localhost.example.org", b"127.0.0.1.example.org", b"[::1", b"\xff", b"1.2.3"],
)
def test_other_names_are_not(host: bytes) -> None:
    assert not is_local(host)


def test_a_name_that_was_made_to_lead_here_is_421(server: Served) -> None:
    answer = server.client.get("/v1/kv/first", headers={"Host": "example.org"})
    assert (answer.status_code, answer.json()["type"]) == (421, "urn:flash-kv:host")


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://example.org"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
    ids=str,
)
def test_a_page_of_another_origin_changes_nothing(server: Served, headers: dict[str, str]) -> None:
    for method, path in [
        ("PUT", "/v1/kv/page"),
        ("DELETE", "/v1/kv/first"),
        ("DELETE", "/v1/kv?all=true"),
        ("POST", "/v1/load"),
    ]:
        content = b'{"key":"page","value":""}'
        assert server.client.request(method, path, headers=headers, content=content).status_code == 403
    assert b"page" not in server.db
    assert b"first" in server.db


def test_no_answer_lets_another_origin_read_it(server: Served) -> None:
    answer = server.client.options(
        "/v1/kv/first",
        headers={"Origin": "https://example.org", "Access-Control-Request-Method": "PUT"},
    )
    assert not answer.is_success
    answer = server.client.get("/v1/kv/first", headers={"Origin": "https://example.org"})
    assert not any(name.startswith("access-control") for name in answer.headers)


def test_a_page_of_the_server_itself_may(server: Served) -> None:
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert server.client.put("/v1/kv/own", headers=own, content=b"x").status_code == 201
    assert server.db.pop(b"own") == b"x"


def test_with_tokens_names_and_origins_are_free(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    token = add_token(file, "one", ["read", "write"])
    headers = {"Host": "db.example.org", "Origin": "https://example.org", "Authorization": f"Bearer {token}"}
    with served(tmp_path / "db", {"token_file": file}) as server:
        assert server.client.put("/v1/kv/k", headers=headers, content=b"x").status_code == 201
