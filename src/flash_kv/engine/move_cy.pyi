from collections.abc import Callable
from typing import Self, final

from flash_kv.engine.store_cy import Store
from flash_kv.io.mapping_cy import Mapping

SOME: int
ALL: int
NEEDS_ROOM: int
DAMAGED: int
FAILED_WRITE: int
FAILED_READ: int
FAILED_MEMORY: int

@final
class Mover:
    def __new__(
        cls,
        store: Store,
        is_mapped: bool,
        write_hook: Callable[[int, bytes, int], None] | None,
        tombstone_floor: int,
    ) -> Self: ...
    def set_input(
        self, segment_id: int, epoch: int, store_id: bytes, source: Mapping | bytes, end: int
    ) -> None: ...
    def set_output(
        self, segment_id: int, mapping: Mapping | None, fd: int, tail: int, limit: int
    ) -> None: ...
    def extend_output(self, limit: int) -> None: ...
    def move(self, budget: int) -> int: ...
    @property
    def has_output(self) -> bool: ...
    @property
    def output_tail(self) -> int: ...
    @property
    def bytes_wanted(self) -> int: ...
    @property
    def input_offset(self) -> int: ...
    @property
    def errno(self) -> int: ...
    @property
    def records_moved(self) -> int: ...
    @property
    def bytes_moved(self) -> int: ...
    @property
    def tombstones_dropped(self) -> int: ...
