"""`/healthz`: should the server go on running; `/readyz`: is it to be sent requests. Neither needs a token."""

from __future__ import annotations

from flash_kv.engine.store_cy import POISONED
from flash_kv.server.http.answers import Answer, json_answer
from flash_kv.server.http.requests import Request
from flash_kv.server.service import Service


class Health:
    """The two handlers."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def healthz(self, request: Request) -> Answer:
        return _answer(self._fault())

    async def readyz(self, request: Request) -> Answer:
        if self.service.is_stopping:
            return _answer("stopping")
        return _answer(self._fault())

    def _fault(self) -> str | None:
        """What keeps the store from being used, None when nothing does. The cause is in the log, not for everybody."""
        db = self.service.db
        if db.closed:
            return "closed"
        # An earlier sync failed: reads go on, but only a new start can write again.
        return "poisoned" if db._state() & POISONED else None


def _answer(fault: str | None) -> Answer:
    return json_answer({"status": fault or "ok"}, 200 if fault is None else 503)
