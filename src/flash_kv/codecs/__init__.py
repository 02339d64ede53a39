"""Codecs: what the bytes of a store stand for. docs/codecs.md says which to choose.

flash_kv.open("users", codec="json", key_codec="tuple")
flash_kv.open("users", codec=flash_kv.codecs.Pickle(key=secret))
"""

from flash_kv.codecs.arrays import Arrow, NumPy
from flash_kv.codecs.codec import Codec, KeyCodec
from flash_kv.codecs.compressed import Lz4, Zstd
from flash_kv.codecs.keys import IntKeys, RawKeys, StrKeys
from flash_kv.codecs.packed import Msgpack, Msgspec
from flash_kv.codecs.pickled import Pickle
from flash_kv.codecs.plain import Json, Raw, Str
from flash_kv.codecs.tables import FlatBuffers
from flash_kv.codecs.tuples import TupleKey, TupleKeys
from flash_kv.codecs.typed_batch import TypedBatch
from flash_kv.codecs.typed_db import TypedDB, TypedSnapshot
from flash_kv.codecs.typed_views import TypedItemsView, TypedKeysView, TypedValuesView

__all__ = [
    "Arrow",
    "Codec",
    "FlatBuffers",
    "IntKeys",
    "Json",
    "KeyCodec",
    "Lz4",
    "Msgpack",
    "Msgspec",
    "NumPy",
    "Pickle",
    "Raw",
    "RawKeys",
    "Str",
    "StrKeys",
    "TupleKey",
    "TupleKeys",
    "TypedBatch",
    "TypedDB",
    "TypedItemsView",
    "TypedKeysView",
    "TypedSnapshot",
    "TypedValuesView",
    "Zstd",
]
