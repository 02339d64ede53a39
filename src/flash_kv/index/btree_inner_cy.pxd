# Inner nodes of a B-tree: finding the child, and changes. See btree_inner_cy.py.
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from flash_kv.index.btree_node cimport (
    BLOB_UNIT, Blob, Node, Path, SEPARATOR_EXACT, Tree, blob_at, blob_data, head_of, separator_of, upper_bound,
)
from flash_kv.index.btree_store_cy cimport NodeStore
from flash_kv.intrinsics cimport compare_changing, load_acquire32, load_acquire64, unlikely
from flash_kv.log.format cimport KEY_SIZE_MAX
from flash_kv.log.table_cy cimport Key

cdef inline const uint8_t* readable_blob(Tree* tree, uint8_t* blobs, uint32_t ref, uint32_t* size) noexcept nogil:
    """The bytes of a blob, or NULL when number or size are none: the node changed while it was read."""
    cdef uint64_t unit = ref & ~SEPARATOR_EXACT
    cdef uint64_t limit = load_acquire64(&tree.blobs_size)
    if unlikely(unit == 0 or unit >= limit):
        return NULL
    size[0] = load_acquire32(&blob_at(blobs, ref).size)
    if unlikely(size[0] > KEY_SIZE_MAX or unit * BLOB_UNIT + sizeof(Blob) + size[0] > limit * BLOB_UNIT):
        return NULL
    return blob_data(blob_at(blobs, ref))

cdef inline int prefix_order(const uint8_t* prefix, uint32_t size, Key* key) noexcept nogil:
    """Where a key stands towards all strings that begin with the prefix: below, above, or 0 when it is one of them."""
    cdef int order = compare_changing(key.data, prefix, min(size, key.size))
    if order == 0 and key.size < size:
        return -1
    return order

# Which child among separators whose head equals the key's: the separators before `bound` are not above the key's head.
cdef uint32_t route_tie(Tree* tree, uint8_t* blobs, Node* node, Key* key, uint32_t bound) noexcept nogil

cdef inline uint32_t route(Tree* tree, uint8_t* blobs, Node* node, Key* key) noexcept nogil:
    """The slot of the child for the key. Safe, and wrong, on a node that changes while it is read."""
    cdef uint64_t head
    cdef uint32_t bound
    cdef int order
    cdef uint32_t size
    cdef const uint8_t* prefix
    cdef uint32_t skip = node.skip
    if skip > node.fence_skip:
        prefix = readable_blob(tree, blobs, separator_of(node, 0), &size)
        if unlikely(prefix == NULL or size < skip):
            return 0
        order = prefix_order(prefix, skip, key)
        if unlikely(order != 0):
            return 0 if order < 0 else node.count
    head = head_of(key.data, key.size, skip)
    bound = upper_bound(node, head)
    if unlikely(bound != 0 and node.slots[bound - 1].head == head):
        return route_tie(tree, blobs, node, key, bound)
    return bound

# The separator left or right of the child that the path takes at `level`, 0 at the edge of the tree.
cdef uint32_t lower_fence(NodeStore store, Path* path, uint32_t level) noexcept nogil
cdef uint32_t upper_fence(NodeStore store, Path* path, uint32_t level) noexcept nogil
cdef uint32_t fence_prefix(NodeStore store, uint32_t lower, uint32_t upper) noexcept nogil

cdef void insert_separator(NodeStore store, Node* node, uint32_t slot, uint32_t ref, uint32_t child) noexcept nogil
cdef int grow_root(NodeStore store, Path* path) noexcept nogil
cdef int split_inner(NodeStore store, Path* path, uint32_t level) noexcept nogil
cdef void merge_inner(NodeStore store, Path* path, uint32_t level) noexcept nogil
