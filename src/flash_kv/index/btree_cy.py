"""The default index: a B+ tree whose keys stay in the log. This module is the way from the root to a leaf.

A node is 1 KiB: 58 slots of 8 key bytes and 8 bytes of value, and 14 hints that lead a search to one cache line of
slots (btree_node.pxd draws it). A leaf's values are entries, an inner node's are children with the separators
between them (btree_inner_cy). Which 8 bytes of the key a node holds is decided for each node (btree_leaf_cy), so
that short random keys, decimal numbers and addresses with long common beginnings are all told apart without the log.

Memory, with a million keys: 18.5 bytes a key when they arrive in order, 26.5 when they arrive at random, and up to 32
when they share long beginnings.

Readers take no lock: optimistic lock coupling (Leis et al. 2016). A reader reads a node's version, then what it needs,
then the version again; on the way down the parent's version is checked once more after the child's was read. A writer
that moves keys between nodes marks parent and children all at once, so a reader that passed has the right child. What
follows in the leaf is the same for all ordered kinds (leaf_reader_cy, leaf_index_cy).

A search costs the memory about one cache miss in the leaf and one at the record. The first would be two (which line
of slots is needed stands in the hints), so the half of the leaf where the key should be is fetched with the hints; of
the node above the leaf too, for there are many of those and the smaller caches do not hold them all.

Invariants: those that btree_check_cy checks.
"""

import cython
from cython.cimports.flash_kv.index.btree_check_cy import check_tree
from cython.cimports.flash_kv.index.btree_inner_cy import grow_root, route, split_inner
from cython.cimports.flash_kv.index.btree_merge_cy import merge_leaf
from cython.cimports.flash_kv.index.btree_node import (
    HEIGHT_MAX,
    NODE_SLOTS,
    Node,
    Path,
    Tree,
    child_of,
    end_write,
    head_of,
    line_of,
    node_at,
    prefetch_child,
    prefetch_hints,
    prefetch_lines,
)
from cython.cimports.flash_kv.index.btree_split_cy import split_leaf
from cython.cimports.flash_kv.index.btree_walk_cy import walk_once
from cython.cimports.flash_kv.index.leaf_index_cy import LeafIndex
from cython.cimports.flash_kv.index.leaf_reader_cy import Spot
from cython.cimports.flash_kv.intrinsics import (
    fence_acquire,
    fence_release,
    load_acquire64,
    load_relaxed64,
    prefetch,
    store_release64,
    unlikely,
)
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint32_t, uint64_t


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _go_down(spot: cython.pointer(Spot), child: cython.pointer(Node)) -> cython.bint:
    """To a child whose number was read in the node; False when the node changed meanwhile."""
    version: uint64_t = load_acquire64(cython.address(child.version))
    fence_acquire()
    if unlikely(load_relaxed64(cython.address(spot.node.version)) != spot.version or version & 1):
        return False
    spot.node = child
    spot.version = version
    return True


@cython.final
@cython.cclass
class BTreeIndex(LeafIndex):
    """Entries by key, in key order."""

    def _walk_once(self, state, entries, capacity):
        return walk_once(self.store, self.log, state, entries, capacity)

    def _enter_root(self, spot):
        """The root, NULL of an empty tree; False when it changes just now."""
        tree: cython.pointer(Tree) = self.tree
        version: uint64_t = load_acquire64(cython.address(tree.version))
        number: uint32_t = tree.root
        spot.node = cython.NULL
        if unlikely(version & 1 or number >= tree.nodes_size):
            return False
        if number != 0:
            spot.node = node_at(self.base, number)
            spot.version = load_acquire64(cython.address(spot.node.version))
            if unlikely(spot.version & 1):
                return False
        fence_acquire()
        return load_relaxed64(cython.address(tree.version)) == version

    def _find_leaf(self, key, spot):
        """The leaf for the key, NULL in an empty tree; False when something changed meanwhile."""
        tree: cython.pointer(Tree) = self.tree
        node: cython.pointer(Node)
        child: cython.pointer(Node)
        number: uint32_t
        slot: uint32_t
        level: uint32_t
        if unlikely(not self._enter_root(spot)):
            return False
        if unlikely(spot.node == cython.NULL):
            return True
        level = spot.node.level
        while level > 0:
            node = spot.node
            slot = route(tree, self.blobs, node, key)
            number = child_of(node, slot)
            if unlikely(number >= tree.nodes_size):
                return False
            child = node_at(self.base, number)
            if level <= 2:
                prefetch_child(node, slot, head_of(key.data, key.size, node.skip), child)
            else:
                prefetch_hints(child)
            if unlikely(not _go_down(spot, child)):
                return False
            level -= 1
        return True

    def _find_leaves(self, keys, group):
        """Take a group of keys to their leaves, level by level, so that their cache misses overlap."""
        tree: cython.pointer(Tree) = self.tree
        root: Spot
        spot: cython.pointer(Spot)
        level: uint32_t
        i: uint32_t
        if not self._enter_root(cython.address(root)):
            root.node = cython.NULL
        level = root.node.level if root.node != cython.NULL else 0
        for i in range(group.count):
            group.spots[i] = root
        while level > 0:
            if level < root.node.level:
                self._aim_inner(keys, group)
            for i in range(group.count):
                spot = cython.address(group.spots[i])
                group.numbers[i] = 0
                if unlikely(spot.node == cython.NULL):
                    continue
                group.numbers[i] = child_of(
                    spot.node, route(tree, self.blobs, spot.node, cython.address(keys[i]))
                )
                if unlikely(group.numbers[i] >= tree.nodes_size):
                    spot.node = cython.NULL
                    continue
                prefetch_hints(node_at(self.base, group.numbers[i]))
            for i in range(group.count):
                spot = cython.address(group.spots[i])
                if unlikely(
                    spot.node == cython.NULL or not _go_down(spot, node_at(self.base, group.numbers[i]))
                ):
                    spot.node = cython.NULL
            level -= 1

    def _aim_inner(self, keys, group):
        """Bring in, for each key of a group, the line of slots in which its child is named."""
        node: cython.pointer(Node)
        i: uint32_t
        for i in range(group.count):
            node = group.spots[i].node
            if not unlikely(node == cython.NULL):
                prefetch(
                    cython.address(node.slots[line_of(node, head_of(keys[i].data, keys[i].size, node.skip))])
                )

    def _descend(self, key):
        path: Path
        return self._find_path(key, cython.address(path))

    def _find_path(self, key, path):
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

    def _make_room(self, leaf, key, slot):
        path: Path
        level: uint32_t = 1
        # The way is not kept until then: a leaf is seldom full.
        self._find_path(key, cython.address(path))
        while level < path.height and node_at(self.base, path.nodes[level]).count == NODE_SLOTS:
            level += 1
        if level == path.height and (
            path.height == HEIGHT_MAX or grow_root(self.store, cython.address(path)) != 0
        ):
            key.error = ENOMEM
            key.bad_position = 0
            return False
        if level == 1:
            return split_leaf(self.store, self.log, cython.address(path), key, slot) == 0
        if split_inner(self.store, cython.address(path), level - 1) != 0:
            key.error = ENOMEM
            key.bad_position = 0
            return False
        return True

    def _shrink(self, leaf, key):
        path: Path
        self._find_path(key, cython.address(path))
        merge_leaf(self.store, self.log, cython.address(path))

    def check(self) -> list[str]:
        """What is wrong with the tree, one line each. Write lock held."""
        return check_tree(self.store, self.log)
