"""`flash_kv.open`: a `DB`, or with a codec a `TypedDB`.

The overloads tell a type checker what K and V are: of each name that has a type of its own, of each codec object, and
Any of the other names. The further options are Any there: each overload is a line of an error's text.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, TypeVar, overload

from flash_kv.codecs.choice import choose_codec, choose_key_codec
from flash_kv.codecs.codec import Codec, KeyCodec
from flash_kv.codecs.tuples import TupleKey
from flash_kv.codecs.typed_db import TypedDB
from flash_kv.engine import opening
from flash_kv.engine.db import DB
from flash_kv.errors import StrPath
from flash_kv.options import DurabilitySpec, IndexKind, IoKind

V = TypeVar("V")
K = TypeVar("K")

_Raw: TypeAlias = Literal["raw"]
_Str: TypeAlias = Literal["str"]
_Int: TypeAlias = Literal["int"]
_Tuple: TypeAlias = Literal["tuple"]


@overload
def open_store(
    path: StrPath,
    *,
    index: IndexKind = "btree",
    durability: DurabilitySpec = "process",
    io: IoKind = "mmap",
    read_only: bool = False,
    codec: None = None,
    key_codec: None = None,
    **options: Any,
) -> DB: ...
@overload
def open_store(
    path: StrPath, *, codec: _Raw, key_codec: _Raw | None = ..., **options: Any
) -> TypedDB[bytes, bytes]: ...
@overload
def open_store(
    path: StrPath, *, codec: _Str, key_codec: _Raw | None = ..., **options: Any
) -> TypedDB[bytes, str]: ...
@overload
def open_store(
    path: StrPath, *, codec: Codec[V], key_codec: _Raw | None = ..., **options: Any
) -> TypedDB[bytes, V]: ...
@overload
def open_store(
    path: StrPath, *, codec: str, key_codec: _Raw | None = ..., **options: Any
) -> TypedDB[bytes, Any]: ...
@overload
def open_store(
    path: StrPath, *, codec: _Raw | None = ..., key_codec: _Str, **options: Any
) -> TypedDB[str, bytes]: ...
@overload
def open_store(path: StrPath, *, codec: _Str, key_codec: _Str, **options: Any) -> TypedDB[str, str]: ...
@overload
def open_store(path: StrPath, *, codec: Codec[V], key_codec: _Str, **options: Any) -> TypedDB[str, V]: ...
@overload
def open_store(path: StrPath, *, codec: str, key_codec: _Str, **options: Any) -> TypedDB[str, Any]: ...
@overload
def open_store(
    path: StrPath, *, codec: _Raw | None = ..., key_codec: _Int, **options: Any
) -> TypedDB[int, bytes]: ...
@overload
def open_store(path: StrPath, *, codec: _Str, key_codec: _Int, **options: Any) -> TypedDB[int, str]: ...
@overload
def open_store(path: StrPath, *, codec: Codec[V], key_codec: _Int, **options: Any) -> TypedDB[int, V]: ...
@overload
def open_store(path: StrPath, *, codec: str, key_codec: _Int, **options: Any) -> TypedDB[int, Any]: ...
@overload
def open_store(
    path: StrPath, *, codec: _Raw | None = ..., key_codec: _Tuple, **options: Any
) -> TypedDB[TupleKey, bytes]: ...
@overload
def open_store(
    path: StrPath, *, codec: _Str, key_codec: _Tuple, **options: Any
) -> TypedDB[TupleKey, str]: ...
@overload
def open_store(
    path: StrPath, *, codec: Codec[V], key_codec: _Tuple, **options: Any
) -> TypedDB[TupleKey, V]: ...
@overload
def open_store(path: StrPath, *, codec: str, key_codec: _Tuple, **options: Any) -> TypedDB[TupleKey, Any]: ...
@overload
def open_store(
    path: StrPath, *, codec: _Raw | None = ..., key_codec: KeyCodec[K], **options: Any
) -> TypedDB[K, bytes]: ...
@overload
def open_store(path: StrPath, *, codec: _Str, key_codec: KeyCodec[K], **options: Any) -> TypedDB[K, str]: ...
@overload
def open_store(
    path: StrPath, *, codec: Codec[V], key_codec: KeyCodec[K], **options: Any
) -> TypedDB[K, V]: ...
@overload
def open_store(path: StrPath, *, codec: str, key_codec: KeyCodec[K], **options: Any) -> TypedDB[K, Any]: ...
def open_store(path: StrPath, *, codec: Any = None, key_codec: Any = None, **options: Any) -> Any:
    """Open the store in the directory `path`, or make one there.

    Without codecs it is a `DB`, of bytes. `codec`: what values are, "raw", "str", "json", "msgpack", "numpy", "arrow"
    or "pickle", "+zstd" or "+lz4" behind it, or a `Codec`; `key_codec`: what keys are, "raw", "str", "int", "tuple" or
    a `KeyCodec`; with either it is a `TypedDB`.

    `index`: "btree" or "skiplist" (ordered), or "hash" (least memory, fastest point access); any store opens with any.
    `durability`: "process", "always", ("interval", seconds) or ("bytes", n). `io`: "mmap" or "file". Further options
    are the fields of `flash_kv.Options`.

    Raises OptionsError, LockedError (another process writes to it), StoreNotFoundError, NotAStoreError,
    FormatVersionError, CodecMismatchError, CodecUnavailableError, CorruptionError, StorageError. A killed process or a
    power cut needs no repair: what was acknowledged is there.
    """
    if codec is None and key_codec is None:
        return opening.open_store(path, **options)
    values = choose_codec("raw" if codec is None else codec)
    keys = choose_key_codec("raw" if key_codec is None else key_codec)
    db = opening.open_store(path, codecs=(values.name, keys.name), **options)
    return TypedDB(db, values, keys)
