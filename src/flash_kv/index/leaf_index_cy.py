"""The writing side that the ordered indexes share: what is done with the leaf of a key.

The ordered kinds keep their entries in the same leaves (btree_leaf_cy); how a leaf is found, split and joined with a
neighbour is theirs: `_descend`, `_plant`, `_make_room`, `_shrink`. One writer at a time; it changes an index in steps
that each leave a correct one, and takes all memory that a step needs before its first change.
"""

import cython
from cython.cimports.flash_kv.index.btree_leaf_cy import (
    SEEK_FAILED,
    SEEK_FOUND,
    SEEK_TIED,
    SeekResult,
    admit,
    find_slot,
    raise_leaf,
    seek_slot,
)
from cython.cimports.flash_kv.index.btree_node import (
    NODE_SLOTS,
    NODE_SLOTS_MIN,
    TAG_MASK,
    Node,
    Slot,
    begin_write,
    blob_at,
    blob_data,
    candidate,
    end_write,
    insert_slot,
    is_tied,
    leaf_bound,
    leaf_head,
    mix_key,
    node_at,
    remove_slot,
)
from cython.cimports.flash_kv.index.leaf_reader_cy import LeafReader
from cython.cimports.flash_kv.intrinsics import store_release64, unlikely
from cython.cimports.flash_kv.log.format import ENTRY_ERROR
from cython.cimports.flash_kv.log.table_cy import MATCH_YES, compare_key
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memcmp

# What `_above` answers.
ABOVE = cython.declare(cython.int, 1)
ABOVE_TIED = cython.declare(cython.int, 2)


@cython.cclass
class LeafIndex(LeafReader):
    """Entries by key, in key order; a kind derives from it."""

    def reserve(self, count):
        return self.store.reserve(count)

    def clear(self):
        self.store.reset()

    def _descend(self, key):
        return cython.NULL

    def _plant(self):
        return False

    def _make_room(self, leaf, key, slot):
        return False

    def _shrink(self, leaf, key):
        pass

    def _above(self, key, mixed, head):
        """Is the key above all others, and does its head in the last leaf tell? 0 also when it cannot be told."""
        leaf: cython.pointer(Node) = node_at(self.base, self.tree.tail)
        last: cython.pointer(Slot)
        order: cython.int = 0
        if leaf.count == 0:
            return 0
        if leaf.skip > leaf.fence_skip and (
            key.size < leaf.skip
            or memcmp(key.data, blob_data(blob_at(self.blobs, leaf.prefix)), leaf.skip) != 0
        ):
            return 0
        head[0] = leaf_head(key.data, key.size, leaf.skip, mixed)
        last = cython.address(leaf.slots[leaf.count - 1])
        if head[0] > last.head | TAG_MASK:
            return ABOVE
        if (
            not is_tied(head[0], last.head)
            or compare_key(self.log, last.value, key, cython.address(order)) != MATCH_YES
            or order <= 0
        ):
            return 0
        return ABOVE_TIED

    def is_above(self, key):
        head: uint64_t = 0
        if self.tree.height == 0:
            return True
        return (
            self.tree.tail != 0 and self._above(key, mix_key(key.data, key.size), cython.address(head)) != 0
        )

    def _append(self, key, mixed, entry):
        """Insert a key that is above all others, without a descent; False when it is not, or there is no room."""
        leaf: cython.pointer(Node) = node_at(self.base, self.tree.tail)
        head: uint64_t = 0
        above: cython.int
        if self.tree.tail == 0 or leaf.count == NODE_SLOTS:
            return False
        above = self._above(key, mixed, cython.address(head))
        if above == 0:
            return False
        begin_write(leaf)
        insert_slot(leaf, leaf.count, head, entry)
        end_write(self.tree, leaf)
        self.tree.count += 1
        if above == ABOVE_TIED:
            raise_leaf(self.store, self.log, leaf)
        return True

    def upsert(self, key, entry):
        leaf: cython.pointer(Node) = self.place_of(key)
        slot: uint32_t = 0
        old: uint64_t = 0
        mixed: uint64_t = mix_key(key.data, key.size)
        head: uint64_t
        result: SeekResult
        self.store.key_size_max = max(self.store.key_size_max, key.size)
        if leaf == cython.NULL:
            if self._append(key, mixed, entry):
                return 0
            leaf = self.recall(key, mixed, cython.address(slot), cython.address(old))
            if leaf != cython.NULL:
                store_release64(cython.address(leaf.slots[slot].value), entry)
                return old
            if self.tree.height == 0 and not self._plant():
                key.error = ENOMEM
                key.bad_position = 0
                return ENTRY_ERROR
        while True:
            if leaf == cython.NULL:
                leaf = self._descend(key)
            admit(self.store, leaf, key)
            head = leaf_head(key.data, key.size, leaf.skip, mixed)
            result = seek_slot(self.log, leaf, key, head, cython.address(slot))
            if unlikely(result == SEEK_FAILED):
                return ENTRY_ERROR
            if result == SEEK_FOUND:
                old = leaf.slots[slot].value
                store_release64(cython.address(leaf.slots[slot].value), entry)
                self.remember(mixed, leaf, leaf.version, slot)
                return old
            if leaf.count < NODE_SLOTS:
                break
            if not self._make_room(leaf, key, slot):
                return ENTRY_ERROR
            leaf = cython.NULL
        begin_write(leaf)
        insert_slot(leaf, slot, head, entry)
        end_write(self.tree, leaf)
        self.tree.count += 1
        if unlikely(result == SEEK_TIED):
            raise_leaf(self.store, self.log, leaf)
        return 0

    def remove(self, key):
        leaf: cython.pointer(Node) = self.place_of(key)
        slot: uint32_t = 0
        old: uint64_t
        mixed: uint64_t = mix_key(key.data, key.size)
        result: SeekResult
        if self.tree.height == 0:
            return 0
        if leaf == cython.NULL:
            leaf = self._descend(key)
        # A key that does not share the leaf's prefix may find an equal head, but no equal key.
        result = find_slot(
            self.log,
            leaf,
            key,
            leaf_head(key.data, key.size, leaf.skip, mixed),
            cython.address(slot),
        )
        if unlikely(result == SEEK_FAILED):
            return ENTRY_ERROR
        if result != SEEK_FOUND:
            return 0
        old = leaf.slots[slot].value
        begin_write(leaf)
        remove_slot(leaf, slot)
        end_write(self.tree, leaf)
        self.tree.count -= 1
        if self.tree.count == 0:
            self.store.reset()
        elif leaf.count < NODE_SLOTS_MIN:
            self._shrink(leaf, key)
        return old

    def replace(self, key, old, new):
        leaf: cython.pointer(Node) = self.place_of(key)
        if self.tree.height == 0:
            return False
        # Not to be found at the noted place says nothing: the index may be another one by now.
        if leaf != cython.NULL and self._replace_in(leaf, key, old, new):
            return True
        return self._replace_in(self._descend(key), key, old, new)

    def _replace_in(self, leaf, key, old, new):
        head: uint64_t
        slot: uint32_t
        head = leaf_head(key.data, key.size, leaf.skip, mix_key(key.data, key.size))
        slot = candidate(leaf, leaf_bound(leaf, head), head)
        # An entry names one record or chain, so one that is equal is the key's: the log need not be read.
        while slot > 0:
            if leaf.slots[slot - 1].value == old:
                store_release64(cython.address(leaf.slots[slot - 1].value), new)
                return True
            slot = candidate(leaf, slot - 1, head)
        return False
