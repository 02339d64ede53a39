"""Compression around another codec: Zstandard and LZ4, each value by itself.

A value states how large it is when decompressed, and that is checked before anything is: so a small forged value takes
no more memory than a stored one may (`size_max`).
"""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from flash_kv.codecs.codec import Codec, V, import_library

if TYPE_CHECKING:
    from typing_extensions import Buffer

SIZE_MAX = 1024**3


class _Compressed(Codec[V]):
    """What the two have in common."""

    _suffix: str

    def __init__(self, inner: Codec[V], size_max: int) -> None:
        self._inner = inner
        self._size_max = size_max

    @property
    def name(self) -> str:
        """That of the codec inside, and behind a plus the compression's."""
        return f"{self._inner.name}+{self._suffix}"

    def encode(self, value: V) -> str | Buffer:
        """What the codec inside makes of it, compressed. ValueError when that is more than `size_max`."""
        data = self._inner.encode(value)
        view = memoryview(data.encode("utf-8") if isinstance(data, str) else data)
        if view.nbytes > self._size_max:
            raise ValueError(f"it has {view.nbytes} bytes before compression, more than {self._size_max}")
        return self._compress(view)

    def decode(self, data: bytes) -> V:
        """Decompressed, and what the codec inside makes of it."""
        size = self._stated_size(data)
        if size > self._size_max:
            raise ValueError(f"it would have {size} bytes, more than {self._size_max}")
        plain = self._decompress(data, size)
        return self._inner.decode(memoryview(plain) if self._inner.reads_in_place else plain)

    @abstractmethod
    def _compress(self, data: memoryview) -> bytes: ...

    @abstractmethod
    def _stated_size(self, data: bytes) -> int:
        """What the value says of itself. ValueError when it says nothing."""

    @abstractmethod
    def _decompress(self, data: bytes, size: int) -> bytes:
        """Exactly `size` bytes, with all of `data` used. Any exception otherwise."""


class Zstd(_Compressed[V]):
    """Zstandard around `inner` (extra `zstd`). `level`: 1 (fast) to 22 (small), or below 0 (faster).

    `size_max`: no value may have more bytes before compression.
    """

    _suffix = "zstd"

    def __init__(self, inner: Codec[V], level: int = 3, *, size_max: int = SIZE_MAX) -> None:
        super().__init__(inner, size_max)
        self._zstd = import_library("zstandard", self.name, "zstd")
        self._level = level
        if not -100 <= level <= self._zstd.MAX_COMPRESSION_LEVEL:
            raise ValueError(f"level must be -100 to {self._zstd.MAX_COMPRESSION_LEVEL}, not {level}")

    # A new context each time: one cannot be used by two threads at once.
    def _compress(self, data: memoryview) -> bytes:
        compressor = self._zstd.ZstdCompressor(level=self._level, write_content_size=True)
        packed: bytes = compressor.compress(data)
        return packed

    def _stated_size(self, data: bytes) -> int:
        size: int = self._zstd.frame_content_size(data)
        if size < 0:
            raise ValueError("it does not state its size")
        return size

    def _decompress(self, data: bytes, size: int) -> bytes:
        # Into a buffer of the stated size, and never more.
        plain: bytes = self._zstd.ZstdDecompressor().decompress(data, allow_extra_data=False)
        if len(plain) != size:
            raise ValueError("it is not as long as it says")
        return plain


class Lz4(_Compressed[V]):
    """LZ4 around `inner` (extra `lz4`): less small, several times faster. `level`: 0 (fast) to 16.

    `size_max`: no value may have more bytes before compression.
    """

    _suffix = "lz4"

    def __init__(self, inner: Codec[V], level: int = 0, *, size_max: int = SIZE_MAX) -> None:
        super().__init__(inner, size_max)
        self._lz4: Any = import_library("lz4.frame", self.name, "lz4")
        self._level = level

    def _compress(self, data: memoryview) -> bytes:
        packed: bytes = self._lz4.compress(data, compression_level=self._level, store_size=True)
        return packed

    def _stated_size(self, data: bytes) -> int:
        size: int = self._lz4.get_frame_info(data)["content_size"]
        return size

    def _decompress(self, data: bytes, size: int) -> bytes:
        decompressor = self._lz4.LZ4FrameDecompressor()
        # One more than stated, so that a value that goes on is noticed and not followed.
        plain: bytes = decompressor.decompress(data, max_length=size + 1)
        if len(plain) != size or not decompressor.eof or decompressor.unused_data:
            raise ValueError("it is not as long as it says")
        return plain
