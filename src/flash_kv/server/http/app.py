"""The ASGI application: finds the route, asks the gate, runs the handler, sends its answer, tells the observers.

Invariant: whatever a handler raises leaves here as a problem document; only what nobody foresaw is logged, with its
traceback, and answered 500 without it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

from flash_kv.errors import FlashKVError
from flash_kv.server.http.answers import Answer
from flash_kv.server.http.origins import require_own
from flash_kv.server.http.problems import Problem, describe
from flash_kv.server.http.requests import Disconnected, Receive, Request, Scope, Send
from flash_kv.server.http.routing import Outcome, Route, Table
from flash_kv.server.service import Service

log = logging.getLogger("flash_kv.server")

# nginx's word for a client that went away before its answer.
CLIENT_GONE = 499
UNFORESEEN = "an error nobody foresaw; the server's log has it"
CLOSE = (b"connection", b"close")


class Application:
    """The ASGI application of one service; `routes` come from `resources.all_routes`.

    A request is begun and finished. `begin` finds the route, asks the gate and calls the handler, which gives an answer
    or a coroutine that will; `finish` waits for it and sends it. `Connection` calls `begin` by itself for routes that
    are immediate, and writes an answer that is there at once without a task; all else comes through `__call__`.
    """

    def __init__(self, service: Service, routes: Iterable[Route]) -> None:
        self.service = service
        self.table = Table(routes)
        self._gate = service.gate
        self._is_open = service.gate.is_open
        self._observers = service.observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            request = Request.of_scope(scope)
            request.receive = receive
            outcome = self.begin(request)
            await self.finish(request, outcome, receive, send)
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            raise ValueError(f"no server for {scope['type']}")

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        for start in self.service.starters:
            await start()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.service.stopping.set()
        for stop in reversed(self.service.stoppers):
            await stop()
        await send({"type": "lifespan.shutdown.complete"})

    def is_immediate(self, request: Request) -> bool:
        """True for a request whose handler takes a small body whole and mostly answers at once; its route is found."""
        found = self.table.immediate(request.method, request.path)
        if found is None:
            return False
        request.found, request.raw_rest = found
        request.route = request.found.path
        return True

    def begin(self, request: Request) -> Outcome:
        """Find the route, ask the gate, call the handler. It never raises."""
        try:
            route = request.found
            if route is None:
                route, request.raw_rest = self.table.find(request.method, request.path)
                request.found = route
                request.route = route.path
            if self._is_open:
                require_own(request)
            else:
                authorization = request.headers.get(b"authorization")
                request.grant = self._gate.admit(authorization, request.client, route.scope)
            return route.handle(request)
        except Exception as error:  # noqa: BLE001 - told to the client, and logged when nobody foresaw it
            return self._failed(request, error)

    async def finish(self, request: Request, outcome: Outcome, receive: Receive, send: Send) -> None:
        """Wait for the answer, send it, tell the observers."""
        if not isinstance(outcome, Answer):
            try:
                outcome = await outcome
            except Disconnected:
                await self._leave(request, send)
                return
            except Exception as error:  # noqa: BLE001 - as in `begin`
                outcome = self._failed(request, error)
        if not request.is_body_read:
            await _settle_body(request, outcome)
        status, sent = outcome.status, 0
        try:
            sent = await _send_all(outcome, receive, send)
            if request.method == "HEAD":
                sent = 0
        except FlashKVError as error:
            # Too late for a problem: an answer that is not completed makes uvicorn cut the connection.
            log.error("%s %r, in the middle of it: %s", request.method, request.path, str(error))
            status = 500
        self.observe(request, status, sent)

    async def _leave(self, request: Request, send: Send) -> None:
        """The client is gone: what is sent goes nowhere, but uvicorn wants an answer."""
        await send({"type": "http.response.start", "status": 400, "headers": [CLOSE]})
        await send({"type": "http.response.body"})
        self.observe(request, CLIENT_GONE, 0)

    def observe(self, request: Request, status: int, sent: int) -> None:
        """Tell the observers of a request that has ended."""
        request.duration_s = time.perf_counter() - request.began
        request.status = status
        request.bytes_out = sent
        for observe in self._observers:
            observe(request)

    def _failed(self, request: Request, error: Exception) -> Answer:
        """The problem that an error is for the client."""
        if isinstance(error, Problem):
            return error.answer()
        if isinstance(error, FlashKVError):
            described = describe(error)
            if described.status == 500:
                log.error("%s %r: %s", request.method, request.path, str(error))
            return described.answer()
        log.error("%s %r", request.method, request.path, exc_info=error)
        return Problem(500, UNFORESEEN).answer()


async def _settle_body(request: Request, answer: Answer) -> None:
    """Before an answer that does not read the body: drop it, or close the connection after the answer."""
    headers = request.headers
    if b"content-length" not in headers and b"transfer-encoding" not in headers:
        return
    if headers.get(b"expect") is None and await request.discard():
        return
    answer.headers.append(CLOSE)


async def _send_all(answer: Answer, receive: Receive, send: Send) -> int:
    """Send the answer; how many bytes its body had."""
    if answer.stream is not None:
        return await _send_stream(answer, receive, send)
    body = answer.body
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.all_headers()})
    await send({"type": "http.response.body", "body": body})
    return len(body)


async def _send_stream(answer: Answer, receive: Receive, send: Send) -> int:
    """Send chunk after chunk, each once the connection has room for it; end at once when the client goes away."""
    stream = answer.stream
    assert stream is not None
    sent = 0
    task = asyncio.current_task()
    assert task is not None
    watcher = asyncio.create_task(_until_gone(receive))

    def end(watched: asyncio.Task[None]) -> None:
        # Where it waits: a stream may have nothing to send for long.
        task.cancel()

    watcher.add_done_callback(end)
    try:
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.all_headers()})
        async for chunk in stream:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            sent += len(chunk)
            # A lost connection holds nobody up any more, and a stream that never waits would keep the news of it, and
            # everybody else, waiting.
            await asyncio.sleep(0)
            if watcher.done():
                break
        await send({"type": "http.response.body"})
    except asyncio.CancelledError:
        if not watcher.done() or task.uncancel():
            raise
    finally:
        watcher.remove_done_callback(end)
        watcher.cancel()
        await stream.aclose()
    return sent


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
