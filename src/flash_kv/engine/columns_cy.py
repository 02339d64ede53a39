"""Many keys or values at once: lists of objects, or arrays whose items all have one width, read in place.

An array is whatever has the buffer protocol and one of these shapes (as numpy writes its dtypes):

- `V16`, bytes of a fixed width: an item is all of them. So is a row of an array of bytes in two dimensions.
- `S16`, text of a fixed width: an item ends before the zeros that fill it up, as it does for numpy.
- values only: any other item, or a row of such, in the machine's own bytes.

Anything else, `bytes` itself among it, is iterated. An array means what a list of its items means, without the items.
"""

import cython
from cython.cimports.cpython.buffer import (
    PyBUF_FORMAT,
    PyBUF_STRIDES,
    PyBuffer_Release,
    PyObject_CheckBuffer,
    PyObject_GetBuffer,
)
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cython.cimports.cpython.object import PyObject
from cython.cimports.cpython.sequence import PySequence_Fast_ITEMS
from cython.cimports.flash_kv.engine.arguments_cy import Borrowed, begin_key, borrow_key
from cython.cimports.flash_kv.intrinsics import prefetch, unlikely
from cython.cimports.flash_kv.io.memory_cy import malloc
from cython.cimports.flash_kv.log.format import KEY_SIZE_MAX
from cython.cimports.flash_kv.log.table_cy import Key
from cython.cimports.libc.stdint import uint8_t, uint64_t
from cython.cimports.libc.stdlib import free
from cython.cimports.libc.string import strlen, strpbrk

from flash_kv.errors import KeySizeError, KeyTypeError

# Keys of a batch are objects anywhere in memory: they are fetched this many ahead.
KEYS_AHEAD = cython.declare(cython.Py_ssize_t, 12)
NOT_BYTES = cython.declare(cython.p_char, "OPX&uw")


@cython.final
@cython.cclass
class Column:
    """Made by `key_column` and `value_column` only; holds the buffer as long as it lives."""

    def __dealloc__(self):
        if self.has_view:
            PyBuffer_Release(cython.address(self.view))

    def take_format(self, is_keys):
        """Read off the buffer how its items lie; False when it is to be iterated."""
        view: cython.pointer(cython.Py_buffer) = cython.address(self.view)
        last: cython.char = 66
        i: cython.int
        if view.format != cython.NULL and view.format[0] != 0:
            last = view.format[strlen(view.format) - 1]
            # Objects and text stand for other bytes than those that lie there.
            if strpbrk(view.format, NOT_BYTES) != cython.NULL:
                return False
        is_fixed: cython.bint = last == 115 or last == 120  # "s", "x"
        self.is_text = last == 115 and view.ndim == 1
        # Other items than bytes have no order that a key should have, and a row of nothing but bytes is one value.
        if view.ndim < 1 or (view.ndim == 1 and not is_fixed and (is_keys or view.itemsize == 1)):
            return False
        if is_keys and view.ndim > 1 and (view.ndim != 2 or view.itemsize != 1):
            return False
        self.width = view.itemsize
        for i in range(view.ndim - 1, 0, -1):
            if view.strides[i] != self.width and view.shape[i] > 1:
                return False
            self.width *= view.shape[i]
        self.data = cython.cast(cython.pointer(uint8_t), view.buf)
        self.count = view.shape[0]
        self.stride = view.strides[0]
        return True

    def borrow(self, number, borrowed):
        borrowed.has_view = False
        borrowed.data = self.data + number * self.stride
        borrowed.size = self.width
        if self.is_text:
            while borrowed.size != 0 and borrowed.data[borrowed.size - 1] == 0:
                borrowed.size -= 1

    def borrow_key(self, number, borrowed):
        self.borrow(number, borrowed)
        if unlikely(borrowed.size == 0 or borrowed.size > KEY_SIZE_MAX):
            raise KeySizeError(borrowed.size, KEY_SIZE_MAX)
        return 0


@cython.cfunc
def _column(argument: object, is_keys: cython.bint) -> Column:
    column: Column
    kind = type(argument)
    if kind is list or kind is tuple or kind is dict or not PyObject_CheckBuffer(argument):
        return None
    column = Column()
    try:
        PyObject_GetBuffer(argument, cython.address(column.view), PyBUF_STRIDES | PyBUF_FORMAT)
    except (BufferError, ValueError):
        # numpy's answer for dates. Its items will do.
        return None
    column.has_view = True
    return column if column.take_format(is_keys) else None


def key_column(keys):
    return _column(keys, True)


def value_column(values):
    return _column(values, False)


@cython.final
@cython.cclass
class KeyArray:
    """Parsed keys."""

    def __dealloc__(self):
        free(self.keys)
        free(self.entries)

    def reserve(self, count):
        if count <= self.capacity:
            return 0
        free(self.keys)
        free(self.entries)
        self.capacity = 0
        self.keys = cython.cast(cython.pointer(Key), malloc(count * cython.sizeof(Key)))
        self.entries = cython.cast(cython.pointer(uint64_t), malloc(count * 8))
        if self.keys == cython.NULL or self.entries == cython.NULL:
            raise MemoryError(f"no memory to look up {count} keys at once")
        self.capacity = count
        return 0

    def parse(self, keys, hash_key):
        """All keys of a list or tuple that nobody changes meanwhile."""
        borrowed: Borrowed
        i: cython.Py_ssize_t
        self.owner = keys
        self.count = len(keys)
        self.reserve(self.count)
        if self.parse_bytes(keys, hash_key):
            return 0
        self.owner = tuple([key if isinstance(key, str) else _bytes_of(key) for key in tuple(keys)])
        for i in range(self.count):
            borrow_key(self.owner[i], cython.address(borrowed))
            begin_key(cython.address(self.keys[i]), cython.address(borrowed), hash_key)
        return 0

    def parse_column(self, column, start, count, hash_key):
        """`count` keys of a column from number `start` on."""
        borrowed: Borrowed
        i: cython.Py_ssize_t
        self.owner = column
        self.count = count
        self.reserve(count)
        for i in range(count):
            column.borrow_key(start + i, cython.address(borrowed))
            begin_key(cython.address(self.keys[i]), cython.address(borrowed), hash_key)
        return 0

    def parse_bytes(self, keys, hash_key):
        """Parse the keys if all are plain bytes of allowed sizes; the objects are fetched ahead of their use."""
        items: cython.pointer(cython.pointer(PyObject)) = PySequence_Fast_ITEMS(keys)
        borrowed: Borrowed
        i: cython.Py_ssize_t
        size: cython.Py_ssize_t
        borrowed.has_view = False
        for i in range(self.count):
            if i + KEYS_AHEAD < self.count:
                prefetch(items[i + KEYS_AHEAD])
            if not PyBytes_CheckExact(cython.cast(object, items[i])):
                return False
            size = PyBytes_GET_SIZE(cython.cast(object, items[i]))
            if size == 0 or size > KEY_SIZE_MAX:
                return False
            borrowed.data = cython.cast(
                cython.pointer(uint8_t), PyBytes_AS_STRING(cython.cast(object, items[i]))
            )
            borrowed.size = size
            begin_key(cython.address(self.keys[i]), cython.address(borrowed), hash_key)
        return True


@cython.cfunc
def _bytes_of(key: object) -> bytes:
    if type(key) is bytes:
        return key
    try:
        view = memoryview(key)
    except TypeError:
        raise KeyTypeError(type(key).__name__) from None
    if not view.c_contiguous:
        raise KeyTypeError(f"non-contiguous {type(key).__name__}")
    return bytes(view)
