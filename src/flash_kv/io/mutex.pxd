# POSIX mutexes for compiled modules, and a counter of forks.
from libc.stdint cimport uint64_t

cdef extern from "<pthread.h>" nogil:
    ctypedef struct pthread_mutex_t:
        pass
    int pthread_mutex_init(pthread_mutex_t* mutex, void* attributes) noexcept
    int pthread_mutex_destroy(pthread_mutex_t* mutex) noexcept
    int pthread_mutex_lock(pthread_mutex_t* mutex) noexcept
    int pthread_mutex_trylock(pthread_mutex_t* mutex) noexcept
    int pthread_mutex_unlock(pthread_mutex_t* mutex) noexcept
    int pthread_atfork(void (*prepare)(), void (*parent)(), void (*child)()) noexcept

cdef inline void lock_releasing_gil(pthread_mutex_t* mutex) noexcept:
    """Take the mutex; the GIL is never held while waiting, so a holder that wants the GIL gets it."""
    if pthread_mutex_trylock(mutex) != 0:
        with nogil:
            pthread_mutex_lock(mutex)
