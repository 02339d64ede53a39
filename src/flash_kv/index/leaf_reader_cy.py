"""The reading side that the ordered indexes share: what is done with a leaf, beside a writer and without a lock.

The ordered kinds keep their entries in the same leaves (btree_leaf_cy) and differ in the way to a leaf: `_find_leaf`,
`_find_leaves` and `_walk_once` are theirs. Each leaf has a version, odd while it is being written and never used twice.
A kind hands over a leaf and the version at which it was the one for the key; what is read in it after that counts when
it still has that version. What is read in between may be garbage: numbers are bounded before they are followed, loops
end, and nothing is concluded before the check. A search that fails a check starts again.

Where keys were found is remembered (Recall): what is asked for again and again is found without a descent, as long as
its leaf was not written.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import (
    NODE_SLOTS,
    TAG_MASK,
    Node,
    bound_in_line,
    candidate,
    leaf_bound,
    leaf_head,
    line_of,
    mix_key,
    node_at,
    node_number,
    prefetch_lines,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.index_cy import HOLD_NO, HOLD_UNKNOWN, HOLD_YES, Index
from cython.cimports.flash_kv.index.leaf_reader_cy import (
    GROUP,
    RECALL_BITS,
    Group,
    Recall,
    Spot,
    is_unchanged,
    mark_of,
)
from cython.cimports.flash_kv.index.leaf_walk_cy import WALK_FAILED
from cython.cimports.flash_kv.intrinsics import (
    load_acquire64,
    load_fenced64,
    load_relaxed64,
    prefetch,
    unlikely,
)
from cython.cimports.flash_kv.io.memory_cy import calloc
from cython.cimports.flash_kv.log.format import ENTRY_ERROR, ENTRY_VERSIONED
from cython.cimports.flash_kv.log.table_cy import MATCH_NO, MATCH_YES, MatchResult, match_key, prefetch_record
from cython.cimports.libc.stdint import int64_t, uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.posix.unistd import usleep


@cython.cclass
class LeafReader(Index):
    """Searches; what writes, and what knows the way to a leaf, derives from it."""

    def __cinit__(self, table, hash_key):
        self.needs_hash = False
        self.is_ordered = True
        self.store = NodeStore()
        self.tree = self.store.tree
        self.base = self.store.base
        self.blobs = self.store.blobs
        self.recalls = cython.cast(cython.pointer(Recall), calloc(1 << RECALL_BITS, cython.sizeof(Recall)))
        if self.recalls == cython.NULL:
            raise MemoryError("no memory for an index")

    def __dealloc__(self):
        free(self.recalls)

    def memory_bytes(self):
        return self.store.memory_bytes() + (cython.sizeof(Recall) << RECALL_BITS)

    def walk(self, state, entries, capacity):
        result: int64_t
        tries: uint32_t = 0
        state.is_done = False
        state.error = 0
        state.bad_position = 0
        while capacity > 0:
            result = self._walk_once(state, entries, capacity)
            if result >= 0:
                return result
            if result == WALK_FAILED:
                return 0
            tries += 1
            if tries % 64 == 0:
                # The writer may have been put off the processor in the middle of a change.
                usleep(20)
        return 0

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
        if is_unchanged(cython.address(leaf)) and match_key(self.log, entry[0], key) == MATCH_YES:
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

    def _find_leaf(self, key, spot):
        return False

    def _walk_once(self, state, entries, capacity):
        return WALK_FAILED

    def _find_leaves(self, keys, group):
        pass

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
            if unlikely(not is_unchanged(cython.address(leaf))):
                return False
            match = match_key(self.log, entry[0], key)
            if match == MATCH_YES:
                self.remember(mixed, leaf.node, leaf.version, slot)
                return True
            # The record was another's if the entry was replaced and what it named was used again.
            if unlikely(
                load_relaxed64(cython.address(leaf.node.slots[slot].value)) != entry[0]
                or not is_unchanged(cython.address(leaf))
            ):
                return False
            # Damage to another key's record must not hide this one: only if none of the rest is it, it cannot be told.
            is_unreadable = is_unreadable or match != MATCH_NO
            entry[0] = 0
            slot = candidate(leaf.node, slot, head)
        if unlikely(is_unreadable):
            entry[0] = ENTRY_ERROR
        return is_unchanged(cython.address(leaf))

    def find_many(self, keys, count, entries):
        start: uint64_t = 0
        size: uint32_t
        while start < count:
            size = cython.cast(uint32_t, min(count - start, cython.cast(uint64_t, GROUP)))
            self._find_group(keys + start, size, entries + start)
            start += size

    def _aim(self, keys, group):
        """Bring in, for each key of a group, the line of slots of its leaf in which it would be."""
        spot: cython.pointer(Spot)
        i: uint32_t
        for i in range(group.count):
            spot = cython.address(group.spots[i])
            if unlikely(spot.node == cython.NULL):
                continue
            group.heads[i] = leaf_head(
                keys[i].data, keys[i].size, spot.node.skip, mix_key(keys[i].data, keys[i].size)
            )
            group.numbers[i] = line_of(spot.node, group.heads[i] | TAG_MASK)
            prefetch(cython.address(spot.node.slots[group.numbers[i]]))

    def _find_group(self, keys, count, entries):
        """Up to GROUP keys. One that meets a change, or another's record, is looked for again alone."""
        group: Group
        spot: cython.pointer(Spot)
        slot: uint32_t
        i: uint32_t
        group.count = count
        self._find_leaves(keys, cython.address(group))
        self._aim(keys, cython.address(group))
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
            if unlikely(not is_unchanged(spot)):
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
            self._aim(keys + start, cython.address(group))
            for i in range(group.count):
                leaf = cython.address(group.spots[i])
                answers[start + i] = HOLD_UNKNOWN
                if leaf.node == cython.NULL:
                    continue
                self._note(cython.address(keys[start + i]), leaf)
                bound = bound_in_line(leaf.node, group.numbers[i], group.heads[i] | TAG_MASK)
                answers[start + i] = self._hold(leaf, group.heads[i], bound, positions[start + i])
                if not is_unchanged(leaf):
                    answers[start + i] = HOLD_UNKNOWN
            start += group.count
