"""The server against the bare ASGI server that answers a constant, by wrk: GET and PUT of 100 bytes, in turns.

    python -m benchmarks.http_server --seconds 5 --rounds 5

Both run on the same parser and event loop, one process each, and take turns, so that what else the machine does hits
both; what counts is the ratio. wrk has to be installed.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VALUE = b"x" * 100
KEYS = 10_000
# Shares of the bare server's requests per second.
GOALS = {"GET": 0.80, "PUT": 0.70}

WRK_SCRIPT = """
local counter = 0
local body = string.rep("x", 100)
request = function()
   counter = (counter * 1103515245 + 12345) % 2147483648
   return wrk.format("{method}", "/v1/kv/key" .. (counter % {keys}), nil, {body})
end
"""


async def bare(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """The constant: it reads a body where there is one, and answers at once."""
    if scope["type"] != "http":
        return
    if scope["method"] == "PUT":
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body"})
        return
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"100")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": VALUE})


def serve_bare(port: int) -> None:
    """uvicorn as the server has it, around `bare`."""
    import uvicorn

    uvicorn.run(
        bare,  # type: ignore[arg-type]
        port=port,
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
    )


@dataclass(frozen=True)
class Running:
    """A server under test."""

    url: str
    pid: int

    def cpu_s(self) -> float:
        """The processor time it has used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running(*command: str, port: int) -> Iterator[Running]:
    with subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
                except ConnectionRefusedError:
                    if process.poll() is not None:
                        raise SystemExit(f"{' '.join(command)} did not start") from None
            yield Running(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def measure(server: Running, script: Path, seconds: int, connections: int) -> tuple[float, float]:
    """Requests per second, and processor time of the server per request in us. Every answer has to be a success."""
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}", "-s", str(script), server.url]
    before_s = server.cpu_s()
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(said)
    (rate,) = re.findall(r"Requests/sec:\s+([\d.]+)", said)
    (requests,) = re.findall(r"(\d+) requests in", said)
    return float(rate), (server.cpu_s() - before_s) / int(requests) * 1e6


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        serve_bare(arguments.bare)
        return 0
    ports = free_port(), free_port()
    with (
        tempfile.TemporaryDirectory() as directory,
        running("-m", "benchmarks.http_server", "--bare", str(ports[0]), port=ports[0]) as constant,
        running(
            *("-m", "flash_kv.cli", "serve", f"{directory}/db", "-q", "--http", f"127.0.0.1:{ports[1]}"),
            port=ports[1],
        ) as store,
    ):
        is_reached = True
        for method in ("PUT", "GET"):
            script = Path(directory) / f"{method}.lua"
            script.write_text(
                WRK_SCRIPT.format(method=method, keys=KEYS, body="body" if method == "PUT" else "nil")
            )
            if method == "GET":
                fill(store.url)
            found: dict[Running, list[tuple[float, float]]] = {constant: [], store: []}
            for _ in range(arguments.rounds):
                for server, figures in found.items():
                    figures.append(measure(server, script, arguments.seconds, arguments.connections))
            is_reached &= report(method, found[constant], found[store])
    return 0 if is_reached else 1


def report(method: str, bare: list[tuple[float, float]], ours: list[tuple[float, float]]) -> bool:
    shares = [own[0] / other[0] for own, other in zip(ours, bare, strict=True)]
    cpu_shares = [other[1] / own[1] for own, other in zip(ours, bare, strict=True)]
    share = statistics.median(shares)
    rates = [statistics.median(rate for rate, _ in figures) for figures in (ours, bare)]
    cpu_us = [statistics.median(cpu for _, cpu in figures) for figures in (ours, bare)]
    print(
        f"{method} of 100 bytes: {rates[0]:,.0f}/s, bare {rates[1]:,.0f}/s: {share:.0%} "
        f"({min(shares):.0%} to {max(shares):.0%}), goal {GOALS[method]:.0%}; processor time per request "
        f"{cpu_us[0]:.0f} us, bare {cpu_us[1]:.0f} us: {statistics.median(cpu_shares):.0%}"
    )
    return share >= GOALS[method]


def fill(url: str) -> None:
    import httpx

    lines = b"".join(b'{"key":"key%d","value":"%s"}\n' % (number, VALUE) for number in range(KEYS))
    httpx.post(f"{url}/v1/load", content=lines, timeout=60).raise_for_status()


if __name__ == "__main__":
    sys.exit(main())
