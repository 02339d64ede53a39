"""The file of the index on disk: its last checkpoint, read at an open and replaced while the store is used.

    block 0, 1        the last two checkpoints' heads, in turn by their numbers
    the others        pages of the tree; blocks of the page table; directories, which say where those stand; the list

The bytes are in docs/format.md. A head is written when all that it leads to is durable, into the block of the last
head but one, and nothing that it leads to is written to before the next one is durable (page_file_cy). So one of the
two is whole at any moment, and a file of which neither is, or anything else does not fit, is worth nothing: the index
is built from the log then.

Invariant: what is read is taken for true only as far as checksums over the store's id and the block's number say so.
Whatever leads to a block has its checksum as well, up to the head, so that a block which stands as it was before is
noticed like a damaged one.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from flash_kv.index.bptree_cy import BPTreeIndex
from flash_kv.io.system import System
from flash_kv.log.checksum_cy import crc32c

BLOCK_BYTES = 4096
HEAD_BYTES = 512
MAGIC = b"FKVINDEX"
VERSION = 1
KIND_TABLE = 2
KIND_DIRECTORY = 3
KIND_LIST = 4
LIST_BYTES = 4080
# In a part of the page table, and in a directory: blocks with their checksums.
PAIRS = LIST_BYTES // 8
DIRECTORIES_MAX = 102

_HEAD = struct.Struct("<II8s16sQQQQQIIIIQII")
_BLOCK = struct.Struct("<IIII")
_SEGMENT = struct.Struct("<10Q")
_COUNTS = struct.Struct("<3Q")
_PAIR = struct.Struct("<II")

# A block and the checksum it has.
Pair: TypeAlias = tuple[int, int]
NOWHERE: Pair = (0, 0)


class IndexFileError(Exception):
    """The file cannot be used, for `reason`: the log has all that it had."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SegmentState:
    """A segment and its counters as of a checkpoint."""

    segment_id: int
    epoch: int
    used: int
    live_bytes: int
    live_records: int
    value_records: int
    tombstone_bytes: int
    tombstones: int
    min_lsn: int
    max_lsn: int


@dataclass(frozen=True)
class Checkpoint:
    """What the tree of a checkpoint stands for; `number` counts the checkpoints of a file."""

    number: int
    lsn: int
    """Everything up to here is in it, and nothing after."""
    next_segment_id: int
    keys: int
    segments: tuple[SegmentState, ...] = ()
    chains: tuple[int, ...] = ()
    """Entries that stood for a version chain, each followed by the position of its newest record."""
    loose: tuple[int, ...] = ()
    """Positions of the keys that are in no page."""


@dataclass
class _Head:
    checkpoint: Checkpoint
    entries: int
    root: int
    height: int
    pages_end: int
    list_block: int
    list_bytes: int
    sum: int
    directories: list[int] = field(default_factory=list)


