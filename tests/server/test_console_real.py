"""The console on the real server: what the stand-in of `test_console_pages.py` only plays."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="the console's tests need playwright: pip install 'flash-kv[dev]'")

from playwright.sync_api import expect

from support.browser import CHROMIUM, DEADLINE_MS, Visit, chromium, visiting
from support.servers import Served, served

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium here: `make browser`, or set FLASH_KV_TEST_CHROMIUM"
)
SEGMENT_BYTES = 1 << 20
expect.set_options(timeout=DEADLINE_MS)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Segments of which compaction can make fewer: every value was written three times."""
    folder: Path = tmp_path_factory.mktemp("console")
    settings = {"backup_directory": folder / "backups"}
    (folder / "backups").mkdir()
    with served(folder / "db", settings, segment_bytes_max=SEGMENT_BYTES, compaction="off") as one:
        for _ in range(3):
            one.db.put_many((b"user:%05d" % number, b"v" * 500) for number in range(3000))
        yield one


@pytest.fixture(scope="module")
def visit(filled: Served) -> Iterator[Visit]:
    with chromium() as browser, visiting(browser, filled.url) as one:
        yield one


def test_figures_segments_and_a_compaction_to_its_end(visit: Visit, filled: Served) -> None:
    page = visit.page
    visit.go("overview")
    expect(page.get_by_label("Figures")).to_contain_text(re.compile(r"Keys\s*3,000"))
    before = filled.db.stats()
    strips = page.get_by_role("list", name="Segments").get_by_role("listitem")
    expect(strips).to_have_count(len(before.segment_stats))
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("would be compacted")).to_be_visible()
    page.get_by_role("button", name="Compact").click()
    meter = page.get_by_role("progressbar", name="Compaction")
    expect(meter).to_have_attribute("data-state", "done")
    expect(page.get_by_text(re.compile(r"\d+ segments compacted, .* reclaimed in"))).to_be_visible()
    after = filled.db.stats()
    assert after.dead_bytes < before.dead_bytes // 2
    expect(strips).to_have_count(len(after.segment_stats))


def test_a_key_is_made_found_edited_and_deleted(visit: Visit, filled: Served) -> None:
    page = visit.page
    visit.go("keys?new=1")
    page.get_by_label("Key", exact=True).fill(r"made/../\xfe here")
    page.get_by_label("Value", exact=True).fill("one")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name=r"made/../\xfe here")).to_be_visible()
    assert filled.db[b"made/../\xfe here"] == b"one"
    page.get_by_label("Value", exact=True).fill("two")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    assert filled.db[b"made/../\xfe here"] == b"two"
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name=re.compile("made"))).to_have_count(0)
    assert b"made/../\xfe here" not in filled.db


def test_keys_are_paged_by_the_servers_cursor(visit: Visit) -> None:
    page = visit.page
    visit.go("keys?prefix=user:000")
    expect(page.get_by_role("heading", name="Keys 100")).to_be_visible()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_role("option", name="user:00099")).to_be_visible()
    expect(page.get_by_role("button", name="Next")).to_be_disabled()


def test_the_watch_the_sizes_and_the_slow_log(visit: Visit, filled: Served) -> None:
    page = visit.page
    visit.go("watch?prefix=tail:")
    page.get_by_label("Values").check()
    rows = page.get_by_role("log").get_by_role("listitem")
    expect(page.get_by_text("Watching")).to_be_visible()
    while rows.count() == 0:
        filled.db[b"tail:1"] = b"seen"
        page.wait_for_timeout(50)
    filled.db.delete(b"tail:1")
    expect(rows.first).to_contain_text(re.compile("delete.*tail:1"))
    expect(rows.nth(1)).to_contain_text(re.compile("put.*tail:1.*seen"))
    visit.go("sizes")
    expect(page.get_by_role("region", name="Biggest prefixes")).to_contain_text("user:")
    visit.go("slow")
    expect(page.get_by_role("heading", name="Slow log")).to_be_visible()
    expect(page.get_by_role("alert")).to_have_count(0)


def test_the_store_is_verified_and_backed_up(visit: Visit, filled: Served) -> None:
    page = visit.page
    visit.go("store")
    expect(page.get_by_role("link", name="Health: Healthy")).to_be_visible()
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_text(re.compile(r"No damage: [\d,]+ records"))).to_be_visible()
    page.get_by_role("button", name="Back up").click()
    page.get_by_role("dialog").get_by_label("Name").fill("nightly")
    page.get_by_role("dialog").get_by_role("button", name="Back up").click()
    expect(page.get_by_role("region", name="Backups").get_by_role("term")).to_have_text("nightly")
    expect(page.get_by_role("region", name="Settings")).to_contain_text("store.segment_bytes_max")


def test_a_time_to_live_is_given_and_shown(visit: Visit, filled: Served) -> None:
    page = visit.page
    visit.go("keys?prefix=user:00007&key=user:00007")
    page.get_by_label("Time to live").fill("2h")
    with page.expect_response(lambda response: response.request.method == "PUT"):
        page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    page.reload()
    expect(page.get_by_label("Time to live")).to_have_value(re.compile(r"2h|1h 59m"))
    expect(page.get_by_role("option", name=re.compile(r"user:00007 *ends in (2h|1h 59m)"))).to_be_visible()
    kept = filled.db.get_record(b"user:00007")
    assert kept is not None
    assert kept.expires_at == pytest.approx(time.time() + 7200, abs=60)


def test_a_change_by_another_is_told_and_not_overwritten(visit: Visit, filled: Served) -> None:
    page = visit.page
    visit.expected_statuses = {412}
    visit.go("keys?key=user:00008")
    page.get_by_label("Value", exact=True).fill("mine")
    filled.db[b"user:00008"] = b"theirs"
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Someone else has written or deleted this key")).to_be_visible()
    assert filled.db[b"user:00008"] == b"theirs"
    with page.expect_response(lambda response: response.request.method == "PUT"):
        page.get_by_role("button", name="Overwrite").click()
    expect(page.get_by_text("Someone else")).to_have_count(0)
    assert filled.db[b"user:00008"] == b"mine"
