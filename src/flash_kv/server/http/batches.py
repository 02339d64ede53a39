"""`POST /v1/batch`: writes that happen all or not at all, if the keys they depend on are what the client thinks."""

from __future__ import annotations

from typing import Any

from flash_kv import ConflictError
from flash_kv.server.http.answers import Answer, json_answer
from flash_kv.server.http.conditions import ABSENT, THERE, conflict, etag, lsn_of_tag
from flash_kv.server.http.payloads import (
    KEY_FIELDS,
    invalid,
    key_of,
    meta_in,
    require_fields,
    ttl_in,
    value_of,
)
from flash_kv.server.http.problems import Problem, key_fields
from flash_kv.server.http.requests import DurabilityWord, Request
from flash_kv.server.http.routing import Route
from flash_kv.server.service import Service

ELEMENTS_MAX = 100_000
REQUIRE_FIELDS = KEY_FIELDS | {"etag"}
DELETE_FIELDS = KEY_FIELDS | {"op"}
PUT_FIELDS = KEY_FIELDS | {"op", "value", "value_b64", "content_type", "ttl_s"}


def routes(service: Service) -> list[Route]:
    return [Route("POST", "/v1/batch", Batches(service).post, "write")]


class Batches:
    """The handler."""

    def __init__(self, service: Service) -> None:
        self.service = service

    async def post(self, request: Request) -> Answer:
        durability = request.durability()
        content = await request.json(self.service.settings.body_bytes_max)
        if not isinstance(content, dict):
            raise invalid("the body is an object with 'ops' and perhaps 'require'", {})
        require_fields(content, frozenset(("ops", "require")), {})
        return await self.service.call(self._commit, request, content, durability)

    def _commit(self, request: Request, content: dict[str, Any], durability: DurabilityWord | None) -> Answer:
        limit = self.service.settings.value_bytes_max
        batch = self.service.db.batch(durability=durability)
        try:
            for where, element in _elements(content, "require"):
                key = _own_key(request, element, where)
                require_fields(element, REQUIRE_FIELDS, where)
                batch.require(key, _lsn_required(element, where))
            for where, element in _elements(content, "ops"):
                key = _own_key(request, element, where)
                match element.get("op"):
                    case "put":
                        require_fields(element, PUT_FIELDS, where)
                        value = value_of(element, limit, where)
                        batch.put_record(
                            key, value, ttl_s=ttl_in(element, where), meta=meta_in(element, where)
                        )
                    case "delete":
                        require_fields(element, DELETE_FIELDS, where)
                        batch.delete(key)
                    case _:
                        raise invalid("'op' is 'put' or 'delete'", where)
            batch.commit()
        except ConflictError as error:
            problem = conflict(error.lsn)
            problem.more.update(key_fields(error.key))
            raise problem from None
        finally:
            batch.discard()
        return json_answer({"etags": [etag(lsn).decode() for lsn in batch.lsns]})


def _elements(content: dict[str, Any], name: str) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each element of a list with the fields that say which one it is."""
    elements = content.get(name, [])
    if not isinstance(elements, list) or len(elements) > ELEMENTS_MAX:
        raise invalid(f"{name!r} is a list of at most {ELEMENTS_MAX}", {})
    found = []
    for number, element in enumerate(elements):
        where = {"list": name, "element": number}
        if not isinstance(element, dict):
            raise invalid("an element is an object", where)
        found.append((where, element))
    return found


def _own_key(request: Request, element: dict[str, Any], where: dict[str, Any]) -> bytes:
    key = key_of(element, where)
    request.require_key(key)
    return key


def _lsn_required(element: dict[str, Any], where: dict[str, Any]) -> int:
    match element:
        case {"etag": None}:
            return ABSENT
        case {"etag": "*"}:
            return THERE
        case {"etag": str(text)}:
            try:
                return lsn_of_tag(text)
            except Problem as problem:
                raise invalid(problem.detail, where) from None
    raise invalid("'etag' is an ETag, null (the key has to be absent), or '*' (it has to be there)", where)
