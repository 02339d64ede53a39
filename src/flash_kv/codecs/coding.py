"""A value codec and a key codec as one store uses them: their errors become ours, which say of which key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from flash_kv.codecs.codec import Codec, K, KeyCodec, V
from flash_kv.errors import DecodeError, EncodeError, FlashKVError

if TYPE_CHECKING:
    from typing_extensions import Buffer

_T = TypeVar("_T")


class Coding(Generic[K, V]):
    """Both directions of both codecs."""

    def __init__(self, codec: Codec[V], key_codec: KeyCodec[K]) -> None:
        self.codec = codec
        self.key_codec = key_codec
        self.reads_in_place = codec.reads_in_place

    @property
    def names(self) -> tuple[str, str]:
        """As the store keeps them."""
        return self.codec.name, self.key_codec.name

    def key(self, key: K) -> bytes:
        try:
            return self.key_codec.encode(key)
        except (FlashKVError, MemoryError):
            raise
        except Exception as error:
            raise EncodeError("key", self.key_codec.name, type(key).__name__, str(error)) from error

    def value(self, value: V) -> str | Buffer:
        try:
            return self.codec.encode(value)
        except (FlashKVError, MemoryError):
            raise
        except Exception as error:
            raise EncodeError("value", self.codec.name, type(value).__name__, str(error)) from error

    def keys(self, keys: Iterable[K]) -> Iterator[bytes]:
        return map(self.key, keys)

    def pairs(self, pairs: Any, values: Any = None) -> Iterator[tuple[bytes, str | Buffer]]:
        """Of an iterable of pairs, or of a mapping, as `dict` takes them; or of keys and their values."""
        if values is not None:
            pairs = zip(pairs, values, strict=True)
        if hasattr(pairs, "keys"):
            for key in pairs.keys():  # noqa: SIM118 - whatever has `keys`, as for `dict`
                yield self.key(key), self.value(pairs[key])
        else:
            for key, value in pairs:
                yield self.key(key), self.value(value)

    def read_key(self, data: bytes) -> K:
        try:
            return self.key_codec.decode(data)
        except (FlashKVError, MemoryError):
            raise
        except Exception as error:
            raise DecodeError("key", data, self.key_codec.name, str(error)) from error

    def read_value(self, key: bytes, data: bytes | memoryview) -> V:
        try:
            # A batch and a pop have a copy of their own, in bytes.
            return self.codec.decode(memoryview(data) if self.reads_in_place else data)
        except (FlashKVError, MemoryError):
            raise
        except Exception as error:
            raise DecodeError("value", bytes(key), self.codec.name, str(error)) from error

    def read_found(self, key: bytes, data: bytes | memoryview | None, default: _T) -> V | _T:
        return default if data is None else self.read_value(key, data)

    def bounds(self, prefix: K | None, start: K | None, stop: K | None) -> tuple[bytes | None, bytes | None]:
        """The range of bytes, as `DB.keys(start=, stop=)` takes it."""
        low = None if start is None else self.key(start)
        high = None if stop is None else self.key(stop)
        if prefix is not None:
            first, after = self._prefix_range(prefix)
            low = first if low is None else max(low, first)
            if after is not None:
                high = after if high is None else min(high, after)
        return low, high

    def _prefix_range(self, prefix: K) -> tuple[bytes, bytes | None]:
        try:
            return self.key_codec.prefix_range(prefix)
        except (FlashKVError, MemoryError):
            raise
        except Exception as error:
            raise EncodeError("prefix", self.key_codec.name, type(prefix).__name__, str(error)) from error
