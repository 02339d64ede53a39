# Where compiled modules get memory from: the C library, through one place that tests can make fail.
cdef void* malloc(size_t size) noexcept nogil
cdef void* calloc(size_t count, size_t size) noexcept nogil
cdef void* realloc(void* old, size_t size) noexcept nogil
# Zeros of which most are never touched: pages take memory when they are. (`calloc` writes zeros itself where it gives
# out again what was freed.) NULL where there is no memory.
cdef void* map_pages(size_t size) noexcept nogil
cdef void unmap_pages(void* pages, size_t size) noexcept nogil
# For what asks the system for pages itself: True where it has to behave as if there were none.
cdef bint is_refused() noexcept nogil
