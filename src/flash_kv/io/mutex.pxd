# POSIX mutexes for compiled modules, and what is called at forks.
from libc.stdint cimport uint64_t
from flash_kv.intrinsics cimport add_atomic64, load_relaxed64, pause

cdef enum:
    SPINS = 200                           # some microseconds: to sleep and be woken takes longer

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

cdef extern from "Python.h" nogil:
    ctypedef struct PyThreadState:
        pass
    int PyGILState_Check() noexcept
    PyThreadState* PyEval_SaveThread() noexcept
    void PyEval_RestoreThread(PyThreadState* state) noexcept

cdef inline void lock_under_any(pthread_mutex_t* mutex) noexcept nogil:
    """As `lock_releasing_gil`, for one who may hold the GIL or not. A holder may wait for the GIL."""
    cdef PyThreadState* state
    if pthread_mutex_trylock(mutex) == 0:
        return
    if not PyGILState_Check():
        pthread_mutex_lock(mutex)
        return
    state = PyEval_SaveThread()
    pthread_mutex_lock(mutex)
    PyEval_RestoreThread(state)

cdef inline void wait_briefly(pthread_mutex_t* mutex, uint64_t* waiting, bint needs_gil) noexcept nogil:
    """Take a mutex that another holds, and gives up soon. `waiting`: how many are at this.

    `needs_gil`: who holds it may wait for the GIL, which this thread may hold.
    """
    cdef int i
    add_atomic64(waiting, 1)
    for i in range(SPINS):
        pause()
        if pthread_mutex_trylock(mutex) == 0:
            break
    else:
        if needs_gil:
            lock_under_any(mutex)
        else:
            pthread_mutex_lock(mutex)
    add_atomic64(waiting, <uint64_t>-1)

cdef inline void let_others(pthread_mutex_t* mutex, uint64_t* waiting, bint needs_gil) noexcept nogil:
    """Give the mutex to those who wait for it, if any do, and take it again after them."""
    cdef int i
    if load_relaxed64(waiting) == 0:
        return
    pthread_mutex_unlock(mutex)
    for i in range(SPINS):
        if load_relaxed64(waiting) == 0:
            break
        pause()
    if pthread_mutex_trylock(mutex) != 0:
        wait_briefly(mutex, waiting, needs_gil)
