"""The skip list index: an unrolled skip list (Pugh 1990) whose keys stay in the log.

The lowest level is a list of leaves, the same as those of the B-tree (btree_node.pxd): 58 slots of 8 key bytes and an
entry. Before each leaf stands a tower with the leaf's separator, the shortest string that tells its keys from those on
its left, and with links to the next tower of each level up to its height; each level has half of the towers of the one
below (skiplist_tower.pxd draws it). Nothing is ever balanced: a split puts one tower into the list, a join takes one
out.

A link holds the number of bytes that the separators on its two sides share, and the 8 bytes after them. A search knows
how many bytes its key shares with the separator it is at, and so passes a tower or turns down without a look at it, and
without looking at any byte of the key twice; long common beginnings cost nothing.

Readers take no lock. Links above the lowest level may change under a search and lead it astray; where it ends is
checked: a leaf belongs to its tower and a key belongs between the tower and the next as long as the leaf has its
version. A writer marks a leaf before it changes the lowest link, the link back or the existence of its tower. What
follows in the leaf is the same for all ordered kinds (leaf_reader_cy, leaf_index_cy).

Invariants: those that skiplist_check_cy checks.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import (
    Node,
    Tree,
    begin_write,
    end_write,
    node_at,
    prefetch_hints,
)
from cython.cimports.flash_kv.index.leaf_index_cy import LeafIndex
from cython.cimports.flash_kv.index.leaf_join_cy import (
    Joint,
    apply_join,
    can_join,
    finish_join,
    prepare_join,
)
from cython.cimports.flash_kv.index.leaf_split_cy import Separator, choose_cut, divide_leaf, find_separator
from cython.cimports.flash_kv.index.skiplist_check_cy import check_list
from cython.cimports.flash_kv.index.skiplist_tower import (
    LEVELS,
    MOVES_MAX,
    TOWER_BYTES_MAX,
    Climb,
    Tower,
    advance,
    begin_climb,
    covers,
    enter_leaf,
    is_tower,
    likely_leaf,
    link_at,
    next_of,
    prefetch_half,
    prefetch_tower,
    tower_at,
)
from cython.cimports.flash_kv.index.skiplist_tower_cy import (
    draw_height,
    fell_tower,
    fence_of,
    new_tower,
    raise_tower,
)
from cython.cimports.flash_kv.index.skiplist_walk_cy import walk_once
from cython.cimports.flash_kv.intrinsics import fence_release, store_release32, store_release64, unlikely
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint32_t
from cython.cimports.libc.stdlib import free


@cython.final
@cython.cclass
class SkipListIndex(LeafIndex):
    """Entries by key, in key order."""

    def __cinit__(self, table, hash_key):
        self.store.tower_bytes = TOWER_BYTES_MAX
        if self.store.reserve(1) != 0:
            raise MemoryError("no memory for an index")

    def _walk_once(self, state, entries, capacity):
        return walk_once(self.store, self.log, state, entries, capacity)

    def _find_leaf(self, key, spot):
        climb: Climb
        moves: uint32_t = 0
        begin_climb(self.tree, cython.address(climb))
        spot.node = cython.NULL
        if unlikely(climb.tower == 0):
            return True
        if unlikely(not is_tower(self.tree, climb.tower, LEVELS)):
            return False
        while advance(self.tree, self.blobs, key.data, key.size, cython.address(climb)):
            moves += 1
            if unlikely(moves == MOVES_MAX):
                return False
        prefetch_half(self.tree, self.base, self.blobs, climb.tower, key.data, key.size)
        return enter_leaf(self.tree, self.base, self.blobs, climb.tower, spot) and covers(
            self.tree, self.blobs, climb.tower, key.data, key.size
        )

    def _find_leaves(self, keys, group):
        """All keys move by one tower in turn, so that their cache misses overlap."""
        climbs: Climb[16]
        climb: cython.pointer(Climb)
        moving: uint32_t = group.count
        moves: uint32_t = 0
        i: uint32_t
        begin_climb(self.tree, cython.address(climbs[0]))
        if unlikely(climbs[0].tower == 0 or not is_tower(self.tree, climbs[0].tower, LEVELS)):
            moving = 0
            climbs[0].tower = 0
        for i in range(1, group.count):
            climbs[i] = climbs[0]
        while moving > 0 and moves < MOVES_MAX:
            moves += 1
            moving = 0
            for i in range(group.count):
                climb = cython.address(climbs[i])
                if climb.level == 0:
                    continue
                if advance(self.tree, self.blobs, keys[i].data, keys[i].size, climb):
                    prefetch_tower(self.blobs, climb)
                    moving += 1
                else:
                    prefetch_hints(likely_leaf(self.tree, self.base, self.blobs, climb.tower))
        for i in range(group.count):
            if not (
                enter_leaf(self.tree, self.base, self.blobs, climbs[i].tower, cython.address(group.spots[i]))
                and covers(self.tree, self.blobs, climbs[i].tower, keys[i].data, keys[i].size)
            ):
                group.spots[i].node = cython.NULL

    def _descend(self, key):
        climb: Climb
        begin_climb(self.tree, cython.address(climb))
        while advance(self.tree, self.blobs, key.data, key.size, cython.address(climb)):
            pass
        prefetch_half(self.tree, self.base, self.blobs, climb.tower, key.data, key.size)
        return node_at(self.base, tower_at(self.blobs, climb.tower).leaf)

    def _plant(self):
        tree: cython.pointer(Tree) = self.tree
        separator: Separator
        number: uint32_t
        ref: uint32_t
        separator.data = cython.NULL
        separator.size = 0
        separator.tail_size = 0
        ref = new_tower(self.store, cython.address(separator), LEVELS)
        number = self.store.new_node(0) if ref != 0 else 0
        if number == 0:
            self.store.free_blob(ref)
            return False
        tower_at(self.blobs, ref).leaf = number
        node_at(self.base, number).first = ref
        end_write(tree, node_at(self.base, number))
        store_release64(cython.address(tree.version), tree.version | 1)
        fence_release()
        tree.height = 1
        tree.tail = number
        store_release32(cython.address(tree.root), ref)
        tree.clock += 2
        store_release64(cython.address(tree.version), tree.clock)
        return True

    def _insert_tower(self, before, ref, leaf, right):
        """Put the tower of a new leaf on the right into the list. Requires: both leaves are being written."""
        after: uint32_t = next_of(link_at(tower_at(self.blobs, before), 0).word)
        neighbour: cython.pointer(Node)
        tower_at(self.blobs, ref).previous = before
        if after == 0:
            raise_tower(self.store, before, ref)
            return
        neighbour = node_at(self.base, tower_at(self.blobs, after).leaf)
        begin_write(neighbour)
        raise_tower(self.store, before, ref)
        store_release32(cython.address(tower_at(self.blobs, after).previous), ref)
        end_write(self.tree, neighbour)

    def _make_room(self, leaf, key, slot):
        tree: cython.pointer(Tree) = self.tree
        before: uint32_t = leaf.first
        after: uint32_t = next_of(link_at(tower_at(self.blobs, before), 0).word)
        cut: uint32_t = choose_cut(leaf, slot, before == tree.root, after == 0)
        right: cython.pointer(Node)
        separator: Separator
        number: uint32_t = 0
        ref: uint32_t
        if not find_separator(self.log, leaf, key, cut, cython.address(separator)):
            free(separator.buffer)
            return False
        ref = new_tower(self.store, cython.address(separator), draw_height(self.store, self.hash_key))
        free(separator.buffer)
        if ref != 0:
            number = self.store.new_node(0)
        if number == 0:
            self.store.free_blob(ref)
            key.error = ENOMEM
            key.bad_position = 0
            return False
        right = node_at(self.base, number)
        right.first = ref
        tower_at(self.blobs, ref).leaf = number
        begin_write(leaf)
        self._insert_tower(before, ref, leaf, right)
        ref = divide_leaf(
            self.store,
            leaf,
            right,
            cut,
            fence_of(self.store, before),
            fence_of(self.store, ref),
            fence_of(self.store, after),
            key,
        )
        end_write(tree, right)
        end_write(tree, leaf)
        self.store.free_blob(ref)
        if after == 0:
            tree.tail = number
        return True

    def _shrink(self, leaf, key):
        ref: uint32_t = leaf.first
        tower: cython.pointer(Tower) = tower_at(self.blobs, ref)
        before: uint32_t = tower.previous
        after: uint32_t = next_of(link_at(tower, 0).word)
        if before != 0 and can_join(node_at(self.base, tower_at(self.blobs, before).leaf), leaf):
            self._join(before, ref)
        elif after != 0 and can_join(leaf, node_at(self.base, tower_at(self.blobs, after).leaf)):
            self._join(ref, after)

    def _join(self, left, right):
        """Make the leaves of two towers that are neighbours one."""
        tree: cython.pointer(Tree) = self.tree
        tower: cython.pointer(Tower) = tower_at(self.blobs, right)
        after: uint32_t = next_of(link_at(tower, 0).word)
        number: uint32_t = tower.leaf
        leaf: cython.pointer(Node) = node_at(self.base, tower_at(self.blobs, left).leaf)
        gone: cython.pointer(Node) = node_at(self.base, number)
        neighbour: cython.pointer(Node) = cython.NULL
        joint: Joint
        prepare_join(
            self.store,
            leaf,
            gone,
            fence_of(self.store, left),
            fence_of(self.store, right),
            fence_of(self.store, after),
            cython.address(joint),
        )
        begin_write(leaf)
        begin_write(gone)
        if after != 0:
            neighbour = node_at(self.base, tower_at(self.blobs, after).leaf)
            begin_write(neighbour)
            store_release32(cython.address(tower_at(self.blobs, after).previous), left)
        fell_tower(self.store, left, right)
        apply_join(leaf, cython.address(joint))
        if neighbour != cython.NULL:
            end_write(tree, neighbour)
        end_write(tree, gone)
        end_write(tree, leaf)
        if tree.tail == number:
            tree.tail = tower_at(self.blobs, left).leaf
        self.store.free_node(number)
        self.store.free_blob(right)
        finish_join(self.store, self.log, leaf, cython.address(joint))

    def check(self) -> list[str]:
        """What is wrong with the list, one line each. Write lock held."""
        return check_list(self.store, self.log)
