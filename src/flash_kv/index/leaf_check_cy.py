"""The invariants of nodes that the ordered indexes share, checked: for tests, and for whoever suspects an index.

- Keys ascend from leaf to leaf; every key of a leaf is at or above the separator on its left, below that on its right.
- Heads are the keys' bytes after `skip`, hints are the heads of their lines, unused slots have the greatest head.
- All keys of a node share `skip` bytes; all keys between its separators share `fence_skip`.
- A leaf has a prefix blob exactly when `skip > fence_skip`.
- Every node is in the index, in the free list, or is number 0; every version is even and at most the clock.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import (
    HEAD_MAX,
    HINT_MAX,
    LEVEL_FREE,
    NODE_HINTS,
    NODE_SLOTS,
    Node,
    blob_at,
    blob_data,
    head_of,
    hint_of,
    is_in_range,
    is_tied,
    leaf_head,
    mix_key,
    node_at,
)
from cython.cimports.flash_kv.index.leaf_check_cy import NodeChecker
from cython.cimports.flash_kv.log.table_cy import Key, load_key
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t
from cython.cimports.libc.stdlib import free


@cython.cclass
class NodeChecker:
    """One pass over an index, from its first key to its last."""

    def blob(self, ref):
        blob = blob_at(self.store.blobs, ref)
        return blob_data(blob)[: blob.size]

    def key_of(self, entry):
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

    def fault(self, number, text):
        self.faults.append(f"node {number}: {text}")

    def check_layout(self, number, level):
        node: cython.pointer(Node) = node_at(self.store.base, number)
        i: uint32_t
        if node.level != level:
            self.fault(number, f"level {node.level}, reached at {level}")
        if node.version & 1 or node.version > self.store.tree.clock:
            self.fault(number, f"version {node.version}")
        if node.count > NODE_SLOTS:
            self.fault(number, f"{node.count} slots")
            return
        for i in range(node.count, NODE_SLOTS):
            if node.slots[i].head != HEAD_MAX:
                self.fault(number, f"unused slot {i} has a head")
        for i in range(1, node.count):
            if (node.slots[i].head < node.slots[i - 1].head) and not (
                level == 0 and is_tied(node.slots[i].head, node.slots[i - 1].head)
            ):
                self.fault(number, f"head {i} descends")
        if node.base > HEAD_MAX - (HEAD_MAX >> node.shift):
            self.fault(
                number, f"the range of the hints from {node.base:#x}, shift {node.shift}, ends nowhere"
            )
        for i in range(node.count):
            if not is_in_range(node, node.slots[i].head):
                self.fault(number, f"head {i} is out of the range of the hints")
        for i in range(NODE_HINTS):
            if node.hints[i] != (
                hint_of(node, node.slots[4 * i + 2].head) if 4 * i + 2 < node.count else HINT_MAX
            ):
                self.fault(number, f"hint {i} of {node.count} slots")
        if node.hints[NODE_HINTS] != HINT_MAX or node.hints[NODE_HINTS + 1] != HINT_MAX:
            self.fault(number, "padding of the hints")

    def check_slot(self, number, i, key, prefix):
        node: cython.pointer(Node) = node_at(self.store.base, number)
        if not key.startswith(prefix):
            self.fault(number, f"slot {i} does not begin with {prefix!r}: {key[:80]!r}")
        data: cython.pointer(cython.const[uint8_t]) = key
        head: uint64_t = head_of(data, len(key), node.skip)
        if node.level == 0:
            head = leaf_head(data, len(key), node.skip, mix_key(data, len(key)))
        if head != node.slots[i].head:
            self.fault(number, f"head {i} is not that of {key[:80]!r} after {node.skip} bytes")

    def check_leaf(self, number, lower, upper):
        node: cython.pointer(Node) = node_at(self.store.base, number)
        prefix: bytes = b""
        if (node.prefix != 0) != (node.skip > node.fence_skip):
            self.fault(number, f"prefix {node.prefix}, skip {node.skip}, fence_skip {node.fence_skip}")
        elif node.prefix:
            prefix = self.blob(node.prefix)
            if len(prefix) < node.skip:
                self.fault(number, f"a prefix of {len(prefix)} bytes for skip {node.skip}")
            prefix = prefix[: node.skip]
        elif node.skip:
            prefix = lower[: node.skip]
        for i in range(node.count):
            key = self.key_of(node.slots[i].value)
            self.check_slot(number, i, key, prefix)
            if self.last is not None and key <= self.last:
                self.fault(number, f"key {i} is not above the one before: {key[:80]!r}")
            if (lower is not None and key < lower) or (upper is not None and key >= upper):
                self.fault(number, f"key {i} is not between the separators: {key[:80]!r}")
            self.last = key
        self.keys += node.count

    def check_fence(self, number, lower, upper):
        node: cython.pointer(Node) = node_at(self.store.base, number)
        shared: uint32_t = 0
        if lower is not None and upper is not None:
            while shared < min(len(lower), len(upper)) and lower[shared] == upper[shared]:
                shared += 1
        if node.fence_skip > shared:
            self.fault(number, f"fence_skip {node.fence_skip}, but {lower!r} and {upper!r} share {shared}")

    def is_number(self, number):
        """Count a node that is in the index; False when there is no such node, or too many were counted."""
        self.seen += 1
        if number == 0 or number >= self.store.tree.nodes_size or self.seen > self.store.tree.nodes_size:
            self.fault(number, "no such node, or a cycle")
            return False
        return True

    def check_counts(self):
        number: uint32_t = self.store.tree.free_node
        free_nodes: uint64_t = 0
        if self.keys != self.store.tree.count:
            self.faults.append(f"{self.keys} keys, but the index counts {self.store.tree.count}")
        while number != 0 and free_nodes < self.store.tree.nodes_size:
            free_nodes += 1
            if node_at(self.store.base, number).level != LEVEL_FREE:
                self.fault(number, "in the free list, and not marked as free")
            number = node_at(self.store.base, number).first
        if (
            free_nodes != self.store.tree.free_nodes
            or free_nodes + self.seen + 1 != self.store.tree.nodes_size
        ):
            self.faults.append(
                f"{self.seen} nodes used, {free_nodes} free, {self.store.tree.nodes_size} in all"
            )
