# A node of the B-tree, or a leaf of the skip list: its layout and what is done with one. See btree_cy.py.
#
#   0  version u64         odd while being written
#   8  count u16, level u8 (0: leaf, 255: free)
#  11  shift u8            of the hints
#  12  skip u16            leading bytes common to all keys of the node, not in the heads
#  14  fence_skip u16      leading bytes that any key looked for here shares, because of the separators around
#  16  base u64            at or below the least head
#  24  prefix u32          leaf: blob with at least `skip` bytes, when skip > fence_skip; else 0
#  28  first u32           inner: the leftmost child; leaf of a skip list: its mark; free: the next free node
#  32  hints 16 x i32      of slot 2, 6, 10 ... 54: the high half of (head - base) << shift, biased to order as signed
#  96  slots 58 x (head u64, value u64)
#
# The slots 2 + 4k to 5 + 4k are one cache line, so a search reads the two lines with the hints and one of slots.
# A head is the 8 key bytes after `skip` as a big-endian number, padded with zeros; in a leaf the last two give way to
# a tag, 16 bits of a hash of the whole key. Slots stand in key order, so heads never descend, but for the tags of keys
# whose six bytes are equal: order does not show in those, but which of them it can be does.
# Slots from `count` on have the greatest head and lines without keys the greatest hint, so that both can be counted
# without looking at `count`. `base` and `shift` stretch the heads of the node over the range of a hint.
# The value is an entry in a leaf, and child | separator blob << 32 in an inner node: the child on the separator's right.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy
from flash_kv.intrinsics cimport byte_swap64, fence_release, move_words, prefetch, store_release64, unlikely
from flash_kv.log.table_cy cimport Key

cdef extern from *:
    """
    #define FK_HEAD_MAX (~0ULL)
    #define FK_HINT_MAX INT32_MAX
    #define FK_BIASED(half) ((int32_t)((uint32_t)(half) ^ 0x80000000u))
    #define FK_SEPARATOR_EXACT 0x80000000u
    #define FK_MIX_ODD 0x9E3779B97F4A7C15ULL
    #define FK_LEADING_ZEROS(x) ((uint32_t)__builtin_clzll(x))
    /* How many of sixteen ascending numbers are at most `limit`. */
    #if defined(__SSE2__)
    #include <emmintrin.h>
    static inline uint32_t fk_count_at_most(const int32_t *numbers, int32_t limit)
    {
        const __m128i *four = (const __m128i *)numbers;
        __m128i x = _mm_set1_epi32(limit);
        __m128i low = _mm_packs_epi32(_mm_cmpgt_epi32(_mm_loadu_si128(four), x),
                                      _mm_cmpgt_epi32(_mm_loadu_si128(four + 1), x));
        __m128i high = _mm_packs_epi32(_mm_cmpgt_epi32(_mm_loadu_si128(four + 2), x),
                                       _mm_cmpgt_epi32(_mm_loadu_si128(four + 3), x));
        return (uint32_t)__builtin_ctz((unsigned)_mm_movemask_epi8(_mm_packs_epi16(low, high)) | 0x10000u);
    }
    #else
    static inline uint32_t fk_count_at_most(const int32_t *numbers, int32_t limit)
    {
        uint32_t count = 0;
        for (int i = 0; i < 16; i++) count += numbers[i] <= limit;
        return count;
    }
    #endif
    """
    const uint64_t HEAD_MAX "FK_HEAD_MAX"
    const int32_t HINT_MAX "FK_HINT_MAX"
    const uint32_t SEPARATOR_EXACT "FK_SEPARATOR_EXACT"
    const uint64_t MIX_ODD "FK_MIX_ODD"   # 2^64 over the golden ratio (Knuth, multiplicative hashing)
    int32_t biased "FK_BIASED"(uint64_t half) noexcept nogil
    uint32_t leading_zeros "FK_LEADING_ZEROS"(uint64_t x) noexcept nogil  # x is not zero
    uint32_t count_at_most "fk_count_at_most"(const int32_t* numbers, int32_t limit) noexcept nogil

