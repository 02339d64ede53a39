"""A span for each request, where OpenTelemetry is installed and set up.

Set up means that there is a provider of tracers when the server begins: made by the program that embeds it, or by
`opentelemetry-instrument flash-kv serve ...`. Without one a request costs nothing more. Names
and attributes are those of the semantic conventions for HTTP servers; keys, values and queries are in none of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flash_kv.server.http.app import Application
from flash_kv.server.http.problems import Problem
from flash_kv.server.http.requests import Message, Receive, Request, Scope, Send
from flash_kv.server.http.routing import Route
from flash_kv.server.service import Service

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer


def make_application(service: Service, routes: Iterable[Route]) -> Application:
    """The application of a service, in spans or plain."""
    try:
        from opentelemetry import trace
    except ImportError:
        return Application(service, routes)
    provider = trace.get_tracer_provider()
    if isinstance(provider, (trace.ProxyTracerProvider, trace.NoOpTracerProvider)):
        return Application(service, routes)
    return TracedApplication(service, routes, provider.get_tracer("flash_kv.server"))


class TracedApplication(Application):
    """The application, with a span around each request, in the trace that the client names."""

    def __init__(self, service: Service, routes: Iterable[Route], tracer: Tracer) -> None:
        super().__init__(service, routes)
        self._tracer = tracer

    def is_immediate(self, request: Request) -> bool:
        """Never: every request goes the long way, on which its span is."""
        return False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
            return
        from opentelemetry import propagate, trace

        method, route = scope["method"], self._route(scope)
        carrier = {name.decode("latin-1"): text.decode("latin-1") for name, text in scope["headers"]}
        with self._tracer.start_as_current_span(
            f"{method} {route}".strip(),
            context=propagate.extract(carrier),
            kind=trace.SpanKind.SERVER,
            attributes=_attributes(scope, method, route),
        ) as span:

            async def send_noting(message: Message) -> None:
                if message["type"] == "http.response.start":
                    _note_status(span, message["status"])
                await send(message)

            await super().__call__(scope, receive, send_noting)

    def _route(self, scope: Scope) -> str:
        """The documented path, of which there are few; a key is none of anybody's traces."""
        try:
            return self.table.find(scope["method"], scope["raw_path"])[0].path
        except Problem:
            return ""


def _attributes(scope: Scope, method: str, route: str) -> dict[str, Any]:
    found = {
        "http.request.method": method,
        "url.scheme": scope["scheme"],
        "network.protocol.version": scope["http_version"],
    }
    if route:
        found["http.route"] = route
    if scope.get("client"):
        found["client.address"] = scope["client"][0]
    return found


def _note_status(span: Span, status: int) -> None:
    from opentelemetry.trace import StatusCode

    span.set_attribute("http.response.status_code", status)
    if status >= 500:
        span.set_status(StatusCode.ERROR)
