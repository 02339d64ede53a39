"""Codecs of objects by other libraries: MessagePack, and msgspec's structs."""

from __future__ import annotations

from typing import Any

from flash_kv.codecs.codec import Codec, V, import_library


class Msgpack(Codec[Any]):
    """What MessagePack has: None, bool, int of 64 bits, float, str, bytes, list, dict (extra `msgpack`).

    Tuples become lists. Keys of a dict may be anything that it has and that is hashable.
    """

    name = "msgpack"

    def __init__(self) -> None:
        library = import_library("msgpack", self.name, "msgpack")
        self._pack = library.packb
        self._unpack = library.unpackb

    def encode(self, value: Any) -> bytes:
        """One object."""
        packed: bytes = self._pack(value)
        return packed

    def decode(self, data: bytes) -> Any:
        """The object, which must be all there is."""
        return self._unpack(data, strict_map_key=False)


class Msgspec(Codec[V]):
    """Structs of one type, or whatever else msgspec knows the type of, as MessagePack (extra `msgspec`).

    What is read is checked against `kind`, as msgspec does it: fields that are missing or of another type are a
    DecodeError, unknown ones are ignored. The store keeps no more than the name: which type it holds is the program's
    to know.
    """

    name = "msgspec"

    def __init__(self, kind: type[V]) -> None:
        library = import_library("msgspec.msgpack", self.name, "msgspec")
        self._kind = kind
        # Generic types such as list[User] are no classes; what they hold is found out when it is read.
        self._class: type = kind if isinstance(kind, type) and not hasattr(kind, "__origin__") else object
        self._encode = library.encode
        self._decoder = library.Decoder(kind)

    def encode(self, value: V) -> bytes:
        """Its MessagePack."""
        if not isinstance(value, self._class):
            raise TypeError(f"it is no {self._class.__name__}")
        packed: bytes = self._encode(value)
        return packed

    def decode(self, data: bytes) -> V:
        """A value of the type."""
        value: V = self._decoder.decode(data)
        return value
