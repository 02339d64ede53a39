from typing import final

from flash_kv.index.index_cy import Index

@final
class SkipListIndex(Index):
    def shape(self) -> list[int]: ...
    def check(self) -> list[str]: ...
