"""The resume mark of `load`: how far an input got, in a small file beside the store.

It is written after each committed batch (replaced atomically) and removed when the load is complete. It is
a hint and never the truth: the last record it names must be found again, the same, in the input AND in the
store, which must not be older than the mark; else the load begins anew. That, or a batch that was committed
just before its mark was written, only puts the same records again, which changes nothing. So a mark may be
lost, stale, or belong to another store without harm.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import flash_kv

KIND = "flash-kv load mark 1"
_TYPES = {"dict[str, Any]": dict, "int": int, "str": str}


@dataclass(frozen=True, kw_only=True)
class Mark:
    """The state after a committed batch; `offset` and `row` are where its LAST record begins."""

    source: dict[str, Any]
    lsn: int
    offset: int
    row: int
    records: int
    witness_key: str
    witness_digest: str

    def is_of(self, source: dict[str, Any], db: flash_kv.DB) -> bool:
        """True when the same input was being loaded into this very store and all of it is still there."""
        if self.source != source or db.stats().lsn < self.lsn:
            return False
        key = bytes.fromhex(self.witness_key)
        value = db.get(key)
        return value is not None and self.is_witness(key, value)

    def is_witness(self, key: bytes, value: bytes) -> bool:
        """True for the record that was the last one of the last committed batch."""
        return self.witness_key == key.hex() and self.witness_digest == digest(value)


def digest(value: bytes) -> str:
    return hashlib.blake2b(value, digest_size=16).hexdigest()


def source_identity(path: Path | None, how: dict[str, Any]) -> dict[str, Any]:
    """What must be unchanged for an input to be the same one: the file as it is, and how it is read."""
    if path is None:
        return {"input": "stdin", **how}
    status = path.stat()
    return {
        "input": os.path.realpath(path),
        "bytes": status.st_size,
        "modified_ns": status.st_mtime_ns,
        **how,
    }


def default_mark_path(store: Path, source: dict[str, Any]) -> Path:
    """Beside the store, so that the store's own directory stays the engine's; one for each input."""
    name = hashlib.blake2b(str(source["input"]).encode("utf-8", "surrogateescape"), digest_size=6).hexdigest()
    absolute = Path(os.path.realpath(store))
    return absolute.with_name(f"{absolute.name}.load-{name}")


def read_mark(path: Path) -> Mark | None:
    """The mark at `path`; None when there is none, `ValueError` when the file is something else."""
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is no resume mark: {error}") from error
    if not isinstance(content, dict) or content.pop("kind", None) != KIND:
        raise ValueError(f"{path} is no resume mark of this version")
    expected = {field.name: _TYPES[str(field.type)] for field in fields(Mark)}
    found = {name: type(value) for name, value in content.items()}
    if found != expected:
        raise ValueError(f"{path} is a damaged resume mark")
    return Mark(**content)


def write_mark(path: Path, mark: Mark) -> None:
    """Replace the mark; no sync, for losing it costs time and nothing else."""
    temporary = _temporary(path)
    temporary.write_text(json.dumps({"kind": KIND, **asdict(mark)}), encoding="utf-8")
    os.replace(temporary, path)


def remove_mark(path: Path) -> None:
    """The mark, and what a process killed in the middle of writing one has left."""
    path.unlink(missing_ok=True)
    _temporary(path).unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    return path.with_name(path.name + ".new")
