"""The ordered index: a B+ tree whose keys stay in the log. This module is its writing side.

A node is 1 KiB: 58 slots of 8 key bytes and 8 bytes of value, and 14 hints that lead a search to one cache line of
slots (btree_node.pxd draws it). A leaf's values are entries, an inner node's are children with the separators
between them (btree_inner_cy). Which 8 bytes of the key a node holds is decided for each node (btree_leaf_cy), so
that short random keys, decimal numbers and addresses with long common beginnings are all told apart without the log.

Memory, with a million keys: 18.5 bytes a key when they arrive in order, 26.5 when they arrive at random, and up to 32
when they share long beginnings.

Readers take no lock (btree_reader_cy, btree_walk_cy). One writer at a time; it changes nodes from the top down in steps
that each leave a correct tree, and takes all memory that a step needs before its first change.

Invariants: those that btree_check_cy checks.
"""

import cython
from cython.cimports.flash_kv.index.btree_check_cy import check_tree
from cython.cimports.flash_kv.index.btree_inner_cy import grow_root, route, split_inner
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
from cython.cimports.flash_kv.index.btree_merge_cy import merge_leaf
from cython.cimports.flash_kv.index.btree_node import (
    HEIGHT_MAX,
    NODE_SLOTS,
    NODE_SLOTS_MIN,
    TAG_MASK,
    Node,
    Path,
    Slot,
    Tree,
    begin_write,
    blob_at,
    blob_data,
    candidate,
    child_of,
    end_write,
    head_of,
    insert_slot,
    is_tied,
    leaf_bound,
    leaf_head,
    mix_key,
    node_at,
    prefetch_child,
    prefetch_hints,
    prefetch_lines,
    remove_slot,
)
from cython.cimports.flash_kv.index.btree_reader_cy import BTreeReader
from cython.cimports.flash_kv.index.btree_split_cy import split_leaf
from cython.cimports.flash_kv.intrinsics import fence_release, store_release64, unlikely
from cython.cimports.flash_kv.log.format import ENTRY_ERROR
from cython.cimports.flash_kv.log.table_cy import MATCH_YES, compare_key
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memcmp

# What `_above` answers.
ABOVE = cython.declare(cython.int, 1)
ABOVE_TIED = cython.declare(cython.int, 2)


@cython.final
@cython.cclass
class BTreeIndex(BTreeReader):
    """Entries by key, in key order."""

    def reserve(self, count):
        return self.store.reserve(count)

    def clear(self):
        self.store.reset()

    def _descend(self, key, path):
        """The leaf for the key and the way to it. Write lock held; the tree is not empty."""
        tree: cython.pointer(Tree) = self.tree
        level: uint32_t = tree.height - 1
        number: uint32_t = tree.root
        node: cython.pointer(Node) = node_at(self.base, number)
        parent: cython.pointer(Node)
        slot: uint32_t
        path.height = tree.height
        path.nodes[level] = number
        path.slots[0] = 0
        while level > 0:
            slot = route(tree, self.blobs, node, key)
            path.slots[level] = slot
            number = child_of(node, slot)
            parent = node
            node = node_at(self.base, number)
            if level == 2:
                prefetch_child(parent, slot, head_of(key.data, key.size, parent.skip), node)
            else:
                prefetch_hints(node)
            if level == 1:
                prefetch_lines(node, 2, 15)
            level -= 1
            path.nodes[level] = number
        return node

    def _plant(self):
        """The first leaf of an empty tree; False when memory is short."""
        tree: cython.pointer(Tree) = self.tree
        number: uint32_t = self.store.new_node(0)
        if number == 0:
            return False
        end_write(tree, node_at(self.base, number))
        store_release64(cython.address(tree.version), tree.version | 1)
        fence_release()
        tree.root = number
        tree.height = 1
        tree.tail = number
        tree.clock += 2
        store_release64(cython.address(tree.version), tree.clock)
        return True

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

    def _make_room(self, path, key, slot):
        """One split on the way to a leaf that is not full; False, with the reason in the key, when there is none."""
        level: uint32_t = 1
        while level < path.height and node_at(self.base, path.nodes[level]).count == NODE_SLOTS:
            level += 1
        if level == path.height and (path.height == HEIGHT_MAX or grow_root(self.store, path) != 0):
            key.error = ENOMEM
            key.bad_position = 0
            return False
        if level == 1:
            return split_leaf(self.store, self.log, path, key, slot) == 0
        if split_inner(self.store, path, level - 1) != 0:
            key.error = ENOMEM
            key.bad_position = 0
            return False
        return True

    def upsert(self, key, entry):
        path: Path
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
        path.height = 0
        while True:
            if leaf == cython.NULL:
                leaf = self._descend(key, cython.address(path))
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
            leaf = cython.NULL
            # From a noted place the way is not known: it takes a descent to split.
            if path.height != 0 and not self._make_room(cython.address(path), key, slot):
                return ENTRY_ERROR
        begin_write(leaf)
        insert_slot(leaf, slot, head, entry)
        end_write(self.tree, leaf)
        self.tree.count += 1
        if unlikely(result == SEEK_TIED):
            raise_leaf(self.store, self.log, leaf)
        return 0

    def remove(self, key):
        path: Path
        leaf: cython.pointer(Node) = self.place_of(key)
        slot: uint32_t = 0
        old: uint64_t
        mixed: uint64_t = mix_key(key.data, key.size)
        result: SeekResult
        if self.tree.height == 0:
            return 0
        # A leaf that becomes small is joined with a neighbour, which takes the way to it.
        if leaf == cython.NULL or leaf.count <= NODE_SLOTS_MIN:
            leaf = self._descend(key, cython.address(path))
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
            merge_leaf(self.store, self.log, cython.address(path))
        return old

    def replace(self, key, old, new):
        path: Path
        leaf: cython.pointer(Node) = self.place_of(key)
        if self.tree.height == 0:
            return False
        # Not to be found at the noted place says nothing: the tree may be another one by now.
        if leaf != cython.NULL and self._replace_in(leaf, key, old, new):
            return True
        return self._replace_in(self._descend(key, cython.address(path)), key, old, new)

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

    def check(self) -> list[str]:
        """What is wrong with the tree, one line each. Write lock held."""
        return check_tree(self.store, self.log)
