# A node of the B-tree: its layout and what is done with one node. See btree_cy.py.
#
#   0  version u64        odd while being written
#   8  count u16, level u16 (0: leaf)
#  12  skip u32           leading bytes common to all keys of the node, not in the heads
#  16  fence_skip u32     leading bytes that any key looked for here shares, because of the separators around
#  20  prefix u32         leaf: blob with at least `skip` bytes, when skip > fence_skip; else 0
#  24  first u32          inner: the leftmost child; free: the next free node
#  28  unused u32
#  32  hints 16 x i32     high half of the head of slot 2, 6, 10 ... 54, biased so that signed order is its order
#  96  slots 58 x (head u64, value u64)
#
# The slots 2 + 4k to 5 + 4k are one cache line, so a search reads the two lines with the hints and one of slots.
# A head is the 8 key bytes after `skip` as a big-endian number, padded with zeros. Heads never descend; slots from
# `count` on have the greatest head, so that hints and heads can be counted without looking at `count`.
# The value is an entry in a leaf, and child | separator blob << 32 in an inner node: the child on the separator's right.
from libc.stdint cimport int32_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memmove
from flash_kv.intrinsics cimport byte_swap64, fence_release, prefetch, store_release64, unlikely
from flash_kv.log.table_cy cimport Key

cdef extern from *:
    """
    #define FK_HEAD_MAX (~0ULL)
    #define FK_HINT_MAX INT32_MAX
    #define FK_HINT_OF(head) ((int32_t)((uint32_t)((head) >> 32) ^ 0x80000000u))
    #define FK_SEPARATOR_EXACT 0x80000000u
    #define FK_LEADING_ZEROS(x) ((uint32_t)__builtin_clzll(x))
    """
    const uint64_t HEAD_MAX "FK_HEAD_MAX"
    const int32_t HINT_MAX "FK_HINT_MAX"
    const uint32_t SEPARATOR_EXACT "FK_SEPARATOR_EXACT"
    int32_t hint_of "FK_HINT_OF"(uint64_t head) noexcept nogil
    uint32_t leading_zeros "FK_LEADING_ZEROS"(uint64_t x) noexcept nogil  # x is not zero

cdef enum:
    NODE_BYTES = 1024
    NODE_SLOTS = 58
    NODE_HINTS = 14                       # two more are padding, so that counting is four steps of four
    NODE_SLOTS_MIN = 14                   # below, a merge is tried
    NODE_SLOTS_MERGED = 43                # a merge leaves room
    BLOB_UNIT = 16
    HEIGHT_MAX = 16

cdef struct Slot:
    uint64_t head
    uint64_t value

cdef struct Node:
    uint64_t version
    uint16_t count
    uint16_t level
    uint32_t skip
    uint32_t fence_skip
    uint32_t prefix
    uint32_t first
    uint32_t unused
    int32_t[16] hints
    Slot[58] slots

# Bytes that are not a key in the log: a separator or a leaf's prefix. `size` bytes follow.
cdef struct Blob:
    uint32_t size

# Node 0: the root and what goes with it. The first cache line changes seldom, the second with every write.
cdef struct Tree:
    uint64_t version                      # odd while root or height change
    uint32_t root                         # 0: empty
    uint32_t height                       # levels; 1: the root is a leaf
    uint64_t nodes_size                   # nodes that may be read
    uint64_t blobs_size                   # units of blobs that may be read
    uint64_t[4] unused
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

cdef inline void prefetch_node(Node* node) noexcept nogil:
    """Bring in the hints; which line of slots is needed is not known yet."""
    prefetch(node)
    prefetch(&node.hints[8])

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

cdef inline uint32_t line_of(const Node* node, uint64_t head) noexcept nogil:
    """The first slot of the line whose hint is the last that is not above the head."""
    cdef int32_t hint = hint_of(head)
    cdef uint32_t lines = 0
    cdef int i
    for i in range(16):
        lines += node.hints[i] <= hint
    if unlikely(lines > NODE_HINTS):
        lines = NODE_HINTS
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

cdef inline uint32_t first_equal(const Node* node, uint32_t slot) noexcept nogil:
    """The first of the slots that have the same head as `slot`."""
    cdef uint64_t head = node.slots[slot].head
    while slot and node.slots[slot - 1].head == head:
        slot -= 1
    return slot

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
    while i < NODE_HINTS:
        node.hints[i] = hint_of(node.slots[4 * i + 2].head)
        if 4 * i + 2 >= count:
            break
        i += 1

cdef inline void fill_node(Node* node, const Slot* slots, uint32_t count) noexcept nogil:
    """Make these the slots of the node, all of them."""
    cdef uint32_t i
    memmove(node.slots, slots, count * sizeof(Slot))
    node.count = count
    for i in range(count, NODE_SLOTS):
        node.slots[i].head = HEAD_MAX
    for i in range(NODE_HINTS):
        node.hints[i] = hint_of(node.slots[4 * i + 2].head)
    node.hints[NODE_HINTS] = HINT_MAX
    node.hints[NODE_HINTS + 1] = HINT_MAX

cdef inline void insert_slot(Node* node, uint32_t slot, uint64_t head, uint64_t value) noexcept nogil:
    memmove(&node.slots[slot + 1], &node.slots[slot], (node.count - slot) * sizeof(Slot))
    node.slots[slot].head = head
    node.slots[slot].value = value
    node.count += 1
    refresh_hints(node, slot)

cdef inline void remove_slot(Node* node, uint32_t slot) noexcept nogil:
    node.count -= 1
    memmove(&node.slots[slot], &node.slots[slot + 1], (node.count - slot) * sizeof(Slot))
    node.slots[node.count].head = HEAD_MAX
    refresh_hints(node, slot)
