"""The console's files: what they are served with, and that they are what the sources make."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest

from flash_kv.server.http.console import load_assets
from support.servers import Served

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "console"
BUNDLE = ROOT / "src" / "flash_kv" / "server" / "console"
GZIPPED_BYTES_MAX = 150_000
HASHED = sorted(path for path in load_assets() if path not in ("/", "/console/LICENSES.txt"))


def test_the_page_is_served_with_a_strict_policy_and_asked_for_again(server: Served) -> None:
    page = server.client.get("/")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'self'; ")
    assert "unsafe" not in page.headers["content-security-policy"]
    assert page.headers["x-content-type-options"] == "nosniff"
    assert page.headers["cache-control"] == "no-cache"
    again = server.client.get("/", headers={"If-None-Match": f'"x", W/{page.headers["etag"]}'})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == page.headers["etag"]


@pytest.mark.parametrize("path", HASHED)
def test_a_file_is_named_by_its_content_and_kept_for_good(server: Served, path: str) -> None:
    answer = server.client.get(path)
    assert answer.status_code == 200
    assert answer.content == (BUNDLE / path.removeprefix("/console/")).read_bytes()
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert re.fullmatch(r"/console/[\w-]+-[\w-]{8}\.\w+", path)


def test_compressed_and_plain_are_told_apart(server: Served) -> None:
    (script,) = (path for path in HASHED if path.endswith(".js"))
    plain = server.client.get(script, headers={"Accept-Encoding": "identity, gzip;q=0"})
    zipped = server.client.get(script, headers={"Accept-Encoding": "br, GZIP"})
    assert "content-encoding" not in plain.headers
    assert zipped.headers["content-encoding"] == "gzip"
    assert plain.content == zipped.content
    assert plain.headers["etag"] != zipped.headers["etag"]
    assert int(zipped.headers["content-length"]) < int(plain.headers["content-length"]) // 2
    assert plain.headers["vary"] == zipped.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(
    "path",
    [
        "/console/",
        "/console",
        "/console/index.html",
        "/console/sources.sha256",
        "/console/../settings.py",
        "/console/%2e%2e/settings.py",
        "/console/..%2f..%2fsettings.py",
        "/console//etc/passwd",
        "/index.html",
    ],
)
def test_any_other_path_is_not_there(server: Served, path: str) -> None:
    answer = server.talk(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 "), answer


def test_a_head_says_the_length_and_a_post_is_refused(server: Served) -> None:
    head = server.client.head("/", headers={"Accept-Encoding": "identity"})
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len((BUNDLE / "index.html").read_bytes())
    assert server.client.post("/", content=b"x").status_code == 405


def test_the_page_names_its_own_files_only_and_has_nothing_inline() -> None:
    page = (BUNDLE / "index.html").read_text()
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert named
    assert set(named) <= set(load_assets())
    assert not re.search(r"<style|style=|\son\w+=|<script(?![^>]*\ssrc=)", page)


def test_the_bundle_is_small() -> None:
    sizes = {one.name: len(gzip.compress(one.read_bytes(), 9)) for one in BUNDLE.iterdir()}
    assert sum(sizes.values()) < GZIPPED_BYTES_MAX, sizes


def test_the_licence_of_every_part_is_in_the_bundle() -> None:
    texts = (BUNDLE / "LICENSES.txt").read_text()
    for name in json.loads((SOURCES / "package.json").read_text())["dependencies"]:
        assert re.search(rf"^{re.escape(name)} \d", texts, re.MULTILINE), name


def test_the_bundle_was_made_from_these_sources() -> None:
    """`make console` writes the digest; `make console-check` builds anew and compares byte for byte."""
    alone = ("index.html", "package.json", "package-lock.json", "vite.config.ts")
    inside = (one for folder in ("src", "build") for one in (SOURCES / folder).rglob("*") if one.is_file())
    names = sorted([*(one.relative_to(SOURCES).as_posix() for one in inside), *alone])
    digest = hashlib.sha256()
    for name in names:
        body = hashlib.sha256((SOURCES / name).read_bytes()).hexdigest()
        digest.update(f"{name} {body}\n".encode())
    assert (BUNDLE / "sources.sha256").read_text().strip() == digest.hexdigest(), "run `make console`"


def test_the_lock_file_names_no_download_address() -> None:
    lock = json.loads((SOURCES / "package-lock.json").read_text())
    assert [name for name, one in lock["packages"].items() if "resolved" in one] == []
    assert all("integrity" in one for name, one in lock["packages"].items() if name)
