from typing import final

from flash_kv.index.index_cy import Index

@final
class SkipListIndex(Index):
    def check(self) -> list[str]: ...