cdef enum:
    NODE_BYTES = 1024
    NODE_SLOTS = 58
    NODE_HINTS = 14                       # two more are padding, so that counting is four steps of four
    NODE_SLOTS_MIN = 14                   # below, a merge is tried
    NODE_SLOTS_MERGED = 43                # a merge leaves room
    BLOB_UNIT = 16
    HEIGHT_MAX = 16
    LEVEL_FREE = 255
    SKIP_MAX = 65535
    SLOT_WORDS = 2
    TAG_BITS = 16
    TAG_MASK = 65535

cdef struct Slot:
    uint64_t head
    uint64_t value

cdef struct Node:
    uint64_t version
    uint16_t count
    uint8_t level
    uint8_t shift
    uint16_t skip
    uint16_t fence_skip
    uint64_t base
    uint32_t prefix
    uint32_t first
    int32_t[16] hints
    Slot[58] slots

# Bytes that are not a key in the log: a separator or a leaf's prefix. `size` bytes follow.
cdef struct Blob:
    uint32_t size

# Node 0: the root and what goes with it. The first cache line changes seldom, the second with every write.
cdef struct Tree:
    uint64_t version                      # odd while root or height change
    uint32_t root                         # 0: empty; of a skip list its first mark
    uint32_t height                       # levels; 1: the root is a leaf
    uint64_t nodes_size                   # nodes that may be read
    uint64_t blobs_size                   # units of blobs that may be read
    uint64_t top                          # of a skip list: its topmost lane, level << 32
    uint64_t draws                        # of a skip list: heights drawn so far
    uint64_t[2] unused
    uint64_t count                        # keys
    uint64_t clock                        # greatest version given out: no two states of any node share one
    uint32_t tail                         # the rightmost leaf, 0 when not known
    uint32_t free_node                    # list through `first`
    uint32_t free_nodes
    uint32_t[61] free_blobs               # one list for each size class, through `size`

# Node numbers and child slots from the leaf (0) up to the root.
cdef struct Path:
    uint32_t height
    uint32_t[16] nodes
    uint32_t[16] slots                    # of inner nodes: which child, 0 to count

cdef inline Node* node_at(uint8_t* base, uint32_t number) noexcept nogil:
    return <Node*>(base + <uint64_t>number * NODE_BYTES)

