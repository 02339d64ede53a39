"""Key codecs of one part: plain bytes, text, whole numbers."""

from __future__ import annotations

from typing import Any

from flash_kv.codecs import numbers
from flash_kv.codecs.codec import KeyCodec
from flash_kv.engine.views import successor


class RawKeys(KeyCodec[bytes]):
    """Bytes as they are, in byte order; `str` and other buffers are taken as well, as a `DB` takes them."""

    name = "raw"

    def encode(self, key: Any) -> bytes:
        """`key` as bytes."""
        if isinstance(key, bytes):
            return key
        return key.encode("utf-8") if isinstance(key, str) else bytes(memoryview(key))

    def decode(self, data: bytes) -> bytes:
        """`data` itself."""
        return data

    def prefix_range(self, prefix: bytes) -> tuple[bytes, bytes | None]:
        """All keys that begin with these bytes."""
        first = self.encode(prefix)
        return first, successor(first)


class StrKeys(KeyCodec[str]):
    """Text as UTF-8, in the order of code points, which is Python's. The empty text is no key."""

    name = "str"

    def encode(self, key: str) -> bytes:
        """Its UTF-8; lone surrogates have none."""
        if not isinstance(key, str):
            raise TypeError("it is no str")
        return key.encode("utf-8")

    def decode(self, data: bytes) -> str:
        """From UTF-8."""
        return data.decode("utf-8")

    def prefix_range(self, prefix: str) -> tuple[bytes, bytes | None]:
        """All keys that begin with this text."""
        first = self.encode(prefix)
        return first, successor(first)


class IntKeys(KeyCodec[int]):
    """Whole numbers of any size, in their order."""

    name = "int"

    def encode(self, key: int) -> bytes:
        """One byte of size and sign, then the number."""
        if not isinstance(key, int):
            raise TypeError("it is no int")
        return numbers.encode_int(int(key))

    def decode(self, data: bytes) -> int:
        """The number, which must be all there is."""
        number, end = numbers.decode_int(data, 0)
        if end != len(data):
            raise ValueError("there is something behind the number")
        return number

    def prefix_range(self, prefix: int) -> tuple[bytes, bytes | None]:
        """A number begins with no other."""
        raise TypeError("whole numbers have no prefixes: use start and stop")
