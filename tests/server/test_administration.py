"""Looking after a served store: figures, jobs one at a time, backups into one folder, health, metrics, live figures."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import flash_kv
from flash_kv import DB, Options, PoisonedError
from flash_kv.io.faulty import Fault, FaultySystem
from flash_kv.server.auth import add_token
from flash_kv.server.http import biggest, live
from flash_kv.server.settings import ServerSettings
from support.events import events
from support.servers import Served, served, served_db
from support.stores import settle
from support.waiting import wait_until

SMALL: dict[str, Any] = {"segment_bytes_max": 65536, "reserve_bytes": 0, "compaction": "off"}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server with a folder for backups, whose every request is slow."""
    home = tmp_path_factory.mktemp("kept")
    settings = {"backup_directory": home / "backups", "slow_request_ms": 0.0}
    with served(home / "db", settings, **SMALL) as one:
        one.db["first"] = b""
        yield one


def overwrite(db: DB, count: int = 3000) -> None:
    for number in range(count):
        db[b"%d" % (number % 10)] = bytes(100)


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("urn:flash-kv:")


def job(server: Served, kind: str) -> dict[str, Any]:
    """The last job of a kind, once it is over."""
    wait_until(lambda: server.client.get(f"/v1/{kind}").json()["state"] != "running")
    found: dict[str, Any] = server.client.get(f"/v1/{kind}").json()
    return found


# Figures


def test_stats_are_those_of_the_store_and_of_the_server(kept: Served) -> None:
    kept.client.put("/v1/kv/figures", content=b"12345")
    stats = kept.client.get("/v1/stats").json()
    assert stats["keys"] == len(kept.db)
    assert stats["lsn"] == kept.db.last_lsn
    assert stats["server"]["requests"]["write"] >= 1
    assert stats["server"]["bytes_in"] >= 5
    assert stats["server"]["connections"] >= 1
    assert stats["server"]["uptime_s"] > 0


def test_options_and_settings_are_shown(kept: Served) -> None:
    shown = kept.client.get("/v1/options").json()
    assert shown["store"]["segment_bytes_max"] == 65536
    assert shown["server"]["slow_request_ms"] == 0.0
    assert Options(**shown["store"]) == kept.db.options


def test_segments_are_listed_with_their_state(kept: Served) -> None:
    overwrite(kept.db)
    settle(kept.db)
    kept.db["active"] = b""
    segments = kept.client.get("/v1/segments").json()["segments"]
    assert len(segments) == kept.db.stats().segments
    assert [one["state"] for one in segments].count("sealed") >= 2
    assert any(one["state"] == "active" for one in segments)
    for one in segments:
        assert one["bytes"] == one["live_bytes"] + one["dead_bytes"]
    assert sum(one["records"] for one in segments) >= 3000


def test_a_segment_being_compacted_says_so(kept: Served) -> None:
    overwrite(kept.db)
    seen: list[set[str]] = []

    def note(progress: flash_kv.CompactionProgress) -> None:
        if not seen:
            seen.append({one["state"] for one in kept.client.get("/v1/segments").json()["segments"]})
            assert kept.db.stats().compaction == progress

    kept.db.compact(progress=note)
    assert "compacting" in seen[0]
    assert kept.db.stats().compaction is None


def test_no_other_parameters_are_taken(kept: Served) -> None:
    for path in ("stats", "options", "segments", "compaction", "verify", "backups", "live"):
        assert kept.client.get(f"/v1/{path}?x=1").status_code == 400


# Jobs


def test_a_compaction_runs_in_the_background(kept: Served) -> None:
    overwrite(kept.db)
    assert kept.client.get("/v1/compaction").json()["state"] in ("idle", "done", "cancelled")
    predicted = kept.client.post("/v1/compaction", json={"dry_run": True})
    assert predicted.status_code == 200
    assert predicted.json()["report"]["bytes_reclaimed"] > 100_000
    started = kept.client.post("/v1/compaction")
    assert (started.status_code, started.json()["state"]) in ((202, "running"), (202, "done"))
    done = job(kept, "compaction")
    assert (done["state"], done["progress"]) == ("done", 1.0)
    assert done["report"]["bytes_reclaimed"] > 100_000
    assert done["bytes_done"] == done["bytes_total"] > 0
    assert done["ended_at"] >= done["started_at"]


