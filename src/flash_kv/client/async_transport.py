"""Calls sent over httpx from an event loop, asyncio's or trio's; else as `transport`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import TypeVar

import anyio
import httpx

from flash_kv.client.calls import Answer, Call, Pause, Steps, require_process
from flash_kv.client.problems import error_of
from flash_kv.client.retrying import client_arguments, delay_before_retry, no_answer
from flash_kv.client.settings import Settings
from flash_kv.errors import ClosedError, FlashKVError

T = TypeVar("T")
# Clients of a parent process: kept, so that nothing closes them.
_PUT_ASIDE: list[httpx.AsyncClient] = []


def make_client(settings: Settings) -> httpx.AsyncClient:
    """A pool of connections; none is opened before the first call."""
    return httpx.AsyncClient(**client_arguments(settings))  # type: ignore[arg-type]


class AsyncTransport:
    """The connections of one `AsyncRemoteDB`."""

    def __init__(
        self, settings: Settings, make: Callable[[Settings], httpx.AsyncClient] = make_client
    ) -> None:
        self.settings = settings
        self._make = make
        self._client = make(settings)
        self._pid = os.getpid()
        self.is_closed = False

    async def close(self) -> None:
        """Close all connections; of a forked child only its own."""
        if not self.is_closed:
            await self._own_client().aclose()
            self.is_closed = True

    def require_open(self) -> None:
        """ClosedError after close()."""
        if self.is_closed:
            raise ClosedError(self.settings.url, "client")

    def _own_client(self) -> httpx.AsyncClient:
        self.require_open()
        if self._pid != os.getpid():
            _PUT_ASIDE.append(self._client)
            self._client, self._pid = self._make(self.settings), os.getpid()
        return self._client

    async def run(self, steps: Steps[T]) -> T:
        """Drive an operation to its end: its result, or its error."""
        try:
            wanted = next(steps)
            while True:
                try:
                    answer = await self._taken(wanted)
                except FlashKVError as error:
                    wanted = steps.throw(error)
                else:
                    wanted = steps.send(answer)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]

    async def _taken(self, step: Call | Pause) -> Answer:
        if isinstance(step, Pause):
            await anyio.sleep(step.seconds)
            return Answer(0)
        return await self._tried(step, _read)

    async def open(self, call: Call) -> httpx.Response:
        """The answer to a call, its content not read yet; errors are raised."""
        return await self._tried(call, _as_it_is)

    async def _tried(self, call: Call, take: Callable[[httpx.Response], Awaitable[T]]) -> T:
        """What `take` makes of the answer to a call, which may be sent again; errors it does not accept are raised."""
        tries = 0
        while True:
            tries += 1
            try:
                response = await self._send(call)
                if response.status_code < 300 or response.status_code in call.accepts:
                    return await take(response)
                outcome: Answer | httpx.TransportError = await _read(response)
            except httpx.TransportError as error:
                outcome = error
            delay_s = delay_before_retry(self.settings, call, tries, outcome)
            if delay_s is None:
                raise self._error(call, outcome) from (outcome if isinstance(outcome, Exception) else None)
            await anyio.sleep(delay_s)

    async def _send(self, call: Call) -> httpx.Response:
        client = self._own_client()
        content = call.content
        pieces = content if content is None or isinstance(content, bytes) else _in_pieces(content)
        request = client.build_request(
            call.method, self.settings.url + call.target, headers=dict(call.headers), content=pieces
        )
        return await client.send(request, stream=True)

    def _error(self, call: Call, outcome: Answer | httpx.TransportError) -> Exception:
        if isinstance(outcome, Answer):
            return error_of(outcome, self.settings.url, call)
        return no_answer(self.settings.url, call, outcome)

    async def chunks(self, call: Call, response: httpx.Response) -> AsyncIterator[bytes]:
        """The content as it comes. ServerUnreachableError when it breaks off."""
        pid = os.getpid()
        try:
            async for chunk in response.aiter_raw():
                yield chunk
                require_process(self.settings.url, pid)
        except httpx.TransportError as error:
            raise no_answer(self.settings.url, call, error) from error


async def _read(response: httpx.Response) -> Answer:
    try:
        content = await response.aread()
    finally:
        await response.aclose()
    return Answer(response.status_code, response.headers, content)


async def _as_it_is(response: httpx.Response) -> httpx.Response:
    return response


async def _in_pieces(content: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece
