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
from flash_kv.server.http.routing import Route, Table
from flash_kv.server.service import Finished, Service

log = logging.getLogger("flash_kv.server")

# nginx's word for a client that went away before its answer.
CLIENT_GONE = 499
CLOSE = (b"connection", b"close")


class Application:
    """The ASGI application of one service; `routes` come from `resources.routes`."""

    def __init__(self, service: Service, routes: Iterable[Route]) -> None:
        self.service = service
        self.table = Table(routes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._serve(scope, receive, send)
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

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        began = time.perf_counter()
        request = Request(scope, receive)
        answer, route = await self._answer(request)
        if answer is None:
            # uvicorn closes the connection of a request without an answer; the client is gone anyway.
            status, sent = CLIENT_GONE, 0
            await send({"type": "http.response.start", "status": 400, "headers": [CLOSE]})
            await send({"type": "http.response.body"})
        else:
            status = answer.status
            if not request.is_body_read:
                await self._settle_body(request, answer)
            try:
                sent = await _send_all(answer, receive, send)
            except FlashKVError as error:
                # Too late for a problem: an answer that is not completed makes uvicorn cut the connection.
                log.error("%s %r, in the middle of it: %s", request.method, scope["raw_path"], str(error))
                status, sent = 500, 0
        if self.service.observers:
            duration_s = time.perf_counter() - began
            finished = Finished(
                request.method,
                "" if route is None else route.path,
                scope["raw_path"],
                status,
                time.time() - duration_s,
                duration_s,
                request.bytes_in,
                sent,
                request.client,
            )
            for observe in self.service.observers:
                observe(finished)

    async def _answer(self, request: Request) -> tuple[Answer | None, Route | None]:
        """What to answer, and by which route; no answer when the client is gone."""
        route = None
        try:
            if self.service.gate.is_open:
                require_own(request)
            route, request.raw_rest = self.table.find(request.method, request.scope["raw_path"])
            request.grant = self.service.gate.admit(
                request.headers.get(b"authorization"), request.client, route.scope
            )
            return await route.handle(request), route
        except Problem as problem:
            return problem.answer(), route
        except FlashKVError as error:
            described = describe(error)
            if described.status == 500:
                log.error("%s %r: %s", request.method, request.scope["raw_path"], str(error))
            return described.answer(), route
        except Disconnected:
            return None, route
        except Exception:
            log.exception("%s %r", request.method, request.scope["raw_path"])
            return Problem(500, "an error nobody foresaw; the server's log has it").answer(), route

    async def _settle_body(self, request: Request, answer: Answer) -> None:
        """Before an answer that does not read the body: drop it, or close the connection after the answer."""
        headers = request.headers
        if b"content-length" not in headers and b"transfer-encoding" not in headers:
            request.is_body_read = True
            return
        if headers.get(b"expect") is None and await request.discard():
            return
        answer.headers.append(CLOSE)


async def _send_all(answer: Answer, receive: Receive, send: Send) -> int:
    """Send the answer; how many bytes its body had."""
    stream = answer.stream
    if stream is None:
        body = answer.body
        if answer.status not in (204, 304):
            answer.headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        await send({"type": "http.response.body", "body": body})
        return len(body)
    return await _send_stream(answer, receive, send)


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
        await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
        async for chunk in stream:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            sent += len(chunk)
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