@pytest.fixture
def held(kept: Served, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """A compaction that goes on until it is let go."""
    go_on = threading.Event()
    overwrite(kept.db)
    compactor = kept.db._compactor
    real = compactor.run_all

    def wait(progress: Any) -> Any:
        assert go_on.wait(60)
        return real(progress)

    monkeypatch.setattr(compactor, "run_all", wait)
    assert kept.client.post("/v1/compaction").status_code == 202
    yield go_on
    go_on.set()
    job(kept, "compaction")


def test_one_job_runs_at_a_time(kept: Served, held: threading.Event) -> None:
    assert kept.client.get("/v1/compaction").json()["state"] == "running"
    assert problem(kept.client.post("/v1/compaction")) == (409, "busy")
    assert problem(kept.client.post("/v1/verify")) == (409, "busy")
    assert problem(kept.client.post("/v1/backup", json={"name": "busy"})) == (409, "busy")
    held.set()
    assert job(kept, "compaction")["state"] == "done"
    assert kept.client.post("/v1/verify").status_code == 202
    assert job(kept, "verify")["report"]["damages"] == []


def test_a_compaction_is_cancelled(kept: Served, held: threading.Event) -> None:
    assert kept.client.delete("/v1/compaction").status_code == 202
    held.set()
    cancelled = job(kept, "compaction")
    assert cancelled["state"] == "cancelled"
    assert cancelled["report"]["is_cancelled"]
    assert problem(kept.client.delete("/v1/compaction")) == (409, "not-running")


@pytest.mark.parametrize("kind", ["verify", "backup"])
def test_a_verification_and_a_backup_are_cancelled(
    kept: Served, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    begun, go_on = threading.Event(), threading.Event()
    real = getattr(kept.db, kind)
    directory = kept.service.settings.backup_directory
    assert directory is not None
    before = sorted(os.listdir(directory))

    def wait(*arguments: Any, **more: Any) -> Any:
        begun.set()
        assert go_on.wait(60)
        return real(*arguments, **more)

    monkeypatch.setattr(kept.db, kind, wait)
    with ThreadPoolExecutor(1) as pool:
        body = {"name": "cancelled"} if kind == "backup" else {}
        started = pool.submit(kept.client.post, f"/v1/{kind}", json=body)
        assert begun.wait(60)
        cancelling = kept.client.delete(f"/v1/{kind}")
        go_on.set()
        assert (cancelling.status_code, cancelling.json()["state"]) == (202, "running")
        answer = started.result()
    if kind == "backup":
        assert problem(answer) == (409, "cancelled")
    else:
        assert answer.status_code == 202
        cancelled = job(kept, kind)
        assert (cancelled["state"], cancelled["progress"], "report" in cancelled) == ("cancelled", 0.0, False)
        assert cancelled["bytes_total"] > 0
    assert sorted(os.listdir(directory)) == before
    assert problem(kept.client.delete(f"/v1/{kind}")) == (409, "not-running")


def test_a_failed_job_says_why(kept: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(progress: object) -> None:
        raise flash_kv.StoreFullError("/s", "verify")

    monkeypatch.setattr(kept.db, "verify", fail)
    kept.client.post("/v1/verify")
    failed = job(kept, "verify")
    assert failed["state"] == "failed"
    assert failed["error"]["status"] == 507


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"dry_run": 1}', b'{"dryrun": true}', b"null", b"x" * 5000])
def test_a_body_that_makes_no_sense_starts_nothing(kept: Served, body: bytes) -> None:
    assert kept.client.post("/v1/compaction", content=body).status_code in (400, 413)
    assert kept.client.get("/v1/compaction").json()["state"] != "running"


# Backups


def test_a_backup_opens_as_a_store(kept: Served) -> None:
    kept.db["backed up"] = b"1"
    made = kept.client.post("/v1/backup", json={"name": "mon.day_1-a"})
    assert made.status_code == 201
    assert made.json()["keys"] == len(kept.db)
    assert "path" not in made.json()
    listed = kept.client.get("/v1/backups").json()["backups"]
    assert "mon.day_1-a" in [one["name"] for one in listed]
    directory = kept.service.settings.backup_directory
    assert directory is not None
    with flash_kv.open(directory / "mon.day_1-a") as copy:
        assert copy["backed up"] == b"1"
    assert problem(kept.client.post("/v1/backup", json={"name": "mon.day_1-a"})) == (409, "exists")


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        ".hidden",
        "a/b",
        "../up",
        "/tmp/x",
        "a\0b",
        "é",
        "a" * 65,
        "tmp-x",
        "a\n",
        None,
        5,
        ["a"],
    ],
    ids=repr,
)
def test_a_name_that_is_no_plain_name_is_refused(kept: Served, name: object) -> None:
    directory = kept.service.settings.backup_directory
    assert directory is not None
    before = sorted(os.listdir(directory)), sorted(os.listdir(directory.parent))
    assert kept.client.post("/v1/backup", json={"name": name}).status_code == 400
    assert (sorted(os.listdir(directory)), sorted(os.listdir(directory.parent))) == before


