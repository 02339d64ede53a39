"""One server for all tests of a module that only need some store; others make theirs with `support.servers`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("uvicorn")

from support.servers import Served, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A served store whose keys each test chooses for itself."""
    with served(tmp_path_factory.mktemp("served") / "db") as one:
        # The store's own thread starts when something is written first.
        one.db[b"first"] = b""
        yield one
