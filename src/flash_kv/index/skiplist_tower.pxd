# A tower of the skip list: its layout and the search over towers. See skiplist_cy.py.
#
#   0  size u32            as of every blob: what follows
#   4  leaf u32            number of the node
#   8  previous u32        the tower on the left, 0 for none
#  12  height u32
#  16  height x (head u64, word u64)
#  ..  separator: a blob of its own (size u32, bytes), the least string that may stand in the leaf
#
# A link says which tower is next at its level, and enough of that tower's separator to pass it by without a look at it:
# the word is next u32 | shared << 32 | shown << 56. `shared` is the number of leading bytes that the separators on both
# sides share, the head the 8 bytes after them as a big-endian number, and `shown` how many of these 8 there are.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.btree_inner_cy cimport readable_blob
from flash_kv.index.btree_node cimport (
    BLOB_UNIT, Node, Tree, common_prefix, head_of, leading_zeros, node_at, prefetch_hints, prefetch_line,
    prefetch_lines,
)
from flash_kv.index.leaf_reader_cy cimport Spot
from flash_kv.intrinsics cimport load_acquire32, load_acquire64, load_relaxed32, load_relaxed64, unlikely

cdef enum:
    LEVELS = 24                           # 2^24 towers, a thousand million keys
    TOWER_HEADER = 16                     # one unit of blobs
    TOWER_BYTES_MAX = 416                 # of the tallest, without its separator
    MOVES_MAX = 65536                     # more, and a search is lost among towers that change

cdef struct Link:
    uint64_t head
    uint64_t word

cdef struct Tower:
    uint32_t size
    uint32_t leaf
    uint32_t previous
    uint32_t height

# A search: the tower it is at, the levels still to be looked at there, how many leading bytes the key shares with the
# tower's separator, and a tower that is known to be beyond the key.
cdef struct Climb:
    uint32_t tower
    uint32_t level
    uint32_t shared
    uint32_t beyond

cdef inline Tower* tower_at(uint8_t* blobs, uint32_t ref) noexcept nogil:
    return <Tower*>(blobs + <uint64_t>ref * BLOB_UNIT)

cdef inline Link* link_at(Tower* tower, uint32_t level) noexcept nogil:
    return <Link*>((<uint8_t*>tower) + TOWER_HEADER) + level

cdef inline uint32_t next_of(uint64_t word) noexcept nogil:
    return <uint32_t>word

cdef inline uint32_t separator_ref(uint8_t* blobs, uint32_t ref) noexcept nogil:
    """The blob with a tower's separator."""
    return ref + 1 + load_acquire32(&tower_at(blobs, ref).height)

cdef inline bint is_tower(Tree* tree, uint32_t ref, uint32_t levels) noexcept nogil:
    """May a tower with so many links be read there?"""
    return ref != 0 and <uint64_t>ref + 1 + levels <= load_acquire64(&tree.blobs_size)

cdef inline const uint8_t* read_separator(Tree* tree, uint8_t* blobs, uint32_t ref, uint32_t* size) noexcept nogil:
    """The separator of a tower, NULL when it changes. Requires: is_tower."""
    cdef uint32_t height = load_acquire32(&tower_at(blobs, ref).height)
    if unlikely(height > LEVELS):
        return NULL
    return readable_blob(tree, blobs, ref + 1 + height, size)

cdef inline bint is_at_or_above(
    const uint8_t* key, uint32_t key_size, const uint8_t* separator, uint32_t size, uint32_t* shared
) noexcept nogil:
    """Is the key not below the separator? Adds what they share beyond the first `shared` bytes."""
    cdef uint32_t at = shared[0]
    at += common_prefix(key + at, key_size - at, separator + at, size - at)
    if at == size or (at < key_size and key[at] > separator[at]):
        shared[0] = at
        return True
    return False

cdef inline bint passes(
    Tree* tree, uint8_t* blobs, const uint8_t* key, uint32_t key_size, Link* link, uint64_t word, uint32_t* shared
) noexcept nogil:
    """Is the key at or above the tower that the link leads to? `shared` is what it shares with the separator on this
    side, and afterwards, if so, with the one there.

    A key that shares more with this side than the other side does turns off where it turns off, to a greater byte: the
    key is below. One that shares less has turned off before, to a greater byte than both: it is above, and shares as
    much with the other side. Only when both turn off at the same place do bytes have to be compared.
    """
    cdef uint32_t common = <uint32_t>(word >> 32) & 0xFFFFFF
    cdef uint32_t shown = <uint32_t>(word >> 56)
    cdef uint32_t size = 0
    cdef uint64_t theirs
    cdef uint64_t ours
    cdef const uint8_t* separator
    if common != shared[0]:
        return common > shared[0]
    theirs = load_relaxed64(&link.head)
    ours = head_of(key, key_size, common)
    if ours < theirs:
        return False
    if ours > theirs:
        # Zeros after the end of a separator are none of its bytes.
        shared[0] = common + min(leading_zeros(ours ^ theirs) >> 3, shown)
        return True
    if key_size - common < shown:
        return False
    if shown < 8:
        shared[0] = common + shown
        return True
    if unlikely(not is_tower(tree, next_of(word), 0)):
        return False
    separator = read_separator(tree, blobs, next_of(word), &size)
    if unlikely(separator == NULL or size < common + 8):
        return False
    shared[0] = common + 8
    if is_at_or_above(key, key_size, separator, size, shared):
        return True
    shared[0] = common
    return False

