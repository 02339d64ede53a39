"""The one list of all resources: each gives its routes for a service."""

from __future__ import annotations

from collections.abc import Callable

from flash_kv.server.http import (
    administration,
    batches,
    bulk,
    console,
    description,
    kv,
    listing,
    syncing,
    watch,
)
from flash_kv.server.http.routing import Route
from flash_kv.server.service import Service

RESOURCES: tuple[Callable[[Service], list[Route]], ...] = (
    kv.routes,
    listing.routes,
    batches.routes,
    bulk.routes,
    watch.routes,
    administration.routes,
    console.routes,
    description.routes,
    syncing.routes,
)


def all_routes(service: Service) -> list[Route]:
    """The routes of every resource."""
    return [route for make in RESOURCES for route in make(service)]
