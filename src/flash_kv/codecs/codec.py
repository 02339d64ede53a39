"""What a codec is: values, or keys, to bytes and back.

A codec has a name, which the store keeps. Whoever implements one raises what fits (TypeError, ValueError, the error of
a library): coding.py makes it an EncodeError or a DecodeError, which says of what.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from flash_kv.errors import CodecUnavailableError

if TYPE_CHECKING:
    from typing_extensions import Buffer

V = TypeVar("V")
K = TypeVar("K")


class Codec(ABC, Generic[V]):
    """Values of type `V` as bytes. Stateless: one may serve any number of stores and threads."""

    reads_in_place: ClassVar[bool] = False
    """Whether `decode` gets a memoryview into the log, and what it returns may keep it; else it gets bytes."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What the store keeps: 1 to 64 lower-case letters and digits, and `+ . _ -` behind the first."""

    @abstractmethod
    def encode(self, value: V) -> str | Buffer:
        """What to store for `value`. Any exception: it has no encoding, and nothing is stored."""

    @abstractmethod
    def decode(self, data: Any) -> V:
        """The value in `data` (bytes or, with `reads_in_place`, a memoryview). Any exception: there is none in it.

        The bytes are those that were stored, but who stored them need not have used this codec.
        """


class KeyCodec(ABC, Generic[K]):
    """Keys of type `K` as bytes that sort as the keys do."""

    @property
    @abstractmethod
    def name(self) -> str:
        """As `Codec.name`."""

    @abstractmethod
    def encode(self, key: K) -> bytes:
        """The bytes of `key`; equal keys have the same, and others never."""

    @abstractmethod
    def decode(self, data: bytes) -> K:
        """The key whose bytes these are."""

    @abstractmethod
    def prefix_range(self, prefix: K) -> tuple[bytes, bytes | None]:
        """The range of the keys that begin with `prefix`: the first, and what comes after the last; None: nothing."""


def import_library(module: str, codec: str, extra: str) -> Any:
    """The module of a library that only this codec needs. CodecUnavailableError when it cannot be imported."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise CodecUnavailableError(codec, extra, str(error)) from error
