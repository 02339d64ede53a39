"""The console's files: a route for each, `/` and `/console/<name>`, and nothing else.

All files of the bundle are read once, from the package's resources. A request's path is looked up among the routes
and never becomes the name of a file. Names carry a digest of what they hold, so browsers keep them for good; the page
that names them is asked for again each time and answered 304 while it is the same. None needs a token: they hold
nothing of a store. See docs/console.md.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources

from flash_kv.server.http.answers import Answer, Header
from flash_kv.server.http.requests import Request
from flash_kv.server.http.routing import Route
from flash_kv.server.service import Service

CONTENT_TYPES = {
    "css": b"text/css; charset=utf-8",
    "html": b"text/html; charset=utf-8",
    "js": b"text/javascript; charset=utf-8",
    "svg": b"image/svg+xml",
    "txt": b"text/plain; charset=utf-8",
    "woff2": b"font/woff2",
}
"""A file of the bundle whose name ends otherwise is not served."""

# Already compressed; gzip would only make them longer.
_INCOMPRESSIBLE = frozenset({"woff2"})
# Their names carry no digest of what they hold.
_REVALIDATED = frozenset({"html", "txt"})

SECURITY_HEADERS: tuple[Header, ...] = (
    (
        b"content-security-policy",
        b"default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'",
    ),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """One file as it is sent: its bytes, the same compressed where that is shorter, and what does not change."""

    body: bytes
    gzipped: bytes | None
    content_type: bytes
    cache_control: bytes
    digest: str

    async def handle(self, request: Request) -> Answer:
        """The handler of the file's route."""
        return self.answer(request.headers)

    def answer(self, headers: Mapping[bytes, bytes]) -> Answer:
        """What a request with these headers is answered; their names are in lower case."""
        gzipped = self.gzipped if _accepts_gzip(headers.get(b"accept-encoding", b"")) else None
        # Two encodings are two representations, and a strong tag names one (RFC 9110, 8.8.3.3).
        etag = f'"{self.digest}{"" if gzipped is None else "-gzip"}"'.encode()
        answered = [
            *SECURITY_HEADERS,
            (b"cache-control", self.cache_control),
            (b"etag", etag),
            (b"vary", b"accept-encoding"),
        ]
        if _has_tag(headers.get(b"if-none-match", b""), etag):
            return Answer(304, answered)
        answered.append((b"content-type", self.content_type))
        if gzipped is None:
            return Answer(200, answered, self.body)
        return Answer(200, [*answered, (b"content-encoding", b"gzip")], gzipped)


def _accepts_gzip(accepted: bytes) -> bool:
    for coding in accepted.lower().split(b","):
        name, _, weight = coding.replace(b" ", b"").partition(b";")
        if name in {b"gzip", b"*"} and weight.rstrip(b".0") != b"q=":
            return True
    return False


def _has_tag(wanted: bytes, etag: bytes) -> bool:
    tags = {tag.strip().removeprefix(b"W/") for tag in wanted.split(b",")}
    return etag in tags or b"*" in tags


def _asset(name: str, body: bytes) -> Asset:
    ending = name.rpartition(".")[2]
    # No time in it: the same bytes for the same file.
    gzipped = None if ending in _INCOMPRESSIBLE else gzip.compress(body, 9, mtime=0)
    return Asset(
        body=body,
        gzipped=gzipped if gzipped is not None and len(gzipped) < len(body) else None,
        content_type=CONTENT_TYPES[ending],
        cache_control=b"no-cache" if ending in _REVALIDATED else b"public, max-age=31536000, immutable",
        digest=hashlib.sha256(body).hexdigest()[:32],
    )


@lru_cache(maxsize=1)
def load_assets() -> dict[str, Asset]:
    """The bundle, by the path each file is asked for with.

    Raises:
        FileNotFoundError: the package was built without its console.
    """
    assets = {}
    for one in (resources.files("flash_kv.server") / "console").iterdir():
        if one.name.rpartition(".")[2] in CONTENT_TYPES:
            path = "/" if one.name == "index.html" else f"/console/{one.name}"
            assets[path] = _asset(one.name, one.read_bytes())
    if "/" not in assets:
        raise FileNotFoundError("the console's index.html is not in the package; `make console` builds it")
    return assets


def routes(service: Service) -> list[Route]:
    return [Route("GET", path, asset.handle, None) for path, asset in load_assets().items()]
