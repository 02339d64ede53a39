"""The mixed load of `benchmarks.http_soak`, for a moment; and that it sees what goes wrong."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("uvicorn")

from benchmarks import http_soak
from benchmarks.soak_owners import Owner, value_of
from benchmarks.soak_wire import Tally

import flash_kv
from support.servers import Served, served


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served(tmp_path_factory.mktemp("served") / "db") as one:
        # The store's own thread starts when something is written first.
        one.db[b"first"] = b""
        yield one


def test_a_moment_of_mixed_load_goes_without_an_error(capsys: pytest.CaptureFixture[str]) -> None:
    # So short a time is all warming up: memory is judged by the next tests.
    words = ["--minutes", "0.02", "--connections", "12", "--growth-mib", "200"]
    code = http_soak.main(words)
    said = capsys.readouterr()
    assert code == 0, said.err
    assert "no error" in said.out


def run(owner: Owner, *steps: str) -> None:
    """So many requests one after the other."""

    async def all_of_them() -> None:
        for step in steps:
            await getattr(owner, step)()
        await owner.wire.close()

    asyncio.run(all_of_them())


def test_each_kind_of_request_is_foretold(server: Served) -> None:
    owner = Owner(1, server.address, Tally(), seed=1)
    steps = [step.__name__ for step, _ in owner._steps()]
    run(owner, *steps, *steps)
    assert owner.tally.problems.total() == 0, owner.tally.shown
    assert dict(server.db.items(prefix=owner.prefix)) == {
        key.encode(): value for key, value in owner.contents().items()
    }


def test_a_write_that_others_made_is_a_wrong_value(server: Served) -> None:
    owner = Owner(2, server.address, Tally(), seed=1)
    run(owner, "load", "put")
    for key in owner.known:
        server.db[key] = b"somebody else's"
    run(owner, "page", "stream")
    assert owner.tally.problems == {"value": 2}


def test_a_status_that_was_not_foretold_and_a_lost_connection_are_counted(server: Served) -> None:
    owner = Owner(3, server.address, Tally(), seed=1)
    owner.known = dict.fromkeys(owner.keys, 0)
    run(owner, "get")
    assert owner.tally.problems == {"status": 1}
    nobody = Owner(3, ("127.0.0.1", 9), Tally(), seed=1)
    run(nobody, "get", "put")
    assert nobody.tally.problems == {"transport": 2}


def test_a_value_that_outlives_its_time_is_noticed(server: Served) -> None:
    owner = Owner(4, server.address, Tally(), seed=1)
    server.db[f"t{owner.prefix}key"] = value_of("t", 7)
    owner.expiring = 7, time.monotonic() - 9, time.monotonic() - 9
    run(owner, "expire")
    assert owner.tally.problems == {"value": 1}


def test_growth_is_that_of_the_last_fifth_over_the_second() -> None:
    memory = http_soak.Memory(0, 1.0)
    memory.samples_mib = [1.0, 9.0, 50.0, 50.0, 51.0, 60.0, 40.0, 60.0, 62.0, 70.0]
    assert memory.growth_mib() == 16.0


def test_a_complaint_in_the_log_and_another_content_are_failures(tmp_path: Path) -> None:
    tally = Tally()
    http_soak.check_log(f"serving\n{http_soak.STOPPED}\n", tally)
    owner = Owner(0, ("127.0.0.1", 9), tally, seed=1)
    owner.known = {owner.keys[0]: 5}
    with flash_kv.open(tmp_path / "db") as db:
        db.update(owner.contents())
    http_soak.check_store(tmp_path / "db", [owner], tally)
    assert not tally.problems
    http_soak.check_log(f"serving\nsomething is wrong\n{http_soak.STOPPED}\n", tally)
    owner.known[owner.keys[0]] = 6
    http_soak.check_store(tmp_path / "db", [owner], tally)
    assert tally.problems == {"end": 1, "value": 1}
