"""The live figures of a running server, second by second; a connection that is lost is made again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx

RETRY_S = 1.0
# The server sends once a second.
SILENCE_S = 10.0
LINE_BYTES_MAX = 1 << 20

Sample = dict[str, Any]


class Refused(Exception):
    """The server is there and will not show its figures: asking again does not help."""


async def live_figures(
    url: str, token: str | None = None, *, retry_s: float = RETRY_S
) -> AsyncGenerator[Sample | None, None]:
    """One sample after the other; None each time the server cannot be reached. Refused."""
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    timeout = httpx.Timeout(SILENCE_S)
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout) as client:
        while True:
            try:
                async for sample in _samples(client):
                    yield sample
            except httpx.TransportError:
                # Also where the server was stopped: it may come back.
                pass
            yield None
            await asyncio.sleep(retry_s)


async def _samples(client: httpx.AsyncClient) -> AsyncGenerator[Sample, None]:
    async with client.stream("GET", "/v1/live") as response:
        if response.status_code in (401, 403):
            raise Refused("the server wants a token that may read: --token-file, or FLASH_KV_TOKEN")
        if response.status_code >= 500:
            return
        if response.status_code != 200 or "text/event-stream" not in response.headers.get("content-type", ""):
            raise Refused(f"this is no FlashKV server: it answers {response.status_code}")
        async for line in _lines(response):
            if line.startswith(b"data: "):
                try:
                    sample = json.loads(line[6:])
                except ValueError:
                    raise Refused("this is no FlashKV server: it sends what is not JSON") from None
                if isinstance(sample, dict):
                    yield sample


async def _lines(response: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The lines as they come; httpx's own would gather one without an end for ever."""
    left = b""
    async for piece in response.aiter_bytes():
        *lines, left = (left + piece).split(b"\n")
        for line in lines:
            yield line
        if len(left) > LINE_BYTES_MAX:
            raise Refused("this is no FlashKV server: it sends lines without an end")
