"""The invariants of a skip list, checked: for tests, and for whoever suspects an index.

- All that leaf_check_cy checks of nodes.
- Separators ascend along the marks, from the first one, which has none; a mark and its leaf name each other, and each
  mark names those on both sides.
- The lanes of each level lead past everything on the level below, once and in order, but for where they begin.
- Links and entries tell what the separators behind them are; no lane is longer than its room.
"""

import cython
from cython.cimports.flash_kv.index.btree_node import Node, head_of, node_at
from cython.cimports.flash_kv.index.leaf_check_cy import NodeChecker
from cython.cimports.flash_kv.index.skiplist_lane import (
    LEVELS,
    MARK_UNITS,
    Entry,
    Lane,
    Link,
    Mark,
    entries_of,
    lane_at,
    mark_at,
    next_of,
)
from cython.cimports.libc.stdint import uint8_t, uint32_t


def _shared(a: bytes, b: bytes) -> int:
    """How many leading bytes are equal."""
    count: cython.Py_ssize_t = 0
    while count < min(len(a), len(b)) and a[count] == b[count]:
        count += 1
    return count


@cython.cclass
class _ListChecker(NodeChecker):
    """One pass over the marks and their leaves, and one over the lanes."""

    @cython.cfunc
    def separator(self, ref: uint32_t) -> bytes:
        return self.blob(ref + MARK_UNITS)

    @cython.cfunc
    def head(self, ref: uint32_t, common: uint32_t) -> object:
        """(head, how much it shows) of a mark's separator."""
        separator: bytes = self.separator(ref)
        data: cython.pointer(cython.const[uint8_t]) = separator
        return head_of(data, len(separator), common), min(8, len(separator) - common)

    @cython.cfunc
    def check_link(self, what: str, link: cython.pointer(Link), left: uint32_t, right: uint32_t) -> object:
        common: uint32_t
        if next_of(link.word) != right:
            self.faults.append(f"{what}: leads to {next_of(link.word)}, not to {right}")
        elif right != 0:
            common = _shared(self.separator(left), self.separator(right))
            head, shown = self.head(right, common)
            if link.head != head or link.word >> 32 != (shown << 24 | common):
                self.faults.append(f"{what}: tells wrong of {self.separator(right)[:80]!r}")

    @cython.cfunc
    def marks(self) -> list:
        """All marks from the first to the last."""
        refs: list = []
        ref: uint32_t = self.store.tree.root
        while ref != 0 and len(refs) < self.store.tree.nodes_size:
            if ref >= self.store.tree.blobs_size:
                self.faults.append(f"mark {ref}: no such mark")
                return []
            refs.append(ref)
            ref = next_of(mark_at(self.store.blobs, ref).next.word)
        return refs

    @cython.cfunc
    def check_mark(self, ref: uint32_t, previous: uint32_t, following: uint32_t) -> object:
        """A mark, its leaf and the marks on both sides."""
        mark: cython.pointer(Mark) = mark_at(self.store.blobs, ref)
        node: cython.pointer(Node) = node_at(self.store.base, mark.leaf)
        if not self.is_number(mark.leaf):
            return
        if node.first != ref:
            self.fault(mark.leaf, f"its mark is {node.first}, reached from {ref}")
        if mark.previous != previous:
            self.fault(mark.leaf, f"its mark has {mark.previous} before it, not {previous}")
        self.check_link(f"mark {ref}", cython.address(mark.next), ref, following)
        self.check_layout(mark.leaf, 0)

    @cython.cfunc
    def check_marks(self, refs: list) -> object:
        fences: list = [None, *[self.separator(ref) for ref in refs[1:]], None]
        around: list = [0, *refs, 0]
        i: cython.Py_ssize_t
        number: uint32_t
        for i in range(len(refs)):
            number = mark_at(self.store.blobs, refs[i]).leaf
            self.check_mark(refs[i], around[i], around[i + 2])
            if i > 1 and fences[i] <= fences[i - 1]:
                self.fault(number, "its separator is not above the one before")
            self.check_fence(number, fences[i], fences[i + 1])
            self.check_leaf(number, fences[i], fences[i + 1])
        if refs and self.store.tree.tail != mark_at(self.store.blobs, refs[len(refs) - 1]).leaf:
            self.fault(self.store.tree.tail, "taken for the last leaf")

    @cython.cfunc
    def check_lane(self, ref: uint32_t, level: uint32_t, owner: uint32_t) -> list:
        """One lane and all below it; the marks it leads to or past."""
        lane: cython.pointer(Lane) = lane_at(self.store.blobs, ref)
        entries: cython.pointer(Entry) = entries_of(lane)
        i: uint32_t
        if level == 0:
            return [ref]
        if lane.owner != owner or lane.count > lane.capacity:
            self.faults.append(
                f"lane {ref}: begins at {lane.owner}, not {owner}; {lane.count} of {lane.capacity}"
            )
            return []
        ends: list = []
        for i in range(lane.count):
            ends.append(
                next_of(entries[i].word)
                if level == 1
                else lane_at(self.store.blobs, next_of(entries[i].word)).owner
            )
        if ends:
            self.check_link(f"lane {ref}", cython.address(lane.first), owner, ends[0])
            if lane.common > _shared(self.separator(ends[0]), self.separator(ends[len(ends) - 1])):
                self.faults.append(f"lane {ref}: {lane.common} common bytes")
        below: list = self.check_lane(lane.down, level - 1, owner)
        for i in range(lane.count):
            if (entries[i].head, entries[i].word >> 56) != self.head(ends[i], lane.common):
                self.faults.append(f"lane {ref}: entry {i} tells wrong of {self.separator(ends[i])[:80]!r}")
            below += self.check_lane(next_of(entries[i].word), level - 1, ends[i])
        return below

    @cython.cfunc
    def check_lanes(self, refs: list) -> object:
        level: uint32_t = self.store.tree.top >> 32
        if not 1 <= level <= LEVELS or level != self.store.tree.height:
            self.faults.append(f"{level} levels, but the list counts {self.store.tree.height}")
        elif self.check_lane(next_of(self.store.tree.top), level, self.store.tree.root) != refs:
            self.faults.append("the lanes do not lead to every mark in order")


def check_list(store, log):
    """What is wrong with the list, one line each. Requires: nobody changes it."""
    checker: _ListChecker = _ListChecker()
    checker.store = store
    checker.log = log
    checker.faults = []
    refs: list = checker.marks()
    checker.check_marks(refs)
    if refs:
        checker.check_lanes(refs)
    checker.check_counts()
    return checker.faults


def longest_lanes(store):
    """The entries of the longest lane of each level, from the lowest. Requires: nobody changes it."""
    longest: list = []
    lanes: list = [next_of(store.tree.top)]
    i: uint32_t
    lane: cython.pointer(Lane)
    for _ in range(store.tree.top >> 32):
        longest.insert(0, max([lane_at(store.blobs, ref).count for ref in lanes]))
        below: list = []
        for ref in lanes:
            lane = lane_at(store.blobs, ref)
            below.append(lane.down)
            for i in range(lane.count):
                below.append(next_of(entries_of(lane)[i].word))
        lanes = below
    return longest
