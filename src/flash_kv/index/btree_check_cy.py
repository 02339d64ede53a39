"""The invariants of a B-tree, checked: for tests, and for whoever suspects an index.

- All that leaf_check_cy checks of nodes.
- Separators ascend, and those that their heads hold whole are marked so.
- An inner node with `skip > fence_skip` has a separator.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import (
    NODE_SLOTS,
    SEPARATOR_EXACT,
    Node,
    Tree,
    child_of,
    node_at,
    separator_of,
)
from cython.cimports.flash_kv.index.leaf_check_cy import NodeChecker
from cython.cimports.libc.stdint import uint32_t


@cython.cclass
class _TreeChecker(NodeChecker):
    """One pass over the tree."""

    @cython.cfunc
    def check_inner(
        self, number: uint32_t, level: uint32_t, lower: bytes | None, upper: bytes | None
    ) -> object:
        node: cython.pointer(Node) = node_at(self.store.base, number)
        separators = [self.blob(separator_of(node, i)) for i in range(node.count)]
        if node.skip > node.fence_skip and not separators:
            self.fault(number, f"skips {node.skip} bytes without a separator")
        for i, separator in enumerate(separators):
            self.check_slot(number, i, separator, separators[0][: node.skip])
            is_exact = node.skip < len(separator) <= node.skip + 8 and separator[len(separator) - 1] != 0
            if bool(separator_of(node, i) & SEPARATOR_EXACT) != is_exact:
                self.fault(number, f"exact flag of separator {i}: {separator[:80]!r}")
        fences = [lower, *separators, upper]
        for i in range(len(fences) - 1):
            if fences[i] is not None and fences[i + 1] is not None and fences[i] >= fences[i + 1]:
                self.fault(number, f"separator {i} is not above the one before")
            self.check_node(child_of(node, i), level - 1, fences[i], fences[i + 1])

    @cython.cfunc
    def check_node(
        self, number: uint32_t, level: uint32_t, lower: bytes | None, upper: bytes | None
    ) -> object:
        if not self.is_number(number):
            return
        self.check_layout(number, level)
        self.check_fence(number, lower, upper)
        if node_at(self.store.base, number).count > NODE_SLOTS:
            return
        if level == 0:
            self.check_leaf(number, lower, upper)
        else:
            self.check_inner(number, level, lower, upper)


def check_tree(store, log):
    """What is wrong with the tree, one line each. Requires: nobody changes it."""
    tree: cython.pointer(Tree) = store.tree
    checker: _TreeChecker = _TreeChecker()
    checker.store = store
    checker.log = log
    checker.faults = []
    if tree.root:
        checker.check_node(tree.root, tree.height - 1, None, None)
    checker.check_counts()
    return checker.faults
