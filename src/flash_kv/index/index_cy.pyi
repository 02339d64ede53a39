from typing import Self

from flash_kv.log.table_cy import SegmentTable

class Index:
    def __new__(cls, table: SegmentTable, hash_key: bytes) -> Self: ...
    @property
    def table(self) -> SegmentTable: ...
    @property
    def is_ordered(self) -> bool: ...
