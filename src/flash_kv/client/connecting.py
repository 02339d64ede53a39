"""`connect` and `connect_async`: a store behind a server. httpx is imported here first, by the first of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from flash_kv.client.errors import ClientUnavailableError
from flash_kv.client.settings import Settings

if TYPE_CHECKING:
    from flash_kv.client.async_remote_db import AsyncRemoteDB
    from flash_kv.client.remote_db import RemoteDB


def connect(url: str, **settings: Any) -> RemoteDB:
    """The store that `flash-kv serve` serves at `url`, as the mapping that `flash_kv.open` gives.

    `token`: a bearer token. `timeout_s`: seconds to wait for the next bytes, default 30. `retries`: how often a read is
    asked again, default 2. `connections_max`: default 100. `ca_file`, `certificate_file`, `key_file`: PEM files for
    TLS. Nothing is sent before the first operation.

    Raises OptionsError, ClientUnavailableError (httpx is missing: pip install 'flash-kv[client]').
    """
    found = Settings(url, **settings)
    try:
        from flash_kv.client.remote_db import RemoteDB
    except ImportError as error:
        raise ClientUnavailableError(str(error)) from error
    return RemoteDB(found)


def connect_async(url: str, **settings: Any) -> AsyncRemoteDB:
    """As `connect`, for asyncio and trio: `async with flash_kv.connect_async(url) as db: await db.get("key")`."""
    found = Settings(url, **settings)
    try:
        from flash_kv.client.async_remote_db import AsyncRemoteDB
    except ImportError as error:
        raise ClientUnavailableError(str(error)) from error
    return AsyncRemoteDB(found)
