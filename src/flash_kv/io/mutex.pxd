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
