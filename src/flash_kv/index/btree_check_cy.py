"""The invariants of a B-tree, checked: for tests, and for whoever suspects an index.

- Keys ascend from leaf to leaf; every key of a leaf is at or above the separator on its left, below that on its right.
- Heads are the keys' bytes after `skip`, hints are the heads of their lines, unused slots have the greatest head.
- All keys of a node share `skip` bytes; all keys between its separators share `fence_skip`.
- A leaf has a prefix blob exactly when `skip > fence_skip`; an inner node with `skip > fence_skip` has a separator.
- Every node is in the tree, in the free list, or is number 0; every version is even and at most the clock.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import (
    HEAD_MAX,
    HINT_MAX,
    NODE_HINTS,
    NODE_SLOTS,
    SEPARATOR_EXACT,
    Node,
    Tree,
    blob_at,
    blob_data,
    child_of,
    head_of,
    hint_of,
    is_in_range,
    is_tied,
    leaf_head,
    mix_key,
    node_at,
    separator_of,
)
from cython.cimports.flash_kv.index.btree_store_cy import NodeStore
from cython.cimports.flash_kv.log.table_cy import Key, TableState, load_key
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free


@cython.cclass
class _Checker:
    """One pass over the tree."""

    store: NodeStore
    log: cython.pointer(TableState)
    faults: list
    last: bytes | None
    keys: uint64_t
    seen: uint64_t

    @cython.cfunc
    def _blob(self, ref: uint32_t) -> bytes:
        blob = blob_at(self.store.blobs, ref)
        return blob_data(blob)[: blob.size]

    @cython.cfunc
    def _key(self, entry: uint64_t) -> bytes:
        buffer: cython.pointer(uint8_t) = cython.NULL
        capacity: uint64_t = 0
        size: uint32_t = 0
        key: Key
        data = load_key(
            self.log,
            entry,
            cython.address(size),
            cython.address(buffer),
            cython.address(capacity),
            cython.address(key),
        )
        if data == cython.NULL:
            raise ValueError(f"the record behind entry {entry:#x} cannot be read")
        found = data[:size]
        free(buffer)
        return found

    @cython.cfunc
    def _fault(self, number: uint32_t, text: str) -> object:
        self.faults.append(f"node {number}: {text}")

    @cython.cfunc
    def _check_layout(self, number: uint32_t, level: uint32_t) -> object:
        node: cython.pointer(Node) = node_at(self.store.base, number)
        i: uint32_t
        if node.level != level:
            self._fault(number, f"level {node.level}, reached at {level}")
        if node.version & 1 or node.version > self.store.tree.clock:
            self._fault(number, f"version {node.version}")
        if node.count > NODE_SLOTS:
            self._fault(number, f"{node.count} slots")
            return
        for i in range(node.count, NODE_SLOTS):
            if node.slots[i].head != HEAD_MAX:
                self._fault(number, f"unused slot {i} has a head")
        for i in range(1, node.count):
            if (node.slots[i].head < node.slots[i - 1].head) and not (
                level == 0 and is_tied(node.slots[i].head, node.slots[i - 1].head)
            ):
                self._fault(number, f"head {i} descends")
        if node.base > HEAD_MAX - (HEAD_MAX >> node.shift):
            self._fault(
                number, f"the range of the hints from {node.base:#x}, shift {node.shift}, ends nowhere"
            )
        for i in range(node.count):
            if not is_in_range(node, node.slots[i].head):
                self._fault(number, f"head {i} is out of the range of the hints")
        for i in range(NODE_HINTS):
            if node.hints[i] != (
                hint_of(node, node.slots[4 * i + 2].head) if 4 * i + 2 < node.count else HINT_MAX
            ):
                self._fault(number, f"hint {i} of {node.count} slots")
        if node.hints[NODE_HINTS] != HINT_MAX or node.hints[NODE_HINTS + 1] != HINT_MAX:
            self._fault(number, "padding of the hints")

    @cython.cfunc
    def _check_slot(self, number: uint32_t, i: uint32_t, key: bytes, prefix: bytes) -> object:
        node: cython.pointer(Node) = node_at(self.store.base, number)
        if not key.startswith(prefix):
            self._fault(number, f"slot {i} does not begin with {prefix!r}: {key[:80]!r}")
        data: cython.pointer(cython.const[uint8_t]) = key
        head: uint64_t = head_of(data, len(key), node.skip)
        if node.level == 0:
            head = leaf_head(data, len(key), node.skip, mix_key(data, len(key)))
        if head != node.slots[i].head:
            self._fault(number, f"head {i} is not that of {key[:80]!r} after {node.skip} bytes")

    @cython.cfunc
    def _check_leaf(self, number: uint32_t, lower: bytes | None, upper: bytes | None) -> object:
        node: cython.pointer(Node) = node_at(self.store.base, number)
        prefix: bytes = b""
        if (node.prefix != 0) != (node.skip > node.fence_skip):
            self._fault(number, f"prefix {node.prefix}, skip {node.skip}, fence_skip {node.fence_skip}")
        elif node.prefix:
            prefix = self._blob(node.prefix)
            if len(prefix) < node.skip:
                self._fault(number, f"a prefix of {len(prefix)} bytes for skip {node.skip}")
            prefix = prefix[: node.skip]
        elif node.skip:
            prefix = lower[: node.skip]
        for i in range(node.count):
            key = self._key(node.slots[i].value)
            self._check_slot(number, i, key, prefix)
            if self.last is not None and key <= self.last:
                self._fault(number, f"key {i} is not above the one before: {key[:80]!r}")
            if (lower is not None and key < lower) or (upper is not None and key >= upper):
                self._fault(number, f"key {i} is not between the separators: {key[:80]!r}")
            self.last = key
        self.keys += node.count

    @cython.cfunc
    def _check_inner(
        self, number: uint32_t, level: uint32_t, lower: bytes | None, upper: bytes | None
    ) -> object:
        node: cython.pointer(Node) = node_at(self.store.base, number)
        separators = [self._blob(separator_of(node, i)) for i in range(node.count)]
        if node.skip > node.fence_skip and not separators:
            self._fault(number, f"skips {node.skip} bytes without a separator")
        for i, separator in enumerate(separators):
            self._check_slot(number, i, separator, separators[0][: node.skip])
            is_exact = node.skip < len(separator) <= node.skip + 8 and separator[len(separator) - 1] != 0
            if bool(separator_of(node, i) & SEPARATOR_EXACT) != is_exact:
                self._fault(number, f"exact flag of separator {i}: {separator[:80]!r}")
        fences = [lower, *separators, upper]
        for i in range(len(fences) - 1):
            if fences[i] is not None and fences[i + 1] is not None and fences[i] >= fences[i + 1]:
                self._fault(number, f"separator {i} is not above the one before")
            self.check_node(child_of(node, i), level - 1, fences[i], fences[i + 1])

    @cython.cfunc
    def check_node(
        self, number: uint32_t, level: uint32_t, lower: bytes | None, upper: bytes | None
    ) -> object:
        node: cython.pointer(Node) = node_at(self.store.base, number)
        shared: uint32_t = 0
        self.seen += 1
        if number == 0 or number >= self.store.tree.nodes_size or self.seen > self.store.tree.nodes_size:
            self._fault(number, "no such node, or a cycle")
            return
        self._check_layout(number, level)
        if lower is not None and upper is not None:
            while shared < min(len(lower), len(upper)) and lower[shared] == upper[shared]:
                shared += 1
        if node.fence_skip > shared:
            self._fault(number, f"fence_skip {node.fence_skip}, but {lower!r} and {upper!r} share {shared}")
        if node.count > NODE_SLOTS:
            return
        if level == 0:
            self._check_leaf(number, lower, upper)
        else:
            self._check_inner(number, level, lower, upper)


def check_tree(store, log):
    """What is wrong with the tree, one line each. Requires: nobody changes it."""
    tree: cython.pointer(Tree) = store.tree
    checker: _Checker = _Checker()
    number: uint32_t = tree.free_node
    checker.store = store
    checker.log = log
    checker.faults = []
    if tree.root:
        checker.check_node(tree.root, tree.height - 1, None, None)
    if checker.keys != tree.count:
        checker.faults.append(f"{checker.keys} keys, but the tree counts {tree.count}")
    free_nodes: uint64_t = 0
    while number != 0 and free_nodes < tree.nodes_size:
        free_nodes += 1
        number = node_at(store.base, number).first
    if free_nodes != tree.free_nodes or free_nodes + checker.seen + 1 != tree.nodes_size:
        checker.faults.append(f"{checker.seen} nodes used, {free_nodes} free, {tree.nodes_size} in all")
    return checker.faults
