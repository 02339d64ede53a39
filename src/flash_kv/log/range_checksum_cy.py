"""Checksums of many overlapping ranges of the same bytes, each at the same small cost.

The search for a sound record behind a damaged place tries every eighth byte as a header. Bytes that merely look like
headers of long records would make it read the rest of the segment again for each of them; with the register of every
prefix kept at steps of 4 KiB a range costs two short runs and one shift, because a CRC is linear:

    register(seed, data[a:b]) = shift(seed ^ prefix(a), b - a) ^ prefix(b)

where `prefix(x)` starts at zero and `shift(r, n)` multiplies by x^(8n) modulo the polynomial (the method of zlib's
crc32_combine). Invariant: `registers[i]` is prefix(start + i * STEP).
"""

import cython
from cython.cimports.flash_kv.io.memory_cy import realloc
from cython.cimports.flash_kv.log.checksum_cy import crc32c_extend
from cython.cimports.flash_kv.log.range_checksum_cy import PrefixRegisters
from cython.cimports.libc.stdint import uint8_t, uint32_t, uint64_t

STEP = cython.declare(uint64_t, 4096)
POLYNOMIAL = cython.declare(uint32_t, 0x82F63B78)  # Castagnoli, bit-reversed: the highest bit is x^0
ONE = cython.declare(uint32_t, 0x80000000)

_powers = cython.declare(uint32_t[64])  # x^(2^i) modulo the polynomial


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _product(a: uint32_t, b: uint32_t) -> uint32_t:
    result: uint32_t = 0
    bit: uint32_t = ONE
    while bit != 0:
        if a & bit:
            result ^= b
        b = (b >> 1) ^ (POLYNOMIAL if b & 1 else 0)
        bit >>= 1
    return result


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _shifted(register: uint32_t, count: uint64_t) -> uint32_t:
    """The register after `count` more zero bytes."""
    power: cython.int = 3
    while count != 0:
        if count & 1:
            register = _product(_powers[power], register)
        count >>= 1
        power += 1
    return register


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _grow(prefixes: cython.pointer(PrefixRegisters), count: uint64_t) -> cython.bint:
    """Registers up to number `count - 1`."""
    capacity: uint64_t
    grown: cython.pointer(uint32_t)
    at: uint64_t
    if count > prefixes.capacity:
        capacity = max(count, 2 * prefixes.capacity)
        grown = cython.cast(
            cython.pointer(uint32_t), realloc(prefixes.registers, capacity * cython.sizeof(uint32_t))
        )
        if grown == cython.NULL:
            return False
        prefixes.registers = grown
        prefixes.capacity = capacity
    if prefixes.count == 0:
        prefixes.registers[0] = 0
        prefixes.count = 1
    while prefixes.count < count:
        at = prefixes.start + (prefixes.count - 1) * STEP
        prefixes.registers[prefixes.count] = crc32c_extend(
            prefixes.registers[prefixes.count - 1], prefixes.data + at, STEP
        )
        prefixes.count += 1
    return True


@cython.cfunc
@cython.nogil
@cython.exceptval(check=False)
def _prefix(prefixes: cython.pointer(PrefixRegisters), at: uint64_t) -> uint32_t:
    step: uint64_t = (at - prefixes.start) // STEP
    begin: uint64_t = prefixes.start + step * STEP
    return crc32c_extend(prefixes.registers[step], prefixes.data + begin, at - begin)


def range_checksum(prefixes, seed, offset, size, checksum):
    begin: uint64_t = offset + 4
    end: uint64_t = offset + size
    register: uint32_t
    if not _grow(prefixes, (end - prefixes.start) // STEP + 1):
        return False
    register = crc32c_extend(
        seed, cython.cast(cython.pointer(cython.const[uint8_t]), cython.address(offset)), 8
    )
    register = _shifted(register ^ _prefix(prefixes, begin), end - begin) ^ _prefix(prefixes, end)
    checksum[0] = ~register
    return True


@cython.cfunc
def _fill_powers() -> cython.void:
    i: cython.int
    _powers[0] = ONE >> 1
    for i in range(1, 64):
        _powers[i] = _product(_powers[i - 1], _powers[i - 1])


_fill_powers()
