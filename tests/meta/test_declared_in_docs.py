"""What the sources say about themselves is so: the exceptions' tree, the documentation of each option."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

from flash_kv import errors, options

_TREE_LINE = re.compile(
    r"^(?P<branch>[\s|+`─├└│*.-]*)(?P<name>[A-Z]\w*(?:Error|Warning)\b)(?: \((?P<bases>[\w, ]+)\))?"
)


def _drawn_tree(docstring: str) -> dict[str, tuple[str | None, tuple[str, ...]]]:
    """Each drawn exception with what stands above it and the built-ins in brackets behind it."""
    drawn: dict[str, tuple[str | None, tuple[str, ...]]] = {}
    above: list[tuple[int, str]] = []
    for line in docstring.splitlines():
        match = _TREE_LINE.match(line)
        if match is None or not line.startswith("    "):
            continue
        column = match.start("name")
        while above and above[-1][0] >= column:
            above.pop()
        bases = tuple(base.strip() for base in (match["bases"] or "").split(",") if base.strip())
        drawn[match["name"]] = (above[-1][1] if above else None, bases)
        above.append((column, match["name"]))
    return drawn


def _real_tree() -> dict[str, tuple[str | None, tuple[str, ...]]]:
    real: dict[str, tuple[str | None, tuple[str, ...]]] = {}
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.FlashKVError):
            ours = [base.__name__ for base in value.__bases__ if issubclass(base, errors.FlashKVError)]
            builtin = tuple(base.__name__ for base in value.__bases__ if base.__name__ not in ours)
            real[name] = (ours[0] if ours else None, builtin if ours else ())
    return real


def _undocumented_fields(source: str, class_name: str) -> list[str]:
    """The annotated fields of a class with neither a comment above nor a text below them."""
    lines = source.splitlines()
    (cls,) = (n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.ClassDef) and n.name == class_name)
    found = []
    for field, follower in zip(cls.body, [*cls.body[1:], None], strict=True):
        if not isinstance(field, ast.AnnAssign) or not isinstance(field.target, ast.Name):
            continue
        has_comment = bool(re.match(r"\s*#.*\w", lines[field.lineno - 2]))
        has_text = (
            isinstance(follower, ast.Expr)
            and isinstance(follower.value, ast.Constant)
            and isinstance(follower.value.value, str)
        )
        if not (has_comment or has_text):
            found.append(field.target.id)
    return found


def test_the_exceptions_drawn_in_errors_are_the_exceptions_there_are() -> None:
    assert _drawn_tree(errors.__doc__ or "") == _real_tree()


def test_a_drawing_is_read_level_by_level() -> None:
    drawing = """Text.

    AError
    +-- BError (ValueError)  why
    |   +-- CError
    +-- DError (OSError, KeyError)
    """
    assert _drawn_tree(drawing) == {
        "AError": (None, ()),
        "BError": ("AError", ("ValueError",)),
        "CError": ("BError", ()),
        "DError": ("AError", ("OSError", "KeyError")),
    }


def test_every_exception_says_when_it_occurs() -> None:
    silent = [name for name in _real_tree() if not (vars(getattr(errors, name)).get("__doc__") or "").strip()]
    assert silent == []


def test_every_option_is_documented_above_its_field() -> None:
    assert _undocumented_fields(Path(options.__file__).read_text("utf-8"), "Options") == []


def test_every_option_is_a_keyword_with_a_default_in_a_frozen_dataclass() -> None:
    fields = dataclasses.fields(options.Options)
    assert fields
    assert [field.name for field in fields if not field.kw_only] == []
    assert options.Options() == options.Options()
    assert options.Options.__dataclass_params__.frozen  # type: ignore[attr-defined]


def test_a_field_without_a_word_is_found() -> None:
    source = (
        'class Options:\n    # Bytes.\n    a: int = 1\n\n    b: int = 2\n    c: int = 3\n    """Seconds."""\n'
    )
    assert _undocumented_fields(source, "Options") == ["b"]
