"""Watching: what it takes until each of many clients has had every change, the server and the clients on one machine.

    python -m benchmarks.http_watch --clients 200 --changes 2000 --rounds 5

Every client counts the events it is sent; a round is over when the last of them has the last one. Missed events end it:
there is no figure for a part of the work.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from contextlib import AsyncExitStack

import httpx

from benchmarks.http_server import Running, free_port, running

REQUEST = b"GET /v1/watch?prefix=round HTTP/1.1\r\nHost: localhost\r\n\r\n"
# What begins an event that is a change, and one that says that changes were missed.
CHANGE, MISSED = b"event: put\n", b"event: missed\n"


class Client:
    """One that watches."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.rest = b""

    async def take(self, changes: int) -> None:
        """Read so many changes."""
        while changes > 0:
            piece = await self.reader.read(1 << 18)
            if not piece:
                raise SystemExit("the server ended a watch")
            text = self.rest + piece
            if MISSED in text:
                raise SystemExit("a client missed changes")
            changes -= text.count(CHANGE)
            # The beginning of a line that is not all there.
            self.rest = text[text.rfind(b"\n") + 1 :]

    async def close(self) -> None:
        self.writer.close()
        await self.writer.wait_closed()


async def watch(server: Running, port: int, arguments: argparse.Namespace) -> list[tuple[float, float]]:
    """For each round the seconds it took, and the processor time of the server in it."""
    found = []
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=server.url, timeout=300))
        clients = []
        for _ in range(arguments.clients):
            client = Client(*await asyncio.open_connection("127.0.0.1", port))
            stack.push_async_callback(client.close)
            client.writer.write(REQUEST)
            # Its head, and with it the moment from which on it watches.
            await client.reader.readuntil(b"\r\n\r\n")
            clients.append(client)
        for number in range(arguments.rounds):
            lines = b"".join(
                b'{"key":"round%d:%d","value":"x"}\n' % (number, change)
                for change in range(arguments.changes)
            )
            began_s, cpu_s = time.perf_counter(), server.cpu_s()
            taking = asyncio.gather(*(client.take(arguments.changes) for client in clients))
            (await http.post("/v1/load", content=lines)).raise_for_status()
            await taking
            found.append((time.perf_counter() - began_s, server.cpu_s() - cpu_s))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--changes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    port = free_port()
    with tempfile.TemporaryDirectory() as directory:
        command = ("-m", "flash_kv.cli", "serve", f"{directory}/db", "-q", "--http", f"127.0.0.1:{port}")
        with running(*command, port=port) as server:
            rounds = asyncio.run(watch(server, port, arguments))
    seconds, cpu_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    events = arguments.clients * arguments.changes
    print(
        f"{arguments.changes:,} changes to {arguments.clients} clients: {seconds:.2f} s, "
        f"{events / seconds:,.0f} events/s, processor time of the server {cpu_s / events * 1e6:.2f} us an event"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
