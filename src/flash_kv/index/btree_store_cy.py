"""The memory of one B-tree: nodes of 1 KiB in one arena, blobs (separators and prefixes) in another.

Both are addressed by number, 0 is none. Freed nodes and blobs go to lists: one for nodes, one per size class for
blobs. What is freed keeps its place in the arena and is never unmapped, so a reader that still holds its number reads
old bytes and finds out when it validates versions.

Invariants: `tree.nodes_size` and `tree.blobs_size` never exceed what may be touched; a node that is handed out has a
version greater than all before, so a reader never takes a new node for the one that had its number.
"""

import cython
from cython.cimports.flash_kv.index.arena_cy import Arena
from cython.cimports.flash_kv.index.btree_node import (
    BLOB_UNIT,
    HEIGHT_MAX,
    LEVEL_FREE,
    NODE_BYTES,
    NODE_SLOTS,
    SEPARATOR_EXACT,
    Blob,
    Node,
    Tree,
    begin_write,
    blob_at,
    blob_data,
    end_write,
    fill_node,
    node_at,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.intrinsics import byte_swap64, fence_release, store_release32, store_release64
from cython.cimports.flash_kv.log.format import KEY_SIZE_MAX
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.string import memcpy, memset

# Memory is given back at once only when there is more than this of it: a tree that keeps changing between empty and
# a few keys would otherwise ask the system all the time.
KEPT_BYTES = cython.declare(uint64_t, 4 << 20)
SMALL_UNITS_MAX = cython.declare(uint32_t, 32)  # above, four size classes for each doubling
# One separator of the greatest size, in its size class.
BLOB_MARGIN = cython.declare(uint64_t, KEY_SIZE_MAX // 4 * 5 + BLOB_UNIT)
# Splitting in halves leaves 29 slots; with the one that made the split, each later split takes 28 more.
INSERTS_PER_SPLIT = cython.declare(uint64_t, NODE_SLOTS // 2 - 1)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _size_class(units: uint32_t) -> uint32_t:
    """0 for one unit, 1 for two, up to 32 units; then the class whose size is the next above."""
    size: uint32_t = SMALL_UNITS_MAX
    index: uint32_t = SMALL_UNITS_MAX - 1
    if units <= SMALL_UNITS_MAX:
        return units - 1
    while units > 2 * size:
        size *= 2
        index += 4
    return index + (units - size + size // 4 - 1) // (size // 4)


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _class_units(index: uint32_t) -> uint32_t:
    size: uint32_t
    if index < SMALL_UNITS_MAX:
        return index + 1
    index -= SMALL_UNITS_MAX
    size = SMALL_UNITS_MAX << (index >> 2)
    return size + (size >> 2) * ((index & 3) + 1)


@cython.final
@cython.cclass
class NodeStore:
    """Allocates nodes and blobs; one writer."""

    def __cinit__(self):
        self.node_arena = Arena()
        self.blob_arena = Arena()
        self.base = self.node_arena.data
        self.blobs = self.blob_arena.data
        self.tree = cython.cast(cython.pointer(Tree), self.base)
        if self.node_arena.reserve(NODE_BYTES) != 0:
            raise MemoryError("no memory for a B-tree")
        self.node_arena.used = NODE_BYTES
        memset(self.tree, 0, NODE_BYTES)
        self.reset()
        if self.reserve(1) != 0:
            raise MemoryError("no memory for a B-tree")

    def reserve(self, count):
        """Room for what `count` upserts can need in the worst case: 0, or -1."""
        tree: cython.pointer(Tree) = self.tree
        live: uint64_t = tree.nodes_size - tree.free_nodes
        splits: uint64_t = count * (tree.height + 2)
        most: uint64_t = live + count // INSERTS_PER_SPLIT * 2 + HEIGHT_MAX
        free: uint64_t = tree.free_nodes
        blob_bytes: uint64_t = BLOB_MARGIN + self.split_bytes_max
        splits = min(splits, most)
        if splits > free and self.node_arena.reserve((splits - free) * NODE_BYTES) != 0:
            return -1
        if count > 1:
            # A separator and a prefix for each split. Keys longer than all before are covered by the margin and
            # by the check that a split makes before it changes anything.
            blob_bytes += 2 * splits * (self.key_size_max // 4 * 5 + 2 * BLOB_UNIT)
            blob_bytes += splits * self.split_bytes
        return self.blob_arena.reserve(blob_bytes)

    def new_node(self, level):
        """A node without slots and with an odd version; 0 when memory is short."""
        tree: cython.pointer(Tree) = self.tree
        number: uint32_t = tree.free_node
        node: cython.pointer(Node)
        if number != 0:
            node = node_at(self.base, number)
            begin_write(node)
            tree.free_node = node.first
            tree.free_nodes -= 1
        else:
            if self.node_arena.reserve(NODE_BYTES) != 0:  # at most 2^30 nodes
                return 0
            number = cython.cast(uint32_t, tree.nodes_size)
            node = node_at(self.base, number)
            # Before it may be read: it can hold a leaf, with its version, of the tree before a reset.
            begin_write(node)
            self.node_arena.used += NODE_BYTES
            store_release64(cython.address(tree.nodes_size), tree.nodes_size + 1)
        node.level = level
        node.skip = 0
        node.fence_skip = 0
        node.prefix = 0
        store_release32(cython.address(node.first), 0)
        fill_node(node, node.slots, 0)
        return number

    def free_node(self, number):
        """Requires: no separator leads to the node any more."""
        tree: cython.pointer(Tree) = self.tree
        node: cython.pointer(Node) = node_at(self.base, number)
        begin_write(node)
        node.level = LEVEL_FREE
        store_release32(cython.address(node.first), tree.free_node)
        end_write(tree, node)
        tree.free_node = number
        tree.free_nodes += 1

    def take_blob(self, total):
        """A blob of `total` bytes still to be written; 0 when memory is short."""
        tree: cython.pointer(Tree) = self.tree
        index: uint32_t = _size_class((total + cython.sizeof(Blob) + BLOB_UNIT - 1) // BLOB_UNIT)
        units: uint32_t = _class_units(index)
        ref: uint32_t = tree.free_blobs[index]
        if ref != 0:
            tree.free_blobs[index] = blob_at(self.blobs, ref).size
        else:
            if tree.blobs_size + units >= SEPARATOR_EXACT or self.blob_arena.reserve(units * BLOB_UNIT) != 0:
                return 0
            ref = tree.blobs_size
            self.blob_arena.used += units * BLOB_UNIT
            store_release64(cython.address(tree.blobs_size), tree.blobs_size + units)
        # A reader that comes too late may look at any blob; what it makes of it counts for nothing.
        store_release32(cython.address(blob_at(self.blobs, ref).size), total)
        return ref

    def new_blob(self, data, size, tail, tail_size):
        """A blob of `size` bytes and after them the first `tail_size` bytes of the big-endian number `tail`.

        0 when memory is short.
        """
        ref: uint32_t = self.take_blob(size + tail_size)
        blob: cython.pointer(Blob) = blob_at(self.blobs, ref)
        if ref != 0:
            memcpy(blob_data(blob), data, size)
            tail = byte_swap64(tail)
            memcpy(blob_data(blob) + size, cython.address(tail), tail_size)
        return ref

    def free_blob(self, ref):
        """Requires: no node refers to the blob any more. 0 is allowed."""
        blob: cython.pointer(Blob) = blob_at(self.blobs, ref)
        index: uint32_t
        ref &= ~SEPARATOR_EXACT
        if ref != 0:
            index = _size_class((blob.size + cython.sizeof(Blob) + BLOB_UNIT - 1) // BLOB_UNIT)
            store_release32(cython.address(blob.size), self.tree.free_blobs[index])
            self.tree.free_blobs[index] = ref

    def reset(self):
        """Make the tree empty. Readers that are under way find nothing or start over."""
        tree: cython.pointer(Tree) = self.tree
        i: cython.int
        store_release64(cython.address(tree.version), tree.version | 1)
        fence_release()
        tree.root = 0
        store_release64(cython.address(tree.top), 0)
        tree.height = 0
        tree.count = 0
        tree.tail = 0
        tree.free_node = 0
        tree.free_nodes = 0
        for i in range(61):
            tree.free_blobs[i] = 0
        store_release64(cython.address(tree.nodes_size), 1)
        store_release64(cython.address(tree.blobs_size), 1)
        tree.clock += 2
        store_release64(cython.address(tree.version), tree.clock)
        if self.node_arena.used + self.blob_arena.used > KEPT_BYTES:
            self.node_arena.shrink(NODE_BYTES)
            self.blob_arena.shrink(BLOB_UNIT)
        self.node_arena.used = NODE_BYTES
        self.blob_arena.used = BLOB_UNIT

    def memory_bytes(self):
        return self.node_arena.used + self.blob_arena.used
