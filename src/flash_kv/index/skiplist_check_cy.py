"""The invariants of a skip list, checked: for tests, and for whoever suspects an index.

- All that leaf_check_cy checks of nodes.
- Separators ascend along the lowest level, from the first tower, which has none; each tower and its leaf name each
  other, and each tower names the one before.
- At each level a tower links to the next one of that height, and none is linked to above its height.
- A link tells how much the separators on both sides share, and the bytes after that.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import Node, head_of, node_at
from cython.cimports.flash_kv.index.leaf_check_cy import NodeChecker
from cython.cimports.flash_kv.index.skiplist_tower import (
    LEVELS,
    Link,
    Tower,
    link_at,
    next_of,
    separator_ref,
    tower_at,
)
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t


@cython.cclass
class _ListChecker(NodeChecker):
    """One pass over the list, from its end to its beginning for links and then forwards for leaves."""

    @cython.cfunc
    def separator(self, ref: uint32_t) -> bytes:
        return self.blob(separator_ref(self.store.blobs, ref))

    @cython.cfunc
    def towers(self) -> list:
        """All towers from the first to the last."""
        refs: list = []
        ref: uint32_t = self.store.tree.root
        while ref != 0 and len(refs) < self.store.tree.nodes_size:
            refs.append(ref)
            if ref >= self.store.tree.blobs_size:
                self.fault(ref, "no such tower")
                return []
            ref = next_of(link_at(tower_at(self.store.blobs, ref), 0).word)
        return refs

    @cython.cfunc
    def check_links(self, ref: uint32_t, above: list) -> object:
        """The links of a tower, when `above` has the next tower of each level."""
        tower: cython.pointer(Tower) = tower_at(self.store.blobs, ref)
        link: cython.pointer(Link)
        common: uint32_t
        level: uint32_t
        ours: bytes = self.separator(ref)
        theirs: bytes
        if not 1 <= tower.height <= LEVELS:
            self.fault(tower.leaf, f"a tower of height {tower.height}")
            return
        if tower.height > self.store.tree.height and ref != self.store.tree.root:
            self.fault(tower.leaf, f"a tower of height {tower.height} in a list of {self.store.tree.height}")
        for level in range(tower.height):
            link = link_at(tower, level)
            if next_of(link.word) != above[level]:
                self.fault(tower.leaf, f"level {level} leads to {next_of(link.word)}, not to {above[level]}")
            elif above[level] != 0:
                theirs = self.separator(above[level])
                common = 0
                while common < min(len(ours), len(theirs)) and ours[common] == theirs[common]:
                    common += 1
                data: cython.pointer(cython.const[uint8_t]) = theirs
                shown: uint64_t = min(8, len(theirs) - common)
                if link.word >> 32 != (shown << 24 | common) or link.head != head_of(
                    data, len(theirs), common
                ):
                    self.fault(
                        tower.leaf, f"level {level} tells wrong of {theirs[:80]!r} after {ours[:80]!r}"
                    )
            above[level] = ref

    @cython.cfunc
    def check_pair(self, ref: uint32_t, previous: uint32_t) -> object:
        """A tower, its leaf and the tower before name each other."""
        tower: cython.pointer(Tower) = tower_at(self.store.blobs, ref)
        node: cython.pointer(Node) = node_at(self.store.base, tower.leaf)
        if not self.is_number(tower.leaf):
            return
        if node.first != ref:
            self.fault(tower.leaf, f"its tower is {node.first}, reached from {ref}")
        if tower.previous != previous:
            self.fault(tower.leaf, f"its tower has {tower.previous} before it, not {previous}")
        self.check_layout(tower.leaf, 0)

    @cython.cfunc
    def check_towers(self) -> object:
        refs: list = self.towers()
        fences: list = [None, *[self.separator(ref) for ref in refs[1:]], None]
        above: list = [0] * LEVELS
        i: uint32_t
        number: uint32_t
        for ref in reversed(refs):
            self.check_links(ref, above)
        for i in range(len(refs)):
            number = tower_at(self.store.blobs, refs[i]).leaf
            self.check_pair(refs[i], refs[i - 1] if i > 0 else 0)
            if i > 1 and fences[i] <= fences[i - 1]:
                self.fault(number, "its separator is not above the one before")
            self.check_fence(number, fences[i], fences[i + 1])
            self.check_leaf(number, fences[i], fences[i + 1])
        if refs and self.store.tree.tail != tower_at(self.store.blobs, refs[len(refs) - 1]).leaf:
            self.fault(self.store.tree.tail, "taken for the last leaf")


def check_list(store, log):
    """What is wrong with the list, one line each. Requires: nobody changes it."""
    checker: _ListChecker = _ListChecker()
    checker.store = store
    checker.log = log
    checker.faults = []
    checker.check_towers()
    checker.check_counts()
    return checker.faults
