"""Which heads of requests are refused, beside those that llhttp refuses by itself: see protocol.py.

Compiled, since it is asked about every request.
"""

import cython

from flash_kv.server.http.problems import Problem

# A body of at most so much is awaited before its request begins.
WHOLE_BYTES_MAX = 64 << 10

_WHOLE_BYTES_MAX = cython.declare(cython.longlong, WHOLE_BYTES_MAX)


def head_size(url: bytes, pairs: list) -> int:
    """The bytes of a path, of the names and the values of headers."""
    size: cython.Py_ssize_t = len(url)
    for name, value in pairs:
        size += len(cython.cast(bytes, name)) + len(cython.cast(bytes, value))
    return size


def has_small_body(version: str, url: bytes, pairs: list, headers: dict) -> cython.bint:
    """True for a request with a small body, or none, that is there or will be soon. Problem for a head to be refused.

    `pairs` are the headers as they came, `headers` the same by name.
    """
    is_newer: cython.bint = version == "1.1"
    if not is_newer and version != "1.0":
        raise _malformed(505, "this is a server for HTTP/1.1")
    codings: cython.int = b"transfer-encoding" in headers
    hosts: cython.int = b"host" in headers
    if len(pairs) != len(headers):
        names = [name for name, _ in pairs]
        codings = names.count(b"transfer-encoding")
        hosts = names.count(b"host")
    if hosts > 1 or (hosts == 0 and is_newer):
        raise _malformed(400, "a request needs one Host")
    if codings > 0:
        _require_chunked(pairs, codings, is_newer)
    if b"#" in url:
        raise _malformed(400, "a fragment is no part of a request: write %23 for #")
    if codings > 0 or b"expect" in headers:
        return False
    length = headers.get(b"content-length")
    # llhttp takes digits only, and one length.
    return length is None or int(length) <= _WHOLE_BYTES_MAX


@cython.cfunc
def _require_chunked(pairs: list, codings: cython.int, is_newer: cython.bint):
    for name, value in pairs:
        if name == b"transfer-encoding" and value.strip().lower() != b"chunked":
            raise _malformed(400, "the transfer coding has to be chunked")
    if codings > 1 or not is_newer:
        raise _malformed(400, "the transfer coding may be given once, and with HTTP/1.1")


@cython.cfunc
def _malformed(status: cython.int, detail: str):
    return Problem(status, detail, slug="malformed")
