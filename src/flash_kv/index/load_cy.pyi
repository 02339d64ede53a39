from typing import NamedTuple

from flash_kv.index.index_cy import Index
from flash_kv.log.hints_cy import HintRun
from flash_kv.log.table_cy import SegmentTable

class LoadResult(NamedTuple):
    keys: int
    records: int
    max_lsn: int
    has_unlike_copies: bool

class LoadError(Exception):
    segment_id: int
    offset: int
    errno: int
    def __init__(self, segment_id: int, offset: int, errno: int) -> None: ...

def load_index(index: Index, table: SegmentTable, runs: list[HintRun]) -> LoadResult: ...
