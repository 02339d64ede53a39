"""The server as a process: how it starts, stops and dies."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

import flash_kv
from flash_kv.cli import program
from support.server_process import DEADLINE_S, serving
from support.servers import read_all
from support.small_disks import tmpfs
from support.waiting import wait_until

PUT = b"PUT /v1/kv/late HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n"


def is_refused(address: tuple[str, int]) -> bool:
    try:
        socket.create_connection(address, timeout=DEADLINE_S).close()
    except ConnectionError:
        return True
    return False


@pytest.mark.parametrize("signal_name", ["SIGTERM", "SIGINT"])
def test_a_signal_lets_requests_finish_and_closes_the_store(tmp_path: Path, signal_name: str) -> None:
    with (
        serving(tmp_path / "db") as server,
        socket.create_connection(server.address, timeout=DEADLINE_S) as late,
        socket.create_connection(server.address, timeout=DEADLINE_S) as idle,
    ):
        late.sendall(PUT + b"ab")
        assert httpx.put(f"{server.url}/v1/kv/k", content=b"v").status_code == 201
        server.process.send_signal(getattr(signal, signal_name))
        assert read_all(idle) == b""
        wait_until(lambda: is_refused(server.address))
        assert server.process.poll() is None
        late.sendall(b"cd")
        assert read_all(late).startswith(b"HTTP/1.1 201 ")
        assert server.wait() == 0
        assert server.notices[-1] == "stopped; the store is closed"
    with flash_kv.open(tmp_path / "db") as db:
        assert dict(db) == {b"k": b"v", b"late": b"abcd"}
        assert db.stats().recovery.was_clean


def test_a_stop_does_not_wait_for_ever(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "db", "--stop-timeout-s", "0.2") as server,
        socket.create_connection(server.address, timeout=DEADLINE_S) as late,
    ):
        late.sendall(PUT + b"ab")
        assert httpx.put(f"{server.url}/v1/kv/k", content=b"v").status_code == 201
        server.process.terminate()
        assert not read_all(late).startswith(b"HTTP/1.1 2")
        assert server.wait() == 0
    with flash_kv.open(tmp_path / "db") as db:
        assert dict(db) == {b"k": b"v"}


def test_every_answered_write_is_there_after_a_kill(tmp_path: Path) -> None:
    answered: list[set[int]] = [set() for _ in range(4)]

    def write(number: int, url: str) -> None:
        with httpx.Client(base_url=url, timeout=DEADLINE_S) as client, contextlib.suppress(httpx.HTTPError):
            for turn in range(1_000_000):
                content = b"%d" % turn * 50
                if client.put(f"/v1/kv/{number}/{turn}", content=content).is_success:
                    answered[number].add(turn)

    with serving(tmp_path / "db", "--segment-bytes-max", "64KiB") as server:
        writers = [threading.Thread(target=write, args=(number, server.url)) for number in range(4)]
        for writer in writers:
            writer.start()
        wait_until(lambda: all(len(turns) > 100 for turns in answered))
        server.process.kill()
        for writer in writers:
            writer.join()
    with flash_kv.open(tmp_path / "db") as db:
        for number, turns in enumerate(answered):
            missing = [turn for turn in turns if db.get(b"%d/%d" % (number, turn)) != b"%d" % turn * 50]
            assert missing == []
    assert not list((tmp_path / "db").glob("tmp-*"))


def test_a_full_disk_is_507_and_everything_else_goes_on(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "disk", 4 << 20) as disk:
        arguments = ("--segment-bytes-max", "256KiB", "--reserve-bytes", "512KiB", "--spool-bytes", "64KiB")
        with (
            serving(disk / "db", *arguments) as server,
            httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
        ):
            written = []
            for number in range(1000):
                answer = client.put(f"/v1/kv/{number}", content=b"%d" % number * 10_000)
                if answer.status_code == 507:
                    break
                assert answer.status_code == 201
                written.append(number)
            assert answer.json()["type"] == "urn:flash-kv:disk-full"
            assert len(written) > 20
            # One that does not even fit where it arrives, whether it says so or not.
            assert client.put("/v1/kv/large", content=iter([b"x" * (8 << 20)])).status_code == 507
            assert client.put("/v1/kv/large", content=b"x" * (8 << 20)).status_code == 507
            for number in written:
                assert client.get(f"/v1/kv/{number}").content == b"%d" % number * 10_000
            assert client.get("/v1/kv/large").status_code == 404
            assert client.get("/v1/count").json() == {"count": len(written)}
            for number in written:
                assert client.delete(f"/v1/kv/{number}").status_code == 204
            wait_until(lambda: client.put("/v1/kv/again", content=b"x" * 1000).is_success)
            server.process.terminate()
            assert server.wait() == 0


LARGE_BYTES = 96 << 20


def anonymous_bytes(pid: int) -> int:
    """Memory of a process that is no file's."""
    status = Path(f"/proc/{pid}/status").read_text()
    match = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert match is not None
    return int(match[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_a_large_value_goes_in_and_out_in_flat_memory(tmp_path: Path) -> None:
    chunk = bytes(range(256)) * 4096
    assert LARGE_BYTES % len(chunk) == 0
    with (
        serving(tmp_path / "db", "--value-bytes-max", "1GiB") as server,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client,
    ):
        client.put("/v1/kv/small", content=b"x")
        before = anonymous_bytes(server.process.pid)
        highest = before

        def chunks() -> Iterator[bytes]:
            nonlocal highest
            for _ in range(LARGE_BYTES // len(chunk)):
                highest = max(highest, anonymous_bytes(server.process.pid))
                yield chunk

        assert client.put("/v1/kv/large", content=chunks()).status_code == 201
        received = 0
        with client.stream("GET", "/v1/kv/large") as answer:
            assert answer.headers["content-length"] == str(LARGE_BYTES)
            for piece in answer.iter_raw(len(chunk)):
                assert piece == chunk
                received += len(piece)
                highest = max(highest, anonymous_bytes(server.process.pid))
        assert received == LARGE_BYTES
        assert highest - before < 32 << 20
        assert list((tmp_path / "db").glob("tmp-*")) == []


def test_settings_come_from_flags_variables_and_a_file(tmp_path: Path) -> None:
    config = tmp_path / "server.toml"
    config.write_text(
        '[server]\nvalue_bytes_max = "10KiB"\nspool_bytes = 5\n[store]\nindex = "hash"\nsegment_bytes_max = 65536\n'
    )
    variables = {
        "FLASH_KV_CONFIG": str(config),
        "FLASH_KV_VALUE_BYTES_MAX": "20",
        "FLASH_KV_STORE_IO": "file",
    }
    with serving(tmp_path / "db", "--value-bytes-max", "30", **variables) as server:
        assert httpx.put(f"{server.url}/v1/kv/k", content=b"x" * 30).status_code == 201
        assert httpx.put(f"{server.url}/v1/kv/k", content=b"x" * 31).status_code == 413
        assert httpx.get(f"{server.url}/v1/kv").status_code == 422
    with serving(tmp_path / "db", **variables) as server:
        assert httpx.put(f"{server.url}/v1/kv/k", content=b"x" * 21).status_code == 413


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("[server]\nhtp = 1", "no setting 'htp'"),
        ("[other]", "'other' is none of"),
        ("a = 1", "'a' is none of"),
        ("[", "server.toml"),
        ("[server]\nhttp = '0.0.0.0:1'", "token_file"),
        ("[server]\nheader_timeout_s = -1", "header_timeout_s"),
        ("[store]\nsegment_bytes_max = 5", "segment_bytes_max"),
        ("[server]\ntoken_file = 'none'", "token_file none"),
        ("[server]\ntls_certificate = 'none'\ntls_key = 'none'", "tls_certificate none"),
        ("[server]\ntls_certificate = 'server.toml'\ntls_key = 'server.toml'", "tls_certificate server.toml"),
    ],
)
def test_a_wrong_file_is_told_and_nothing_is_made(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    content: str,
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("server.toml").write_text(content)
    assert program.run(["serve", "db", "--config", "server.toml"]) == 2
    said_there = capfd.readouterr().err
    assert said in said_there
    assert said_there.count("\n") == 1
    assert not (tmp_path / "db").exists()


def test_a_port_that_is_taken_is_told(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert program.run(["serve", str(tmp_path / "db"), "--http", address]) == 3
    assert address in capfd.readouterr().err
    with flash_kv.open(tmp_path / "db", read_only=True) as db:
        assert len(db) == 0


@pytest.mark.parametrize("name", ["file", "absent/backups"])
def test_a_folder_for_backups_that_cannot_be_made_is_told(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    (tmp_path / "file").write_bytes(b"")
    directory = tmp_path / name
    assert program.run(["serve", str(tmp_path / "db"), "--backup-directory", str(directory)]) == 3
    assert str(directory) in capfd.readouterr().err
    with flash_kv.open(tmp_path / "db") as db:
        assert len(db) == 0
