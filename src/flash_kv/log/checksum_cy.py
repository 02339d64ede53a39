"""CRC32C (Castagnoli), by CPU instruction where there is one, by table otherwise.

The instruction has a latency of three cycles and a throughput of one, so long inputs run as three
interleaved streams whose states are joined by multiplying with x^(8n) mod P, by table: the method of
M. Adler's crc32c (zlib's author) and of Intel's white paper 323405.

A record's checksum is the CRC32C of `store id (16) | segment id (8) | epoch (8) | offset (8) | record[4:]`
(docs/format.md), so bytes that stand in the wrong store, segment, place or time never verify. The first
three never change within a segment: `segment_seed` is the register state after them.
"""

import cython
from cython.cimports.cpython.bytes import PyBytes_AS_STRING, PyBytes_GET_SIZE
from cython.cimports.flash_kv.intrinsics import (
    crc32c_instr,
    crc32c_instr_record,
    crc32c_instr_three,
    has_crc32c,
)
from cython.cimports.libc.stdint import uint8_t, uint32_t
from cython.cimports.libc.string import memcpy

POLYNOMIAL: uint32_t = 0x82F63B78  # Castagnoli, bit-reversed (RFC 3720, B.4)
LONG_STRIDE = cython.declare(cython.size_t, 4096)
SHORT_STRIDE = cython.declare(cython.size_t, 256)

_table = cython.declare(uint32_t[8 * 256])
_shift_long = cython.declare(uint32_t[4 * 256])
_shift_short = cython.declare(uint32_t[4 * 256])
_use_instruction = cython.declare(cython.bint, False)


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _extend_by_table(
    state: uint32_t, data: cython.pointer(cython.const[uint8_t]), size: cython.size_t
) -> uint32_t:
    """Slicing-by-8 (Kounavis and Berry 2005)."""
    low: uint32_t
    high: uint32_t
    i: cython.size_t = 0
    while size - i >= 8:
        memcpy(cython.address(low), data + i, 4)
        memcpy(cython.address(high), data + i + 4, 4)
        low ^= state
        state = (
            _table[1792 + (low & 0xFF)]
            ^ _table[1536 + ((low >> 8) & 0xFF)]
            ^ _table[1280 + ((low >> 16) & 0xFF)]
            ^ _table[1024 + (low >> 24)]
            ^ _table[768 + (high & 0xFF)]
            ^ _table[512 + ((high >> 8) & 0xFF)]
            ^ _table[256 + ((high >> 16) & 0xFF)]
            ^ _table[high >> 24]
        )
        i += 8
    while i < size:
        state = (state >> 8) ^ _table[(state ^ data[i]) & 0xFF]
        i += 1
    return state


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _shifted(tables: cython.pointer(uint32_t), state: uint32_t) -> uint32_t:
    return (
        tables[state & 0xFF]
        ^ tables[256 + ((state >> 8) & 0xFF)]
        ^ tables[512 + ((state >> 16) & 0xFF)]
        ^ tables[768 + (state >> 24)]
    )


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _extend_long(
    state: uint32_t, data: cython.pointer(cython.const[uint8_t]), size: cython.size_t
) -> uint32_t:
    states: uint32_t[3]
    stride: cython.size_t
    tables: cython.pointer(uint32_t)
    while size >= 3 * SHORT_STRIDE:
        if size >= 3 * LONG_STRIDE:
            stride = LONG_STRIDE
            tables = _shift_long
        else:
            stride = SHORT_STRIDE
            tables = _shift_short
        states[0] = state
        states[1] = 0
        states[2] = 0
        crc32c_instr_three(states, data, stride)
        state = _shifted(tables, _shifted(tables, states[0]) ^ states[1]) ^ states[2]
        data += 3 * stride
        size -= 3 * stride
    return crc32c_instr(state, data, size)


def crc32c_extend(state, data, size):
    """The raw register after `size` more bytes; callers invert at the start and at the end."""
    if not _use_instruction:
        return _extend_by_table(state, data, size)
    if size >= 3 * SHORT_STRIDE:
        return _extend_long(state, data, size)
    return crc32c_instr(state, data, size)


def segment_seed(store_id, segment_id, epoch):
    """The register after what all records of one segment share."""
    state: uint32_t = crc32c_extend(0xFFFFFFFF, store_id, 16)
    state = crc32c_extend(
        state, cython.cast(cython.pointer(cython.const[uint8_t]), cython.address(segment_id)), 8
    )
    return crc32c_extend(state, cython.cast(cython.pointer(cython.const[uint8_t]), cython.address(epoch)), 8)


def record_checksum_of(seed, offset, word, rest, rest_size):
    """The checksum of a record whose first eight bytes may not be in place yet."""
    state: uint32_t
    if _use_instruction and rest_size < 3 * SHORT_STRIDE:
        return ~crc32c_instr_record(seed, offset, word, rest, rest_size)
    state = crc32c_extend(seed, cython.cast(cython.pointer(cython.const[uint8_t]), cython.address(offset)), 8)
    state = crc32c_extend(state, cython.cast(cython.pointer(cython.const[uint8_t]), cython.address(word)), 4)
    return ~crc32c_extend(state, rest, rest_size)


def record_checksum(seed, offset, record, size):
    """The checksum of the `size` bytes at `record`, whose first four are the place of the checksum itself."""
    word: uint32_t
    memcpy(cython.address(word), record + 4, 4)
    return record_checksum_of(seed, offset, word, record + 8, size - 8)


def crc32c(data: bytes, crc: int = 0) -> int:
    """CRC32C of `data`, or of what `crc` is the checksum of followed by `data`."""
    start = cython.cast(cython.pointer(cython.const[uint8_t]), PyBytes_AS_STRING(data))
    state: uint32_t = ~cython.cast(uint32_t, crc)
    state = ~crc32c_extend(state, start, PyBytes_GET_SIZE(data))
    return state


def use_instruction(wanted: bool) -> bool:
    """Choose the instruction (True) or the table (False); for tests. True when the instruction is in use."""
    global _use_instruction
    _use_instruction = wanted and has_crc32c()
    return _use_instruction


@cython.cfunc
def _fill_tables() -> cython.void:
    i: cython.int
    j: cython.int
    state: uint32_t
    previous: uint32_t
    for i in range(256):
        state = i
        for j in range(8):
            state = (state >> 1) ^ (POLYNOMIAL if state & 1 else 0)
        _table[i] = state
    for i in range(256):
        for j in range(1, 8):
            previous = _table[(j - 1) * 256 + i]
            _table[j * 256 + i] = (previous >> 8) ^ _table[previous & 0xFF]


@cython.cfunc
def _fill_shift(tables: cython.pointer(uint32_t), zeros: cython.size_t) -> cython.void:
    """Tables that advance a register over `zeros` zero bytes, from what they do to each single bit."""
    basis: uint32_t[32]
    zero: uint8_t = 0
    i: cython.int
    j: cython.int
    bit: cython.int
    n: cython.size_t
    state: uint32_t
    for i in range(32):
        state = cython.cast(uint32_t, 1) << i
        for n in range(zeros):
            state = _extend_by_table(state, cython.address(zero), 1)
        basis[i] = state
    for j in range(4):
        for i in range(256):
            state = 0
            for bit in range(8):
                if (i >> bit) & 1:
                    state ^= basis[8 * j + bit]
            tables[j * 256 + i] = state


_fill_tables()
_fill_shift(_shift_long, LONG_STRIDE)
_fill_shift(_shift_short, SHORT_STRIDE)
use_instruction(True)
