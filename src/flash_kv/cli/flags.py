"""Flags made of the fields of a dataclass of options: names, types, choices, defaults and help texts come from it.

`flash_kv.Options` and the settings of the server are told on the command line by this; there is no second list.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Collection
from dataclasses import Field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click

from flash_kv.options import DurabilitySpec

if TYPE_CHECKING:
    ParamType = click.ParamType[Any]
else:
    # Subscripted in the newest click only.
    ParamType = click.ParamType

Command = TypeVar("Command", bound=Callable[..., Any])

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
# The sections of help, in their order, by the dataclass whose fields they show.
SECTIONS = {
    "ServerSettings": "Server settings (see docs/http.md)",
    "Options": "Store options (see flash_kv.Options)",
}
UNITS = {"": 1, "b": 1, "k": KIB, "kib": KIB, "m": MIB, "mib": MIB, "g": GIB, "gib": GIB}


class Size(ParamType):
    """A number of bytes: `65536`, `64KiB`, `4M`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"(\d+)\s*([a-z]*)", str(value).strip().lower())
        if match is None or match[2] not in UNITS:
            self.fail(f"{value!r} is no size; write 65536, 64KiB, 4MiB or 1GiB", param, ctx)
        return int(match[1]) * UNITS[match[2]]


class DurabilityType(ParamType):
    """`process`, `always`, `interval:SECONDS` or `bytes:SIZE`."""

    name = "process|always|interval:SECONDS|bytes:SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        kind, colon, amount = str(value).partition(":")
        try:
            match kind, colon:
                case (("process" | "always"), ""):
                    return kind
                case "interval", ":":
                    return kind, float(amount)
                case "bytes", ":":
                    return kind, Size().convert(amount, param, ctx)
        except ValueError:
            self.fail(f"{amount!r} is no number of seconds", param, ctx)
        self.fail(f"{value!r} is none of {self.name}", param, ctx)


class Hours(ParamType):
    """A span of the day, `22-6`."""

    name = "hours"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        match = re.fullmatch(r"(\d+)-(\d+)", str(value))
        if match is None:
            self.fail(f"{value!r} is no span of hours; write 22-6", param, ctx)
        return int(match[1]), int(match[2])


class FieldOption(click.Option):
    """A flag of one field of `owner`; its help is read from the field's comment when help is shown."""

    def __init__(
        self,
        owner: type[Any],
        field: Field[Any],
        group: str,
        environment: str | None,
        summaries: Callable[[], dict[str, str]],
    ) -> None:
        self.owner = owner
        self.field = field
        self.summaries = summaries
        super().__init__(
            ["--" + field.name.replace("_", "-"), f"{group}_{field.name}"],
            type=parameter_type(field.name, get_type_hints(owner)[field.name]),
            default=None,
            envvar=None if environment is None else environment + field.name.upper(),
        )

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        self.help = self.summaries().get(self.field.name, "")
        if self.field.default is not None:
            self.help = f"{self.help}  [{_spelled(self.field.name, self.field.default)}]"
        record = super().get_help_record(ctx)
        assert record is not None
        return record


class FieldsCommand(click.Command):
    """A command with such flags: its help shows those of each dataclass in a section of their own, last ones last."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for parameter in self.get_params(ctx):
            if not isinstance(parameter, click.Option):
                continue  # arguments are told in the text
            record = parameter.get_help_record(ctx)
            if record is not None:
                title = (
                    SECTIONS[parameter.owner.__name__] if isinstance(parameter, FieldOption) else "Options"
                )
                groups.setdefault(title, []).append(record)
        for title in sorted(groups, key=["Options", *SECTIONS.values()].index):
            if groups[title]:
                with formatter.section(title):
                    formatter.write_dl(groups[title])


def parameter_type(name: str, annotation: Any) -> ParamType:
    """The click type for a field of such a dataclass."""
    if annotation == DurabilitySpec:
        return DurabilityType()
    if get_origin(annotation) in (Union, types.UnionType):
        alternatives = [part for part in get_args(annotation) if part is not type(None)]
        if len(alternatives) == 1:
            return parameter_type(name, alternatives[0])
    if get_origin(annotation) is Literal:
        return click.Choice([str(choice) for choice in get_args(annotation)])
    if annotation == tuple[int, int]:
        return Hours()
    if annotation is int:
        return Size() if "bytes" in name else click.INT
    if annotation is float:
        return click.FLOAT
    if annotation is bool:
        return click.BOOL
    if annotation is str:
        return click.STRING
    if annotation is Path:
        return click.Path(path_type=Path)
    raise TypeError(f"no flag can be made for the option {name!r} of type {annotation}")


def field_options(
    owner: type[Any],
    group: str,
    argument: str,
    *,
    left_out: Collection[str] = (),
    environment: str | None = None,
) -> Callable[[Command], Command]:
    """All flags of the dataclass `owner`; the command gets what was given as the dict `argument`.

    With `environment` a field can be given as a variable as well: that prefix and the field's name in capitals.
    """
    # Read when help is first shown, and once.
    summaries = cache(lambda: _summaries(owner))
    chosen = [field for field in fields(owner) if field.name not in left_out]

    def decorate(command: Command) -> Command:
        def folded(**arguments: Any) -> Any:
            given = {field.name: arguments.pop(f"{group}_{field.name}") for field in chosen}
            arguments[argument] = {name: value for name, value in given.items() if value is not None}
            return command(**arguments)

        folded.__doc__ = command.__doc__
        # click collects parameters last decorator first.
        own = list(getattr(command, "__click_params__", []))
        folded.__click_params__ = [  # type: ignore[attr-defined]
            *(FieldOption(owner, field, group, environment, summaries) for field in reversed(chosen)),
            *own,
        ]
        result: Any = folded
        return result  # type: ignore[no-any-return]

    return decorate


def _summaries(owner: type[Any]) -> dict[str, str]:
    """The first sentence of the comment above each field of `owner`."""
    try:
        source = inspect.getsource(owner)
    except OSError:
        return {}
    summaries = {}
    for comment, name in re.findall(r"((?:^    # .*\n)+)    (\w+):", source, flags=re.MULTILINE):
        prose = " ".join(line.strip(" #") for line in comment.splitlines())
        summaries[name] = re.split(r"(?<=[.;])\s", prose, maxsplit=1)[0].rstrip(".;") + "."
    return summaries


def _spelled(name: str, default: Any) -> str:
    """A default as one would write it on the command line."""
    if isinstance(default, int) and "bytes" in name:
        for unit, size in (("GiB", GIB), ("MiB", MIB), ("KiB", KIB)):
            if default and default % size == 0:
                return f"{default // size}{unit}"
    return str(default)
