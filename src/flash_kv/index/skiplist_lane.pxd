# The marks and lanes of the skip list: their layout, and the search over them. See skiplist_cy.py.
#
# A mark stands before each leaf. It never changes but for its links:
#   0  size u32            as of every blob: what follows
#   4  leaf u32            number of the node
#   8  previous u32        the mark on the left, 0 for none
#  16  next                a link to the mark on the right
#  32  separator           a blob of its own (size u32, bytes): the least string that may stand in the leaf
#
# A lane begins at a mark and leads past what stands one level below, as far as the next lane of its level: at level 1
# marks, above that lanes.
#   0  size u32
#   4  count u32
#   8  capacity u32
#  12  owner u32           the mark at which it begins
#  16  down u32            what it stands on: at level 1 the mark itself, above that the lane that begins there
#  20  common u32          leading bytes that all the separators it leads past share
#  32  first               a link to the first mark it leads past
#  48  capacity x (head u64, word u64: where it leads u32 | shown << 56)
#
# A link says enough of the separator behind it to pass it by without a look at it. Its word is mark u32 | shared << 32 |
# shown << 56: `shared` is the number of leading bytes that the separators on both sides share, the head the 8 bytes after
# them as a big-endian number, and `shown` how many of these 8 there are. Heads of a lane stand after `common` bytes.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.btree_inner_cy cimport readable_blob
from flash_kv.index.btree_node cimport (
    BLOB_UNIT, Node, Tree, head_of, leading_zeros, node_at, prefetch_hints, prefetch_lines,
)
from flash_kv.index.leaf_reader_cy cimport Spot
from flash_kv.intrinsics cimport (
    compare_changing, load_acquire32, load_acquire64, load_relaxed32, load_relaxed64, prefetch, unlikely,
)

cdef enum:
    LEVELS = 8                            # of lanes
    MARK_UNITS = 2                        # before the separator
    LANE_UNITS = 3                        # before the entries, which are one each
    LANE_LINES = 9                        # fetched ahead: the header and what a lane has on the average

cdef struct Link:
    uint64_t head
    uint64_t word

cdef struct Entry:
    uint64_t head
    uint64_t word

cdef struct Mark:
    uint32_t size
    uint32_t leaf
    uint32_t previous
    uint32_t unused
    Link next

cdef struct Lane:
    uint32_t size
    uint32_t count
    uint32_t capacity
    uint32_t owner
    uint32_t down
    uint32_t common
    uint64_t unused
    Link first

# Where a search is: a lane, or at level 0 a mark; how many leading bytes the key shares with the separator of the mark
# there; and how many entries of the lane before were not beyond the key.
cdef struct Search:
    uint32_t at
    uint32_t level
    uint32_t shared
    uint32_t passed

cdef inline Mark* mark_at(uint8_t* blobs, uint32_t ref) noexcept nogil:
    return <Mark*>(blobs + <uint64_t>ref * BLOB_UNIT)

cdef inline Lane* lane_at(uint8_t* blobs, uint32_t ref) noexcept nogil:
    return <Lane*>(blobs + <uint64_t>ref * BLOB_UNIT)

cdef inline Entry* entries_of(Lane* lane) noexcept nogil:
    return <Entry*>((<uint8_t*>lane) + LANE_UNITS * BLOB_UNIT)

cdef inline uint32_t next_of(uint64_t word) noexcept nogil:
    return <uint32_t>word

cdef inline bint is_readable(Tree* tree, uint64_t ref, uint64_t units) noexcept nogil:
    """May so many units be read there?"""
    return ref != 0 and ref + units <= load_acquire64(&tree.blobs_size)

cdef inline const uint8_t* read_separator(Tree* tree, uint8_t* blobs, uint32_t ref, uint32_t* size) noexcept nogil:
    """The separator of a mark, NULL when it is none any more."""
    return readable_blob(tree, blobs, ref + MARK_UNITS, size)

cdef inline bint is_at_or_above(
    const uint8_t* key, uint32_t key_size, const uint8_t* separator, uint32_t size, uint32_t* shared
) noexcept nogil:
    """Is the key not below the separator? If so, adds what they share beyond the first `shared` bytes."""
    cdef uint32_t at = shared[0]
    cdef uint32_t limit = min(key_size, size)
    while at + 8 <= limit and compare_changing(key + at, separator + at, 8) == 0:
        at += 8
    while at < limit and key[at] == separator[at]:
        at += 1
    if at == size or (at < key_size and key[at] > separator[at]):
        shared[0] = at
        return True
    return False

cdef inline bint is_shown_passed(
    Tree* tree, uint8_t* blobs, const uint8_t* key, uint32_t key_size, uint32_t mark, uint32_t shown, uint32_t* shared
) noexcept nogil:
    """Is the key, whose 8 bytes after the first `shared` are those shown of a mark's separator, not below it?"""
    cdef uint32_t size = 0
    cdef const uint8_t* separator
    if shown < 8:
        # Zeros after the end of a key are none of its bytes.
        if key_size - shared[0] < shown:
            return False
        shared[0] += shown
        return True
    separator = read_separator(tree, blobs, mark, &size)
    return separator != NULL and size >= shared[0] and is_at_or_above(key, key_size, separator, size, shared)

