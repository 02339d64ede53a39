"""A server that speaks the part of docs/http.md which the console reads, over a dict.

It stands in for the real one where a test needs a moment that the real one passes too fast or not at all: a
compaction that takes its time, a second of latency, an event that was missed.
"""

from __future__ import annotations

import base64
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote_to_bytes, urlsplit

from flash_kv.server.http.console import load_assets

COMPACTION_S = 1.5
TICK_S = 0.1


def key_field(name: str, data: bytes) -> dict[str, str]:
    try:
        return {name: data.decode()}
    except UnicodeDecodeError:
        return {f"{name}_b64": base64.b64encode(data).decode()}


class FakeStore:
    """What the resources show: entries, segments, a compaction that goes by the clock."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.entries: dict[bytes, dict[str, Any]] = {}
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.lsn = 0
        self.began: float | None = None
        self.job: dict[str, Any] = {"state": "idle", "progress": 0, "bytes_done": 0, "bytes_total": 0}
        self.backups: list[str] = []
        self.slow: list[dict[str, Any]] = []
        mib = 1 << 20
        self.segments = [
            {
                "id": n,
                "state": "sealed",
                "bytes": 64 * mib,
                "live_bytes": (64 - 5 * n) * mib,
                "dead_bytes": 5 * n * mib,
            }
            for n in range(1, 9)
        ]
        self.segments.append(
            {"id": 9, "state": "active", "bytes": 20 * mib, "live_bytes": 20 * mib, "dead_bytes": 0}
        )
        self.segments.append({"id": 10, "state": "spare", "bytes": 0, "live_bytes": 0, "dead_bytes": 0})

    def put(self, key: bytes, value: bytes, content_type: str, ttl_s: float | None) -> int:
        with self.changed:
            self.lsn += 1
            expires = None if ttl_s is None else time.time() + ttl_s
            self.entries[key] = {"value": value, "lsn": self.lsn, "type": content_type, "expires": expires}
            self.events.append(
                ("put", {**key_field("key", key), "lsn": self.lsn, **key_field("value", value)})
            )
            self.changed.notify_all()
            return self.lsn

    def delete(self, key: bytes) -> None:
        with self.changed:
            self.lsn += 1
            del self.entries[key]
            self.events.append(("delete", {**key_field("key", key), "lsn": self.lsn}))
            self.changed.notify_all()

    def step(self) -> dict[str, Any]:
        """The compaction as it stands now."""
        with self.changed:
            if self.began is None:
                return self.job
            progress = min(1.0, (time.monotonic() - self.began) / COMPACTION_S)
            total = sum(one["bytes"] for one in self.segments if one["state"] == "compacting")
            done = int(progress * total)
            self.job = {"state": "running", "progress": progress, "bytes_done": done, "bytes_total": total}
            if progress >= 1.0:
                self.finish()
            return self.job

    def start(self) -> None:
        with self.changed:
            self.began = time.monotonic()
            for one in self.segments:
                if one["state"] == "sealed" and one["dead_bytes"] > one["bytes"] // 4:
                    one["state"] = "compacting"

    def finish(self) -> None:
        done = [one for one in self.segments if one["state"] == "compacting"]
        self.segments = [one for one in self.segments if one["state"] != "compacting"]
        live = sum(one["live_bytes"] for one in done)
        self.segments.append(
            {"id": 11, "state": "sealed", "bytes": live, "live_bytes": live, "dead_bytes": 0, "records": 1}
        )
        self.began = None
        reclaimed = sum(one["dead_bytes"] for one in done)
        report = {"is_dry_run": False, "segments_compacted": len(done), "bytes_reclaimed": reclaimed}
        self.job = {"state": "done", "progress": 1, "report": {**report, "duration_s": COMPACTION_S}}

    def cancel(self) -> None:
        with self.changed:
            self.began = None
            self.job = {"state": "cancelled", "progress": 0}
            for one in self.segments:
                if one["state"] == "compacting":
                    one["state"] = "sealed"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FakeServer

    def log_message(self, *_: Any) -> None: ...

    # Answers.

    def give(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if status != 304:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def give_json(self, value: Any, status: int = 200) -> None:
        self.give(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def problem(self, status: int, title: str, detail: str = "") -> None:
        body = {"type": "about:blank", "title": title, "status": status, "detail": detail}
        self.give(status, json.dumps(body).encode(), {"Content-Type": "application/problem+json"})

    def stream(self, events: Iterator[tuple[str, str, dict[str, Any]]]) -> None:
        self.send_response_only(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for event_id, event, data in events:
                self.wfile.write(f"id: {event_id}\nevent: {event}\ndata: {json.dumps(data)}\n\n".encode())
        except OSError:
            # The reader went away, which is how these streams end.
            return

    # Requests.

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        asset = load_assets().get(url.path)
        if asset is not None:
            headers = {name.lower().encode(): value.encode() for name, value in self.headers.items()}
            answer = asset.answer(headers)
            named = {name.decode(): value.decode() for name, value in answer.headers}
            return self.give(answer.status, answer.body, named)
        if url.path.startswith("/v1/") and not self.is_allowed():
            return self.problem(401, "Unauthorized", "This server wants a bearer token.")
        query = {name: values[0] for name, values in parse_qs(url.query, encoding="latin-1").items()}
        if url.path.startswith("/v1/kv/"):
            return self.entry(unquote_to_bytes(url.path.removeprefix("/v1/kv/")), body)
        name = url.path.removeprefix("/v1/").strip("/")
        work = getattr(self, f"{self.command.lower()}_{name}", None)
        if work is None:
            return self.problem(404, "Not Found", url.path)
        return work(query, body)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any  # noqa: N815

    def is_allowed(self) -> bool:
        token = self.server.token
        return not token or self.headers.get("Authorization") == f"Bearer {token}"

    def entry(self, key: bytes, body: bytes) -> None:
        store = self.server.store
        held = store.entries.get(key)
        match, none = self.headers.get("If-Match"), self.headers.get("If-None-Match")
        if (match and (held is None or match != f'"{held["lsn"]}"')) or (none == "*" and held):
            return self.problem(412, "Precondition Failed")
        if self.command == "PUT":
            ttl = self.headers.get("FlashKV-TTL")
            kind = self.headers.get("Content-Type", "application/octet-stream")
            lsn = store.put(key, body, kind, None if ttl is None else float(ttl))
            return self.give(204 if held else 201, b"", {"ETag": f'"{lsn}"'})
        if held is None:
            return self.problem(404, "Not Found", "No such key.")
        if self.command == "DELETE":
            store.delete(key)
            return self.give(204)
        headers = {"Content-Type": held["type"], "ETag": f'"{held["lsn"]}"'}
        if held["expires"]:
            headers["FlashKV-Expires"] = str(held["expires"])
        return self.give(200, held["value"], headers)

    def get_kv(self, query: dict[str, str], _: bytes) -> None:
        prefix = query.get("prefix", "").encode("latin-1")
        after = base64.b64decode(query["cursor"]) if "cursor" in query else b""
        keys = sorted(key for key in self.server.store.entries if key.startswith(prefix) and key > after)
        limit = int(query.get("limit", "100"))
        held = self.server.store.entries
        items = [
            {**key_field("key", key), "lsn": held[key]["lsn"], "expires_at": held[key]["expires"]}
            for key in keys[:limit]
        ]
        more = base64.b64encode(keys[limit - 1]).decode() if len(keys) > limit else None
        self.give_json({"items": items, "cursor": more})

    def get_count(self, query: dict[str, str], _: bytes) -> None:
        prefix = query.get("prefix", "").encode("latin-1")
        self.give_json({"count": sum(key.startswith(prefix) for key in self.server.store.entries)})

    def get_biggest(self, query: dict[str, str], _: bytes) -> None:
        prefix = query.get("prefix", "").encode("latin-1")
        held = {key: one for key, one in self.server.store.entries.items() if key.startswith(prefix)}
        keys = sorted(held, key=lambda key: -len(held[key]["value"]))[:20]
        found = [{**key_field("key", key), "value_bytes": len(held[key]["value"])} for key in keys]
        groups: dict[bytes, list[int]] = {}
        for key, one in held.items():
            # Without a separator there is no prefix, as in the server.
            groups.setdefault(key[: key.find(b":") + 1], []).append(len(one["value"]))
        prefixes = [{**key_field("prefix", k), "keys": len(v), "bytes": sum(v)} for k, v in groups.items()]
        self.give_json({"keys": found, "prefixes": prefixes})

    def post_mget(self, _: dict[str, str], body: bytes) -> None:
        keys = [one.encode() if isinstance(one, str) else base64.b64decode(one["key_b64"])
                for one in json.loads(body)["keys"]]  # fmt: skip
        held = self.server.store.entries
        items = [
            {**key_field("key", key), **key_field("value", held[key]["value"]), "lsn": held[key]["lsn"]}
            if key in held
            else None
            for key in keys
        ]
        self.give_json({"items": items})

    def post_batch(self, _: dict[str, str], body: bytes) -> None:
        asked = json.loads(body)
        for one in asked["require"]:
            held = self.server.store.entries.get(one["key"].encode())
            if one["etag"] != (None if held is None else f'"{held["lsn"]}"'):
                return self.problem(412, "Precondition Failed")
        for op in asked["ops"]:
            if op["op"] == "put":
                self.server.store.put(op["key"].encode(), op["value"].encode(), op["content_type"], None)
            else:
                self.server.store.delete(op["key"].encode())
        return self.give_json({"etags": []})

    def get_segments(self, *_: Any) -> None:
        self.server.store.step()
        self.give_json({"segments": self.server.store.segments})

    def get_compaction(self, *_: Any) -> None:
        self.give_json(self.server.store.step())

    def post_compaction(self, _: dict[str, str], body: bytes) -> None:
        if json.loads(body)["dry_run"]:
            report = {"is_dry_run": True, "segments_compacted": 5, "bytes_reclaimed": 150 << 20}
            return self.give_json({"state": "done", "report": report})
        self.server.store.start()
        return self.give_json(self.server.store.step(), 202)

    def delete_compaction(self, *_: Any) -> None:
        self.server.store.cancel()
        self.give(204)

    def get_verify(self, *_: Any) -> None:
        self.give_json(self.server.verified)

    def post_verify(self, *_: Any) -> None:
        report = {"records": 1234, "bytes_checked": 1 << 20, "damages": [], "duration_s": 0.2}
        self.server.verified = {"state": "done", "report": report}
        self.give_json({"state": "running"}, 202)

    def get_backups(self, *_: Any) -> None:
        figures = {"bytes": 1 << 20, "made_at": 1.8e9}
        self.give_json({"backups": [{"name": name, **figures} for name in self.server.store.backups]})

    def post_backup(self, _: dict[str, str], body: bytes) -> None:
        name = json.loads(body)["name"]
        if name in self.server.store.backups:
            return self.problem(409, "Conflict", f"There is a backup {name} already.")
        self.server.store.backups.append(name)
        return self.give_json({"path": name}, 201)

    def get_slowlog(self, *_: Any) -> None:
        self.give_json({"threshold_ms": 10, "requests": self.server.store.slow})

    def delete_slowlog(self, *_: Any) -> None:
        self.server.store.slow.clear()
        self.give(204)

    def get_stats(self, *_: Any) -> None:
        store = self.server.store
        figures = {
            "path": "/srv/store",
            "index": "btree",
            "keys": len(store.entries),
            "disk_bytes": 655 << 20,
        }
        self.give_json({**figures, "server": {"uptime_s": 4711.5, "connections": 2}})

    def get_options(self, *_: Any) -> None:
        self.give_json(
            {"store": {"durability": "process", "segment_bytes": 64 << 20}, "server": {"tokens": 0}}
        )

    def get_readyz(self, *_: Any) -> None:
        if self.server.cause:
            return self.problem(503, "Service Unavailable", self.server.cause)
        return self.give_json({"status": "ok"})

    def get_live(self, *_: Any) -> None:
        self.stream(self.samples())

    def samples(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        while not self.server.stopping.wait(TICK_S):
            store = self.server.store
            at = time.time()
            yield "", "message", {
                "at": at,
                "ops": {"read": 4200 + 100 * (at % 5), "write": 800, "delete": 10, "list": 3, "other": 1},
                "latency_us": {"p50": 120, "p99": 410 + 20 * (at % 3), "max": 2300},
                "bytes_in": 1, "bytes_out": 2, "connections": 3, "keys": len(store.entries),
                "live_bytes": sum(one["live_bytes"] for one in store.segments),
                "dead_bytes": sum(one["dead_bytes"] for one in store.segments),
                "compaction": {"state": store.step()["state"]},
            }  # fmt: skip

    def get_watch(self, query: dict[str, str], _: bytes) -> None:
        self.stream(self.tail(query.get("prefix", ""), "values" in query))

    def tail(self, prefix: str, has_values: bool) -> Iterator[tuple[str, str, dict[str, Any]]]:
        store = self.server.store
        at = len(store.events)
        yield "", "beat", {}
        while not self.server.stopping.is_set():
            with store.changed:
                store.changed.wait(0.1)
                news, at = store.events[at:], len(store.events)
            for event, data in news:
                if event == "missed" or str(data.get("key", "")).startswith(prefix):
                    shown = (
                        data if has_values else {k: v for k, v in data.items() if not k.startswith("value")}
                    )
                    yield str(data.get("lsn", "")), event, shown


class FakeServer(ThreadingHTTPServer):
    daemon_threads = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.store = FakeStore()
        self.stopping = threading.Event()
        self.token = ""
        self.cause = ""
        self.verified: dict[str, Any] = {"state": "idle", "started_at": None}
        self.connections: list[socket.socket] = []

    def process_request(self, request: Any, client_address: Any) -> None:
        self.connections.append(request)
        super().process_request(request, client_address)

    def end_connections(self) -> None:
        """A browser that goes on to another page keeps those that are idle."""
        for connection in self.connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        # A browser closes connections it no longer needs in the middle of an answer.
        return


@contextmanager
def serving() -> Iterator[FakeServer]:
    server = FakeServer()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.stopping.set()
        server.shutdown()
        thread.join()
        server.end_connections()
        server.server_close()
