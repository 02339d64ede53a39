"""Pickle, for whoever asks for it by name.

To unpickle is to run: whoever can write to the store's files can run any program in the process that reads them. With
a key each value is signed (HMAC-SHA256), and the signature is checked before anything is unpickled.

    signed value:   32 bytes HMAC-SHA256 of the pickle | pickle
"""

from __future__ import annotations

import hashlib
import hmac
import pickle
import warnings
from typing import Any

from flash_kv.codecs.codec import Codec

KEY_BYTES_MIN = 16
SIGNATURE_BYTES = hashlib.sha256().digest_size


class Pickle(Codec[Any]):
    """Anything that pickles; with `key` (16 bytes or more, secret) signed.

    Without a key: a UserWarning, for reading runs what was stored. The signature says that a value was written by
    someone with the key, not under which key of the store or when: who can write to the files can still put one
    signed value in the place of another.
    """

    def __init__(self, key: bytes | None = None) -> None:
        if key is None:
            warnings.warn(
                "unsigned pickles run whatever program someone with access to the store's files puts there: "
                'give a key, as in flash_kv.codecs.Pickle(key=...), or choose another codec such as "msgpack"',
                UserWarning,
                stacklevel=2,
            )
        elif not isinstance(key, bytes) or len(key) < KEY_BYTES_MIN:
            raise ValueError(f"the key of signed pickles must be bytes, {KEY_BYTES_MIN} or more")
        self._key = key

    @property
    def name(self) -> str:
        """ "pickle", or with a key "pickle-hmac"."""
        return "pickle" if self._key is None else "pickle-hmac"

    def encode(self, value: Any) -> bytes:
        """Its pickle, behind its signature if there is a key."""
        data = pickle.dumps(value, protocol=5)
        return data if self._key is None else self._sign(self._key, data) + data

    def decode(self, data: bytes) -> Any:
        """Unpickled; with a key only if the signature is right."""
        if self._key is not None:
            signature, data = data[:SIGNATURE_BYTES], data[SIGNATURE_BYTES:]
            if not hmac.compare_digest(signature, self._sign(self._key, data)):
                raise ValueError("its signature is not of this key, and it has not been unpickled")
        return pickle.loads(data)

    @staticmethod
    def _sign(key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, "sha256")
