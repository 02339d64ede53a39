"""Codecs by name, as `flash_kv.open` takes them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flash_kv.codecs.arrays import Arrow, NumPy
from flash_kv.codecs.codec import Codec, KeyCodec
from flash_kv.codecs.compressed import Lz4, Zstd
from flash_kv.codecs.keys import IntKeys, RawKeys, StrKeys
from flash_kv.codecs.packed import Msgpack
from flash_kv.codecs.pickled import Pickle
from flash_kv.codecs.plain import Json, Raw, Str
from flash_kv.codecs.tuples import TupleKeys
from flash_kv.errors import OptionsError
from flash_kv.log.manifest import require_codec_name

CODECS: dict[str, Callable[[], Codec[Any]]] = {
    "raw": Raw,
    "str": Str,
    "json": Json,
    "msgpack": Msgpack,
    "numpy": NumPy,
    "arrow": Arrow,
    "pickle": Pickle,
}
WRAPPERS: dict[str, Callable[[Codec[Any]], Codec[Any]]] = {"zstd": Zstd, "lz4": Lz4}
KEY_CODECS: dict[str, Callable[[], KeyCodec[Any]]] = {
    "raw": RawKeys,
    "str": StrKeys,
    "int": IntKeys,
    "tuple": TupleKeys,
}
# What a name alone does not say, and how it is said.
_INCOMPLETE = {
    "msgspec": "flash_kv.codecs.Msgspec(YourStruct)",
    "flatbuffers": "flash_kv.codecs.FlatBuffers(YourTable)",
    "pickle-hmac": "flash_kv.codecs.Pickle(key=...)",
}


def choose_codec(codec: str | Codec[Any]) -> Codec[Any]:
    """The codec itself, or the one of a name such as "json" or "json+zstd". OptionsError, CodecUnavailableError."""
    if isinstance(codec, Codec):
        _require_name(codec.name)
        return codec
    if not isinstance(codec, str):
        raise OptionsError([f"codec must be a name or a flash_kv.Codec, not {codec!r}"])
    name, *wrappers = codec.split("+")
    unknown = [wrapper for wrapper in wrappers if wrapper not in WRAPPERS]
    if name in _INCOMPLETE:
        raise OptionsError([f"codec {name!r} needs more than its name: codec={_INCOMPLETE[name]}"])
    if name not in CODECS or unknown:
        wrapping = " or ".join(f"'+{wrapper}'" for wrapper in WRAPPERS)
        raise OptionsError([f"codec must be {_either(CODECS)}, and {wrapping} behind it, not {codec!r}"])
    chosen = CODECS[name]()
    for wrapper in wrappers:
        chosen = WRAPPERS[wrapper](chosen)
    return chosen


def choose_key_codec(codec: str | KeyCodec[Any]) -> KeyCodec[Any]:
    """The codec itself, or the one of a name. OptionsError."""
    if isinstance(codec, KeyCodec):
        _require_name(codec.name)
        return codec
    if not isinstance(codec, str) or codec not in KEY_CODECS:
        raise OptionsError(
            [f"key_codec must be {_either(KEY_CODECS)}, or a flash_kv.KeyCodec, not {codec!r}"]
        )
    return KEY_CODECS[codec]()


def _require_name(name: str) -> None:
    try:
        require_codec_name(name)
    except ValueError as error:
        raise OptionsError([str(error)]) from None


def _either(names: dict[str, Any]) -> str:
    return " or ".join(map(repr, names))
