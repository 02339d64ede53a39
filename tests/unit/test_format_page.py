"""docs/format.md is what the code writes: the reader on that page, which has no other source, reads our stores."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flash_kv import DB
from flash_kv.log import records
from flash_kv.log.checksum_cy import crc32c
from flash_kv.log.hints_cy import MAGIC

PAGE = (Path(__file__).parents[2] / "docs" / "format.md").read_text("utf-8")


@pytest.fixture(scope="module")
def page() -> dict[str, Any]:
    """What the program on the page defines."""
    (program,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(compile(program, "docs/format.md", "exec"), namespace)
    return namespace


def _sizes(heading: str) -> list[tuple[int, int]]:
    """(offset, size) of each field in the first table of bytes after a heading."""
    table = PAGE.split(heading, 1)[1]
    found = re.search(r"(?:^ {4}.*\n)+", table, re.MULTILINE)
    assert found is not None
    return [(int(a), int(b)) for a, b in re.findall(r"^ +(\d+) +(\d+)  ", found[0], re.MULTILINE)]


def test_the_page_reads_what_puts_deletes_and_batches_wrote(
    open_db: Callable[..., DB], page: dict[str, Any], rng: random.Random
) -> None:
    expected: dict[bytes, bytes] = {}
    with open_db(segment_bytes_max=64 * 1024, compaction="off") as db:
        for _ in range(20):
            with db.batch() as batch:
                for _ in range(30):
                    key, value = rng.randbytes(rng.randint(1, 3)), rng.randbytes(rng.randint(0, 60))
                    batch[key] = expected[key] = value
            for key in rng.sample(sorted(expected), 10):
                del db[key], expected[key]
            db[b"single"] = expected[b"single"] = rng.randbytes(2000)
        db.put_record(b"mortal", b"still there", ttl_s=3600, meta=b"text/plain")
        expected[b"mortal"] = b"still there"
        db.put_record(b"single", b"gone", expires_at=1.0)
        del expected[b"single"]
        directory = db.path
    assert page["read_store"](directory) == expected


def test_the_page_reads_what_a_compaction_wrote(open_db: Callable[..., DB], page: dict[str, Any]) -> None:
    with open_db(segment_bytes_max=64 * 1024, compaction="off") as db:
        for number in range(300):
            db[b"%d" % (number % 40)] = b"%d" % number * 100
        del db[b"7"]
        assert db.compact().segments_written > 0
        expected, directory = dict(db), db.path
    assert page["read_store"](directory) == expected


def test_the_page_finds_a_damaged_byte(open_db: Callable[..., DB], page: dict[str, Any]) -> None:
    with open_db() as db:
        db[b"key"] = b"value"
        directory = db.path
    (segment,) = directory.glob("*.seg")
    content = bytearray(segment.read_bytes())
    content[64 + 24 + 3] ^= 1
    segment.write_bytes(content)
    with pytest.raises(AssertionError):
        page["read_store"](directory)


def test_the_checksum_on_the_page_is_ours(page: dict[str, Any]) -> None:
    assert page["crc32c"](b"123456789") == crc32c(b"123456789") == 0xE3069283


@pytest.mark.parametrize(
    ("heading", "total"),
    [
        ("## Segments", records.SEGMENT_HEADER_SIZE),
        ("### Record", records.HEADER_SIZE),
        ("### Batch", records.HEADER_SIZE),
        ("### Void", records.HEADER_SIZE),
        ("## Hint files", 128),
    ],
)
def test_the_fields_of_a_header_follow_each_other_without_a_gap(heading: str, total: int) -> None:
    fields = _sizes(heading)
    assert [offset for offset, _ in fields] == [0] + [offset + size for offset, size in fields[:-1]]
    assert sum(fields[-1]) == total


def test_the_version_and_the_magic_bytes_are_those_of_the_code() -> None:
    assert f"Format version **{records.FORMAT_VERSION}**" in PAGE
    for magic in (records.SEGMENT_MAGIC, MAGIC):
        assert f'"{magic[:-1].decode()}" and a zero byte' in PAGE
