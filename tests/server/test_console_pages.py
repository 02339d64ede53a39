"""The console in a real Chromium: every panel, with the pointer, with the keyboard alone, on a phone, in the dark.

The server behind it is the stand-in of `support.console_api`, whose compaction takes a moment that can be watched;
`test_console_real.py` takes the real one. Each test ends with no error in the browser's console, no uncaught error, no
breach of the content security policy and no request to another host, or it fails.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

pytest.importorskip("playwright", reason="the console's tests need playwright: pip install 'flash-kv[dev]'")

from playwright.sync_api import Browser, Page, Route, expect

from support.browser import CHROMIUM, DEADLINE_MS, PHONE, Visit, chromium, new_page, on_page, visiting
from support.console_api import TICK_S, FakeServer, serving
from support.waiting import wait_until

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium here: `make browser`, or set FLASH_KV_TEST_CHROMIUM"
)
VIEWS = ("overview", "keys", "sizes", "watch", "slow", "store")
expect.set_options(timeout=DEADLINE_MS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as one:
        yield one


@pytest.fixture
def api() -> Iterator[FakeServer]:
    with serving() as server:
        fill(server)
        yield server


@pytest.fixture(scope="module")
def shared_page(browser: Browser) -> Iterator[Page]:
    """One page for all tests: making one takes longer than most of them. Each has an origin of its own."""
    with new_page(browser) as page:
        yield page


@pytest.fixture
def visit(shared_page: Page, api: FakeServer) -> Iterator[Visit]:
    with on_page(shared_page, api.url) as one:
        yield one


def fill(server: FakeServer) -> None:
    store = server.store
    for number in range(120):
        value = json.dumps({"id": number, "big": 12345678901234567890}, separators=(",", ":"))
        store.put(b"user:%04d" % number, value.encode(), "application/json", 600 if number == 7 else None)
    store.put(b"page:/a/../b", b"first\nsecond", "text/plain", None)
    store.put(b"\xff\x00raw", bytes(range(40)), "application/octet-stream", None)
    store.put(b"large", b"x" * 300_000, "application/octet-stream", None)
    store.put(b"..", b"dots", "text/plain", None)
    store.slow.append(
        {
            "at": time.time(),
            "duration_ms": 31.5,
            "method": "GET",
            "key": "user:0001",
            "status": 200,
            "bytes": 40,
        }
    )


def options(page: Page) -> list[str]:
    return page.get_by_role("option").locator(".key-name").all_inner_texts()


def save(page: Page) -> None:
    # The button rests while the request is on its way, too: that it is answered is waited for first.
    with page.expect_response(lambda response: response.request.method in ("PUT", "POST")):
        page.get_by_role("button", name="Save").click()
    # Saved and read again, there is nothing to save.
    expect(page.get_by_role("button", name="Save")).to_be_disabled()


def test_the_overview_shows_live_figures_charts_and_segments(visit: Visit) -> None:
    page = visit.page
    visit.go("overview")
    facts = page.get_by_label("Figures")
    expect(facts).to_contain_text(re.compile(r"Keys\s*124"))
    expect(facts).to_contain_text(re.compile(r"On disk\s*655 MiB"))
    chart = page.get_by_role("region", name="Throughput")
    expect(chart.get_by_role("listitem").first).to_contain_text(re.compile(r"reads\s*4,\d{3}"))
    expect(page.get_by_role("img", name=re.compile("Latency .* p50 120 µs, p99 4"))).to_be_visible()
    painted = "c => new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)"
    drawn = page.locator("canvas").first.evaluate(f"c => new Set(({painted})(c)).size")
    assert drawn > 3, "the chart has a line, a fill and a grid"
    segments = page.get_by_role("list", name="Segments")
    expect(segments.get_by_role("listitem")).to_have_count(10)
    expect(segments.get_by_label("Segment 8, sealed, 64.0 MiB, 63 % dead")).to_be_visible()
    widths = segments.locator("[data-id='8'] .strip > *").evaluate_all("all => all.map(e => e.offsetWidth)")
    assert widths[1] / sum(widths) == pytest.approx(40 / 64, abs=0.03)


def test_a_compaction_is_started_and_watched_to_its_end(visit: Visit) -> None:
    page = visit.page
    visit.go("overview")
    meter = page.get_by_role("progressbar", name="Compaction")
    expect(meter).to_have_attribute("data-state", "idle")
    page.get_by_role("button", name="Compact").click()
    expect(meter).to_have_attribute("data-state", "running")
    expect(page.locator(".segment.is-compacting")).to_have_count(5)
    expect(meter).not_to_have_attribute("aria-valuenow", "0")
    expect(page.get_by_text(re.compile(r"Compacting: .* of 320 MiB"))).to_be_visible()
    expect(meter).to_have_attribute("data-state", "done")
    expect(page.get_by_text("5 segments compacted, 150 MiB reclaimed in 2s.")).to_be_visible()
    expect(page.get_by_label("Segment 11, sealed, 170 MiB, 0 % dead")).to_be_visible()
    expect(page.locator("[data-id='8']")).to_have_count(0)


def test_a_compaction_is_tried_dry_and_cancelled(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    visit.go("overview")
    page.get_by_role("button", name="Dry run").click()
    expect(page.get_by_text("Dry run: 5 segments would be compacted, 150 MiB reclaimed.")).to_be_visible()
    page.get_by_role("button", name="Compact").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("The last compaction was cancelled")).to_be_visible()
    assert api.store.job["state"] == "cancelled"


def test_keys_are_found_by_prefix_and_paged(visit: Visit) -> None:
    page = visit.page
    visit.go("keys")
    page.get_by_label("Prefix").fill("user:")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("heading", name="Keys 120")).to_be_visible()
    assert options(page) == [f"user:{number:04d}" for number in range(50)]
    page.get_by_role("button", name="Next").click()
    page.get_by_role("button", name="Next").click()
    expect(page.get_by_text("Page 3")).to_be_visible()
    expect(page.get_by_role("option")).to_have_count(20)
    expect(page.get_by_role("button", name="Next")).to_be_disabled()
    page.get_by_role("button", name="Previous").click()
    expect(page.get_by_role("option", name="user:0050")).to_be_visible()
    page.get_by_label("Prefix").fill(r"\xff\x00")
    page.keyboard.press("Enter")
    expect(page.get_by_role("option", name=r"\xff\x00raw")).to_be_visible()
    page.get_by_label("Prefix").fill("nobody")
    page.keyboard.press("Enter")
    expect(page.get_by_text("No key begins like this")).to_be_visible()


def test_a_value_is_edited_as_json_without_touching_its_numbers(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    visit.go("keys?prefix=user:&key=user:0003")
    value = page.get_by_label("Value", exact=True)
    expect(value).to_have_value('{\n  "id": 3,\n  "big": 12345678901234567890\n}')
    value.fill('{\n  "id": 33,\n  "big": 12345678901234567890')
    expect(page.get_by_text("This is not JSON")).to_be_visible()
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    value.press("End")
    value.press_sequentially("}")
    save(page)
    assert api.store.entries[b"user:0003"]["value"] == b'{"id":33,"big":12345678901234567890}'
    assert api.store.entries[b"user:0003"]["type"] == "application/json"


def test_a_value_is_looked_at_and_edited_as_text_and_as_hex(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    visit.go("keys?prefix=%5Cxff")
    page.get_by_role("option", name=r"\xff\x00raw").click()
    value = page.get_by_label("Value", exact=True)
    expect(value).to_have_value(re.compile(r"^00 01 02 03"))
    value.fill("68 69 FF")
    save(page)
    assert api.store.entries[b"\xff\x00raw"]["value"] == b"hi\xff"
    page.get_by_text("Text", exact=True).click()
    expect(page.get_by_text("These bytes are not UTF-8")).to_be_visible()
    page.get_by_text("Hex", exact=True).click()
    value.fill("6869")
    page.get_by_text("Text", exact=True).click()
    expect(value).to_have_value("hi")
    save(page)
    assert api.store.entries[b"\xff\x00raw"]["value"] == b"hi"


def test_a_key_with_dots_and_slashes_is_edited_in_its_own_place(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    for key, name in ((b"page:/a/../b", "page:/a/../b"), (b"..", "..")):
        visit.go("keys")
        page.get_by_role("option", name=name, exact=True).click()
        page.get_by_label("Value", exact=True).fill(f"now {name}")
        save(page)
        assert api.store.entries[key]["value"] == f"now {name}".encode()


def test_a_time_to_live_is_seen_kept_and_given(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    visit.go("keys?prefix=user:000&key=user:0007")
    expect(page.get_by_role("option", name=re.compile(r"user:0007 *ends in (10m|9m \d+s)"))).to_be_visible()
    before = api.store.entries[b"user:0007"]["expires"]
    page.get_by_label("Value", exact=True).fill("{}")
    save(page)
    assert api.store.entries[b"user:0007"]["expires"] == pytest.approx(before, abs=5)
    page.get_by_label("Time to live").fill("soon")
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    page.get_by_label("Time to live").fill("2h")
    save(page)
    assert api.store.entries[b"user:0007"]["expires"] == pytest.approx(time.time() + 7200, abs=60)
    page.get_by_label("Time to live").fill("")
    save(page)
    assert api.store.entries[b"user:0007"]["expires"] is None


def test_a_change_by_someone_else_is_not_overwritten_unasked(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    visit.expected_statuses = {412}
    visit.go("keys?key=page:/a/../b")
    page.get_by_label("Value", exact=True).fill("mine")
    api.store.put(b"page:/a/../b", b"theirs", "text/plain", None)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Someone else has written or deleted this key")).to_be_visible()
    assert api.store.entries[b"page:/a/../b"]["value"] == b"theirs"
    page.get_by_role("button", name="Overwrite").click()
    expect(page.get_by_text("Someone else")).to_have_count(0)
    # The notice goes when the button is pressed, the value when the server has answered.
    wait_until(lambda: api.store.entries[b"page:/a/../b"]["value"] == b"mine")


def test_a_key_is_made_and_an_existing_one_is_not_replaced(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    visit.expected_statuses = {412}
    visit.go("keys")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Key", exact=True).fill(r"new\x00key")
    page.get_by_label("Value", exact=True).fill("hello")
    page.get_by_label("Time to live").fill("1h")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name=r"new\x00key")).to_be_visible()
    made = api.store.entries[b"new\x00key"]
    assert made["value"] == b"hello"
    assert made["expires"] == pytest.approx(time.time() + 3600, abs=60)
    expect(page.get_by_role("option", name=r"new\x00key")).to_have_attribute("aria-selected", "true")
    page.get_by_role("button", name="New key").click()
    page.get_by_label("Key", exact=True).fill("large")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_text("This key is there already.")).to_be_visible()
    assert len(api.store.entries[b"large"]["value"]) == 300_000


def test_a_key_is_deleted_after_a_question(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    visit.go("keys?prefix=page&key=page:/a/../b")
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    assert b"page:/a/../b" in api.store.entries
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No key begins like this")).to_be_visible()
    assert b"page:/a/../b" not in api.store.entries


def test_a_change_is_not_lost_by_a_click_elsewhere(visit: Visit) -> None:
    page = visit.page
    visit.go("keys?prefix=user:&key=user:0003")
    page.get_by_label("Value", exact=True).fill("[]")
    page.get_by_role("option", name="user:0004").click()
    dialog = page.get_by_role("dialog", name="Leave without saving?")
    dialog.get_by_role("button", name="Cancel").click()
    expect(page.get_by_label("Value", exact=True)).to_have_value("[]")
    page.get_by_role("option", name="user:0004").click()
    dialog.get_by_role("button", name="Discard changes").click()
    expect(page.get_by_role("heading", name="user:0004")).to_be_visible()


def test_of_a_large_value_the_beginning_is_shown(visit: Visit) -> None:
    page = visit.page
    visit.go("keys?key=large")
    expect(page.get_by_text("The first 256 KiB of 293 KiB.")).to_be_visible()
    expect(page.get_by_label("Beginning of the value")).to_contain_text("00000000  78 78 78")


def test_a_missing_key_is_said_to_be_missing(visit: Visit) -> None:
    visit.expected_statuses = {404}
    visit.go("keys?key=never")
    expect(visit.page.get_by_text("There is no such key")).to_be_visible()


def test_the_biggest_keys_and_prefixes_lead_to_the_browser(visit: Visit) -> None:
    page = visit.page
    visit.go("sizes")
    biggest = page.get_by_role("region", name="Biggest keys").get_by_role("listitem")
    expect(biggest.first).to_contain_text(re.compile(r"large\s*293 KiB"))
    prefixes = page.get_by_role("region", name="Biggest prefixes")
    expect(prefixes.get_by_role("link", name=re.compile("user: *120 keys"))).to_be_visible()
    expect(prefixes.get_by_role("link", name=re.compile("no prefix"))).to_be_visible()
    prefixes.get_by_role("link", name=re.compile("user:")).click()
    expect(page.get_by_role("heading", name="Keys 120")).to_be_visible()


def test_the_watch_shows_writes_and_deletes_as_they_happen(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    visit.go("watch?prefix=user:")
    page.get_by_label("Values").check()
    expect(page.get_by_text("Watching")).to_be_visible()
    # The stream stands once the first event is through.
    rows = page.get_by_role("log").get_by_role("listitem")
    while rows.count() == 0:
        api.store.put(b"user:tail", b"one", "text/plain", None)
        page.wait_for_timeout(50)
    api.store.put(b"other", b"not shown", "text/plain", None)
    api.store.events.append(("missed", {}))
    api.store.delete(b"user:tail")
    expect(rows.first).to_contain_text(re.compile("delete.*user:tail"))
    expect(rows.nth(1)).to_contain_text("some were left out")
    expect(rows.nth(2)).to_contain_text(re.compile("put.*user:tail.*one"))
    assert "not shown" not in page.get_by_role("log").inner_text()
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_text("Paused")).to_be_visible()


def test_the_slow_log_is_shown_and_emptied(visit: Visit) -> None:
    page = visit.page
    visit.go("slow")
    row = page.get_by_role("row", name=re.compile("31.5 ms.*user:0001.*GET.*200"))
    expect(row).to_be_visible()
    page.get_by_role("button", name="Empty").click()
    page.get_by_role("button", name="Empty it").click()
    expect(page.get_by_text("None has taken 10 ms or more.")).to_be_visible()


def test_the_store_is_verified_and_backed_up(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    visit.expected_statuses = {409}
    visit.go("store")
    expect(page.get_by_role("region", name="Health")).to_contain_text("The store reads and writes.")
    expect(page.get_by_role("region", name="Settings")).to_contain_text("store.segment_bytes")
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_text("No damage: 1,234 records")).to_be_visible()
    for attempt in ("made", "refused"):
        page.get_by_role("button", name="Back up").click()
        dialog = page.get_by_role("dialog", name="Back up the store")
        dialog.get_by_label("Name").fill("../no")
        expect(dialog.get_by_role("button", name="Back up")).to_be_disabled()
        dialog.get_by_label("Name").fill("nightly")
        dialog.get_by_role("button", name="Back up").click()
        if attempt == "made":
            expect(page.get_by_text("Backed up as nightly")).to_be_visible()
            expect(page.get_by_role("region", name="Backups").get_by_role("term")).to_have_text("nightly")
    expect(page.get_by_text("There is a backup nightly already.")).to_be_visible()
    assert api.store.backups == ["nightly"]


def test_a_token_is_asked_for_and_forgotten_with_the_tab(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    visit.expected_statuses = {401}
    api.token = "secret-token"
    visit.go("keys")
    dialog = page.get_by_role("dialog", name="A token is needed")
    dialog.get_by_role("button", name="Not now").click()
    expect(page.get_by_text("This server wants a bearer token.").first).to_be_visible()
    page.get_by_role("button", name="Give a token").first.click()
    dialog.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Token")).to_have_value("")
    dialog.get_by_label("Token").fill("secret-token")
    page.keyboard.press("Enter")
    expect(page.get_by_role("option").first).to_be_visible()
    kept = page.evaluate("[JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]")
    assert "secret-token" in kept[0]
    assert "secret-token" not in kept[1] + kept[2]


def test_a_store_that_is_not_ready_says_why(visit: Visit, api: FakeServer) -> None:
    visit.expected_statuses = {503}
    api.cause = "poisoned: fsync failed with EIO"
    visit.go("store")
    expect(visit.page.get_by_role("link", name="Health: Not ready")).to_be_visible()
    expect(visit.page.get_by_role("region", name="Health")).to_contain_text("poisoned: fsync failed with EIO")


def test_a_failing_resource_is_shown_and_tried_again(visit: Visit) -> None:
    page = visit.page
    visit.expected_statuses = {500}
    problem = {"title": "Damaged record", "detail": "000001.seg at 4096", "status": 500}

    def fail(route: Route) -> None:
        route.fulfill(status=500, content_type="application/problem+json", body=json.dumps(problem))

    page.route("**/v1/slowlog*", fail)
    visit.go("slow")
    alert = page.get_by_role("alert")
    expect(alert).to_contain_text(re.compile("Damaged record.*000001.seg at 4096"))
    page.unroute("**/v1/slowlog*")
    alert.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("table")).to_be_visible()


def test_the_keyboard_alone_finds_edits_and_saves_a_key(visit: Visit, api: FakeServer) -> None:
    page = visit.page
    keys = page.keyboard
    visit.go("overview")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    keys.press("?")
    expect(page.get_by_role("dialog", name="Keyboard")).to_contain_text("Search by prefix")
    keys.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    keys.press("/")
    expect(page.get_by_label("Prefix")).to_be_focused()
    keys.type("user:010")
    keys.press("Enter")
    expect(page.get_by_role("option")).to_have_count(10)
    keys.press("Tab")
    keys.press("Tab")
    expect(page.get_by_role("option", name="user:0100")).to_be_focused()
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid", "the focus is seen"
    keys.press("End")
    keys.press("ArrowUp")
    keys.press("Enter")
    expect(page.get_by_role("heading", name="user:0108")).to_be_visible()
    value = page.get_by_label("Value", exact=True)
    for _ in range(12):
        if value.evaluate("element => element === document.activeElement"):
            break
        keys.press("Tab")
    expect(value).to_be_focused()
    keys.press("Control+a")
    keys.type("[1]")
    keys.press("Control+s")
    expect(page.get_by_role("button", name="Save")).to_be_disabled()
    assert api.store.entries[b"user:0108"]["value"] == b"[1]"


def test_digits_lead_to_every_view_and_each_has_one_heading(visit: Visit) -> None:
    page = visit.page
    visit.go("overview")
    names = ("Overview", "Keys", "Sizes", "Watch", "Slow log", "Store")
    for digit, name in enumerate(names, 1):
        page.keyboard.press(str(digit))
        expect(page.get_by_role("heading", level=1)).to_contain_text(name)
        expect(page.get_by_role("link", name=name, exact=True)).to_have_attribute("aria-current", "page")
        expect(page).to_have_title(f"{name} · FlashKV")
        unnamed = page.evaluate(
            "[...document.querySelectorAll('button, input, select, textarea, a')].filter(e =>"
            " !(e.innerText.trim() || e.getAttribute('aria-label') || e.getAttribute('aria-labelledby')"
            " || (e.labels && e.labels.length))).map(e => e.outerHTML)"
        )
        assert unnamed == []


def test_at_phone_width_no_view_scrolls_sideways(browser: Browser, api: FakeServer) -> None:
    api.store.put(b"long:" + b"k" * 300, b"v" * 3000, "text/plain", None)
    with visiting(browser, api.url, **PHONE) as visit:
        for view in (*VIEWS, "keys?key=user:0003", "keys?new=1", "keys?key=long:" + "k" * 300):
            visit.go(view)
            expect(visit.page.get_by_role("heading", level=1)).to_be_visible()
            visit.settle()
            assert visit.width() <= 360, view
        visit.go("keys?key=user:0003")
        expect(visit.page.get_by_label("Key browser")).to_be_hidden()
        visit.page.get_by_role("button", name="Close").click()
        expect(visit.page.get_by_label("Key browser")).to_be_visible()
        for link in visit.page.get_by_role("navigation", name="Views").get_by_role("link").all():
            box = link.bounding_box()
            assert box is not None
            assert box["height"] >= 44, "a finger hits it"


def brightness(page: Page) -> float:
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(float(part) for part in re.findall(r"\d+(?:\.\d+)?", color)[:3]) / 3


def test_dark_follows_the_system_until_it_is_switched(visit: Visit) -> None:
    page = visit.page
    page.emulate_media(color_scheme="dark")
    visit.go("overview")
    expect(page.get_by_role("button", name="Theme: as the system")).to_be_visible()
    assert brightness(page) < 40
    page.emulate_media(color_scheme="light")
    assert brightness(page) > 220
    page.get_by_role("button", name="Theme: as the system").click()
    page.get_by_role("button", name="Theme: light").click()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert brightness(page) < 40
    page.reload()
    expect(page.get_by_role("button", name="Theme: dark")).to_be_visible()
    assert brightness(page) < 40


def test_nothing_moves_while_the_first_answers_come(visit: Visit) -> None:
    page = visit.page
    # It stays with the page, and takes note of what no other test looks at.
    page.add_init_script(
        "window.moved = 0; new PerformanceObserver(list => { for (const one of list.getEntries())"
        " window.moved += one.value; }).observe({ type: 'layout-shift', buffered: true })"
    )
    for view in ("overview", "keys", "slow"):
        visit.go(view)
        page.reload()
        visit.settle()
        # The first figures of the stream.
        page.wait_for_timeout(3000 * TICK_S)
        # 0.1 is what is called good; only what grows below the fold may count.
        assert page.evaluate("window.moved") < 0.1, view
