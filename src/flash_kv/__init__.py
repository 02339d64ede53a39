"""FlashKV: a durable key-value store as easy as a dict.

    import flash_kv

    with flash_kv.open("cache") as db:
        db["key"] = b"value"
        db["key"]                         # b"value"

Everything public is here; the modules below are not.
"""

from flash_kv import _compiled

_compiled.require_compiled()

from flash_kv import codecs as codecs
from flash_kv.client.connecting import connect, connect_async
from flash_kv.client.errors import (
    AccessDeniedError,
    ClientUnavailableError,
    RemoteError,
    ServerTimeoutError,
    ServerUnreachableError,
)
from flash_kv.codecs.codec import Codec, KeyCodec
from flash_kv.codecs.opening import open_store as open
from flash_kv.codecs.typed_batch import TypedBatch
from flash_kv.codecs.typed_db import TypedDB, TypedSnapshot
from flash_kv.engine.batch import WriteBatch
from flash_kv.engine.change import Change
from flash_kv.engine.changes import Changes
from flash_kv.engine.db import DB
from flash_kv.engine.record import Record
from flash_kv.engine.repair import repair
from flash_kv.engine.reports import (
    BackupReport,
    CompactionProgress,
    CompactionReport,
    Damage,
    RecoveryReport,
    RepairReport,
    SegmentStats,
    Stats,
    VerifyReport,
)
from flash_kv.engine.snapshot import Snapshot
from flash_kv.engine.verify import verify
from flash_kv.errors import (
    BatchStateError,
    ChangesLostError,
    ClosedError,
    CodecMismatchError,
    CodecUnavailableError,
    ConflictError,
    CorruptionError,
    DecodeError,
    EncodeError,
    FlashKVError,
    ForkedError,
    FormatVersionError,
    KeyOrderError,
    KeySizeError,
    KeyTypeError,
    LockedError,
    NotAStoreError,
    OptionsError,
    PoisonedError,
    ReadOnlyError,
    StorageError,
    StoreFullError,
    StoreNotFoundError,
    UnorderedIndexError,
    ValueSizeError,
    ValueTypeError,
)
from flash_kv.options import Options

__version__ = "0.1.0"

__all__ = [
    "DB",
    "AccessDeniedError",
    "BackupReport",
    "BatchStateError",
    "Change",
    "Changes",
    "ChangesLostError",
    "ClientUnavailableError",
    "ClosedError",
    "Codec",
    "CodecMismatchError",
    "CodecUnavailableError",
    "CompactionProgress",
    "CompactionReport",
    "ConflictError",
    "CorruptionError",
    "Damage",
    "DecodeError",
    "EncodeError",
    "FlashKVError",
    "ForkedError",
    "FormatVersionError",
    "KeyCodec",
    "KeyOrderError",
    "KeySizeError",
    "KeyTypeError",
    "LockedError",
    "NotAStoreError",
    "Options",
    "OptionsError",
    "PoisonedError",
    "ReadOnlyError",
    "Record",
    "RecoveryReport",
    "RemoteError",
    "RepairReport",
    "SegmentStats",
    "ServerTimeoutError",
    "ServerUnreachableError",
    "Snapshot",
    "Stats",
    "StorageError",
    "StoreFullError",
    "StoreNotFoundError",
    "TypedBatch",
    "TypedDB",
    "TypedSnapshot",
    "UnorderedIndexError",
    "ValueSizeError",
    "ValueTypeError",
    "VerifyReport",
    "WriteBatch",
    "__version__",
    "connect",
    "connect_async",
    "open",
    "repair",
    "verify",
]