cdef inline bint passes(
    Tree* tree, uint8_t* blobs, const uint8_t* key, uint32_t key_size, Link* link, uint32_t* shared
) noexcept nogil:
    """Is the key at or above the mark that the link leads to? `shared` is what it shares with the separator on this
    side, and afterwards, if so, with the one there.

    When the separators share more than that, the key turned off before they part, and to a greater byte than theirs: it
    is above both. When they share less, the other one turned off from this one, and so from the key, to a greater byte:
    the key is below. Only when all three part at the same place do bytes have to be compared.
    """
    cdef uint64_t word = load_acquire64(&link.word)
    cdef uint32_t common = <uint32_t>(word >> 32) & 0xFFFFFF
    cdef uint32_t shown = <uint32_t>(word >> 56)
    cdef uint64_t theirs
    cdef uint64_t ours
    if next_of(word) == 0:
        return False
    if common != shared[0]:
        return common > shared[0]
    theirs = load_relaxed64(&link.head)
    ours = head_of(key, key_size, common)
    if ours == theirs:
        return is_shown_passed(tree, blobs, key, key_size, next_of(word), shown, shared)
    if ours < theirs:
        return False
    # Zeros after the end of a separator are none of its bytes.
    shared[0] = common + min(leading_zeros(ours ^ theirs) >> 3, shown)
    return True

cdef inline uint32_t owner_of(Tree* tree, uint8_t* blobs, uint32_t lane) noexcept nogil:
    """The mark at which a lane begins; 0 when there is none any more."""
    return load_relaxed32(&lane_at(blobs, lane).owner) if is_readable(tree, lane, LANE_UNITS) else 0

cdef inline uint32_t settle_tie(
    Tree* tree, uint8_t* blobs, const uint8_t* key, uint32_t key_size, Lane* lane, uint32_t common, uint32_t last,
    Search* search
) noexcept nogil:
    """How many entries of a lane are not beyond the key, when its head is that of entry `last`, and maybe of others
    before it. The first one is known not to be."""
    cdef Entry* entries = entries_of(lane)
    cdef uint64_t ours = head_of(key, key_size, common)
    cdef uint64_t word
    cdef uint32_t low = last
    cdef uint32_t high = last + 1
    cdef uint32_t middle
    cdef uint32_t mark
    cdef uint32_t shared
    while low > 0 and load_relaxed64(&entries[low - 1].head) == ours:
        low -= 1
    if low > 1:
        shared = leading_zeros(load_relaxed64(&entries[low - 1].head) ^ ours | 1) >> 3
        search.shared = min(common + min(shared, <uint32_t>(load_relaxed64(&entries[low - 1].word) >> 56)), key_size)
    low = max(low, <uint32_t>1)
    while low < high:
        middle = (low + high) // 2
        shared = common
        word = load_relaxed64(&entries[middle].word)
        mark = owner_of(tree, blobs, next_of(word)) if search.level > 0 else next_of(word)
        if is_shown_passed(tree, blobs, key, key_size, mark, <uint32_t>(word >> 56), &shared):
            search.shared = shared
            low = middle + 1
        else:
            high = middle
    return low

cdef inline uint32_t count_passed(
    Tree* tree, uint8_t* blobs, const uint8_t* key, uint32_t key_size, Lane* lane, uint32_t count, Search* search
) noexcept nogil:
    """How many entries of a lane are not beyond the key. The first one is known not to be."""
    cdef uint32_t common = load_relaxed32(&lane.common)
    cdef Entry* entries = entries_of(lane)
    cdef uint64_t ours
    cdef uint64_t theirs
    cdef uint32_t last = 0
    cdef uint32_t half
    # What turns off from the first entry before the entries part is above all of them.
    if search.shared < common or count == 1:
        return count
    ours = head_of(key, key_size, common)
    while count > 1:
        half = count >> 1
        # Without a branch, which would be guessed wrong half of the time.
        last += half & -<uint32_t>(load_relaxed64(&entries[last + half].head) <= ours)
        count -= half
    if last == 0:
        return 1
    theirs = load_relaxed64(&entries[last].head)
    if unlikely(theirs == ours):
        return settle_tie(tree, blobs, key, key_size, lane, common, last, search)
    search.shared = common + min(
        leading_zeros(ours ^ theirs) >> 3, <uint32_t>(load_relaxed64(&entries[last].word) >> 56)
    )
    # A lane that changes must not lead beyond the key.
    search.shared = min(search.shared, key_size)
    return last + 1

