"""`Answer`: what a handler returns, a whole body or a stream of chunks; and its bytes in HTTP/1.1.

Compiled, since one is made and written for every request. Names and values of headers are the server's own: whatever a
client can have put into one (a media type) has been checked for line ends where it came in.
"""

import http

import cython

STATUS_LINES: dict = {
    status.value: b"HTTP/1.1 %d %b\r\n" % (status.value, status.phrase.encode()) for status in http.HTTPStatus
}


@cython.cclass
class Common:
    """Headers that many answers begin with, and the lines that say them, written once."""

    headers = cython.declare(tuple, visibility="readonly")
    lines = cython.declare(bytes, visibility="readonly")

    def __init__(self, *headers):
        self.headers = headers
        self.lines = b"".join([b"%b: %b\r\n" % header for header in headers])


NOTHING = cython.declare(Common, Common())


@cython.cclass
class Answer:
    """Status, headers (`common` and then `headers`) and body. A stream has no length unless `headers` say one.

    A stream is an asynchronous generator; it is closed when it ends, when the client goes away (it is cancelled
    where it waits), and when the server stops.
    """

    status = cython.declare(cython.int, visibility="public")
    headers = cython.declare(list, visibility="public")
    body = cython.declare(bytes, visibility="public")
    stream = cython.declare(object, visibility="public")
    common = cython.declare(Common, visibility="public")

    def __init__(self, status=200, headers=(), body=b"", stream=None, common=None):
        self.status = status
        self.headers = list(headers)
        self.body = body
        self.stream = stream
        self.common = NOTHING if common is None else common

    @cython.cfunc
    def needs_length(self) -> cython.bint:
        # An answer with one of these statuses has no body, and so no length of one.
        if self.stream is not None or self.status == 204 or self.status == 304:
            return False
        for header in self.headers:
            if cython.cast(tuple, header)[0] == b"content-length":
                return False
        return True

    def all_headers(self) -> list:
        """The headers; of an answer that is no stream its length is among them."""
        headers: list = [*self.common.headers, *self.headers]
        if self.needs_length():
            headers.append((b"content-length", b"%d" % len(self.body)))
        return headers

    def write_whole(self, stamp: bytes, *, is_head: cython.bint, is_last: cython.bint) -> bytes:
        """An answer that is no stream, as it goes over the wire; `stamp` are the lines that every answer has."""
        pieces: list = [STATUS_LINES[self.status], stamp, self.common.lines]
        for header in self.headers:
            name, value = cython.cast(tuple, header)
            pieces.append(name)
            pieces.append(b": ")
            pieces.append(value)
            pieces.append(b"\r\n")
        if self.needs_length():
            pieces.append(b"content-length: %d\r\n" % len(self.body))
        pieces.append(b"connection: close\r\n\r\n" if is_last else b"\r\n")
        if not is_head:
            pieces.append(self.body)
        return b"".join(pieces)
