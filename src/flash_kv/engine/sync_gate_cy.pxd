from libc.stdint cimport uint64_t, uintptr_t
from flash_kv.io.mutex cimport pthread_mutex_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_cond_t:
        pass
    int pthread_cond_init(pthread_cond_t* condition, void* attributes) noexcept
    int pthread_cond_destroy(pthread_cond_t* condition) noexcept
    int pthread_cond_wait(pthread_cond_t* condition, pthread_mutex_t* mutex) noexcept
    uintptr_t pthread_self() noexcept
    int pthread_cond_broadcast(pthread_cond_t* condition) noexcept

cdef class SyncGate:
    cdef pthread_mutex_t mutex            # guards what follows; held for moments
    cdef pthread_cond_t changed
    cdef bint is_syncing
    cdef uintptr_t leader                 # the thread that syncs while `is_syncing`
    cdef bint has_failed
    cdef uint64_t synced                  # everything up to this LSN is durable; looked at without the mutex
    cdef uint64_t waiting                 # callers inside `wait_for`
    cdef uint64_t company                 # how many the last sync served
    cdef bint enter(self, uint64_t lsn) noexcept nogil
    cdef void gather(self) noexcept nogil
    cdef bint is_leader(self) noexcept nogil
    cdef void publish(self, uint64_t reached, bint failed) noexcept nogil
    cdef void publish_locked(self, uint64_t reached, bint failed) noexcept nogil
    cdef void leave(self, uint64_t reached, bint failed) noexcept nogil
