from collections.abc import AsyncGenerator, Sequence

_Header = tuple[bytes, bytes]

STATUS_LINES: dict[int, bytes]

class Common:
    @property
    def headers(self) -> tuple[_Header, ...]: ...
    @property
    def lines(self) -> bytes: ...
    def __init__(self, *headers: _Header) -> None: ...

class Answer:
    status: int
    headers: list[_Header]
    body: bytes
    stream: AsyncGenerator[bytes] | None
    common: Common
    def __init__(
        self,
        status: int = 200,
        headers: Sequence[_Header] = (),
        body: bytes = b"",
        stream: AsyncGenerator[bytes] | None = None,
        common: Common | None = None,
    ) -> None: ...
    def all_headers(self) -> list[_Header]: ...
    def write_whole(self, stamp: bytes, *, is_head: bool, is_last: bool) -> bytes: ...
