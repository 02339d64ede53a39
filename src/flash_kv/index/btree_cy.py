"""The ordered index: a B+ tree whose keys stay in the log.

A node is 1 KiB: 58 slots of 8 key bytes and 8 bytes of value, and 14 hints that lead a search to one cache line of
slots (btree_node.pxd draws it). A leaf's values are entries, an inner node's are children with the separators
between them (btree_inner_cy). Which 8 bytes of the key a node holds is decided for each node (btree_leaf_cy), so
that short random keys, decimal numbers and addresses with long common beginnings are all told apart without the log.

Readers take no lock (optimistic lock coupling, Leis et al. 2016). Each node has a version, odd while the node is being
written and never used twice; a reader reads the version, then what it needs, then the version again. On the way down
the parent's version is checked once more after the child's was read: a writer that moves keys between nodes marks
parent and children all at once, so a reader that passed has the right child. What is read in between may be garbage:
numbers are bounded before they are followed, loops end, and nothing is concluded before the check.

Memory: 16.6 bytes a key when keys arrive in order, about 24 when they arrive at random.

Invariants: see `btree_check_cy`, which checks them. One writer at a time; it changes nodes from the top down in steps
that each leave a correct tree, and takes all memory that a step needs before its first change.
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
    merge_leaf,
    raise_leaf,
    seek_leaf,
    split_leaf,
)
from cython.cimports.flash_kv.index.btree_node import (
    HEIGHT_MAX,
    NODE_SLOTS,
    NODE_SLOTS_MIN,
    Node,
    Path,
    Tree,
    begin_write,
    blob_at,
    blob_data,
    bound_in_line,
    child_of,
    end_write,
    head_of,
    insert_slot,
    line_of,
    node_at,
    prefetch_node,
    remove_slot,
    upper_bound,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.index.btree_walk_cy import walk_tree
from cython.cimports.flash_kv.index.index_cy import Index
from cython.cimports.flash_kv.intrinsics import (
    fence_acquire,
    fence_release,
    load_acquire64,
    prefetch,
    store_release64,
    unlikely,
)
from cython.cimports.flash_kv.log.format import ENTRY_ERROR, offset_of, segment_of
from cython.cimports.flash_kv.log.table_cy import (
    MATCH_NO,
    MATCH_YES,
    Key,
    MatchResult,
    SegmentRef,
    match_key,
    newest_position,
    segment_ref,
)
from cython.cimports.libc.errno import ENOMEM
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.string import memcmp
from cython.cimports.posix.unistd import usleep

# Keys looked for together: enough to keep the memory busy, few enough that what was fetched is still in cache.
GROUP = cython.declare(uint32_t, 16)


@cython.final
@cython.cclass
class BTreeIndex(Index):
    """Entries by key, in key order."""

    def __cinit__(self, table, hash_key):
        self.needs_hash = False
        self.is_ordered = True
        self.store = NodeStore()
        self.tree = self.store.tree
        self.base = self.store.base
        self.blobs = self.store.blobs

    def reserve(self, count):
        return self.store.reserve(count)

    def memory_bytes(self):
        return self.store.memory_bytes()

    def clear(self):
        self.store.reset()

    def find(self, key):
        entry: uint64_t = 0
        tries: uint32_t = 0
        while not self._find_once(key, cython.address(entry)):
            tries += 1
            if tries % 64 == 0:
                # The writer may have been put off the processor in the middle of a change.
                usleep(20)
        return entry

    def _find_once(self, key, entry):
        """False when something changed meanwhile and the search must start again."""
        tree: cython.pointer(Tree) = self.tree
        root_version: uint64_t = load_acquire64(cython.address(tree.version))
        level: uint32_t = tree.height
        number: uint32_t = tree.root
        node: cython.pointer(Node)
        child: cython.pointer(Node)
        version: uint64_t
        child_version: uint64_t
        head: uint64_t
        slot: uint32_t
        match: MatchResult
        if unlikely(level == 0):
            entry[0] = 0
            fence_acquire()
            return tree.version == root_version and not root_version & 1
        if unlikely(number >= tree.nodes_size):
            return False
        node = node_at(self.base, number)
        version = load_acquire64(cython.address(node.version))
        fence_acquire()
        if unlikely((root_version | version) & 1 or tree.version != root_version):
            return False
        while level > 1:
            number = child_of(node, route(tree, self.blobs, node, key))
            if unlikely(number >= tree.nodes_size):
                return False
            child = node_at(self.base, number)
            prefetch_node(child)
            child_version = load_acquire64(cython.address(child.version))
            fence_acquire()
            if unlikely(node.version != version or child_version & 1):
                return False
            node = child
            version = child_version
            level -= 1
        head = head_of(key.data, key.size, node.skip)
        slot = upper_bound(node, head)
        entry[0] = 0
        if slot == 0 or node.slots[slot - 1].head != head:
            fence_acquire()
            return node.version == version
        slot -= 1
        entry[0] = node.slots[slot].value
        fence_acquire()
        if unlikely(node.version != version):
            return False
        match = match_key(self.log, entry[0], key)
        if match == MATCH_YES:
            return True
        # The record was another's if the entry was replaced and what it named was used again.
        fence_acquire()
        if unlikely(node.version != version or node.slots[slot].value != entry[0]):
            return False
        if match != MATCH_NO:
            entry[0] = ENTRY_ERROR
            return True
        entry[0] = 0
        if slot > 0 and node.slots[slot - 1].head == head:
            return self._find_tied(node, version, key, entry)
        fence_acquire()
        return node.version == version

    def _find_tied(self, leaf, version, key, entry):
        """As `_find_once`, in a leaf where several slots have the key's head."""
        slot: uint32_t = 0
        result: SeekResult = seek_leaf(self.log, leaf, key, cython.address(slot))
        entry[0] = 0
        if result == SEEK_FAILED:
            entry[0] = ENTRY_ERROR
        elif result == SEEK_FOUND and slot < NODE_SLOTS:
            entry[0] = leaf.slots[slot].value
        fence_acquire()
        return leaf.version == version

    def find_many(self, keys, count, entries):
        start: uint64_t = 0
        size: uint32_t
        while start < count:
            size = cython.cast(uint32_t, min(count - start, cython.cast(uint64_t, GROUP)))
            self._find_group(cython.address(keys[start]), size, cython.address(entries[start]))
            start += size

    def _find_group(self, keys, count, entries):
        """Up to GROUP keys, level by level, so that their cache misses overlap. A key that meets a change is looked
        for again alone."""
        tree: cython.pointer(Tree) = self.tree
        root_version: uint64_t = load_acquire64(cython.address(tree.version))
        level: uint32_t = tree.height
        root: uint32_t = tree.root
        nodes: cython.pointer(Node)[16]
        versions: uint64_t[16]
        heads: uint64_t[16]
        lines: uint32_t[16]
        node: cython.pointer(Node)
        child: cython.pointer(Node)
        ref: cython.pointer(SegmentRef)
        version: uint64_t
        position: uint64_t
        number: uint32_t
        slot: uint32_t
        i: uint32_t
        if level == 0 or root >= tree.nodes_size or count < 2:
            for i in range(count):
                entries[i] = self.find(cython.address(keys[i]))
            return
        node = node_at(self.base, root)
        version = load_acquire64(cython.address(node.version))
        fence_acquire()
        if (root_version | version) & 1 or tree.version != root_version:
            node = cython.NULL
        for i in range(count):
            nodes[i] = node
            versions[i] = version
        while level > 1:
            for i in range(count):
                node = nodes[i]
                if unlikely(node == cython.NULL):
                    continue
                number = child_of(node, route(tree, self.blobs, node, cython.address(keys[i])))
                lines[i] = number
                if unlikely(number >= tree.nodes_size):
                    nodes[i] = cython.NULL
                    continue
                prefetch_node(node_at(self.base, number))
            for i in range(count):
                node = nodes[i]
                if unlikely(node == cython.NULL):
                    continue
                child = node_at(self.base, lines[i])
                version = load_acquire64(cython.address(child.version))
                fence_acquire()
                if unlikely(node.version != versions[i] or version & 1):
                    nodes[i] = cython.NULL
                    continue
                nodes[i] = child
                versions[i] = version
            level -= 1
        for i in range(count):
            node = nodes[i]
            if unlikely(node == cython.NULL):
                continue
            heads[i] = head_of(keys[i].data, keys[i].size, node.skip)
            lines[i] = line_of(node, heads[i])
            prefetch(cython.address(node.slots[lines[i]]))
        for i in range(count):
            node = nodes[i]
            entries[i] = 0
            if unlikely(node == cython.NULL):
                continue
            slot = bound_in_line(node, lines[i], heads[i])
            if slot > 0 and node.slots[slot - 1].head == heads[i]:
                entries[i] = node.slots[slot - 1].value
            fence_acquire()
            if unlikely(node.version != versions[i]):
                nodes[i] = cython.NULL
            elif entries[i] != 0 and self.log.is_mapped:
                position = newest_position(self.log, entries[i])
                ref = segment_ref(self.log, segment_of(position))
                if ref != cython.NULL and ref.data != cython.NULL:
                    prefetch(ref.data + offset_of(position))
                    prefetch(ref.data + offset_of(position) + 64)
        for i in range(count):
            if nodes[i] == cython.NULL or (
                entries[i] != 0 and match_key(self.log, entries[i], cython.address(keys[i])) != MATCH_YES
            ):
                entries[i] = self.find(cython.address(keys[i]))

    def walk(self, state, entries, capacity):
        return walk_tree(self.store, self.log, state, entries, capacity)

    def _descend(self, key, path):
        """The leaf for the key and the way to it. Write lock held; the tree is not empty."""
        tree: cython.pointer(Tree) = self.tree
        level: uint32_t = tree.height - 1
        number: uint32_t = tree.root
        node: cython.pointer(Node) = node_at(self.base, number)
        slot: uint32_t
        path.height = tree.height
        path.nodes[level] = number
        path.slots[0] = 0
        while level > 0:
            slot = route(tree, self.blobs, node, key)
            path.slots[level] = slot
            number = child_of(node, slot)
            node = node_at(self.base, number)
            prefetch_node(node)
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

    def _append(self, key, entry):
        """Insert a key that is above all others by its head, without a descent; False when it is not, or no room."""
        leaf: cython.pointer(Node) = node_at(self.base, self.tree.tail)
        head: uint64_t
        if self.tree.tail == 0 or leaf.count == 0 or leaf.count == NODE_SLOTS:
            return False
        if leaf.skip > leaf.fence_skip and (
            key.size < leaf.skip or memcmp(key.data, blob_data(blob_at(self.blobs, leaf.prefix)), leaf.skip) != 0
        ):
            return False
        head = head_of(key.data, key.size, leaf.skip)
        if head <= leaf.slots[leaf.count - 1].head:
            return False
        begin_write(leaf)
        insert_slot(leaf, leaf.count, head, entry)
        end_write(self.tree, leaf)
        self.tree.count += 1
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
        leaf: cython.pointer(Node)
        slot: uint32_t = 0
        old: uint64_t
        result: SeekResult
        if key.size > self.store.key_size_max:
            self.store.key_size_max = key.size
        if self._append(key, entry):
            return 0
        if self.tree.height == 0 and not self._plant():
            key.error = ENOMEM
            key.bad_position = 0
            return ENTRY_ERROR
        while True:
            leaf = self._descend(key, cython.address(path))
            admit(self.store, leaf, key)
            result = seek_leaf(self.log, leaf, key, cython.address(slot))
            if unlikely(result == SEEK_FAILED):
                return ENTRY_ERROR
            if result == SEEK_FOUND:
                old = leaf.slots[slot].value
                store_release64(cython.address(leaf.slots[slot].value), entry)
                return old
            if leaf.count < NODE_SLOTS:
                break
            if not self._make_room(cython.address(path), key, slot):
                return ENTRY_ERROR
        begin_write(leaf)
        insert_slot(leaf, slot, head_of(key.data, key.size, leaf.skip), entry)
        end_write(self.tree, leaf)
        self.tree.count += 1
        if unlikely(result == SEEK_TIED):
            raise_leaf(self.store, self.log, leaf)
        return 0

    def remove(self, key):
        path: Path
        leaf: cython.pointer(Node)
        slot: uint32_t = 0
        old: uint64_t
        result: SeekResult
        if self.tree.height == 0:
            return 0
        leaf = self._descend(key, cython.address(path))
        # A key that does not share the leaf's prefix may find an equal head, but no equal key.
        result = seek_leaf(self.log, leaf, key, cython.address(slot))
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
        leaf: cython.pointer(Node)
        head: uint64_t
        slot: uint32_t
        if self.tree.height == 0:
            return False
        leaf = self._descend(key, cython.address(path))
        head = head_of(key.data, key.size, leaf.skip)
        slot = upper_bound(leaf, head)
        # An entry names one record or chain, so one that is equal is the key's: the log need not be read.
        while slot > 0 and leaf.slots[slot - 1].head == head:
            slot -= 1
            if leaf.slots[slot].value == old:
                store_release64(cython.address(leaf.slots[slot].value), new)
                return True
        return False

    def check(self) -> list[str]:
        """What is wrong with the tree, one line each. Write lock held."""
        return check_tree(self.store, self.log)