cdef inline bint advance(Tree* tree, uint8_t* blobs, const uint8_t* key, uint32_t key_size, Climb* climb) noexcept nogil:
    """Go on to the next tower that is not beyond the key; False when this is the last one. Beside a writer the search
    may go astray: who uses its end has to check it."""
    cdef Tower* tower = tower_at(blobs, climb.tower)
    cdef Link* link
    cdef uint64_t word
    cdef uint32_t next
    while climb.level > 0:
        link = link_at(tower, climb.level - 1)
        word = load_acquire64(&link.word)
        next = next_of(word)
        if next != 0 and next != climb.beyond:
            if passes(tree, blobs, key, key_size, link, word, &climb.shared):
                if unlikely(not is_tower(tree, next, climb.level)):
                    climb.level = 0
                    return False
                climb.tower = next
                return True
            climb.beyond = next
        climb.level -= 1
    return False

cdef inline void begin_climb(Tree* tree, Climb* climb) noexcept nogil:
    """At the foot of the list; tower 0 when it is empty."""
    climb.tower = tree.root
    climb.level = min(tree.height, <uint32_t>LEVELS)
    climb.shared = 0
    climb.beyond = 0

cdef inline bint enter_leaf(Tree* tree, uint8_t* base, uint8_t* blobs, uint32_t ref, Spot* leaf) noexcept nogil:
    """Take the leaf of a tower at the version it has now; False when it is not that tower's. As long as the leaf has
    this version the tower is in the list, with the same separator and the same neighbours at the lowest level."""
    cdef uint32_t number
    cdef Node* node
    if unlikely(not is_tower(tree, ref, 1)):
        return False
    number = load_acquire32(&tower_at(blobs, ref).leaf)
    if unlikely(number == 0 or number >= load_acquire64(&tree.nodes_size)):
        return False
    node = node_at(base, number)
    leaf.node = node
    leaf.version = load_acquire64(&node.version)
    return not leaf.version & 1 and node.level == 0 and load_relaxed32(&node.first) == ref

cdef inline bint covers(
    Tree* tree, uint8_t* blobs, uint32_t ref, const uint8_t* key, uint32_t key_size
) noexcept nogil:
    """Does the key belong between this tower and the next? As sure as the version of the leaf. Requires: is_tower."""
    cdef uint32_t size = 0
    cdef uint32_t shared = 0
    cdef const uint8_t* separator = read_separator(tree, blobs, ref, &size)
    cdef Link* link = link_at(tower_at(blobs, ref), 0)
    cdef uint64_t word = load_acquire64(&link.word)
    if unlikely(separator == NULL or not is_at_or_above(key, key_size, separator, size, &shared)):
        return False
    return next_of(word) == 0 or not passes(tree, blobs, key, key_size, link, word, &shared)

cdef inline Node* likely_leaf(Tree* tree, uint8_t* base, uint8_t* blobs, uint32_t ref) noexcept nogil:
    """The leaf of a tower, to be brought in; node 0 when the tower changes. Requires: is_tower."""
    cdef uint32_t number = load_relaxed32(&tower_at(blobs, ref).leaf)
    return node_at(base, number if number < tree.nodes_size else 0)

cdef inline void prefetch_half(
    Tree* tree, uint8_t* base, uint8_t* blobs, uint32_t ref, const uint8_t* key, uint32_t key_size
) noexcept nogil:
    """Bring in the half of a leaf where the key probably is, as if keys were spread evenly between the separators on
    both sides. Requires: is_tower."""
    cdef Node* node = likely_leaf(tree, base, blobs, ref)
    cdef Link* link = link_at(tower_at(blobs, ref), 0)
    cdef uint32_t common = <uint32_t>(load_relaxed64(&link.word) >> 32) & 0xFFFFFF
    cdef uint32_t size = 0
    cdef const uint8_t* separator
    cdef uint64_t low
    prefetch_hints(node)
    separator = read_separator(tree, blobs, ref, &size)
    if unlikely(separator == NULL or common > size):
        return
    low = head_of(separator, size, common)
    if head_of(key, key_size, common) - low > (load_relaxed64(&link.head) - low) >> 1:
        prefetch_lines(node, 6, 14)
    else:
        prefetch_lines(node, 2, 8)

cdef inline void prefetch_tower(uint8_t* blobs, const Climb* climb) noexcept nogil:
    """Bring in the head of a tower and the links that will be looked at first."""
    prefetch_line(tower_at(blobs, climb.tower))
    prefetch_line(link_at(tower_at(blobs, climb.tower), climb.level))
