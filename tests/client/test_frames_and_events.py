"""The two forms of streams: whatever the pieces they come in, what is read is what was sent."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flash_kv.client import events
from flash_kv.client.events import EventReader, RawEvent, WatchEvent, watch_event
from flash_kv.client.frames import END, FrameReader, pack

FRAMES = st.lists(
    st.tuples(st.binary(min_size=1, max_size=40), st.binary(max_size=60), st.integers(0, 2**64 - 1))
)


def in_pieces(data: bytes, sizes: list[int]) -> list[bytes]:
    pieces = []
    for size in sizes:
        pieces.append(data[:size])
        data = data[size:]
    return [*pieces, data]


@given(FRAMES, st.lists(st.integers(0, 20)))
def test_frames_in_any_pieces_are_the_frames_sent(
    frames: list[tuple[bytes, bytes, int]], sizes: list[int]
) -> None:
    data = b"".join(pack(*frame) for frame in frames) + END
    reader = FrameReader()
    found = [frame for piece in in_pieces(data, sizes) for frame in reader.feed(piece)]
    assert found == frames
    assert (reader.is_at_end, reader.last_words) == (True, b"")


@given(FRAMES, st.integers(1, 200))
def test_frames_cut_short_are_never_at_their_end(
    frames: list[tuple[bytes, bytes, int]], missing: int
) -> None:
    data = b"".join(pack(*frame) for frame in frames) + END
    reader = FrameReader()
    found = reader.feed(data[:-missing])
    assert not reader.is_at_end
    assert found == frames[: len(found)]


def test_what_follows_the_last_frame_is_not_read() -> None:
    reader = FrameReader()
    assert reader.feed(pack(b"k", b"v", 1) + END + pack(b"x", b"y", 2)) == [(b"k", b"v", 1)]


def test_a_last_frame_may_carry_why_the_stream_ended() -> None:
    reader = FrameReader()
    reader.feed(b"\0\0\0\0\2\0\0\0" + bytes(8) + b"{}")
    assert (reader.is_at_end, reader.last_words) == (True, b"{}")


STREAM = (
    b": a comment\n"
    b"\n"
    b"id: 7\nevent: put\ndata: one\ndata: two\n\n"
    b"event: beat\r\n\r\n"
    b"data:unspaced\nunknown: field\n\n"
    b"event: cut"
)


@given(st.lists(st.integers(0, 12), max_size=30))
def test_events_in_any_pieces_are_the_events_sent(sizes: list[int]) -> None:
    reader = EventReader()
    assert [event for piece in in_pieces(STREAM, sizes) for event in reader.feed(piece)] == [
        RawEvent("put", "one\ntwo", "7"),
        RawEvent("beat", "", "7"),
        RawEvent("message", "unspaced", "7"),
    ]


@pytest.mark.parametrize("data", [b"data: " + b"x" * 200, b"data: x\n" * 30])
def test_an_event_without_end_is_refused(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(events, "EVENT_BYTES_MAX", 100)
    reader = EventReader()
    with pytest.raises(ValueError, match="more than 100 bytes"):
        for start in range(0, len(data), 10):
            list(reader.feed(data[start : start + 10]))


@pytest.mark.parametrize(
    ("kind", "fields", "expected"),
    [
        ("put", {"key": "a", "lsn": 5}, WatchEvent("put", 5, b"a")),
        ("put", {"key_b64": "/w==", "lsn": 5, "value_b64": "AA=="}, WatchEvent("put", 5, b"\xff", b"\0")),
        ("put", {"key": "", "lsn": 5, "value": ""}, WatchEvent("put", 5, b"", b"")),
        ("delete", {"key": "a", "lsn": 5}, WatchEvent("delete", 5, b"a")),
        ("missed", {}, WatchEvent("missed", 4)),
        ("beat", {}, None),
        ("later", {"key": "a"}, None),
    ],
)
def test_a_watch_tells_puts_deletes_and_what_was_missed(
    kind: str, fields: dict[str, object], expected: WatchEvent | None
) -> None:
    assert watch_event(RawEvent(kind, json.dumps(fields), "4")) == expected
