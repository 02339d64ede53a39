"""Opening a store from the command line: one flag for each field of `flash_kv.Options`, made from the fields.

The names, types, choices, defaults and help texts all come from `flash_kv.options`; there is no second list.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable
from dataclasses import Field, fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import click

from flash_kv.cli.exits import Failure
from flash_kv.errors import LockedError, StoreNotFoundError
from flash_kv.options import DurabilitySpec, Options

if TYPE_CHECKING:
    import flash_kv

    ParamType = click.ParamType[Any]
else:
    # Subscripted in the newest click only.
    ParamType = click.ParamType

Command = TypeVar("Command", bound=Callable[..., Any])

# What a command does, reading or writing, says whether it may create; a flag for that would contradict it.
DECIDED_BY_THE_COMMAND = ("read_only", "create")

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
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


class StoreOption(click.Option):
    """A flag of one field of `Options`; its help is read from the field's comment when help is shown."""

    def __init__(self, field: Field[Any], annotation: Any) -> None:
        self.field = field
        flag = "--" + field.name.replace("_", "-")
        super().__init__(
            [flag, f"store_{field.name}"], type=parameter_type(field.name, annotation), default=None
        )

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:
        self.help = _summaries().get(self.field.name, "")
        if self.field.default is not None:
            self.help = f"{self.help}  [{_spelled(self.field.name, self.field.default)}]"
        record = super().get_help_record(ctx)
        assert record is not None
        return record


class StoreCommand(click.Command):
    """A command that opens a store: its help shows the store's options in a section of their own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {"Options": [], "Store options (see flash_kv.Options)": []}
        own, store = groups.values()
        for parameter in self.get_params(ctx):
            if not isinstance(parameter, click.Option):
                continue  # arguments are told in the text
            record = parameter.get_help_record(ctx)
            if record is not None:
                (store if isinstance(parameter, StoreOption) else own).append(record)
        for title, records in groups.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)


def parameter_type(name: str, annotation: Any) -> ParamType:
    """The click type for a field of `Options`."""
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
    raise TypeError(f"no flag can be made for the option {name!r} of type {annotation}")


def store_options(command: Command) -> Command:
    """All flags of `Options`; the command gets `options`, what was given, for `open_store`."""
    hints = get_type_hints(Options)
    chosen = [field for field in fields(Options) if field.name not in DECIDED_BY_THE_COMMAND]

    def folded(**arguments: Any) -> Any:
        given = {field.name: arguments.pop(f"store_{field.name}") for field in chosen}
        return command(
            **arguments, options={name: value for name, value in given.items() if value is not None}
        )

    folded.__doc__ = command.__doc__
    # click collects parameters last decorator first.
    own = list(getattr(command, "__click_params__", []))
    folded.__click_params__ = [  # type: ignore[attr-defined]
        *(StoreOption(field, hints[field.name]) for field in reversed(chosen)),
        *own,
    ]
    result: Any = folded
    return result  # type: ignore[no-any-return]


def open_store(
    path: Path, options: dict[str, Any], *, read_only: bool = False, create: bool = False
) -> flash_kv.DB:
    """`flash_kv.open`; a store that is not there or in use is told in the words of the command line."""
    import flash_kv

    try:
        db: flash_kv.DB = flash_kv.open(path, read_only=read_only, create=create, **options)
        return db
    except StoreNotFoundError as error:
        raise Failure(
            f"no store at {path}: check the path; 'flash-kv load' and 'flash-kv put' make a new one"
        ) from error
    except LockedError as error:
        if error.is_read:
            raise Failure(f"{path} is being read: wait until its readers have closed the store") from error
        holder = (
            f"process {error.holder_pid} on {error.holder_host}" if error.holder_pid else "another process"
        )
        since = f" since {error.holder_started}" if error.holder_started else ""
        raise Failure(f"{path} is locked by {holder}{since}: wait until it has closed the store") from error


@cache
def _summaries() -> dict[str, str]:
    """The first sentence of the comment above each field of `Options`."""
    try:
        source = inspect.getsource(Options)
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


STORE_PATH = click.Path(path_type=Path)
