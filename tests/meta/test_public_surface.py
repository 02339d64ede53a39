"""`flash_kv.__all__` is the truth: what is public is listed, what is listed is there and says what it does."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import flash_kv
from flash_kv import errors


def _own_text(value: Any) -> str:
    """The docstring written for `value`, without the signature line that Cython and dataclasses put on top."""
    text = (vars(value).get("__doc__") if isinstance(value, type) else value.__doc__) or ""
    first_line, _, rest = text.partition("\n")
    return rest if first_line.startswith(f"{getattr(value, '__name__', '')}(") else text


def _public_callables() -> Iterator[tuple[str, Any]]:
    """Classes and functions by name, and for classes of this package their public methods and properties."""
    for name in flash_kv.__all__:
        value = getattr(flash_kv, name)
        if isinstance(value, type):
            yield name, value
            for member, attribute in vars(value).items():
                if not member.startswith("_") and _is_method(attribute):
                    yield f"{name}.{member}", getattr(attribute, "__func__", attribute)
        elif inspect.isroutine(value):
            yield name, value


def _is_method(attribute: Any) -> bool:
    return (inspect.isroutine(attribute) and not inspect.isdatadescriptor(attribute)) or isinstance(
        attribute, property
    )


def test_no_public_name_is_listed_twice() -> None:
    assert len(set(flash_kv.__all__)) == len(flash_kv.__all__)


def test_every_listed_name_is_there() -> None:
    assert [name for name in flash_kv.__all__ if not hasattr(flash_kv, name)] == []


def test_every_public_name_is_listed() -> None:
    public = {
        name
        for name, value in vars(flash_kv).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    public.discard("annotations")  # what `from __future__ import annotations` leaves
    assert public - set(flash_kv.__all__) == set()


def test_every_exception_is_public() -> None:
    exceptions = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, errors.FlashKVError)
    }
    assert exceptions - set(flash_kv.__all__) == set()


def test_everything_public_says_what_it_does() -> None:
    silent = [name for name, value in _public_callables() if not _own_text(value).strip()]
    assert silent == []


def test_public_classes_and_functions_name_the_package_they_are_imported_from() -> None:
    foreign = [
        name
        for name, value in _public_callables()
        if "." not in name and not str(value.__module__).startswith("flash_kv")
    ]
    assert foreign == []


def test_a_star_import_brings_exactly_what_is_listed() -> None:
    namespace: dict[str, Any] = {}
    exec("from flash_kv import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(flash_kv.__all__)


def test_a_signature_line_alone_is_no_documentation() -> None:
    def get(key: bytes) -> bytes:
        return key

    get.__doc__ = "get(key: bytes) -> bytes\n"
    assert not _own_text(get).strip()
    get.__doc__ += "\nThe value of `key`."
    assert _own_text(get).strip() == "The value of `key`."
