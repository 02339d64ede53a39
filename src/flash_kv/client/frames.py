"""The binary form of lists and loads: frames, read as the bytes come, packed for sending.

A frame, little-endian:

    0   u32   bytes of the key; 0: the stream ends here, with nothing missing
    4   u32   bytes of the value
    8   u64   LSN of the record
    16        the key, then the value

Invariant: a stream without its last frame is an answer that was cut short, never a short list.
"""

from __future__ import annotations

import struct
from typing import TypeAlias

MEDIA_TYPE = "application/vnd.flash-kv.frames"
Frame: TypeAlias = tuple[bytes, bytes, int]

_HEAD = struct.Struct("<IIQ")
END = _HEAD.pack(0, 0, 0)


def pack(key: bytes, value: bytes, lsn: int = 0) -> bytes:
    """One frame."""
    return _HEAD.pack(len(key), len(value), lsn) + key + value


class FrameReader:
    """Bytes in, whole frames out; holds what has come of the next frame, nothing else."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self._needed = _HEAD.size
        self.is_at_end = False
        """The last frame has come."""
        self.last_words = b""
        """What the last frame carries: empty, or a problem (JSON) that ended the stream."""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that `data` completes, in order."""
        pending = self._pending
        pending += data
        frames: list[Frame] = []
        if len(pending) < self._needed:
            return frames
        at = 0
        with memoryview(pending) as view:
            while not self.is_at_end:
                self._needed = _HEAD.size
                if len(view) - at < _HEAD.size:
                    break
                key_size, value_size, lsn = _HEAD.unpack_from(view, at)
                self._needed = _HEAD.size + key_size + value_size
                if len(view) - at < self._needed:
                    break
                middle = at + _HEAD.size + key_size
                value = bytes(view[middle : middle + value_size])
                if key_size:
                    frames.append((bytes(view[at + _HEAD.size : middle]), value, lsn))
                else:
                    self.is_at_end = True
                    self.last_words = value
                at += self._needed
        del pending[:at]
        return frames
