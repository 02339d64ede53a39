"""What a client makes of answers, and of none: errors, retries, broken streams. The server is a function here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

import flash_kv
from flash_kv import (
    AccessDeniedError,
    ClosedError,
    ConflictError,
    CorruptionError,
    FlashKVError,
    PoisonedError,
    ReadOnlyError,
    RemoteError,
    ServerTimeoutError,
    ServerUnreachableError,
    StorageError,
    StoreFullError,
    UnorderedIndexError,
    ValueSizeError,
)
from flash_kv.client import retrying, watching
from flash_kv.client.frames import END, pack
from flash_kv.client.remote_db import RemoteDB
from flash_kv.client.settings import Settings
from flash_kv.client.transport import Transport

Answering = Callable[[httpx.Request], httpx.Response]
URL = "http://server:1/base"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrying, "FIRST_DELAY_S", 0.0)
    monkeypatch.setattr(watching, "DELAY_S_MAX", 0.0)


@pytest.fixture
def serve() -> Iterator[Callable[..., RemoteDB]]:
    """`serve(answering, **settings)`: a client whose requests go to a function."""
    made: list[RemoteDB] = []

    def make(answering: Answering, **settings: Any) -> RemoteDB:
        def client(found: Settings) -> httpx.Client:
            return httpx.Client(
                **{**retrying.client_arguments(found), "transport": httpx.MockTransport(answering)}  # type: ignore[arg-type]
            )

        found = Settings(URL, **settings)
        made.append(RemoteDB(found, Transport(found, client)))
        return made[-1]

    yield make
    for db in made:
        db.close()


def problem(status: int, slug: str = "", **fields: Any) -> httpx.Response:
    kind = f"urn:flash-kv:{slug}" if slug else "about:blank"
    body = {"type": kind, "title": "Title", "status": status, "detail": "what happened", **fields}
    return httpx.Response(status, json=body, headers={"Content-Type": "application/problem+json"})


ERRORS: list[tuple[httpx.Response, type[FlashKVError], dict[str, Any]]] = [
    (problem(400), RemoteError, {"status": 400, "title": "Title", "detail": "what happened"}),
    (problem(401), AccessDeniedError, {"status": 401}),
    (problem(403, "prefix"), AccessDeniedError, {"status": 403}),
    (problem(403, "read-only"), ReadOnlyError, {"path": URL}),
    (problem(412, "precondition", key="k", etag='"7"'), ConflictError, {"key": b"k", "lsn": 7}),
    (problem(412, "precondition", key_b64="/w==", etag=None), ConflictError, {"key": b"\xff", "lsn": 0}),
    (problem(413, "too-large", limit=4), ValueSizeError, {"size": 5, "limit": 4}),
    (problem(422, "unordered-index", index="hash"), UnorderedIndexError, {"index": "hash"}),
    (
        problem(500, "damaged", path="/s/1.seg", offset=64),
        CorruptionError,
        {"path": "/s/1.seg", "offset": 64},
    ),
    (problem(500, "storage"), StorageError, {"path": URL}),
    (problem(500), RemoteError, {"status": 500}),
    (problem(503, "poisoned"), PoisonedError, {"path": URL, "is_in_doubt": False}),
    (problem(503, "stopping"), RemoteError, {"status": 503}),
    (problem(507, "disk-full"), StoreFullError, {"path": URL}),
    (problem(507), StoreFullError, {}),
    (problem(418, "of-a-later-version", more=1), RemoteError, {"status": 418}),
    (httpx.Response(404, text="<h1>nginx</h1>"), RemoteError, {"status": 404}),
    (httpx.Response(502, text="<h1>nginx</h1>"), RemoteError, {"status": 502}),
    (httpx.Response(302, headers={"Location": "/"}), RemoteError, {"status": 302}),
    (httpx.Response(200, text="no ETag"), RemoteError, {"status": 200}),
]


@pytest.mark.parametrize(("answer", "kind", "attributes"), ERRORS)
def test_a_problem_is_the_error_that_an_embedded_store_raises(
    serve: Callable[..., RemoteDB],
    answer: httpx.Response,
    kind: type[FlashKVError],
    attributes: dict[str, Any],
) -> None:
    db = serve(lambda request: answer)
    with pytest.raises(FlashKVError) as caught:
        db.put("key", "12345")
    assert type(caught.value) is kind
    assert {name: getattr(caught.value, name) for name in attributes} == attributes
    assert isinstance(caught.value, PermissionError) == (answer.status_code in (401, 403))


def test_what_is_not_ours_is_shown_and_no_missing_key(serve: Callable[..., RemoteDB]) -> None:
    db = serve(lambda request: httpx.Response(404, text="<h1>not here</h1>"))
    for use in (lambda: db.get("k"), lambda: "k" in db, lambda: db.delete("k"), lambda: db.get_many(["k"])):
        with pytest.raises(RemoteError, match="check the URL"):
            use()


def test_an_answer_that_is_no_json_is_not_ours(serve: Callable[..., RemoteDB]) -> None:
    for content in (b"<html>", b"[]", b""):
        db = serve(lambda request, content=content: httpx.Response(200, content=content))
        with pytest.raises(RemoteError, match="Not an answer of FlashKV"):
            len(db)


def test_requests_carry_the_token_and_go_to_the_base_of_the_url(serve: Callable[..., RemoteDB]) -> None:
    seen: list[httpx.Request] = []

    def answering(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(204, headers={"ETag": '"1"'})

    db = serve(answering, token="abc")
    db.put(b"../a b/%\xff?#+", "v")
    (request,) = seen
    assert request.headers["Authorization"] == "Bearer abc"
    assert request.url.raw_path == b"/base/v1/kv/%2E%2E/a%20b/%25%FF%3F%23%2B"
    assert request.content == b"v"


def test_a_long_key_goes_through_the_bodies_of_requests(serve: Callable[..., RemoteDB]) -> None:
    paths = []
    key = b"k" * 65536

    def answering(request: httpx.Request) -> httpx.Response:
        paths.append(request.url.path.removeprefix("/base"))
        assert json.loads(request.content)
        item = {"key": key.decode(), "lsn": 3, "value": "v"}
        return httpx.Response(200, json={"etags": ['"3"'], "items": [item]})

    db = serve(answering)
    db.put(key, "v")
    assert db[key] == b"v"
    assert key in db
    assert db.delete(key)
    assert db.put_record(key, "v", if_lsn=0) == 3
    assert paths == ["/v1/batch", "/v1/mget", "/v1/mget", "/v1/mget", "/v1/batch", "/v1/batch"]


# -- no answer


def failing(times: int, failure: Exception | httpx.Response, count: list[int]) -> Answering:
    def answering(request: httpx.Request) -> httpx.Response:
        count[0] += 1
        if count[0] <= times:
            if isinstance(failure, Exception):
                raise failure
            return failure
        return httpx.Response(200, content=b"value", headers={"ETag": '"1"'}, json=None)

    return answering


TRANSIENT = [
    httpx.ConnectError("refused"),
    httpx.ReadError("reset"),
    httpx.RemoteProtocolError("closed"),
    httpx.ReadTimeout("late"),
    problem(503, "stopping"),
    problem(429),
]


@pytest.mark.parametrize("failure", TRANSIENT, ids=repr)
def test_a_read_is_asked_again(serve: Callable[..., RemoteDB], failure: Any) -> None:
    count = [0]
    assert serve(failing(2, failure, count))["key"] == b"value"
    assert count == [3]


@pytest.mark.parametrize("failure", TRANSIENT, ids=repr)
def test_a_write_is_never_sent_twice(serve: Callable[..., RemoteDB], failure: Any) -> None:
    count = [0]
    db = serve(failing(9, failure, count))
    for number, write in enumerate(
        [
            lambda: db.put("k", "v"),
            lambda: db.delete("k"),
            lambda: db.update(k="v"),
            lambda: db.delete_range(prefix="k"),
            lambda: db.put_many([("k", "v")], sorted=True),
        ],
        1,
    ):
        with pytest.raises(FlashKVError):
            write()
        assert count == [number]


@pytest.mark.parametrize(
    ("failure", "kind", "is_in_doubt"),
    [
        (httpx.ConnectError("refused"), ServerUnreachableError, False),
        (httpx.ConnectTimeout("late"), ServerTimeoutError, False),
        (httpx.PoolTimeout(""), ServerTimeoutError, False),
        (httpx.WriteError("reset"), ServerUnreachableError, True),
        (httpx.ReadError("reset"), ServerUnreachableError, True),
        (httpx.ReadTimeout("late"), ServerTimeoutError, True),
    ],
)
def test_a_write_without_an_answer_says_whether_it_is_in_doubt(
    serve: Callable[..., RemoteDB], failure: Exception, kind: type[Exception], is_in_doubt: bool
) -> None:
    db = serve(failing(9, failure, [0]))
    with pytest.raises(ServerUnreachableError) as caught:
        db.put("k", "v")
    assert type(caught.value) is kind
    assert isinstance(caught.value, ConnectionError)
    assert caught.value.is_in_doubt == is_in_doubt
    with pytest.raises(ServerUnreachableError) as caught:
        db.get("k")
    assert not caught.value.is_in_doubt


def test_reads_are_asked_no_more_often_than_told(serve: Callable[..., RemoteDB]) -> None:
    for retries in (0, 1, 5):
        count = [0]
        with pytest.raises(ServerUnreachableError):
            serve(failing(99, httpx.ReadError("reset"), count), retries=retries).get("k")
        assert count == [retries + 1]


def test_a_poisoned_store_is_not_asked_again(serve: Callable[..., RemoteDB]) -> None:
    count = [0]
    with pytest.raises(PoisonedError):
        serve(failing(9, problem(503, "poisoned"), count)).get("k")
    assert count == [1]


# -- streams


class Broken(httpx.SyncByteStream):
    def __init__(self, *pieces: bytes, error: Exception | None = None) -> None:
        self.pieces = pieces
        self.error = error
        self.is_closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.error:
            raise self.error

    def close(self) -> None:
        self.is_closed = True


ONE = pack(b"a", b"1", 5)


@pytest.mark.parametrize(
    ("stream", "kind"),
    [
        (Broken(ONE), ServerUnreachableError),
        (Broken(ONE, END[:-1]), ServerUnreachableError),
        (Broken(ONE, error=httpx.ReadError("reset")), ServerUnreachableError),
        (Broken(ONE, error=httpx.ReadTimeout("late")), ServerTimeoutError),
        (Broken(ONE + b"\0\0\0\0\x0f\0\0\0" + bytes(8) + b'{"status": 503}'), RemoteError),
    ],
)
def test_a_scan_that_is_cut_short_never_looks_whole(
    serve: Callable[..., RemoteDB], stream: Broken, kind: type[Exception]
) -> None:
    db = serve(lambda request: httpx.Response(200, stream=stream))
    scan = iter(db.items())
    assert next(scan) == (b"a", b"1")
    with pytest.raises(kind):
        next(scan)
    assert stream.is_closed
    assert next(scan, None) is None


def test_a_scan_lets_go_at_its_end_when_closed_and_when_dropped(serve: Callable[..., RemoteDB]) -> None:
    for ended in ("read", "dropped", "closed", "store closed"):
        stream = Broken(ONE, ONE, END)
        db = serve(lambda request, stream=stream: httpx.Response(200, stream=stream))
        scan: Any = iter(db)
        next(scan)
        assert not stream.is_closed
        if ended == "read":
            assert list(scan) == [b"a"]
        elif ended == "closed":
            scan.close()
            assert list(scan) == []
        elif ended == "store closed":
            db.close()
            with pytest.raises(ClosedError):
                list(scan)
        del scan
        assert stream.is_closed, ended


EVENT = b'id: %d\nevent: put\ndata: {"key":"k","lsn":%d}\n\n'


def test_a_watch_is_taken_up_again_behind_what_was_seen(serve: Callable[..., RemoteDB]) -> None:
    asked: list[str] = []
    streams = [
        Broken(EVENT % (4, 4), EVENT % (5, 5), error=httpx.ReadError("reset")),
        Broken(EVENT % (9, 9)),
        Broken(),
        Broken(),
        Broken(),
    ]

    def answering(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.params.get("since", ""))
        return httpx.Response(200, stream=streams[len(asked) - 1])

    with serve(answering, retries=2).watch(prefix="k", since=3) as watch:
        assert [next(watch).lsn for _ in range(3)] == [4, 5, 9]
        with pytest.raises(ServerUnreachableError):
            next(watch)
    assert asked == ["3", "5", "9", "9"]
    assert [stream.is_closed for stream in streams] == [True] * 4 + [False]


def test_a_closed_client_raises_as_a_closed_store_does(serve: Callable[..., RemoteDB]) -> None:
    db = serve(lambda request: httpx.Response(200))
    assert "open" in repr(db)
    db.close()
    db.close()
    assert db.closed
    assert "closed" in repr(db)
    for use in (lambda: db.get("k"), lambda: db.put("k", "v"), lambda: list(db), len, db.batch, db.watch):
        with pytest.raises(ClosedError, match="this client of"):
            use(db) if use is len else use()  # type: ignore[operator]


def test_durability_of_a_request_is_one_that_a_request_may_have(serve: Callable[..., RemoteDB]) -> None:
    db = serve(lambda request: httpx.Response(200))
    for wrong in ("sometimes", ("interval", 1), True):
        with pytest.raises(flash_kv.OptionsError, match="durability of a request"):
            db.batch(durability=wrong)  # type: ignore[arg-type]
        with pytest.raises(flash_kv.OptionsError, match="durability of a request"):
            db.put_record("k", "v", durability=wrong)  # type: ignore[arg-type]


def test_a_job_that_was_cancelled_is_an_error_for_who_waits_for_it(serve: Callable[..., RemoteDB]) -> None:
    asked: list[tuple[str, str]] = []

    def answering(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.path))
        if request.method == "DELETE":
            return (
                httpx.Response(202, json={"state": "running"})
                if len(asked) == 1
                else problem(409, "not-running")
            )
        return httpx.Response(202, json={"state": "cancelled" if request.method == "GET" else "running"})

    db = serve(answering)
    assert db.cancel("backup") is True
    assert db.cancel("verify") is False
    assert asked == [("DELETE", "/base/v1/backup"), ("DELETE", "/base/v1/verify")]
    with pytest.raises(RemoteError, match="verify was cancelled") as caught:
        db.verify()
    assert caught.value.status == 409
