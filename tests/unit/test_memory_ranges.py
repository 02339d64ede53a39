"""The address space of stores that were closed is used again by those opened next, and holds nothing of them."""

from __future__ import annotations

import gc
import os
import sys
from pathlib import Path

import pytest

import flash_kv
from flash_kv.options import IndexKind

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kept nowhere else")

KEYS = 2_000


def _address_space() -> int:
    """Bytes of this process's address space."""
    pages, *_ = Path("/proc/self/statm").read_text("ascii").split()
    return int(pages) * 4096


def _use(path: Path, index: IndexKind, first: int) -> None:
    with flash_kv.open(path, index=index) as db:
        for number in range(first, first + KEYS):
            db[b"key-%d" % number] = b"%d" % number
        with db.snapshot() as snapshot:
            for number in range(first, first + KEYS, 3):
                del db[b"key-%d" % number]
            assert len(snapshot) == KEYS
        assert dict(db) == {
            b"key-%d" % number: b"%d" % number
            for number in range(first, first + KEYS)
            if (number - first) % 3
        }


def _accessible() -> list[int]:
    """Bytes in memory of each part that may be touched of the ranges of indexes."""
    found: list[tuple[int, int, str]] = []
    rss: list[int] = []
    for line in Path("/proc/self/smaps").read_text("utf-8", "surrogateescape").splitlines():
        fields = line.split()
        if "-" in fields[0] and not fields[0].endswith(":"):
            start, end = (int(text, 16) for text in fields[0].split("-"))
            found.append((start, end, fields[1]))
        elif fields[0] == "Rss:":
            rss.append(int(fields[1]) * 1024)
    return [
        rss[i]
        for i in range(len(found) - 1)
        if found[i][2] == "rw-p"
        and found[i + 1][2] == "---p"
        and found[i][1] == found[i + 1][0]
        and found[i + 1][1] - found[i + 1][0] > 2**30
    ]


@pytest.mark.skipif("FLASH_KV_TEST_SANITIZER" in os.environ, reason="ranges of a sanitizer look the same")
def test_the_pages_of_a_closed_store_are_given_back_and_read_as_zeros(
    tmp_path: Path, index: IndexKind
) -> None:
    gc.collect()
    with flash_kv.open(tmp_path, index=index) as db:
        db[b"key"] = b"value"
        assert any(_accessible())
    del db
    gc.collect()
    # A private page that is not there is one of zeros.
    assert _accessible()
    assert not any(_accessible())


def test_a_store_in_the_place_of_another_finds_nothing_of_it(tmp_path: Path, index: IndexKind) -> None:
    for number in range(2):
        _use(tmp_path / str(number), index, number * KEYS)


def test_address_space_does_not_grow_with_the_number_of_stores_closed(
    tmp_path: Path, index: IndexKind
) -> None:
    def use_some(first: int) -> int:
        for number in range(first, first + 3):
            _use(tmp_path / str(number), index, 0)
        gc.collect()
        return _address_space()

    # More than is kept, so that what is not is given back.
    stores = [flash_kv.open(tmp_path / f"open-{number}", index=index) for number in range(8)]
    for store in stores:
        store.close()
    del stores, store
    before = use_some(0)
    assert use_some(3) <= before + 2**30
