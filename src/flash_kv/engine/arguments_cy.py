"""Keys and values as callers give them: `bytes` at no cost, `str` as UTF-8, anything else through its buffer."""

import cython
from cython.cimports.cpython.buffer import (
    PyBUF_SIMPLE,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cython.cimports.cpython.unicode import PyUnicode_AsUTF8AndSize, PyUnicode_Check
from cython.cimports.flash_kv.engine.arguments_cy import Borrowed
from cython.cimports.flash_kv.index.siphash import siphash13
from cython.cimports.flash_kv.intrinsics import unlikely
from cython.cimports.flash_kv.log.format import KEY_SIZE_MAX, VALUE_SIZE_MAX
from cython.cimports.libc.stdint import uint8_t, uint32_t

from flash_kv.errors import KeySizeError, KeyTypeError, ValueSizeError, ValueTypeError

Octets = cython.typedef(cython.pointer(cython.const[uint8_t]))


@cython.cfunc
@cython.exceptval(-1)
def _borrow_other(argument: object, borrowed: cython.pointer(Borrowed), error: type) -> cython.int:
    size: cython.Py_ssize_t
    if PyUnicode_Check(argument):
        borrowed.data = cython.cast(Octets, PyUnicode_AsUTF8AndSize(argument, cython.address(size)))
        borrowed.size = size
        return 0
    if not PyObject_CheckBuffer(argument):
        raise error(type(argument).__name__)
    try:
        PyObject_GetBuffer(argument, cython.address(borrowed.view), PyBUF_SIMPLE)
    except (BufferError, ValueError) as failure:
        # numpy's is a ValueError.
        raise error(f"non-contiguous {type(argument).__name__}") from failure
    borrowed.has_view = True
    borrowed.data = cython.cast(Octets, borrowed.view.buf)
    borrowed.size = borrowed.view.len
    return 0


def borrow_key(key, borrowed):
    """Borrow a key; KeyTypeError or KeySizeError with nothing borrowed."""
    borrowed.has_view = False
    if PyBytes_CheckExact(key):
        borrowed.data = cython.cast(Octets, PyBytes_AS_STRING(key))
        borrowed.size = PyBytes_GET_SIZE(key)
    else:
        _borrow_other(key, borrowed, KeyTypeError)
    if unlikely(borrowed.size == 0 or borrowed.size > KEY_SIZE_MAX):
        size = borrowed.size
        release(borrowed)
        raise KeySizeError(size, KEY_SIZE_MAX)
    return 0


def borrow_value(value, borrowed):
    """Borrow a value; ValueTypeError or ValueSizeError with nothing borrowed."""
    borrowed.has_view = False
    if PyBytes_CheckExact(value):
        borrowed.data = cython.cast(Octets, PyBytes_AS_STRING(value))
        borrowed.size = PyBytes_GET_SIZE(value)
    else:
        _borrow_other(value, borrowed, ValueTypeError)
    if unlikely(borrowed.size > VALUE_SIZE_MAX):
        size = borrowed.size
        release(borrowed)
        raise ValueSizeError(size, VALUE_SIZE_MAX)
    return 0


def release(borrowed):
    if borrowed.has_view:
        borrowed.has_view = False
        PyBuffer_Release(cython.address(borrowed.view))


def begin_key(key, borrowed, hash_key):
    """The key as indexes look for it; hashed when `hash_key` is not NULL."""
    key.data = borrowed.data
    key.size = cython.cast(uint32_t, borrowed.size)
    key.error = 0
    key.place = 0
    key.bad_position = 0
    key.hash = 0
    if hash_key != cython.NULL:
        key.hash = cython.cast(uint32_t, siphash13(hash_key, borrowed.data, borrowed.size))