cdef inline bint go_down(Tree* tree, uint8_t* blobs, const uint8_t* key, uint32_t key_size, Search* search) noexcept nogil:
    """From a lane to the last thing below it that is not beyond the key. Beside a writer the search may go astray: who
    uses its end has to check it. False when it has noticed."""
    cdef Lane* lane = lane_at(blobs, search.at)
    cdef uint32_t count
    cdef uint32_t capacity
    if unlikely(not is_readable(tree, search.at, LANE_UNITS)):
        return False
    capacity = load_relaxed32(&lane.capacity)
    count = min(load_acquire32(&lane.count), capacity)
    if unlikely(not is_readable(tree, search.at, <uint64_t>LANE_UNITS + capacity)):
        return False
    search.passed = 0
    search.at = load_relaxed32(&lane.down)
    search.level -= 1
    if count > 0 and passes(tree, blobs, key, key_size, &lane.first, &search.shared):
        search.passed = count_passed(tree, blobs, key, key_size, lane, count, search)
        search.at = next_of(load_acquire64(&entries_of(lane)[search.passed - 1].word))
    return True

cdef inline void begin_search(Tree* tree, Search* search) noexcept nogil:
    """At the topmost lane; at 0 when the list is empty."""
    cdef uint64_t top = load_acquire64(&tree.top)
    search.at = <uint32_t>top
    search.level = <uint32_t>(top >> 32)
    search.shared = 0
    search.passed = 0

cdef inline void prefetch_next(uint8_t* blobs, const Search* search) noexcept nogil:
    """Bring in the mark, or the lane as far as most lanes go."""
    cdef uint32_t line
    for line in range(<uint32_t>(LANE_LINES if search.level > 0 else 1)):
        prefetch((<uint8_t*>lane_at(blobs, search.at)) + 64 * line)

cdef inline bint enter_leaf(Tree* tree, uint8_t* base, uint8_t* blobs, uint32_t ref, Spot* leaf) noexcept nogil:
    """Take the leaf of a mark at the version it has now; False when it is not that mark's. As long as the leaf has this
    version the mark is in the list, with the same separator and the same neighbours."""
    cdef uint32_t number
    cdef Node* node
    if unlikely(not is_readable(tree, ref, MARK_UNITS)):
        return False
    number = load_acquire32(&mark_at(blobs, ref).leaf)
    if unlikely(number == 0 or number >= load_acquire64(&tree.nodes_size)):
        return False
    node = node_at(base, number)
    leaf.node = node
    leaf.version = load_acquire64(&node.version)
    return not leaf.version & 1 and node.level == 0 and load_relaxed32(&node.first) == ref

cdef inline bint covers(Tree* tree, uint8_t* blobs, uint32_t ref, const uint8_t* key, uint32_t key_size) noexcept nogil:
    """Does the key belong between this mark and the next? As sure as the version of the leaf. Requires: enter_leaf."""
    cdef uint32_t size = 0
    cdef uint32_t shared = 0
    cdef const uint8_t* separator = read_separator(tree, blobs, ref, &size)
    if unlikely(separator == NULL or not is_at_or_above(key, key_size, separator, size, &shared)):
        return False
    return not passes(tree, blobs, key, key_size, &mark_at(blobs, ref).next, &shared)

cdef inline Node* likely_leaf(Tree* tree, uint8_t* base, uint8_t* blobs, uint32_t ref) noexcept nogil:
    """The leaf of a mark, to be brought in; node 0 when it is none any more."""
    cdef uint32_t number
    if unlikely(not is_readable(tree, ref, MARK_UNITS)):
        return node_at(base, 0)
    number = load_relaxed32(&mark_at(blobs, ref).leaf)
    return node_at(base, number if number < tree.nodes_size else 0)

cdef inline uint64_t read_head(const uint8_t* separator, uint32_t size, uint32_t common) noexcept nogil:
    """As `head_of`, for bytes that may change."""
    cdef uint64_t head = 0
    cdef uint32_t i
    for i in range(common, common + 8):
        head = head << 8 | (separator[i] if i < size else 0)
    return head

cdef inline void prefetch_half(
    Tree* tree, uint8_t* base, uint8_t* blobs, uint32_t ref, const uint8_t* key, uint32_t key_size
) noexcept nogil:
    """Bring in the half of a leaf where the key probably is, as if keys were spread evenly between the separators on
    both sides."""
    cdef Node* node = likely_leaf(tree, base, blobs, ref)
    cdef uint32_t common
    cdef uint32_t size = 0
    cdef const uint8_t* separator
    cdef uint64_t low
    prefetch_hints(node)
    separator = read_separator(tree, blobs, ref, &size)
    if unlikely(separator == NULL):
        return
    common = <uint32_t>(load_relaxed64(&mark_at(blobs, ref).next.word) >> 32) & 0xFFFFFF
    if unlikely(common > size):
        return
    low = read_head(separator, size, common)
    if head_of(key, key_size, common) - low > (load_relaxed64(&mark_at(blobs, ref).next.head) - low) >> 1:
        prefetch_lines(node, 6, 14)
    else:
        prefetch_lines(node, 2, 8)
