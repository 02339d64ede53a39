"""TLS, and TLS with a certificate on both sides."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import httpx
import pytest

from flash_kv import OptionsError
from flash_kv.server.settings import ServerSettings
from support.servers import DEADLINE_S, read_all, served

trustme = pytest.importorskip("trustme")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def settings_for(authority: trustme.CA, directory: Path) -> dict[str, Path]:
    certificate = authority.issue_cert("127.0.0.1")
    paths = {"tls_certificate": directory / "certificate.pem", "tls_key": directory / "key.pem"}
    certificate.private_key_pem.write_to_path(paths["tls_key"])
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(paths["tls_certificate"], append=True)
    return paths


def context_of(authority: trustme.CA, *, own: bool = False) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    if own:
        authority.issue_cert("client@example.org").configure_cert(context)
    return context


def test_a_server_with_a_certificate_talks_tls(authority: trustme.CA, tmp_path: Path) -> None:
    with served(tmp_path / "db", settings_for(authority, tmp_path)) as server:
        assert server.url.startswith("https://")
        with httpx.Client(base_url=server.url, verify=context_of(authority)) as client:
            value = b"x" * 3_000_000
            assert client.put("/v1/kv/k", content=value).status_code == 201
            assert client.get("/v1/kv/k").content == value
        with httpx.Client(base_url=server.url) as stranger, pytest.raises(httpx.ConnectError):
            stranger.get("/v1/kv/k")
        # Plain HTTP gets no answer to read anything into.
        assert b"HTTP" not in server.talk(b"GET /v1/kv/k HTTP/1.1\r\nHost: localhost\r\n\r\n")


def test_old_versions_of_tls_are_refused(authority: trustme.CA, tmp_path: Path) -> None:
    context = context_of(authority)
    with pytest.warns(DeprecationWarning, match="TLSVersion.TLSv1_1"):
        context.minimum_version = ssl.TLSVersion.TLSv1_1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with (
        served(tmp_path / "db", settings_for(authority, tmp_path)) as server,
        socket.create_connection(server.address, timeout=DEADLINE_S) as connection,
        pytest.raises((ssl.SSLError, ConnectionError)),
    ):
        context.wrap_socket(connection, server_hostname="127.0.0.1")


def test_mutual_tls_serves_only_clients_with_a_certificate(authority: trustme.CA, tmp_path: Path) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    settings = {**settings_for(authority, tmp_path), "tls_client_ca": tmp_path / "ca.pem"}
    with served(tmp_path / "db", settings) as server:
        with httpx.Client(base_url=server.url, verify=context_of(authority, own=True)) as client:
            assert client.put("/v1/kv/k", content=b"v").status_code == 201
        for own in (None, trustme.CA()):
            context = context_of(authority)
            if own is not None:
                own.issue_cert("stranger@example.org").configure_cert(context)
            with (
                httpx.Client(base_url=server.url, verify=context) as client,
                pytest.raises(httpx.TransportError),
            ):
                client.get("/v1/kv/k")


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half of a greeting"])
def test_a_handshake_that_stalls_is_ended(authority: trustme.CA, tmp_path: Path, said: bytes) -> None:
    settings = {**settings_for(authority, tmp_path), "tls_handshake_timeout_s": 0.1}
    with (
        served(tmp_path / "db", settings) as server,
        socket.create_connection(server.address, timeout=DEADLINE_S) as stalled,
        httpx.Client(base_url=server.url, verify=context_of(authority)) as client,
    ):
        stalled.sendall(said)
        assert client.put("/v1/kv/k", content=b"v").status_code == 201
        began = time.monotonic()
        assert read_all(stalled) == b""
        # asyncio's own limit is a minute.
        assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "wrong",
    [
        {"tls_certificate": Path("a")},
        {"tls_key": Path("a")},
        {"tls_client_ca": Path("a")},
        {"tls_client_ca": Path("a"), "tls_key": Path("b")},
    ],
    ids=str,
)
def test_half_of_the_settings_is_refused(wrong: dict[str, Path]) -> None:
    with pytest.raises(OptionsError, match="tls_"):
        ServerSettings(**wrong)
