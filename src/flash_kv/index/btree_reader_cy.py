"""The reading side of the B-tree index: searches beside a writer and without a lock.

Optimistic lock coupling (Leis et al. 2016): each node has a version, odd while the node is being written and never
used twice. A reader reads the version, then what it needs, then the version again; on the way down the parent's
version is checked once more after the child's was read. A writer that moves keys between nodes marks parent and
children all at once, so a reader that passed has the right child. What is read in between may be garbage: numbers are
bounded before they are followed, loops end, and nothing is concluded before the check. A search that fails a check
starts again at the root.

A search costs the memory about one cache miss in the leaf and one at the record. The first would be two (which line
of slots is needed stands in the hints), so the half of the leaf where the key should be is fetched with the hints; of
the node above the leaf too, for there are many of those and the smaller caches do not hold them all.

Where keys were found is remembered (Recall): what is asked for again and again is found without a descent, as long as
its leaf was not written.
"""

import cython
from cython.cimports.flash_kv.index.btree_inner_cy import route
from cython.cimports.flash_kv.index.btree_leaf_cy import prefetch_record
from cython.cimports.flash_kv.index.btree_node import (
    NODE_SLOTS,
    TAG_MASK,
    Node,
    Tree,
    bound_in_line,
    candidate,
    child_of,
    head_of,
    leaf_bound,
    leaf_head,
    line_of,
    mix_key,
    node_at,
    node_number,
    prefetch_child,
    prefetch_hints,
    prefetch_line,
    prefetch_lines,
)
from cython.cimports.flash_kv.index.btree_reader_cy import (
    GROUP,
    RECALL_BITS,
    Group,
    Recall,
    Spot,
    mark_of,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.btree_walk_cy import walk_tree
from cython.cimports.flash_kv.index.index_cy import HOLD_NO, HOLD_UNKNOWN, HOLD_YES, Index
from cython.cimports.flash_kv.intrinsics import (
    fence_acquire,
    load_acquire64,
    load_fenced64,
    load_relaxed64,
    unlikely,
)
from cython.cimports.flash_kv.io.memory_cy import calloc
from cython.cimports.flash_kv.log.format import ENTRY_ERROR, ENTRY_VERSIONED
from cython.cimports.flash_kv.log.table_cy import (
    MATCH_NO,
    MATCH_YES,
    MatchResult,
    match_key,
)
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.posix.unistd import usleep


@cython.cfunc
@cython.inline
@cython.nogil
@cython.exceptval(check=False)
def _is_unchanged(spot: cython.pointer(Spot)) -> cython.bint:
    """May be concluded from what was read in the node?"""
    fence_acquire()
    return load_relaxed64(cython.address(spot.node.version)) == spot.version


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


@cython.cclass
class BTreeReader(Index):
    """Searches; what writes derives from it."""

    def __cinit__(self, table, hash_key):
        self.needs_hash = False
        self.is_ordered = True
        self.store = NodeStore()
        self.tree = self.store.tree
        self.base = self.store.base
        self.blobs = self.store.blobs
        self.recalls = cython.cast(cython.pointer(Recall), calloc(1 << RECALL_BITS, cython.sizeof(Recall)))
        if self.recalls == cython.NULL:
            raise MemoryError("no memory for a B-tree")

    def __dealloc__(self):
        free(self.recalls)

    def memory_bytes(self):
        return self.store.memory_bytes() + (cython.sizeof(Recall) << RECALL_BITS)

    def walk(self, state, entries, capacity):
        return walk_tree(self.store, self.log, state, entries, capacity)

    def find(self, key):
        entry: uint64_t = 0
        tries: uint32_t = 0
        slot: uint32_t = 0
        mixed: uint64_t = mix_key(key.data, key.size)
        if self.recall(key, mixed, cython.address(slot), cython.address(entry)) != cython.NULL:
            return entry
        while not self._find_once(key, mixed, cython.address(entry)):
            tries += 1
            if tries % 64 == 0:
                # The writer may have been put off the processor in the middle of a change.
                usleep(20)
        return entry

    def recall(self, key, mixed, slot, entry):
        """Look where a key with this mix was found before: the leaf, or NULL when the key is not there now. A leaf that
        has the version still has not changed in any way, versions being unique; the record tells whether it is the
        same key."""
        recall: cython.pointer(Recall) = cython.address(self.recalls[mixed >> (64 - RECALL_BITS)])
        mark: uint32_t = recall.mark
        leaf: Spot
        if (mark ^ mark_of(mixed)) >> 6 != 0 or recall.leaf >= self.tree.nodes_size:
            return cython.NULL
        slot[0] = mark & 63
        leaf.node = node_at(self.base, recall.leaf)
        leaf.version = recall.version
        if load_acquire64(cython.address(leaf.node.version)) != leaf.version or slot[0] >= NODE_SLOTS:
            return cython.NULL
        entry[0] = load_fenced64(cython.address(leaf.node.slots[slot[0]].value))
        if _is_unchanged(cython.address(leaf)) and match_key(self.log, entry[0], key) == MATCH_YES:
            self._note(key, cython.address(leaf))
            return leaf.node
        return cython.NULL

    def _note(self, key, leaf):
        """Leave the key's leaf with the key."""
        key.place = node_number(self.base, leaf.node)
        key.place_version = leaf.version

    def place_of(self, key):
        """The leaf that was noted, NULL when it has changed. Versions being unique, one that is the same has the same
        keys and stands between the same separators."""
        leaf: cython.pointer(Node)
        if key.place == 0 or key.place >= self.tree.nodes_size:
            return cython.NULL
        leaf = node_at(self.base, key.place)
        return leaf if leaf.version == key.place_version else cython.NULL

    def warm(self, key):
        if key.place != 0:
            prefetch_lines(node_at(self.base, key.place), 0, 15)

    def remember(self, mixed, leaf, version, slot):
        """Several readers may do this at once and leave a mixture; `recall` does not mind."""
        recall: cython.pointer(Recall) = cython.address(self.recalls[mixed >> (64 - RECALL_BITS)])
        recall.version = version
        recall.leaf = node_number(self.base, leaf)
        recall.mark = mark_of(mixed) | slot

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

    def _find_once(self, key, mixed, entry):
        """False when something changed meanwhile and the search must start again."""
        leaf: Spot
        head: uint64_t
        slot: uint32_t
        match: MatchResult
        is_unreadable: cython.bint = False
        entry[0] = 0
        if unlikely(not self._find_leaf(key, cython.address(leaf))):
            return False
        if unlikely(leaf.node == cython.NULL):
            return True
        self._note(key, cython.address(leaf))
        head = leaf_head(key.data, key.size, leaf.node.skip, mixed)
        slot = candidate(leaf.node, leaf_bound(leaf.node, head), head)
        while slot > 0:
            slot -= 1
            entry[0] = load_fenced64(cython.address(leaf.node.slots[slot].value))
            if unlikely(not _is_unchanged(cython.address(leaf))):
                return False
            match = match_key(self.log, entry[0], key)
            if match == MATCH_YES:
                self.remember(mixed, leaf.node, leaf.version, slot)
                return True
            # The record was another's if the entry was replaced and what it named was used again.
            if unlikely(
                load_relaxed64(cython.address(leaf.node.slots[slot].value)) != entry[0]
                or not _is_unchanged(cython.address(leaf))
            ):
                return False
            # Damage to another key's record must not hide this one: only if none of the rest is it, it cannot be told.
            is_unreadable = is_unreadable or match != MATCH_NO
            entry[0] = 0
            slot = candidate(leaf.node, slot, head)
        if unlikely(is_unreadable):
            entry[0] = ENTRY_ERROR
        return _is_unchanged(cython.address(leaf))

    def find_many(self, keys, count, entries):
        start: uint64_t = 0
        size: uint32_t
        while start < count:
            size = cython.cast(uint32_t, min(count - start, cython.cast(uint64_t, GROUP)))
            self._find_group(keys + start, size, entries + start)
            start += size

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
        for i in range(group.count):
            spot = cython.address(group.spots[i])
            if unlikely(spot.node == cython.NULL):
                continue
            group.heads[i] = leaf_head(
                keys[i].data, keys[i].size, spot.node.skip, mix_key(keys[i].data, keys[i].size)
            )
            group.numbers[i] = line_of(spot.node, group.heads[i] | TAG_MASK)
            prefetch_line(cython.address(spot.node.slots[group.numbers[i]]))

    def _find_group(self, keys, count, entries):
        """Up to GROUP keys. One that meets a change, or another's record, is looked for again alone."""
        group: Group
        spot: cython.pointer(Spot)
        slot: uint32_t
        i: uint32_t
        group.count = count
        self._find_leaves(keys, cython.address(group))
        for i in range(count):
            spot = cython.address(group.spots[i])
            entries[i] = 0
            if unlikely(spot.node == cython.NULL):
                continue
            self._note(cython.address(keys[i]), spot)
            slot = bound_in_line(spot.node, group.numbers[i], group.heads[i] | TAG_MASK)
            slot = candidate(spot.node, slot, group.heads[i])
            if slot > 0:
                entries[i] = load_fenced64(cython.address(spot.node.slots[slot - 1].value))
            if unlikely(not _is_unchanged(spot)):
                spot.node = cython.NULL
            elif entries[i] != 0:
                prefetch_record(self.log, entries[i])
        for i in range(count):
            if group.spots[i].node == cython.NULL or (
                entries[i] != 0 and match_key(self.log, entries[i], cython.address(keys[i])) != MATCH_YES
            ):
                entries[i] = self.find(cython.address(keys[i]))

    def _hold(self, leaf, head, bound, position):
        """Is the position the entry of one of the slots with this head before `bound`? An entry names one record, so
        the key need not be compared."""
        entry: uint64_t
        answer: uint8_t = HOLD_NO
        bound = candidate(leaf.node, bound, head)
        while bound > 0:
            entry = load_fenced64(cython.address(leaf.node.slots[bound - 1].value))
            if entry == position:
                return HOLD_YES
            if entry & ENTRY_VERSIONED:
                answer = HOLD_UNKNOWN
            bound = candidate(leaf.node, bound - 1, head)
        return answer

    def hold_many(self, keys, positions, count, answers):
        """Without a look at any record: the position itself is what is looked for."""
        group: Group
        leaf: cython.pointer(Spot)
        start: uint64_t = 0
        bound: uint32_t
        i: uint32_t
        while start < count:
            group.count = cython.cast(uint32_t, min(count - start, cython.cast(uint64_t, GROUP)))
            self._find_leaves(keys + start, cython.address(group))
            for i in range(group.count):
                leaf = cython.address(group.spots[i])
                answers[start + i] = HOLD_UNKNOWN
                if leaf.node == cython.NULL:
                    continue
                self._note(cython.address(keys[start + i]), leaf)
                bound = bound_in_line(leaf.node, group.numbers[i], group.heads[i] | TAG_MASK)
                answers[start + i] = self._hold(leaf, group.heads[i], bound, positions[start + i])
                if not _is_unchanged(leaf):
                    answers[start + i] = HOLD_UNKNOWN
            start += group.count
