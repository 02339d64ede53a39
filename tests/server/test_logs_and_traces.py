"""The server's log, for people and for programs, and a span for each request where OpenTelemetry is set up."""

from __future__ import annotations

import io
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flash_kv.server import logs, tracing
from flash_kv.server.logs import NAME, logging_to_stderr
from flash_kv.server.settings import ServerSettings
from support.servers import Served, served
from support.waiting import wait_until


@pytest.fixture
def stderr(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    found = io.StringIO()
    # Its own: pytest puts another one in the place of sys.stderr when a test begins.
    monkeypatch.setattr(logs, "sys", SimpleNamespace(stderr=found))
    return found


def lines(found: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in found.getvalue().splitlines()]


def test_each_request_is_a_line_of_json(tmp_path: Path, stderr: io.StringIO) -> None:
    settings: dict[str, Any] = {"log_format": "json", "log_requests": True}
    with logging_to_stderr(ServerSettings(**settings)), served(tmp_path / "db", settings) as one:
        one.client.put("/v1/kv/a%0Ab", content=b"123")
        one.client.get("/v1/kv/%FF")
        wait_until(lambda: len(lines(stderr)) == 2)
    first, second = lines(stderr)
    assert (first["logger"], first["level"], first["method"], first["key"]) == (
        "flash_kv.server.requests",
        "info",
        "PUT",
        "a\nb",
    )
    assert (first["status"], first["bytes"], first["client"]) == (201, 3, "127.0.0.1")
    assert (second["status"], second["key_b64"]) == (404, "/w==")


def test_a_client_cannot_write_lines_of_its_own(tmp_path: Path, stderr: io.StringIO) -> None:
    with logging_to_stderr(ServerSettings(log_requests=True)), served(tmp_path / "db") as one:
        one.client.get("/v1/kv/a%0A2026-01-01%20ERROR%20forged")
        wait_until(lambda: "ms" in stderr.getvalue())
    logging.getLogger(NAME).warning("after")
    [line] = stderr.getvalue().splitlines()
    assert "forged" in line
    assert "INFO" in line


def test_requests_are_not_logged_unless_asked_for(tmp_path: Path, stderr: io.StringIO) -> None:
    with logging_to_stderr(ServerSettings()), served(tmp_path / "db") as one:
        one.client.get("/v1/kv/a")
        logging.getLogger(NAME).error("two\nlines")
    assert stderr.getvalue().count("\n") == 1
    assert r"ERROR two\nlines" in stderr.getvalue()


def test_what_nobody_foresaw_is_logged_with_its_traceback(
    tmp_path: Path, stderr: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings: dict[str, Any] = {"log_format": "json"}
    with logging_to_stderr(ServerSettings(**settings)), served(tmp_path / "db", settings) as one:
        monkeypatch.setattr(one.db, "stats", lambda: 1 // 0)
        answer = one.client.get("/v1/stats")
        assert answer.status_code == 500
        assert "ZeroDivisionError" not in answer.text
        wait_until(lambda: bool(stderr.getvalue()))
    [line] = lines(stderr)
    assert "ZeroDivisionError" in line["exception"]


def test_logging_is_left_as_it_was() -> None:
    names = (NAME, f"{NAME}.requests", "uvicorn")

    def state() -> list[tuple[int, bool, int]]:
        loggers = [logging.getLogger(name) for name in names]
        return [(one.level, one.propagate, len(one.handlers)) for one in loggers]

    before = state()
    with logging_to_stderr(ServerSettings(log_requests=True)):
        assert state() != before
    assert state() == before


@pytest.mark.parametrize("settings", [{"log_format": "xml"}, {"log_requests": 1}], ids=repr)
def test_settings_of_the_log_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="log_"):
        ServerSettings(**settings)


# Traces

trace = pytest.importorskip("opentelemetry.trace")
export = pytest.importorskip("opentelemetry.sdk.trace.export")
sdk = pytest.importorskip("opentelemetry.sdk.trace")
memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What is exported while a provider is set up."""
    exporter = memory.InMemorySpanExporter()
    provider = sdk.TracerProvider()
    provider.add_span_processor(export.SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    yield exporter
    provider.shutdown()


def test_a_request_is_a_span(tmp_path: Path, spans: Any) -> None:
    parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    with served(tmp_path / "db") as one:
        one.client.put("/v1/kv/secret", content=b"1", headers={"traceparent": parent})
        one.client.get("/nothing")
        wait_until(lambda: len(spans.get_finished_spans()) == 2)
    put, nothing = spans.get_finished_spans()
    assert put.name == "PUT /v1/kv/{key}"
    assert put.kind is trace.SpanKind.SERVER
    assert f"{put.context.trace_id:032x}" == "0af7651916cd43dd8448eb211c80319c"
    assert f"{put.parent.span_id:016x}" == "b7ad6b7169203331"
    assert put.attributes["http.response.status_code"] == 201
    assert put.attributes["http.route"] == "/v1/kv/{key}"
    assert put.attributes["client.address"] == "127.0.0.1"
    assert (nothing.name, nothing.attributes["http.response.status_code"]) == ("GET", 404)
    assert "secret" not in put.to_json()


def test_a_failure_of_the_server_is_one_of_its_span(
    tmp_path: Path, spans: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "db") as one:
        monkeypatch.setattr(one.db, "stats", lambda: 1 // 0)
        assert one.client.get("/v1/stats").status_code == 500
        wait_until(lambda: bool(spans.get_finished_spans()))
    assert spans.get_finished_spans()[0].status.status_code is trace.StatusCode.ERROR


def test_without_a_provider_nothing_is_wrapped(server: Served) -> None:
    app: Any = object()
    assert tracing.traced(app) is app


def test_without_the_library_nothing_is_wrapped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    app: Any = object()
    assert tracing.traced(app) is app
