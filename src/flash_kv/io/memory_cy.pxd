# Where compiled modules get memory from: the C library, through one place that tests can make fail.
cdef void* malloc(size_t size) noexcept nogil
cdef void* calloc(size_t count, size_t size) noexcept nogil
cdef void* realloc(void* old, size_t size) noexcept nogil
# Zeros of which most are never touched: pages take memory when they are. (`calloc` writes zeros itself where it gives
# out again what was freed.) NULL where there is no memory.
cdef void* map_pages(size_t size) noexcept
cdef void unmap_pages(void* pages, size_t size) noexcept
# `size` bytes of address space, of which the first `accessible` may be touched, often none, and are zeros; the others
# after `mprotect`. Given back with what is accessible then.
cdef void* map_range(size_t size, size_t* accessible) noexcept
cdef void unmap_range(void* start, size_t size, size_t accessible) noexcept
# For what asks the system for pages itself: True where it has to behave as if there were none.
cdef bint is_refused() noexcept nogil