def encode_list(segments: list[SegmentState], chains: list[int], loose: list[int]) -> bytes:
    """The list of a checkpoint, from its parts."""
    return b"".join(
        [
            _COUNTS.pack(len(segments), len(chains) // 2, len(loose)),
            *(_SEGMENT.pack(*(getattr(one, name) for name in SegmentState.__slots__)) for one in segments),
            struct.pack(f"<{len(chains) + len(loose)}Q", *chains, *loose),
        ]
    )


def _decode_list(head: Checkpoint, content: bytes) -> Checkpoint:
    try:
        segments, chains, loose = _COUNTS.unpack_from(content)
        at = _COUNTS.size + segments * _SEGMENT.size
        if len(content) != at + 16 * chains + 8 * loose:
            raise IndexFileError("the list has another size than its counts say")
        found = tuple(SegmentState(*fields) for fields in _SEGMENT.iter_unpack(content[_COUNTS.size : at]))
        words = struct.unpack_from(f"<{2 * chains + loose}Q", content, at)
    except struct.error as error:
        raise IndexFileError(f"the list cannot be read: {error}") from None
    return replace(head, segments=found, chains=words[: 2 * chains], loose=words[2 * chains :])


class IndexFile:
    """One open file of an index; `fd` is the index's once it has been given to one."""

    def __init__(self, system: System, fd: int, store_id: bytes) -> None:
        self._system = system
        self._store_id = store_id
        self.fd = fd
        self.blocks = 0
        """Whole blocks there are."""
        self.has_failed_sync = False
        """What was written may not be there, whatever a later sync says."""
        self.checkpoint: Checkpoint | None = None
        self._head: _Head | None = None
        # Where the parts of the last checkpoint stand, or of one that did not come about.
        self._tables: list[Pair] = []
        self._directories: list[Pair] = []
        self._list: list[Pair] = []

    # -- reading

    def read(self, size: int) -> Checkpoint:
        """The last checkpoint of a file of `size` bytes. IndexFileError, OSError."""
        self.blocks = size // BLOCK_BYTES
        heads = [self._read_head(slot) for slot in range(2)]
        newest = max((one for one in heads if one is not None), key=_number, default=None)
        if newest is None:
            raise IndexFileError("there is no checkpoint in it")
        self._head = newest
        content = b"".join(self._read_list(newest))
        for number, block in enumerate(newest.directories):
            self._read_directory(number, block)
        if self._sum() != newest.sum:
            raise IndexFileError("the list or the directories are those of another checkpoint")
        self.checkpoint = _decode_list(newest.checkpoint, content)
        return self.checkpoint

    def _read_head(self, slot: int) -> _Head | None:
        """None when none was ever written there. One that is damaged may have been the newest."""
        content = self._system.read_at(self.fd, HEAD_BYTES, slot * BLOCK_BYTES)
        if not any(content):
            return None
        if len(content) < HEAD_BYTES or self._checksum(slot, content) != int.from_bytes(
            content[:4], "little"
        ):
            raise IndexFileError(f"the head in block {slot} is damaged, or of another store")
        (
            _,
            version,
            magic,
            store_id,
            number,
            lsn,
            next_segment_id,
            keys,
            entries,
            root,
            height,
            pages_end,
            list_block,
            list_bytes,
            directories,
            total,
        ) = _HEAD.unpack_from(content)
        if magic != MAGIC or version != VERSION or store_id != self._store_id:
            raise IndexFileError(f"the head in block {slot} is of another version or store")
        if number % 2 != slot or directories > DIRECTORIES_MAX or pages_end == 0:
            raise IndexFileError(f"the head in block {slot} cannot be right")
        return _Head(
            Checkpoint(number, lsn, next_segment_id, keys),
            entries,
            root,
            height,
            pages_end,
            list_block,
            list_bytes,
            total,
            list(struct.unpack_from(f"<{directories}I", content, _HEAD.size)),
        )

    def _checksum(self, block: int, content: bytes) -> int:
        return crc32c(content[4:], crc32c(struct.pack("<Q", block), crc32c(self._store_id)))

    def _read_block(self, block: int, kind: int, number: int) -> tuple[int, int, bytes]:
        """The checksum of a block, the last word of its header, and what follows that."""
        content = self._system.read_at(self.fd, BLOCK_BYTES, block * BLOCK_BYTES)
        if len(content) < BLOCK_BYTES or self._checksum(block, content) != int.from_bytes(
            content[:4], "little"
        ):
            raise IndexFileError(f"block {block} is damaged")
        found_sum, found_kind, found_number, last = _BLOCK.unpack_from(content)
        if (found_kind, found_number) != (kind, number):
            raise IndexFileError(f"block {block} holds something else")
        return found_sum, last, content[_BLOCK.size :]

    def _read_list(self, head: _Head) -> Iterator[bytes]:
        block, left = head.list_block, head.list_bytes
        while left > 0:
            found_sum, following, content = self._read_block(block, KIND_LIST, len(self._list))
            self._list.append((block, found_sum))
            block = following
            yield content[:left]
            left -= LIST_BYTES

    def _read_directory(self, number: int, block: int) -> None:
        found_sum, _, content = self._read_block(block, KIND_DIRECTORY, number)
        self._directories.append((block, found_sum))
        self._tables.extend(_PAIR.iter_unpack(content))

    def _sum(self) -> int:
        """Of the checksums of what the head leads to."""
        return crc32c(b"".join(_PAIR.pack(*pair) for pair in (*self._directories, *self._list)))

    def load(self, index: BPTreeIndex) -> None:
        """Have the empty index take over the pages of the checkpoint read. IndexFileError, OSError, MemoryError."""
        head = self._head
        assert head is not None
        tables = -(-head.pages_end // PAIRS)
        if len(head.directories) != -(-tables // PAIRS):
            raise IndexFileError("the directories do not lead to all pages")
        del self._tables[tables:]
        for number, (block, wanted) in enumerate(self._tables):
            found, _, content = self._read_block(block, KIND_TABLE, number)
            if found != wanted:
                raise IndexFileError(f"block {block} stands as it was before")
            if not index.load_table(number, content, head.pages_end):
                raise IndexFileError("the page table cannot be right")
        if not all(index.claim_block(block) for block, _ in (*self._directories, *self._tables, *self._list)):
            raise IndexFileError("two things claim to be in one block")
        if not index.end_load(head.root, head.height, head.entries, head.pages_end):
            raise IndexFileError("the tree cannot be right")

    # -- writing

    def write(
        self, index: BPTreeIndex, checkpoint: Checkpoint, content: bytes, *, sync_log: Callable[[], None]
    ) -> None:
        """Make a checkpoint of the frozen index; `content` is its list. OSError: the one before stands, if any."""
        is_durable = has_begun = False
        try:
            index.flush()
            root, height, entries, pages_end = index.frozen
            self._write_tables(index, pages_end)
            blocks = self._write_list(index, content)
            sync_log()
            # Durability: what the head leads to comes first.
            self._sync()
            number = 1 if self.checkpoint is None else self.checkpoint.number + 1
            head = _HEAD.pack(
                0,
                VERSION,
                MAGIC,
                self._store_id,
                number,
                checkpoint.lsn,
                checkpoint.next_segment_id,
                checkpoint.keys,
                entries,
                root,
                height,
                pages_end,
                blocks[0][0] if blocks else 0,
                len(content),
                len(self._directories),
                self._sum(),
            ) + struct.pack(f"<{len(self._directories)}I", *(block for block, _ in self._directories))
            slot = number % 2
            has_begun = True
            self._put(slot, head.ljust(HEAD_BYTES, b"\0"))
            self._sync()
            self.checkpoint = replace(checkpoint, number=number)
            is_durable = True
        finally:
            index.end_checkpoint(is_durable)
            if self.checkpoint is None and not has_begun:
                index.let_go()

    def _sync(self) -> None:
        try:
            self._system.sync_data(self.fd)
        except OSError:
            self.has_failed_sync = True
            raise

    def _put(self, block: int, content: bytes) -> None:
        checksum = self._checksum(block, content).to_bytes(4, "little")
        self._system.write_at(self.fd, checksum + content[4:], block * BLOCK_BYTES)

    def _put_block(self, index: BPTreeIndex, kind: int, number: int, last: int, content: bytes) -> Pair:
        """Write a block somewhere; where, and its checksum."""
        return index.put_block(_BLOCK.pack(0, kind, number, last) + content.ljust(LIST_BYTES, b"\0"))

    def _write_tables(self, index: BPTreeIndex, pages_end: int) -> None:
        """Write what has changed of the page table, and the directories that lead there."""
        count = -(-pages_end // PAIRS)
        self._tables.extend([NOWHERE] * (count - len(self._tables)))
        changed = set()
        for number in range(count):
            before = self._tables[number]
            content = index.take_table(number, before == NOWHERE)
            if not content:
                continue
            self._tables[number] = self._put_block(index, KIND_TABLE, number, 0, content)
            if before != NOWHERE:
                index.drop_block(before[0])
            changed.add(number // PAIRS)
        if -(-count // PAIRS) > DIRECTORIES_MAX:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        self._directories.extend([NOWHERE] * (-(-count // PAIRS) - len(self._directories)))
        for number, before in enumerate(self._directories):
            if number in changed or before == NOWHERE:
                content = b"".join(_PAIR.pack(*pair) for pair in self._tables[number * PAIRS :][:PAIRS])
                self._directories[number] = self._put_block(index, KIND_DIRECTORY, number, 0, content)
                if before != NOWHERE:
                    index.drop_block(before[0])

    def _write_list(self, index: BPTreeIndex, content: bytes) -> list[Pair]:
        """Write the list, from its end, so that each block can name the next."""
        before, self._list = self._list, []
        for block, _ in before:
            index.drop_block(block)
        following = NOWHERE
        for number in reversed(range(-(-len(content) // LIST_BYTES))):
            part = content[number * LIST_BYTES : (number + 1) * LIST_BYTES]
            following = self._put_block(index, KIND_LIST, number, following[0], part)
            self._list.insert(0, following)
        return self._list

    def invalidate(self) -> None:
        """Have no checkpoint, durably: the next open builds the index from the log. OSError."""
        self.checkpoint = None
        for slot in range(2):
            self._system.write_at(self.fd, bytes(HEAD_BYTES), slot * BLOCK_BYTES)
        self._sync()


def _number(head: _Head) -> int:
    return head.checkpoint.number
