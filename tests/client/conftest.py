"""Stores behind a server, opened as the embedded ones are: `open_db(name)` gives a client.

One server and one store for all tests of a module that ask for nothing special; it is emptied for each test. A test
that gives options, or opens a second store, gets a server of its own.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("httpx")
pytest.importorskip("uvicorn")

import flash_kv
from flash_kv.client.remote_db import RemoteDB
from support.awaited import AwaitedDB
from support.servers import Served, served

SHARED = {"index": "btree", "io": "mmap"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is beneath a server makes no difference to a client: one kind is enough, and a few of many variants."""
    here = [item for item in items if item.path.stem.startswith(("test_remote_", "test_async_"))]
    seen: Counter[tuple[Path, str]] = Counter()
    on_btree = {_name(item) for item in here if _index(item) == "btree"}
    left_out = {
        item
        for item in here
        if _index(item) not in ("btree", None) and (_index(item) != "hash" or _name(item) in on_btree)
    }
    left_out |= {item for item in here if item not in left_out and not _is_sampled(item, seen)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _is_sampled(item: pytest.Item, seen: Counter[tuple[Path, str]]) -> bool:
    """The first few of a test's many variants, then every ninth."""
    seen[_name(item)] += 1
    # Of the asynchronous client only how it drives the steps, which are the same, is its own.
    first, step = (2, 20) if item.path.stem.startswith("test_async_") else (4, 9)
    return seen[_name(item)] <= first or seen[_name(item)] % step == 0


def _index(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get("index")


def _name(item: pytest.Item) -> tuple[Path, str]:
    return item.path, getattr(item, "originalname", item.name)


@pytest.fixture(params=["btree"])
def index(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["mmap"])
def io(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served store whose keys each test chooses for itself."""
    with served(tmp_path_factory.mktemp("served") / "db", **SHARED) as one:
        # The store's own thread starts when something is written first.
        one.db[b"first"] = b""
        yield one


@pytest.fixture
def db(server: Served) -> Iterator[RemoteDB]:
    """A client of the shared store, which is empty."""
    server.db.clear()
    with flash_kv.connect(server.url) as remote:
        yield remote


@pytest.fixture
def open_db(
    request: pytest.FixtureRequest, server: Served, tmp_path: Path, index: str, io: str
) -> Iterator[Callable[..., Any]]:
    """`open_db(name="db", **options)`: a client of a store; of the same one when it is opened again."""
    connect = AwaitedDB if request.path.stem.startswith("test_async_") else flash_kv.connect
    urls: dict[str, str] = {}
    with contextlib.ExitStack() as ends:

        def open_one(name: str = "db", **options: Any) -> Any:
            wanted = {"index": index, "io": io, **options}
            if name not in urls:
                if wanted == SHARED and not urls:
                    server.db.clear()
                    urls[name] = server.url
                else:
                    urls[name] = ends.enter_context(served(tmp_path / name, **wanted)).url
            return ends.enter_context(connect(urls[name]))

        yield open_one
