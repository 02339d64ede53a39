from typing_extensions import Buffer

from flash_kv.engine.record import Record
from flash_kv.engine.writes_cy import Writes
from flash_kv.options import DurabilitySpec

class Records(Writes):
    @property
    def last_lsn(self) -> int: ...
    def get_record(self, key: str | Buffer, *, view: bool = False) -> Record | None: ...
    def put_record(
        self,
        key: str | Buffer,
        value: str | Buffer,
        *,
        ttl_s: float | None = None,
        expires_at: float | None = None,
        meta: str | Buffer = b"",
        if_lsn: int | None = None,
        durability: DurabilitySpec | None = None,
    ) -> int: ...
    def delete_record(
        self, key: str | Buffer, *, if_lsn: int | None = None, durability: DurabilitySpec | None = None
    ) -> int | None: ...
    def _remove_if_expired(self, key: bytes) -> bool: ...
