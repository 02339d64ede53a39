"""Checking the tree of pages against its invariants, for tests: every page is read."""

import cython
from cython.cimports.flash_kv.index.bptree_page_cy import Page, page_key, page_value
from cython.cimports.flash_kv.index.bptree_tree_cy import PageTree
from cython.cimports.flash_kv.index.page_file_cy import BLOCK_USED, META_BLOCKS, PageFile
from cython.cimports.flash_kv.index.page_store_cy import PageStore
from cython.cimports.libc.stdint import uint8_t, uint32_t


def check_tree(tree):
    faults: list = []
    levels: dict = {}
    entries = _check(tree, tree.root, tree.height - 1, b"", None, levels, faults) if tree.root else 0
    if entries != tree.count:
        faults.append(f"{entries} entries were found, {tree.count} are counted")
    pages = tree.store.pages_end - 1 - tree.store.free_count
    if len(levels) != pages:
        faults.append(f"{len(levels)} pages were found, {pages} are counted")
    _check_blocks(tree.store, list(levels), faults)
    return faults


@cython.cfunc
def _check(
    tree: PageTree,
    number: uint32_t,
    level: cython.int,
    low: bytes,
    high: object,
    levels: dict,
    faults: list,
) -> object:
    """Entries from a page down, whose keys have to lie from `low` on and below `high`."""
    page: cython.pointer(Page) = tree.store.fetch(number)
    slot: uint32_t
    entries: object = 0
    if page == cython.NULL:
        faults.append(f"page {number} cannot be read: error {tree.store.error}")
        return 0
    if number in levels or page.level != level:
        faults.append(f"page {number} of level {page.level} is where one of level {level} belongs")
        return 0
    levels[number] = level
    keys: list = []
    children: list = [page.first_child]
    for slot in range(page.count):
        keys.append(page_key(page, slot)[: page.slots[slot].size])
        children.append(page_value(page, slot))
    bounds: list = [low, *keys, high]
    for slot in range(1, len(keys)):
        if keys[slot - 1] >= keys[slot]:
            faults.append(f"page {number}: key {slot} is not above the one before")
    if keys and (keys[0] < low or (high is not None and keys[len(keys) - 1] >= high)):
        faults.append(f"page {number} has keys that belong elsewhere")
    if level == 0:
        return len(keys)
    for slot in range(len(children)):
        entries += _check(tree, children[slot], level - 1, bounds[slot], bounds[slot + 1], levels, faults)
    return entries


@cython.cfunc
def _check_blocks(store: PageStore, numbers: list, faults: list) -> cython.int:
    """Each page has a block of its own, and what is counted as free is."""
    file: PageFile = store.file
    marks: cython.pointer(uint8_t) = file.marks.data
    free: uint32_t = 0
    number: uint32_t
    block: uint32_t
    seen: set = set()
    for block in range(META_BLOCKS, file.end):
        free += marks[block] == 0
    if free != file.free_count:
        faults.append(f"{free} blocks are free, {file.free_count} are counted")
    for number in numbers:
        block = store._block_of(number)
        if block == 0:
            continue
        if block in seen or not marks[block] & BLOCK_USED:
            faults.append(f"block {block} of page {number} is another's, or free")
        seen.add(block)
    dirty: uint32_t = 0
    unplaced: uint32_t = 0
    for number in range(1, store.frames_used + 1):
        dirty += store.frames[number].is_dirty
        unplaced += store.frames[number].is_dirty and store.frames[number].block == 0
    if (dirty, unplaced) != (store.dirty_count, store.unplaced_count):
        counted = (store.dirty_count, store.unplaced_count)
        faults.append(f"{(dirty, unplaced)} pages are dirty and have no block, {counted} are counted")
    return 0