cdef inline uint32_t node_number(uint8_t* base, Node* node) noexcept nogil:
    return <uint32_t>((<uint64_t>node - <uint64_t>base) // NODE_BYTES)

cdef inline void prefetch_hints(const Node* node) noexcept nogil:
    prefetch(node)
    prefetch(&node.hints[8])

cdef inline void prefetch_lines(const Node* node, uint32_t first, uint32_t last) noexcept nogil:
    """Bring in some of the sixteen lines of a node."""
    cdef uint32_t line
    for line in range(first, last + 1):
        prefetch((<const uint8_t*>node) + 64 * line)

cdef inline void prefetch_child(const Node* node, uint32_t slot, uint64_t head, const Node* child) noexcept nogil:
    """Bring in the half of a child where the head probably is, as if heads were spread evenly between the separators
    on both sides. Waiting for the hints to say which line it is would cost a second cache miss."""
    cdef uint64_t low = node.slots[slot - 1].head if slot else 0
    prefetch_hints(child)
    if head - low > (node.slots[slot].head - low) >> 1:
        prefetch_lines(child, 6, 14)
    else:
        prefetch_lines(child, 2, 8)

cdef inline Blob* blob_at(uint8_t* base, uint32_t ref) noexcept nogil:
    return <Blob*>(base + <uint64_t>(ref & ~SEPARATOR_EXACT) * BLOB_UNIT)

cdef inline uint8_t* blob_data(Blob* blob) noexcept nogil:
    return (<uint8_t*>blob) + sizeof(Blob)

cdef inline uint32_t child_of(const Node* node, uint32_t slot) noexcept nogil:
    return <uint32_t>node.slots[slot - 1].value if slot else node.first

cdef inline uint32_t separator_of(const Node* node, uint32_t slot) noexcept nogil:
    return <uint32_t>(node.slots[slot].value >> 32)

cdef inline uint64_t head_of(const uint8_t* data, uint32_t size, uint32_t skip) noexcept nogil:
    cdef uint64_t word = 0
    cdef uint32_t i
    if size >= skip + 8:
        memcpy(&word, data + skip, 8)
        return byte_swap64(word)
    if size <= skip:
        return 0
    if size >= 8:
        memcpy(&word, data + size - 8, 8)
        return byte_swap64(word) << (8 * (skip + 8 - size))
    for i in range(skip, size):
        word |= (<uint64_t>data[i]) << (56 - 8 * (i - skip))
    return word

cdef inline uint64_t fold(uint64_t mixed) noexcept nogil:
    """Bring what a product keeps in its upper half down to where the tag is: all of it, since a difference in the
    last byte of a word is in the uppermost bits only."""
    return mixed ^ (mixed >> 32) ^ (mixed >> 48)

cdef inline uint64_t mix_key(const uint8_t* data, uint32_t size) noexcept nogil:
    """A number that differs for most keys. Only a hint: keys made to have the same are told apart all the same."""
    cdef uint64_t mixed = size * MIX_ODD
    cdef uint64_t[4] lanes
    cdef uint64_t[4] words
    cdef uint64_t word
    cdef uint32_t i = 0
    if size < 8:
        return fold((mixed ^ head_of(data, size, 0)) * MIX_ODD)
    if size > 32:
        # Four products at a time do not wait for each other.
        lanes[0] = lanes[1] = lanes[2] = lanes[3] = mixed
        while i + 32 < size:
            memcpy(words, data + i, 32)
            lanes[0] = (lanes[0] ^ words[0]) * MIX_ODD
            lanes[1] = (lanes[1] ^ words[1]) * MIX_ODD
            lanes[2] = (lanes[2] ^ words[2]) * MIX_ODD
            lanes[3] = (lanes[3] ^ words[3]) * MIX_ODD
            i += 32
        mixed = fold(lanes[0]) + 3 * fold(lanes[1]) + 5 * fold(lanes[2]) + 7 * fold(lanes[3])
    while i + 8 < size:
        memcpy(&word, data + i, 8)
        mixed = fold((mixed ^ word) * MIX_ODD)
        i += 8
    memcpy(&word, data + size - 8, 8)
    return fold((mixed ^ word) * MIX_ODD)

cdef inline uint64_t leaf_head(const uint8_t* data, uint32_t size, uint32_t skip, uint64_t mixed) noexcept nogil:
    return (head_of(data, size, skip) & ~<uint64_t>TAG_MASK) | (mixed & TAG_MASK)

cdef inline bint is_tied(uint64_t a, uint64_t b) noexcept nogil:
    """Are two heads of a leaf equal but for their tags?"""
    return (a ^ b) >> TAG_BITS == 0

cdef inline uint32_t common_prefix(
    const uint8_t* a, uint32_t a_size, const uint8_t* b, uint32_t b_size
) noexcept nogil:
    """The number of leading bytes that two strings share."""
    cdef uint32_t limit = min(a_size, b_size)
    cdef uint32_t i = 0
    cdef uint64_t x
    cdef uint64_t y
    while i + 8 <= limit:
        memcpy(&x, a + i, 8)
        memcpy(&y, b + i, 8)
        if x != y:
            return i + (leading_zeros(byte_swap64(x ^ y)) >> 3)
        i += 8
    while i < limit and a[i] == b[i]:
        i += 1
    return i

cdef inline int32_t hint_of(const Node* node, uint64_t head) noexcept nogil:
    """Requires: the head is in the range of the hints."""
    return biased(((head - node.base) << node.shift) >> 32)

cdef inline bint is_in_range(const Node* node, uint64_t head) noexcept nogil:
    return head - node.base <= HEAD_MAX >> node.shift

cdef inline uint32_t line_of(const Node* node, uint64_t head) noexcept nogil:
    """The first slot of the line whose hint is the last that is not above the head's."""
    cdef uint32_t lines
    if unlikely(not is_in_range(node, head)):
        return 0 if head < node.base else ((node.count + 1) & ~3) - 2 if node.count > 2 else 0
    lines = min(count_at_most(node.hints, hint_of(node, head)), <uint32_t>NODE_HINTS)
    return 4 * lines - 2 if lines else 0

cdef inline uint32_t bound_in_line(const Node* node, uint32_t line, uint64_t head) noexcept nogil:
    """The number of slots with a head not above `head`, given `line_of`."""
    cdef const Slot* slots
    cdef uint32_t count
    while True:
        slots = &node.slots[line]
        count = (slots[0].head <= head) + (slots[1].head <= head)
        count += (slots[2].head <= head) + (slots[3].head <= head)
        # Several hints can be equal to the one looked for; the slot is then in one of the lines before.
        if count or line == 0:
            break
        line = line - 4 if line > 2 else 0
    return min(line + count, <uint32_t>node.count)

cdef inline uint32_t upper_bound(const Node* node, uint64_t head) noexcept nogil:
    return bound_in_line(node, line_of(node, head), head)

cdef inline uint32_t leaf_bound(const Node* leaf, uint64_t head) noexcept nogil:
    """As `upper_bound`, with the greatest tag: after all keys that only the log can tell from one with this head."""
    return upper_bound(leaf, head | TAG_MASK)

cdef inline uint32_t candidate(const Node* leaf, uint32_t bound, uint64_t head) noexcept nogil:
    """One more than the last slot before `bound` whose head and tag are these, 0 when there is none."""
    while bound and is_tied(leaf.slots[bound - 1].head, head):
        if leaf.slots[bound - 1].head == head:
            return bound
        bound -= 1
    return 0

cdef inline void begin_write(Node* node) noexcept nogil:
    store_release64(&node.version, node.version | 1)
    fence_release()

cdef inline void end_write(Tree* tree, Node* node) noexcept nogil:
    tree.clock += 2
    store_release64(&node.version, tree.clock)

cdef inline void refresh_hints(Node* node, uint32_t slot) noexcept nogil:
    """Hints of the lines that start at `slot` or later, up to the first line without keys."""
    cdef uint32_t i = (slot + 1) >> 2
    cdef uint32_t count = node.count
    while 4 * i + 2 < count:
        node.hints[i] = hint_of(node, node.slots[4 * i + 2].head)
        i += 1
    if i < NODE_HINTS:
        node.hints[i] = HINT_MAX

cdef inline void stretch_hints(Node* node, bint is_below) noexcept nogil:
    """Set the range of the hints to that of the heads, and a quarter more below if wanted; and all hints."""
    cdef uint64_t low = node.slots[0].head & ~<uint64_t>TAG_MASK
    cdef uint64_t width
    cdef uint32_t i
    node.base = 0
    node.shift = 0
    if node.count:
        width = (node.slots[node.count - 1].head | TAG_MASK) - low
        node.base = low
        if is_below:
            node.base -= min(low, width >> 2)
        width += low - node.base
        node.shift = <uint8_t>leading_zeros(width)
        # The range must not go beyond the greatest number, or the least would be in it.
        node.base = min(node.base, HEAD_MAX - (HEAD_MAX >> node.shift))
    for i in range(node.count // 4, NODE_HINTS + 2):
        node.hints[i] = HINT_MAX
    refresh_hints(node, 0)

cdef inline void fill_node(Node* node, const Slot* slots, uint32_t count) noexcept nogil:
    """Make these the slots of the node, all of them."""
    cdef uint32_t i
    move_words(<uint64_t*>node.slots, <const uint64_t*>slots, count * SLOT_WORDS)
    node.count = <uint16_t>count
    for i in range(count, <uint32_t>NODE_SLOTS):
        node.slots[i].head = HEAD_MAX
    stretch_hints(node, False)

cdef inline void insert_slot(Node* node, uint32_t slot, uint64_t head, uint64_t value) noexcept nogil:
    move_words(
        <uint64_t*>&node.slots[slot + 1], <const uint64_t*>&node.slots[slot], (node.count - slot) * SLOT_WORDS
    )
    node.slots[slot].head = head
    store_release64(&node.slots[slot].value, value)
    node.count += 1
    if unlikely(node.count == 1 or not is_in_range(node, head)):
        # Keys that arrive in descending order must not do this every time.
        stretch_hints(node, slot == 0)
    else:
        refresh_hints(node, slot)

cdef inline void remove_slot(Node* node, uint32_t slot) noexcept nogil:
    node.count -= 1
    move_words(
        <uint64_t*>&node.slots[slot], <const uint64_t*>&node.slots[slot + 1], (node.count - slot) * SLOT_WORDS
    )
    node.slots[node.count].head = HEAD_MAX
    refresh_hints(node, slot)
