"""`flash-kv bench`: this store and the installed peers, measured on this machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from flash_kv.bench import legend
from flash_kv.bench.stores import DEFAULT_STORES, STORES, BenchmarkError
from flash_kv.bench.suite import FULL, OTHERS, QUICK, Settings, Suite, steps_of
from flash_kv.bench.tables import report
from flash_kv.bench.workloads import WORKLOADS
from flash_kv.cli.exits import ExitCode, Failure
from flash_kv.cli.output import notice
from flash_kv.cli.progress import progress_bar

HELP = """Measure this store beside the ones that are installed (pip install 'flash-kv[bench]').

All stores take turns, slice by slice, so noise hits them alike. The loops' overhead is subtracted,
answers are checked, and each store is killed and reopened first. Stores are compared with those that
survive the same. --quick takes some minutes, a full run with every store about an hour and 15 GB of disk; --minutes
sets a limit. Nothing else should run meanwhile. --list says what each workload measures."""


def _list(context: click.Context, _parameter: click.Parameter, is_wanted: bool) -> None:
    if is_wanted and not context.resilient_parsing:
        click.echo("\n".join(legend.lines()))
        context.exit()


@click.command("bench", help=HELP, short_help="Measure this store beside the peers that are installed.")
@click.option(
    "--list",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list,
    help="The workloads, and no run.",
)
@click.option("--quick", is_flag=True, help="Rough figures soon.")
@click.option(
    "--minutes",
    type=click.FloatRange(min=0, min_open=True),
    help="About how long it may take, by fewer operations and repeats.",
)
@click.option("--keys", type=click.IntRange(1000), help="Keys in each store.")
@click.option("--value-bytes", type=click.IntRange(8, 1 << 24), help="Size of a value.  [100]")
@click.option("--repeats", type=click.IntRange(1), help="Repeats, each from fresh directories.")
@click.option("--operations", type=click.IntRange(100), help="Operations of each workload per repeat.")
@click.option(
    "--sweep-keys", type=click.IntRange(100), multiple=True, help="Another number of keys; may be repeated."
)
@click.option(
    "--sweep-value-bytes", type=click.IntRange(8), multiple=True, help="Another size; may be repeated."
)
@click.option("--no-sweeps", is_flag=True, help="At one size only.")
@click.option(
    "--store", "stores", type=click.Choice(list(STORES)), multiple=True, help="Only this; may be repeated."
)
@click.option(
    "--workload",
    "workloads",
    type=click.Choice([*WORKLOADS, *OTHERS]),
    multiple=True,
    help="Only this; may be repeated.",
)
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of every shuffle.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Where the stores live.",
)
@click.option(
    "--json", "json_path", type=click.Path(path_type=Path, dir_okay=False), help="Write all samples there."
)
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
def command(
    quick: bool,
    stores: tuple[str, ...],
    workloads: tuple[str, ...],
    json_path: Path | None,
    quiet: bool,
    no_sweeps: bool,
    **sizes: Any,
) -> ExitCode:
    settings = _settings(QUICK if quick else FULL, stores, workloads, sizes)
    if no_sweeps:
        settings = replace(settings, sweep_keys=(), sweep_value_bytes=())
    steps = steps_of(settings)
    with progress_bar("measuring", steps, in_bytes=False, is_wanted=not quiet) as bar:
        done = 0

        def tell(_text: str) -> None:
            nonlocal done
            done += 1
            bar.show(min(done, steps))

        try:
            suite = Suite(settings, tell)
            for name in suite.missing:
                notice(f"{name} is not installed and is left out")
            results = suite.run()
        except BenchmarkError as error:
            raise Failure(f"the run is worth nothing: {error}") from error
    if json_path is not None:
        results.write(json_path)
    click.echo(report(results))
    return ExitCode.OK


def _settings(
    base: Settings, stores: tuple[str, ...], workloads: tuple[str, ...], sizes: dict[str, Any]
) -> Settings:
    given = {name: value for name, value in sizes.items() if value is not None and value != ()}
    chosen = [*stores] or DEFAULT_STORES
    wanted = set(workloads) or {*WORKLOADS, *OTHERS}
    # A read needs what it reads, so the load is part of every run that is not about fresh stores alone.
    if wanted & set(WORKLOADS):
        wanted.add("fillrandom")
    settings = replace(
        base,
        stores=tuple(name for name in STORES if name in chosen),
        workloads=tuple(name for name in WORKLOADS if name in wanted),
        others=tuple(name for name in OTHERS if name in wanted),
        **given,
    )
    if settings.operations > settings.keys:
        settings = replace(settings, operations=settings.keys)
    return settings
