"""`Connection`: uvicorn's protocol over llhttp, with the limits and refusals that it leaves to others.

What llhttp refuses by itself: both lengths at once, two lengths, bare LF and CR, obs-fold, NUL, chunks that do not end
where they say. What is refused here: heads that are too long or come too slowly, too many headers, no Host or two, a
transfer coding other than chunked, a fragment in the path, too many connections, bodies that come too slowly, clients
that do not take their answer.

Rules: a refusal closes the connection. It is never written into an answer that has begun: one that is whole otherwise
is finished first, any other is cut off. Nothing that follows a refused byte is read as a request.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import httptools
import uvicorn
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from flash_kv.server.http.answers import Answer, Common
from flash_kv.server.http.app import CLIENT_GONE, UNFORESEEN, Application, log
from flash_kv.server.http.head_cy import has_small_body, head_size
from flash_kv.server.http.problems import Problem
from flash_kv.server.http.requests import Request
from flash_kv.server.http.routing import Outcome

if TYPE_CHECKING:
    from flash_kv.server.service import Service

# What has to come of a body within `transfer_timeout_s`.
BODY_BYTES_MIN = 4096
# How long and how much a refused client may go on sending: a connection closed on unread bytes is reset, and the answer
# lost.
LINGER_S = 2.0
LINGER_BYTES = 256 << 10
# The methods of immediate routes: one word each, whose hash is known.
METHODS = {b"GET": "GET", b"HEAD": "HEAD", b"PUT": "PUT", b"DELETE": "DELETE"}


def finishing(application: Application, request: Request, outcome: Outcome) -> ASGI3Application:
    """An ASGI application for one request that has begun already."""

    async def finish(scope: Any, receive: Any, send: Any) -> None:
        request.receive = receive
        await application.finish(request, outcome, receive, send)

    return finish


class Config(uvicorn.Config):
    """uvicorn's settings, the service that connections belong to, and what every answer of this second begins with."""

    service: Service
    stamp = Common()
    stamp_of: list[tuple[bytes, bytes]] | None = None


