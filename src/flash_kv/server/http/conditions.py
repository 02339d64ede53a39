"""Entity tags, the headers that depend on them, and parts of values: RFC 9110, sections 8.8, 13 and 14.

The entity tag of a key is the LSN of its record: `"17"`. It is strong, and never used twice for a key. A condition
becomes the LSN that the store itself compares in one step with the write: 0 the key has to be absent, -1 it has to be
there, None no condition.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from flash_kv.server.http.answers import Header
from flash_kv.server.http.problems import Problem

IF_MATCH, IF_NONE_MATCH, IF_RANGE, RANGE = b"if-match", b"if-none-match", b"if-range", b"range"

ABSENT, THERE = 0, -1
# What a tag says that is no LSN.
NONE_OF_OURS = 0

_TAG = re.compile(rb'\s*(W/)?"([\x21\x23-\x7e\x80-\xff]*)"\s*(?:,|$)')
_NUMBER = re.compile(rb"[1-9][0-9]{0,18}")
_RANGE = re.compile(rb"bytes=\s*(?:(\d{1,18})\s*-\s*(\d{1,18})?|-\s*(\d{1,18}))\s*", re.IGNORECASE)


def etag(lsn: int) -> bytes:
    """The entity tag of a record."""
    return b'"%d"' % lsn


def lsn_of_tag(text: str) -> int:
    """The LSN of one strong entity tag. Problem 400 when it is none of those this server gives."""
    match = _TAG.fullmatch(text.encode("utf-8", "replace"))
    if match is None or match[1] or not _NUMBER.fullmatch(match[2]):
        raise Problem(400, f"{text!r} is no ETag of this server", slug="etag")
    return int(match[2])


def write_condition(headers: Mapping[bytes, bytes], lsn_now: int | None) -> int | None:
    """The LSN that a write depends on. Problem 412 when it cannot hold, given the key's LSN now (None: absent)."""
    match, none_match = headers.get(IF_MATCH), headers.get(IF_NONE_MATCH)
    if match is not None and none_match is not None:
        raise Problem(400, "choose one of If-Match and If-None-Match")
    if none_match is not None:
        if none_match.strip() != b"*":
            raise Problem(400, 'for a write If-None-Match is "*": the key has to be absent')
        return ABSENT
    if match is None:
        return None
    tags = parse_tags(match)
    if tags is None:
        return THERE
    wanted = [tag for tag, is_weak in tags if not is_weak and tag != NONE_OF_OURS]
    if len(tags) == len(wanted) == 1:
        return wanted[0]
    if lsn_now is None or lsn_now not in wanted:
        raise conflict(lsn_now or 0)
    return lsn_now


def require_readable(headers: Mapping[bytes, bytes], lsn: int) -> bool:
    """True when the client has this record already (304). Problem 412 when it wants another one."""
    match, none_match = headers.get(IF_MATCH), headers.get(IF_NONE_MATCH)
    if match is not None:
        tags = parse_tags(match)
        if tags is not None and (lsn, False) not in tags:
            raise conflict(lsn)
    if none_match is None:
        return False
    tags = parse_tags(none_match)
    return tags is None or any(tag == lsn for tag, _ in tags)


def parse_tags(text: bytes) -> list[tuple[int, bool]] | None:
    """LSN and weakness of each tag of a list; None for "*". Problem 400 when it is no list of tags."""
    if text.strip() == b"*":
        return None
    found, at = [], 0
    while at < len(text):
        match = _TAG.match(text, at)
        if match is None:
            raise Problem(400, "a condition is a list of ETags, or *", slug="etag")
        number = int(match[2]) if _NUMBER.fullmatch(match[2]) else NONE_OF_OURS
        found.append((number, match[1] is not None))
        at = match.end()
    if not found:
        raise Problem(400, "a condition is a list of ETags, or *; this one is empty", slug="etag")
    return found


def conflict(lsn: int) -> Problem:
    """The key has another record than a condition says, or none."""
    if lsn == 0:
        return Problem(412, "the key is absent", slug="condition", etag=None)
    tag = etag(lsn)
    return Problem(
        412,
        f"the key has the ETag {tag.decode()}",
        slug="condition",
        etag=tag.decode(),
        headers=[(b"etag", tag)],
    )


def part_of(headers: Mapping[bytes, bytes], lsn: int, size: int) -> tuple[int, int] | None:
    """Begin and end of the part that is asked for; None for the whole. Problem 416 when there is no such part.

    Several parts at once, another unit, or an `If-Range` that no longer holds are answered with the whole.
    """
    text = headers.get(RANGE)
    if text is None or headers.get(IF_RANGE, etag(lsn)) != etag(lsn):
        return None
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    first, last, suffix = match.groups()
    if suffix is not None:
        begin, end = max(0, size - int(suffix)), size
    else:
        begin, end = int(first), size if last is None else min(size, int(last) + 1)
        if last is not None and int(last) < int(first):
            return None
    if begin >= end:
        whole: Header = (b"content-range", b"bytes */%d" % size)
        raise Problem(416, f"the value has {size} bytes", slug="range", headers=[whole])
    return begin, end
