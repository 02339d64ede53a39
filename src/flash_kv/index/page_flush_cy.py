"""Writing the frozen pages of a checkpoint, beside callers of the index.

`gather` copies some of them and says where they will stand, `write_gathered` gives the copies checksums and writes
them, `end_gathered` notes what came of it. Only the first and the last need the index's lock, so nobody waits for the
disk or for checksums; copies that stand one after the other are written by one call.

Invariant: until `end_gathered` a page that was gathered keeps its frame, so nobody reads it from where it is about to
be, nor asks for its checksum there.
"""

import cython
from cython.cimports.flash_kv.index.bptree_page_cy import PAGE_BYTES, Page
from cython.cimports.flash_kv.index.page_store_cy import FLUSH_PAGES, Frame, Place
from cython.cimports.libc.errno import ENOSPC
from cython.cimports.libc.stdint import uint8_t, uint32_t
from cython.cimports.libc.string import memcpy


def gather(store):
    count: cython.int = 0
    # What is being written keeps its page: half of a small pool is left to those who want others meanwhile.
    most: cython.int = min(FLUSH_PAGES, cython.cast(cython.int, store.frames_limit >> 1))
    block: uint32_t
    data: cython.pointer(uint8_t)
    if store.has_given_up:
        store.error = ENOSPC
        return -1
    while store.flush_hand <= store.frames_used and count < most:
        if store.frames[store.flush_hand].is_frozen:
            block = store.file.take(True)
            if block == 0:
                store.error = store.file.error
                return count or -1
            data = store.flush_buffer + count * PAGE_BYTES
            memcpy(data, store.pages + (store.flush_hand - 1), PAGE_BYTES)
            store._moved(store.flush_hand, block, 0)
            store.frames[store.flush_hand].is_writing = True
            store.flush_frames[count] = store.flush_hand
            store.flush_blocks[count] = block
            store.file.blocks_written += 1
            count += 1
        store.flush_hand += 1
    return count


def write_gathered(store, count):
    start: cython.int = 0
    end: cython.int
    failure: cython.int = 0
    for end in range(count):
        store.file.seal(store.flush_blocks[end], store.flush_buffer + end * PAGE_BYTES)
    while start < count and failure == 0:
        end = start + 1
        while end < count and store.flush_blocks[end] == store.flush_blocks[end - 1] + 1:
            end += 1
        failure = store.file.put(
            store.flush_blocks[start], store.flush_buffer + start * PAGE_BYTES, end - start
        )
        start = end
    return failure


def end_gathered(store, count, failure):
    i: cython.int
    frame: cython.pointer(Frame)
    copy: cython.pointer(Page)
    for i in range(count):
        frame = store.frames + store.flush_frames[i]
        frame.is_writing = False
        copy = cython.cast(cython.pointer(Page), store.flush_buffer + i * PAGE_BYTES)
        cython.cast(cython.pointer(Place), store.saved.data)[copy.number].sum = copy.checksum
        if frame.block == store.flush_blocks[i]:
            cython.cast(cython.pointer(Place), store.places.data)[copy.number].sum = copy.checksum
        # Without a page the frame has no block either; one that was written meanwhile has another.
        if failure != 0 and frame.block == store.flush_blocks[i] and not frame.is_dirty:
            frame.is_dirty = True
            store.dirty_count += 1
    store.error = failure
