"""Requests that a web page makes behind its reader's back.

A server without tokens trusts whoever reaches it, and every page in a browser on the same machine can. So such a server
answers only to names that mean this machine, which a rebound DNS name does not, and changes nothing for a page of
another origin. With tokens there is nothing a browser would add by itself.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from flash_kv.server.http.problems import Problem
from flash_kv.server.http.requests import Request

SAFE_METHODS = ("GET", "HEAD")


def require_own(request: Request) -> None:
    """Problem 421 for a foreign host, 403 for a change that a page of another origin asks for."""
    headers = request.headers
    host = headers.get(b"host", b"localhost")
    if not is_local(host):
        raise Problem(
            421,
            "this server asks for no tokens, so it answers to localhost and to IP addresses only",
            slug="host",
        )
    if request.method in SAFE_METHODS:
        return
    origin = headers.get(b"origin")
    is_foreign = origin is not None and origin.partition(b"://")[2] != host
    if is_foreign or headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin"):
        raise Problem(403, "a page of another origin may change nothing here", slug="origin")


@lru_cache(maxsize=256)
def is_local(host: bytes) -> bool:
    """True for a `Host` that is localhost or an IP address, with any port."""
    name = host.decode("latin-1").lower()
    if name.startswith("[") and "]" in name:
        name = name[1:].partition("]")[0]
    else:
        name = name.partition(":")[0]
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
