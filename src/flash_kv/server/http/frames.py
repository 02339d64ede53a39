"""The binary form of a list of records, for streams in both directions.

    key size   u32, little-endian
    value size u32
    LSN        u64, 0 on the way in
    key, value

A frame with key size 0 is the end, and all zeros; a stream without it was cut off.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from flash_kv.server.http.payloads import KEY_BYTES_MAX

MEDIA_TYPE = b"application/vnd.flash-kv.frames"
HEAD = struct.Struct("<IIQ")
END = HEAD.pack(0, 0, 0)


class FrameError(Exception):
    """What came is no frame; the text says why."""


class FrameReader:
    """Frames out of chunks, however they are cut; memory grows with what arrives, never with what is announced."""

    def __init__(self, value_bytes_max: int) -> None:
        self.value_bytes_max = value_bytes_max
        self.is_ended = False
        self._pending = bytearray()

    def pairs(self, chunk: bytes) -> Iterator[tuple[bytes, bytes]]:
        """The records that are whole by now. FrameError for what is none."""
        self._pending += chunk
        at = 0
        while not self.is_ended and len(self._pending) - at >= HEAD.size:
            key_size, value_size, _ = HEAD.unpack_from(self._pending, at)
            if key_size == 0:
                if value_size:
                    raise FrameError("a key has no bytes")
                self.is_ended = True
                at += HEAD.size
                break
            if key_size > KEY_BYTES_MAX or value_size > self.value_bytes_max:
                raise FrameError(
                    f"a key may have {KEY_BYTES_MAX} bytes and a value {self.value_bytes_max}; "
                    f"these have {key_size} and {value_size}"
                )
            begin = at + HEAD.size
            end = begin + key_size + value_size
            if len(self._pending) < end:
                break
            value_at = begin + key_size
            yield bytes(self._pending[begin:value_at]), bytes(self._pending[value_at:end])
            at = end
        del self._pending[:at]
        if self.is_ended and self._pending:
            raise FrameError("something follows the frame that is the end")

    def require_end(self) -> None:
        """FrameError when the stream ended before its end."""
        if not self.is_ended:
            raise FrameError("the stream has no frame that is its end: it was cut off")