def test_a_link_in_the_folder_is_not_followed(kept: Served, tmp_path: Path) -> None:
    directory = kept.service.settings.backup_directory
    assert directory is not None
    (directory / "link").symlink_to(tmp_path / "elsewhere")
    assert problem(kept.client.post("/v1/backup", json={"name": "link"})) == (409, "exists")
    assert not (tmp_path / "elsewhere").exists()
    assert "link" not in [one["name"] for one in kept.client.get("/v1/backups").json()["backups"]]


def test_without_a_folder_there_are_no_backups(server: Served) -> None:
    assert problem(server.client.post("/v1/backup", json={"name": "a"})) == (403, "no-backups")
    assert problem(server.client.get("/v1/backups")) == (403, "no-backups")


# The biggest


def test_the_biggest_keys_and_prefixes_are_found(kept: Served) -> None:
    kept.db.update({f"big/user/{number}": bytes(100 * number) for number in range(50)})
    kept.db.update({f"big/item/{number}": b"" for number in range(200)})
    kept.db[b"big/\xff"] = bytes(10_000)
    found = kept.client.get("/v1/biggest?prefix=big%2F&limit=2").json()
    assert found["keys"] == [
        {"key_b64": "YmlnL/8=", "value_bytes": 10_000},
        {"key": "big/user/49", "value_bytes": 4900},
    ]
    assert [one["prefix"] for one in found["prefixes"]] == ["big/user/", "big/"]
    assert found["prefixes"][0]["keys"] == 50
    assert (found["scanned"], found["is_cut_short"]) == (251, False)


@pytest.mark.parametrize(
    ("key", "depth", "group"),
    [
        (b"a/b/c", 1, b"a/"),
        (b"a/b/c", 2, b"a/b/"),
        (b"a/b/c", 3, b"a/b/"),
        (b"a:b", 1, b"a:"),
        (b"plain", 1, b""),
        (b"/x", 1, b"/"),
        (b"", 1, b""),
    ],
)
def test_keys_are_grouped_by_their_beginnings(key: bytes, depth: int, group: bytes) -> None:
    assert biggest.group_of(key, 0, depth) == group


