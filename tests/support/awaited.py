"""`AsyncRemoteDB` as the mapping that the embedded tests use: every call awaited in a loop of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterator, MutableMapping
from typing import Any, TypeVar

import flash_kv
from flash_kv.client.arguments import as_key
from flash_kv.client.batch import AsyncRemoteBatch
from flash_kv.client.calls import Bounds, bounds_of
from flash_kv.client.scans import RemoteItemsView, RemoteKeysView, RemoteValuesView

T = TypeVar("T")


class Steps(Iterator[Any]):
    """An async iterator, step by step."""

    def __init__(self, db: AwaitedDB, source: AsyncIterator[Any]) -> None:
        self._db = db
        self._source = source

    def __next__(self) -> Any:
        try:
            return self._db.wait(anext(self._source))
        except StopAsyncIteration:
            raise StopIteration from None


class _View:
    """Of a `Remote*View`, with the iteration of the async client."""

    _name: str
    _db: Any
    _bounds: Bounds

    def _scan(self, reverse: bool) -> Iterator[Any]:
        bounds = self._bounds
        scan = getattr(self._db.client, self._name)
        return Steps(
            self._db, scan(prefix=bounds.prefix, start=bounds.start, stop=bounds.stop, reverse=reverse)
        )


class KeysView(_View, RemoteKeysView):
    _name = "keys"


class ValuesView(_View, RemoteValuesView):
    _name = "values"


class ItemsView(_View, RemoteItemsView):
    _name = "items"


class Batch:
    """An `AsyncRemoteBatch`, its awaits waited for."""

    def __init__(self, db: AwaitedDB, batch: AsyncRemoteBatch) -> None:
        self._db = db
        self._batch = batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __setitem__(self, key: Any, value: Any) -> None:
        self._batch[key] = value

    def __delitem__(self, key: Any) -> None:
        del self._batch[key]

    def __len__(self) -> int:
        return len(self._batch)

    def __repr__(self) -> str:
        return repr(self._batch)

    def get(self, key: Any, default: Any = None) -> Any:
        return self._db.wait(self._batch.get(key, default))

    def __getitem__(self, key: Any) -> bytes:
        value: bytes | None = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __contains__(self, key: Any) -> bool:
        return self.get(key) is not None

    def commit(self) -> None:
        self._db.wait(self._batch.commit())

    def __enter__(self) -> Batch:
        self._db.wait(self._batch.__aenter__())
        return self

    def __exit__(self, *how: Any) -> None:
        self._db.wait(self._batch.__aexit__(*how))


class AwaitedDB(MutableMapping[bytes, bytes]):
    """A client whose methods are waited for; what has another name there has that of a mapping here."""

    def __init__(self, url: str) -> None:
        self.client = flash_kv.connect_async(url)
        self.url = url
        self._runner = asyncio.Runner()

    def wait(self, awaited: Any) -> Any:
        """The outcome of a coroutine, or of anything that can be awaited."""

        async def outcome() -> Any:
            return await awaited

        return self._runner.run(outcome())

    def _run(self, steps: Any) -> Any:
        return self.wait(self.client._run(steps))

    def close(self) -> None:
        self.wait(self.client.close())

    def __enter__(self) -> AwaitedDB:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._runner.close()

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if not callable(found):
            return found

        def call(*arguments: Any, **more: Any) -> Any:
            outcome = found(*arguments, **more)
            return self.wait(outcome) if isinstance(outcome, Coroutine) else outcome

        return call

    # What `MutableMapping` has of its own is to be the client's.

    def get(self, key: Any, default: Any = None) -> Any:
        return self.wait(self.client.get(key, default))

    def setdefault(self, key: Any, default: Any = b"") -> Any:
        return self.wait(self.client.setdefault(key, default))

    def update(self, other: Any = (), /, **pairs: Any) -> None:
        self.wait(self.client.update(other, **pairs))

    def __ior__(self, other: Any) -> AwaitedDB:
        self.update(other)
        return self

    def clear(self) -> None:
        self.wait(self.client.clear())

    def pop(self, key: Any, *default: Any) -> Any:
        if len(default) > 1:
            raise TypeError(f"pop() takes at most 2 arguments, got {1 + len(default)}")
        value = self.wait(self.client.pop(key))
        if value is not None:
            return value
        if default:
            return default[0]
        raise KeyError(key)

    def popitem(self) -> tuple[bytes, bytes]:
        found: tuple[bytes, bytes] | None = self.wait(self.client.popitem())
        if found is None:
            raise KeyError("popitem(): the store is empty")
        return found

    def __getitem__(self, key: Any) -> bytes:
        value: bytes | None = self.get(key)
        if value is None:
            raise KeyError(key)
        return value

    def __setitem__(self, key: Any, value: Any) -> None:
        self.wait(self.client.put(key, value))

    def __delitem__(self, key: Any) -> None:
        if not self.wait(self.client.delete(key)):
            raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        found: bool = self.wait(self.client.contains(as_key(key)))
        return found

    def __len__(self) -> int:
        found: int = self.wait(self.client.count())
        return found

    def __iter__(self) -> Iterator[bytes]:
        return Steps(self, aiter(self.client))

    def __reversed__(self) -> Iterator[bytes]:
        return reversed(self.keys())

    def keys(self, *, prefix: Any = None, start: Any = None, stop: Any = None, reverse: bool = False) -> Any:
        return KeysView(self, bounds_of(prefix, start, stop), reverse, None)  # type: ignore[arg-type]

    def values(
        self, *, prefix: Any = None, start: Any = None, stop: Any = None, reverse: bool = False
    ) -> Any:
        return ValuesView(self, bounds_of(prefix, start, stop), reverse, None)  # type: ignore[arg-type]

    def items(self, *, prefix: Any = None, start: Any = None, stop: Any = None, reverse: bool = False) -> Any:
        return ItemsView(self, bounds_of(prefix, start, stop), reverse, None)  # type: ignore[arg-type]

    def batch(self, *, durability: Any = None) -> Batch:
        return Batch(self, self.client.batch(durability=durability))
