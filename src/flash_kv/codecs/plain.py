"""Codecs of the standard library: plain bytes, text, JSON."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from flash_kv.codecs.codec import Codec

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Raw(Codec[bytes]):
    """Bytes as they are; `str` is stored as its UTF-8, as a `DB` does."""

    name = "raw"

    def encode(self, value: Any) -> str | Buffer:
        """`value` itself; the store says what it does not take."""
        return value  # type: ignore[no-any-return]

    def decode(self, data: bytes) -> bytes:
        """`data` itself."""
        return data


class Str(Codec[str]):
    """Text, as UTF-8. Lone surrogates have none and are refused."""

    name = "str"

    def encode(self, value: str) -> bytes:
        """Its UTF-8."""
        if not isinstance(value, str):
            raise TypeError("it is no str")
        return value.encode("utf-8")

    def decode(self, data: bytes) -> str:
        """From UTF-8."""
        return data.decode("utf-8")


class Json(Codec[Any]):
    """What JSON has: dict with keys of str, list, str, int, float, bool, None. UTF-8, without spaces.

    As `json.dumps` does it, tuples become lists and keys that are numbers become text. NaN and the infinities are no
    JSON and are refused.
    """

    name = "json"

    def encode(self, value: Any) -> bytes:
        """One JSON text."""
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode("utf-8")

    def decode(self, data: bytes) -> Any:
        """From one JSON text."""
        return json.loads(data.decode("utf-8"), parse_constant=_refuse)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")