def test_a_scan_that_takes_too_long_says_that_it_was_cut_short(
    kept: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.db.update({f"many/{number}": b"" for number in range(2000)})
    monkeypatch.setattr(biggest, "TIME_S_MAX", 0.0)
    found = kept.client.get("/v1/biggest?prefix=many%2F").json()
    assert found["is_cut_short"]
    assert found["scanned"] == biggest.STEP


# Slow requests


def test_slow_requests_are_kept_newest_first(kept: Served) -> None:
    assert kept.client.delete("/v1/slowlog").status_code == 204
    kept.client.put("/v1/kv/slow%2F%C3%A9", content=b"123")
    kept.client.get("/v1/kv/%FF")
    kept.client.get("/v1/stats")
    logged = kept.client.get("/v1/slowlog?limit=3").json()["requests"]
    assert [(one["method"], one["status"]) for one in logged] == [("GET", 200), ("GET", 404), ("PUT", 201)]
    assert logged[0]["path"] == "/v1/stats"
    assert logged[1]["key_b64"] == "/w=="
    assert (logged[2]["key"], logged[2]["bytes"], logged[2]["client"]) == ("slow/é", 3, "127.0.0.1")
    assert all(one["duration_ms"] > 0 for one in logged)


def test_quick_requests_are_not_slow(server: Served) -> None:
    for _ in range(3):
        server.client.get("/v1/kv/quick")
    assert server.client.get("/v1/slowlog?limit=0").status_code == 400
    slow = server.client.get("/v1/slowlog").json()
    assert all(one["duration_ms"] >= slow["threshold_ms"] for one in slow["requests"])


def test_no_client_fills_the_memory_with_paths(kept: Served) -> None:
    for number in range(20):
        kept.client.get(f"/nothing/{number}")
    names = {
        (sample.labels["method"], sample.labels["route"])
        for sample in scrape(kept)["flash_kv_http_requests"].samples
        if not sample.labels["route"]
    }
    assert names == {("", "")}


# Health


def test_a_sound_store_is_healthy_and_ready(server: Served) -> None:
    for path in ("/healthz", "/readyz"):
        answer = server.client.get(path)
        assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_a_poisoned_store_is_not(tmp_path: Path, real_syncs: None) -> None:
    system = FaultySystem()
    options = Options(reserve_bytes=0, compaction="off")
    db = DB(tmp_path / "db", options, system=system)
    try:
        db["before"] = b"1"
        system.add(Fault("sync_data", errno=errno.EIO))
        with pytest.raises(PoisonedError):
            db.sync()
        with served_db(db, ServerSettings(http="127.0.0.1:0")) as one:
            assert one.client.get("/healthz").json() == {"status": "poisoned"}
            assert one.client.get("/readyz").status_code == 503
            assert one.client.put("/v1/kv/a", content=b"").status_code == 503
            assert one.client.get("/v1/kv/before").content == b"1"
            assert scrape(one)["flash_kv_poisoned"].samples[0].value == 1
    finally:
        db.close()


# Metrics


def scrape(server: Served) -> dict[str, Any]:
    answer = server.client.get("/metrics")
    assert answer.status_code == 200
    return {family.name: family for family in text_string_to_metric_families(answer.text)}


def counted(server: Served, **labels: str) -> float:
    samples = scrape(server)["flash_kv_http_requests"].samples
    return sum(one.value for one in samples if labels.items() <= one.labels.items())


def test_requests_are_counted_by_route_and_status(kept: Served) -> None:
    route = {"route": "/v1/kv/{key}", "method": "GET"}
    before = counted(kept, status="200", **route), counted(kept, status="404", **route)
    kept.db["counted"] = b""
    for _ in range(3):
        kept.client.get("/v1/kv/counted")
    kept.client.get("/v1/kv/absent")
    assert (counted(kept, status="200", **route), counted(kept, status="404", **route)) == (
        before[0] + 3,
        before[1] + 1,
    )


def test_latencies_are_a_histogram(kept: Served) -> None:
    kept.client.get("/v1/kv/first")
    samples = scrape(kept)["flash_kv_http_request_duration_seconds"].samples
    ours = [one for one in samples if one.labels["route"] == "/v1/kv/{key}" and one.labels["method"] == "GET"]
    buckets = [one.value for one in ours if one.name.endswith("_bucket")]
    assert buckets == sorted(buckets)
    [count] = [one.value for one in ours if one.name.endswith("_count")]
    assert buckets[-1] == count > 0


def test_the_figures_of_the_store_are_metrics(kept: Served) -> None:
    found = scrape(kept)
    assert found["flash_kv_keys"].samples[0].value == len(kept.db)
    assert found["flash_kv_lsn"].samples[0].value == kept.db.last_lsn
    assert found["flash_kv_server_connections"].samples[0].value >= 1


# Live


@pytest.fixture
def quick_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PERIOD_S", 0.1)


def test_live_figures_come_again_and_again(tmp_path: Path, quick_samples: None) -> None:
    with (
        served(tmp_path / "db") as one,
        events(one.client, "/v1/live") as first,
        events(one.client, "/v1/live") as second,
    ):
        assert first.next().data["ops"] == {"read": 0, "write": 0, "delete": 0, "list": 0, "other": 0}
        for number in range(20):
            one.client.put(f"/v1/kv/{number}", content=b"123")
            one.client.get(f"/v1/kv/{number}")
        seen = first.next()
        while not (seen.data["ops"]["write"] and seen.data["ops"]["read"]):
            seen = first.next()
        assert seen.name == "live"
        assert (
            0
            < seen.data["latency_us"]["p50"]
            <= seen.data["latency_us"]["p99"]
            <= seen.data["latency_us"]["max"]
        )
        assert seen.data["bytes_in"] > 0
        assert seen.data["keys"] > 0
        assert seen.data["connections"] >= 2
        assert seen.data["compaction"]["state"] == "idle"
        assert second.next().data["at"] > 0
        assert one.service.gauges["live_viewers"]() == 2


def test_nothing_is_sampled_while_nobody_looks(
    tmp_path: Path, quick_samples: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with served(tmp_path / "db") as one:
        with events(one.client, "/v1/live") as found:
            found.next()
        wait_until(lambda: one.service.gauges["live_viewers"]() == 0)
        calls: list[None] = []
        monkeypatch.setattr(one.db, "stats", lambda: calls.append(None))
        with events(one.client, "/v1/watch") as found:
            found.next(beats=True)
        assert calls == []


def test_the_compaction_of_the_background_is_shown(tmp_path: Path, quick_samples: None) -> None:
    with served(tmp_path / "db", **SMALL) as one:
        overwrite(one.db)
        with events(one.client, "/v1/live") as found:
            shown: list[dict[str, Any]] = []
            one.db.compact(progress=lambda progress: shown.append(found.next().data["compaction"]))
        assert any(compaction["is_background"] and compaction["state"] == "running" for compaction in shown)


# Tokens


def test_what_administrates_needs_the_scope_for_it(tmp_path: Path) -> None:
    file = tmp_path / "tokens.toml"
    reader = {"Authorization": f"Bearer {add_token(file, 'reader', ['read'], [b'mine/'])}"}
    admin = {"Authorization": f"Bearer {add_token(file, 'admin', ['admin'])}"}
    with served(tmp_path / "db", {"token_file": file}) as one:
        for method, path in (
            ("GET", "options"),
            ("GET", "slowlog"),
            ("DELETE", "slowlog"),
            ("GET", "compaction"),
            ("POST", "compaction"),
            ("DELETE", "compaction"),
            ("GET", "verify"),
            ("POST", "verify"),
            ("POST", "backup"),
            ("GET", "backups"),
        ):
            assert one.client.request(method, f"/v1/{path}", headers=reader).status_code == 403, path
        for path in ("/v1/stats", "/v1/segments", "/metrics", "/v1/biggest?prefix=mine%2F"):
            assert one.client.get(path).status_code == 401
            assert one.client.get(path, headers=reader).status_code == 200
        assert one.client.get("/v1/biggest", headers=reader).status_code == 403
        assert one.client.get("/v1/slowlog", headers=admin).status_code == 200
        assert [one.client.get(path).status_code for path in ("/healthz", "/readyz")] == [200, 200]
