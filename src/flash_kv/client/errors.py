"""What a client raises beyond the errors of an embedded store (flash_kv.errors), which hold for it too.

FlashKVError
+-- ClientUnavailableError (ImportError)  the library that a client needs is not installed
+-- RemoteError                          an answer that stands for no error of a store
|   +-- AccessDeniedError (PermissionError)  no token, a wrong one, or one without the right
+-- ServerUnreachableError (ConnectionError)  no answer, or one that was cut short
    +-- ServerTimeoutError (TimeoutError)  none in time
"""

from __future__ import annotations

import errno as errno_codes
from typing import Any

from flash_kv.errors import FlashKVError


class ClientUnavailableError(FlashKVError, ImportError):
    """httpx, which a client speaks through, cannot be imported, because of `reason`."""

    _parameters = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"a client needs a library that cannot be imported ({reason}): pip install 'flash-kv[client]'"
        )


class RemoteError(FlashKVError):
    """A server's answer with an error `status` (HTTP): `title`, `detail`, and all `fields` of the problem."""

    _parameters = ("status", "title", "detail", "fields")

    def __init__(
        self, status: int, title: str, detail: str = "", fields: dict[str, Any] | None = None
    ) -> None:
        self.status = status
        self.title = title
        self.detail = detail
        self.fields = fields or {}
        super().__init__(self._text(), *self._os_arguments())

    def _text(self) -> str:
        return f"{self.title} (status {self.status})" + (f": {self.detail}" if self.detail else "")

    def _os_arguments(self) -> tuple[object, ...]:
        return ()


class AccessDeniedError(RemoteError, PermissionError):
    """The server asks for a token, does not know this one, or it lacks the right: status 401 or 403."""

    def _text(self) -> str:
        return f"{super()._text()}; connect with a token that may do this: flash_kv.connect(url, token=...)"

    def _os_arguments(self) -> tuple[object, ...]:
        return errno_codes.EACCES, self._text()


class ServerUnreachableError(FlashKVError, ConnectionError):
    """No whole answer came from `url`, because of `reason`.

    `is_in_doubt`: a write was on its way, and the server may have made it.
    """

    _parameters = ("url", "reason", "is_in_doubt")

    def __init__(self, url: str, reason: str, is_in_doubt: bool = False) -> None:
        self.url = url
        self.reason = reason
        self.is_in_doubt = is_in_doubt
        message = f"no answer from {url}: {reason}; check that the server runs there"
        if is_in_doubt:
            message += "; the write may have been made: read before writing again"
        super().__init__(message, self._errno(), message)

    def _errno(self) -> int:
        return errno_codes.ECONNREFUSED


class ServerTimeoutError(ServerUnreachableError, TimeoutError):
    """No answer came from `url` in the time the client was given."""

    def _errno(self) -> int:
        return errno_codes.ETIMEDOUT
