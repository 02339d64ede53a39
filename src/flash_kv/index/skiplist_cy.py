"""The skip list index: an unrolled skip list (Pugh 1990) whose keys stay in the log.

The lowest level is a list of leaves, the same as those of the B-tree (btree_node.pxd): 58 slots of 8 key bytes and an
entry. Before each leaf stands a mark with the leaf's separator, the shortest string that tells its keys from those on
its left, and with links to the marks on both sides. Lanes lead past marks, and lanes of a higher level past lanes; a
keyed hash draws where lanes begin, and nothing is ever balanced (skiplist_lane.pxd draws both). Lanes are unrolled as
leaves are: what a list of links would lead past one by one stands in one array, and is found with one search in it.

A link or an entry of a lane holds 8 bytes of a separator, after those that it shares with its neighbours. A search
knows how many bytes its key shares with the separator it is at, and so looks at no byte of the key twice and hardly
ever at a separator; long common beginnings cost nothing.

Readers take no lock. Lanes may change under a search and lead it astray; where it ends is checked: a leaf belongs to
its mark, and a key belongs between the mark and the next one, as long as the leaf has its version. A writer declares a
leaf as being written before it changes the links or the existence of its mark. What follows in the leaf is the same for
all ordered kinds (leaf_reader_cy, leaf_index_cy).

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
from cython.cimports.flash_kv.index.skiplist_check_cy import check_list, longest_lanes
from cython.cimports.flash_kv.index.skiplist_lane import (
    Mark,
    Search,
    begin_search,
    covers,
    enter_leaf,
    go_down,
    likely_leaf,
    mark_at,
    next_of,
    prefetch_half,
    prefetch_next,
)
from cython.cimports.flash_kv.index.skiplist_lane_cy import Way, new_lane
from cython.cimports.flash_kv.index.skiplist_mark_cy import (
    SPLIT_BYTES,
    SPLIT_BYTES_MAX,
    Growth,
    drop_growth,
    fence_of,
    insert_mark,
    new_mark,
    prepare_growth,
    prepare_removal,
    remove_mark,
)
from cython.cimports.flash_kv.index.skiplist_walk_cy import walk_once
from cython.cimports.flash_kv.intrinsics import fence_release, store_release32, store_release64, unlikely
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint32_t, uint64_t
from cython.cimports.libc.stdlib import free


@cython.final
@cython.cclass
class SkipListIndex(LeafIndex):
    """Entries by key, in key order."""

    def __cinit__(self, table, hash_key):
        self.store.split_bytes = SPLIT_BYTES
        self.store.split_bytes_max = SPLIT_BYTES_MAX
        if self.store.reserve(1) != 0:
            raise MemoryError("no memory for an index")

    def _walk_once(self, state, entries, capacity):
        return walk_once(self.store, self.log, state, entries, capacity)

    def _find_leaf(self, key, spot):
        search: Search
        begin_search(self.tree, cython.address(search))
        spot.node = cython.NULL
        if unlikely(search.at == 0):
            return True
        while search.level > 0:
            if unlikely(not go_down(self.tree, self.blobs, key.data, key.size, cython.address(search))):
                return False
            prefetch_next(self.blobs, cython.address(search))
        prefetch_half(self.tree, self.base, self.blobs, search.at, key.data, key.size)
        return enter_leaf(self.tree, self.base, self.blobs, search.at, spot) and covers(
            self.tree, self.blobs, search.at, key.data, key.size
        )

    def _find_leaves(self, keys, group):
        """All keys go down a level in turn, so that their cache misses overlap."""
        searches: Search[16]
        search: cython.pointer(Search)
        level: uint32_t
        i: uint32_t
        begin_search(self.tree, cython.address(searches[0]))
        for i in range(1, group.count):
            searches[i] = searches[0]
        for level in range(searches[0].level):
            for i in range(group.count):
                search = cython.address(searches[i])
                if unlikely(
                    search.at != 0 and not go_down(self.tree, self.blobs, keys[i].data, keys[i].size, search)
                ):
                    search.at = 0
                prefetch_next(self.blobs, search)
        for i in range(group.count):
            prefetch_hints(likely_leaf(self.tree, self.base, self.blobs, searches[i].at))
        for i in range(group.count):
            if not (
                enter_leaf(self.tree, self.base, self.blobs, searches[i].at, cython.address(group.spots[i]))
                and covers(self.tree, self.blobs, searches[i].at, keys[i].data, keys[i].size)
            ):
                group.spots[i].node = cython.NULL

    def _descend(self, key):
        search: Search
        begin_search(self.tree, cython.address(search))
        while search.level > 0:
            go_down(self.tree, self.blobs, key.data, key.size, cython.address(search))
            prefetch_next(self.blobs, cython.address(search))
        prefetch_half(self.tree, self.base, self.blobs, search.at, key.data, key.size)
        return self._leaf_of(search.at)

    def _leaf_of(self, ref):
        return node_at(self.base, mark_at(self.blobs, ref).leaf)

    def _plant(self):
        tree: cython.pointer(Tree) = self.tree
        separator: Separator
        number: uint32_t = 0
        lane: uint32_t = 0
        ref: uint32_t
        separator.data = cython.NULL
        separator.size = 0
        separator.tail = 0
        separator.tail_size = 0
        ref = new_mark(self.store, cython.address(separator))
        if ref != 0:
            lane = new_lane(self.store, ref, ref, 1)
        if lane != 0:
            number = self.store.new_node(0)
        if number == 0:
            self.store.free_blob(ref)
            self.store.free_blob(lane)
            return False
        store_release32(cython.address(mark_at(self.blobs, ref).leaf), number)
        store_release32(cython.address(node_at(self.base, number).first), ref)
        end_write(tree, node_at(self.base, number))
        store_release64(cython.address(tree.version), tree.version | 1)
        fence_release()
        tree.height = 1
        tree.tail = number
        store_release64(cython.address(tree.top), cython.cast(uint64_t, 1) << 32 | lane)
        store_release32(cython.address(tree.root), ref)
        tree.clock += 2
        store_release64(cython.address(tree.version), tree.clock)
        return True

    def _make_room(self, leaf, key, slot):
        before: uint32_t = leaf.first
        after: uint32_t = next_of(mark_at(self.blobs, before).next.word)
        cut: uint32_t = choose_cut(leaf, slot, before == self.tree.root, after == 0)
        separator: Separator
        growth: Growth
        number: uint32_t = 0
        ref: uint32_t
        if not find_separator(self.log, leaf, key, cut, cython.address(separator)):
            free(separator.buffer)
            return False
        ref = new_mark(self.store, cython.address(separator))
        free(separator.buffer)
        if ref != 0 and prepare_growth(self.store, self.hash_key, before, cython.address(growth)):
            number = self.store.new_node(0)
            if number == 0:
                drop_growth(self.store, cython.address(growth))
        if number == 0:
            self.store.free_blob(ref)
            key.error = ENOMEM
            key.bad_position = 0
            return False
        store_release32(cython.address(mark_at(self.blobs, ref).leaf), number)
        store_release32(cython.address(node_at(self.base, number).first), ref)
        self._split(leaf, key, cut, ref, cython.address(growth))
        return True

    def _split(self, leaf, key, cut, ref, growth):
        """Give the slots from `cut` on to the leaf of a mark that is not in the list yet, and put it there."""
        tree: cython.pointer(Tree) = self.tree
        before: uint32_t = leaf.first
        after: uint32_t = next_of(mark_at(self.blobs, before).next.word)
        right: cython.pointer(Node) = self._leaf_of(ref)
        neighbour: cython.pointer(Node) = cython.NULL
        unused: uint32_t
        begin_write(leaf)
        if after != 0:
            neighbour = self._leaf_of(after)
            begin_write(neighbour)
        insert_mark(self.store, before, ref, growth)
        unused = divide_leaf(
            self.store,
            leaf,
            right,
            cut,
            fence_of(self.store, before),
            fence_of(self.store, ref),
            fence_of(self.store, after),
            key,
        )
        if neighbour != cython.NULL:
            end_write(tree, neighbour)
        end_write(tree, right)
        end_write(tree, leaf)
        self.store.free_blob(unused)
        if after == 0:
            tree.tail = mark_at(self.blobs, ref).leaf

    def _shrink(self, leaf, key):
        ref: uint32_t = leaf.first
        mark: cython.pointer(Mark) = mark_at(self.blobs, ref)
        after: uint32_t = next_of(mark.next.word)
        if mark.previous != 0 and can_join(self._leaf_of(mark.previous), leaf):
            self._join(mark.previous, ref)
        elif after != 0 and can_join(leaf, self._leaf_of(after)):
            self._join(ref, after)

    def _join(self, left, right):
        """Make the leaves of two marks that are neighbours one; without memory they stay two."""
        tree: cython.pointer(Tree) = self.tree
        after: uint32_t = next_of(mark_at(self.blobs, right).next.word)
        number: uint32_t = mark_at(self.blobs, right).leaf
        leaf: cython.pointer(Node) = self._leaf_of(left)
        gone: cython.pointer(Node) = self._leaf_of(right)
        neighbour: cython.pointer(Node) = cython.NULL
        joint: Joint
        way: Way
        if not prepare_removal(self.store, left, cython.address(way)):
            return
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
            neighbour = self._leaf_of(after)
            begin_write(neighbour)
        remove_mark(self.store, left, cython.address(way))
        apply_join(leaf, cython.address(joint))
        if neighbour != cython.NULL:
            end_write(tree, neighbour)
        end_write(tree, gone)
        end_write(tree, leaf)
        if tree.tail == number:
            tree.tail = mark_at(self.blobs, left).leaf
        self.store.free_node(number)
        self.store.free_blob(right)
        finish_join(self.store, self.log, leaf, cython.address(joint))

    def shape(self) -> list[int]:
        """The entries of the longest lane of each level, from the lowest. Write lock held."""
        return longest_lanes(self.store)

    def check(self) -> list[str]:
        """What is wrong with the list, one line each. Write lock held."""
        return check_list(self.store, self.log)
