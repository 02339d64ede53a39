"""When a call is sent again, and what stands for no answer at all.

Invariant: only reads are sent again. A write that got no answer may have been made; sending it again could undo what
another client has done since.
"""

from __future__ import annotations

import random
import ssl

import httpx

from flash_kv.client.calls import Answer, Call
from flash_kv.client.errors import ServerTimeoutError, ServerUnreachableError
from flash_kv.client.settings import Settings

FIRST_DELAY_S = 0.05
# "Not now": too many requests, or the server is about to stop or has just started.
LATER = (429, 503)


def delay_before_retry(
    settings: Settings, call: Call, tries: int, outcome: Answer | httpx.TransportError
) -> float | None:
    """Seconds to wait before `call`, tried so often, is tried again; None: `outcome` is its end."""
    if not call.is_read or tries > settings.retries:
        return None
    asked_s = 0.0
    if isinstance(outcome, Answer):
        if outcome.status not in LATER or b"poisoned" in outcome.content:
            return None
        asked_s = _seconds(outcome.headers.get("retry-after", ""))
        if asked_s > settings.timeout_s:
            return None
    elif isinstance(outcome, httpx.PoolTimeout):
        # All connections are this client's own, and it has waited for one as long as it may.
        return None
    # Many clients of one server that failed do not come back at the same moment.
    backoff_s = FIRST_DELAY_S * 2.0 ** (tries - 1) * random.uniform(0.5, 1.5)
    return max(asked_s, backoff_s)


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isascii() and retry_after.isdigit() else 0.0


def no_answer(url: str, call: Call, error: httpx.TransportError) -> ServerUnreachableError:
    """The error for a call without an answer. Raise it from `error`."""
    reason = str(error) or type(error).__name__
    # Before there is a connection nothing was sent.
    was_sent = not isinstance(error, (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout))
    kind = ServerTimeoutError if isinstance(error, httpx.TimeoutException) else ServerUnreachableError
    return kind(url, reason, is_in_doubt=was_sent and not call.is_read)


def client_arguments(settings: Settings) -> dict[str, object]:
    """What both kinds of httpx client are made with."""
    limits = httpx.Limits(
        max_connections=settings.connections_max,
        max_keepalive_connections=settings.connections_max,
        # Less than any server keeps an idle one: a write must not meet a connection that is just being closed.
        keepalive_expiry=2.0,
    )
    headers = {"Accept-Encoding": "identity", "User-Agent": "flash-kv-client"}
    if settings.token is not None:
        headers["Authorization"] = f"Bearer {settings.token}"
    return {
        "headers": headers,
        "limits": limits,
        "timeout": settings.timeout_s,
        "verify": _tls(settings),
        # Neither proxies nor passwords from the environment: a client speaks to the server it was told.
        "trust_env": False,
    }


def _tls(settings: Settings) -> ssl.SSLContext | bool:
    if not settings.url.startswith("https:"):
        return False
    context = ssl.create_default_context(cafile=settings.ca_file)
    if settings.certificate_file is not None:
        context.load_cert_chain(settings.certificate_file, settings.key_file)
    return context