class Connection(HttpToolsProtocol):
    """One connection of a client."""

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        assert isinstance(config, Config)
        self.config: Config = config
        self.settings = config.service.settings
        self.header_bytes_max = self.settings.header_bytes_max
        self.headers_max = self.settings.headers_max
        self.application: Application = config.loaded_app
        # When bytes came last, and how many.
        self.now = now = self.loop.time()
        self.data_bytes = 0
        # Since when the head of a request is awaited, None while there is none; the first one from the beginning.
        self.head_since: float | None = now
        self.head_bytes = 0
        # The request that is being answered; `cycle` is the last one that came, which may wait behind it.
        self.active: RequestResponseCycle | None = None
        self.idle_since = now
        # Since when the client takes nothing of its answer.
        self.stalled_since: float | None = None
        # A request that is answered without a task once its small body is here, and that body.
        self.pending: Request | None = None
        self.pieces: list[bytes] = []
        self.is_last = False
        self.body_bytes = 0
        self.window_since = now
        self.window_bytes = 0
        self.closing_since: float | None = None
        self.refusal: Problem | None = None
        self.is_refused = False
        self.linger_bytes = 0

    # -- the connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self.settings.connections_max:
            limit = self.settings.connections_max
            self.refuse(Problem(503, f"there are {limit} connections already", slug="busy", limit=limit))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.pipeline.clear()
        self._give_up_pending(CLIENT_GONE)
        if self.active is not None:
            self.active.disconnected = True
            self.active.message_event.set()

    def data_received(self, data: bytes) -> None:
        if self.is_refused:
            self.linger_bytes += len(data)
            if self.linger_bytes > LINGER_BYTES and self.active is None:
                self.transport.abort()
            return
        self.now = self.loop.time()
        self.data_bytes = len(data)
        self.head_bytes += self.data_bytes
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            refusal, self.refusal = self.refusal, None
            if refusal is None:
                log.error("while a request was read", exc_info=error)
                refusal = Problem(500, UNFORESEEN)
            self.refuse(refusal)
        except httptools.HttpParserError:
            self.refuse(Problem(400, "the request is malformed", slug="malformed"))
        except httptools.HttpParserUpgrade:
            # There is nothing to upgrade to; `_start_task` has seen to the end.
            pass
        if self.head_since is not None and self.head_bytes > self.header_bytes_max:
            self.refuse(self._head_problem())

    def pause_writing(self) -> None:
        super().pause_writing()
        self.stalled_since = self.loop.time()

    def resume_writing(self) -> None:
        super().resume_writing()
        self.stalled_since = None

    # -- what the parser finds

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self.head_since = self.now
        self.head_bytes = 0

    def on_headers_complete(self) -> None:
        self.head_since = None
        if self.transport.is_closing():
            # The answer before was the last one.
            self._give_up(400, "nothing is read behind the last request of a connection")
        headers = dict(self.headers)
        try:
            self._require_short_head()
            is_small = has_small_body(self.parser.get_http_version(), self.url, self.headers, headers)
        except Problem as problem:
            # Raised on, it makes the parser end with an error.
            self.refusal = problem
            raise
        request = self._immediate_request(headers) if is_small else None
        if request is None:
            self._start_task()
            return
        self.pending = request
        self.pieces = []
        self.body_bytes = self.window_bytes = 0
        self.window_since = self.now

    def _start_task(self) -> None:
        """The way of ASGI, for whatever cannot be answered here and now."""
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        # It makes the scope, and a request that begins.
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        waiting = len(self.pipeline)
        try:
            super().on_headers_complete()
        except httptools.HttpParserInvalidURLError:
            # That of CONNECT is none.
            self._give_up(400, "the request is malformed")
        if len(self.pipeline) == waiting:
            self.active = self.cycle
            self.body_bytes = self.window_bytes = 0
            self.window_since = self.loop.time()
        if self.parser.should_upgrade():
            # There is nothing to upgrade to: the request is answered, and what follows is none.
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        self.body_bytes += len(body)
        if self.pending is not None:
            self.pieces.append(body)
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        request = self.pending
        if request is None:
            super().on_message_complete()
            return
        self.pending = None
        pieces = self.pieces
        request.whole = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        request.bytes_in = self.body_bytes
        request.is_body_read = True
        outcome = self.application.begin(request)
        if isinstance(outcome, Answer) and outcome.stream is None:
            self._write_answer(request, outcome)
            return
        self.app = finishing(self.application, request, outcome)
        try:
            self._start_task()
        finally:
            self.app = self.application
        self.cycle.more_body = False

    def on_response_complete(self) -> None:
        self.active = self.pipeline[-1][0] if self.pipeline else None
        self.idle_since = self.window_since = self.loop.time()
        if self.head_since is not None:
            self.head_since = self.idle_since
        super().on_response_complete()

    def _immediate_request(self, headers: dict[bytes, bytes]) -> Request | None:
        """A request that can be answered here and now: nothing is before it, its route is made for it."""
        if self.active is not None or self.pipeline or self.flow.write_paused or self.parser.should_upgrade():
            return None
        path, _, query = self.url.partition(b"?")
        method = self.parser.get_method()
        client = self.client
        request = Request(
            METHODS.get(method) or method.decode("ascii"), path, query, headers, client[0] if client else ""
        )
        return request if self.application.is_immediate(request) else None

    def _write_answer(self, request: Request, answer: Answer) -> None:
        """The whole answer at once."""
        is_head = request.method == "HEAD"
        is_last = self.is_last or not self.parser.should_keep_alive()
        config = self.config
        if config.stamp_of is not self.server_state.default_headers:
            # uvicorn makes a new list of them every second.
            config.stamp_of = self.server_state.default_headers
            config.stamp = Common(*config.stamp_of)
        self.transport.write(answer.write_whole(config.stamp.lines, is_head=is_head, is_last=is_last))
        self.server_state.total_requests += 1
        self.idle_since = self.now
        self.application.observe(request, answer.status, 0 if is_head else len(answer.body))
        if is_last:
            self.transport.close()

    def _require_short_head(self) -> None:
        # The bytes that a head came in are more than it has: mostly there is nothing to add up.
        is_short = not self.head_bytes and self.data_bytes <= self.header_bytes_max
        if len(self.headers) > self.headers_max or not (
            is_short or head_size(self.url, self.headers) <= self.header_bytes_max
        ):
            raise self._head_problem()

    def _give_up_pending(self, status: int) -> None:
        """The body of a request did not come whole."""
        request, self.pending = self.pending, None
        if request is not None:
            request.bytes_in = self.body_bytes
            self.application.observe(request, status, 0)

    def _give_up(self, status: int, detail: str) -> None:
        self.refusal = Problem(status, detail, slug="malformed")
        raise self.refusal

    def _head_problem(self) -> Problem:
        settings = self.settings
        if len(self.url or b"") > settings.header_bytes_max // 2:
            text = (
                f"the head of a request may have {settings.header_bytes_max} bytes: send long keys in a body"
            )
            return Problem(414, text, slug="too-large", limit=settings.header_bytes_max)
        text = f"a request may have {settings.headers_max} headers, {settings.header_bytes_max} bytes with its path"
        return Problem(431, text, slug="too-large", limit=settings.header_bytes_max)

    # -- refusals

    def refuse(self, problem: Problem) -> None:
        """Answer with `problem`, if nothing else is being answered, and end the connection."""
        if self.is_refused or self.transport.is_closing():
            return
        self.is_refused = True
        self._give_up_pending(problem.status)
        active = self.active
        if active is not None and not active.response_complete:
            if not active.more_body and not self.pipeline and self.cycle is active:
                # This is about what came behind it.
                active.keep_alive = False
                return
            active.disconnected = True
            active.message_event.set()
            self.active = None
            if active.response_started or self.cycle is not active:
                self.transport.abort()
                return
        self._write_refusal(problem)

    def _write_refusal(self, problem: Problem) -> None:
        answer = problem.answer()
        lines = [
            b"HTTP/1.1 %d %s" % (problem.status, problem.document()["title"].encode()),
            *(name + b": " + value for name, value in answer.headers),
            b"content-length: %d" % len(answer.body),
            b"connection: close",
        ]
        self.transport.write(b"\r\n".join([*lines, b"", answer.body]))
        if self.transport.can_write_eof():
            self.transport.write_eof()
            self.closing_since = self.loop.time()
        else:
            self.transport.close()

    # -- the clock

    def sweep(self, now: float) -> None:
        """Called about once a second: end the connection when its client has taken too long."""
        settings = self.settings
        if self.is_refused or self.transport.is_closing():
            if self.closing_since is None:
                self.closing_since = now
            patience_s = LINGER_S if self.is_refused and self.active is None else settings.transfer_timeout_s
            if now - self.closing_since > patience_s:
                self.transport.abort()
        elif self.stalled_since is not None:
            if now - self.stalled_since > settings.transfer_timeout_s:
                self.transport.abort()
        elif self.active is not None or self.pending is not None:
            self._sweep_body(now)
        elif self.head_since is not None:
            if now - self.head_since > settings.header_timeout_s:
                self.refuse(Problem(408, "the head of the request took too long", slug="slow"))
        elif now - self.idle_since > settings.idle_timeout_s:
            self.transport.close()

    def _sweep_body(self, now: float) -> None:
        if self.active is not None and (not self.active.more_body or self.flow.read_paused):
            # Nothing is awaited from the client.
            self.window_since, self.window_bytes = now, self.body_bytes
        elif now - self.window_since > self.settings.transfer_timeout_s:
            if self.body_bytes - self.window_bytes < BODY_BYTES_MIN:
                self.refuse(Problem(408, "the body of the request took too long", slug="slow"))
            self.window_since, self.window_bytes = now, self.body_bytes

    def shutdown(self) -> None:
        """What uvicorn calls when the server stops."""
        self.is_last = True
        if self.pending is not None:
            return
        if self.is_refused and self.active is None:
            self.transport.close()
            return
        super().shutdown()
        for cycle, _ in self.pipeline:
            cycle.keep_alive = False
        if self.active is not None:
            self.active.keep_alive = False


async def sweep_for_ever(state: ServerState, interval_s: float) -> None:
    """Look after all connections until cancelled."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(asyncio.CancelledError):
        while True:
            await asyncio.sleep(interval_s)
            now = loop.time()
            for connection in list(state.connections):
                if isinstance(connection, Connection):
                    connection.sweep(now)
