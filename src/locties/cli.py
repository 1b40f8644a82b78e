"""The command line: ``locties data build`` and its siblings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from locties import __version__

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
)
data = typer.Typer(help="The datasets: list, fetch, verify, build.", no_args_is_help=True)
app.add_typer(data, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"locties {__version__}")
        raise typer.Exit


@app.callback()
def main(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Location encoders tied to several unpaired geospatial modalities.

    Example: `locties data build`
    """


Tier = Annotated[str | None, typer.Option(help="embedded, open or paper; all by default.")]


@data.command("list")
def list_data(tier: Tier = None) -> None:
    """Show every dataset of the manifest: where it comes from, its size and licence.

    Example: `locties data list --tier embedded`
    """
    from locties.data.manifest import sources

    try:
        listed = sources(tier)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    table = Table("name", "tier", "carrier", "MB", "licence")
    table.columns[3].justify = "right"
    for source in listed:
        megabytes = f"{source.bytes / 1e6:.1f}"
        table.add_row(source.name, source.tier, source.where, megabytes, source.licence)
    Console().print(table)


@data.command()
def verify(
    tier: Annotated[str, typer.Option(help="embedded, open or paper.")] = "embedded",
) -> None:
    """Check every file of a tier by size and sha256; exit with 1 on a fault.

    Example: `locties data verify --tier open`
    """
    from locties.data.manifest import verify as check

    console = Console(soft_wrap=True, highlight=False, markup=False)
    faults = 0
    try:
        for source, fault in check(tier):
            faults += fault is not None
            console.print(f"{source.name:18} {'ok' if fault is None else 'FAULT: ' + fault}")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if faults:
        raise typer.Exit(1)


@data.command()
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Datasets; all of the tier by default.")
    ] = None,
    tier: Annotated[str, typer.Option(help="open or paper.")] = "open",
    mirror: Annotated[
        Path | None,
        typer.Option(
            help="A folder whose files answer first, by sha256, whatever their names.",
            envvar="LOCTIES_MIRROR",
            exists=True,
            file_okay=False,
        ),
    ] = None,
) -> None:
    """Download datasets into the cache folder, each file verified by size and sha256.

    What is there is kept, and a broken download goes on where it stopped. Nothing else in locties
    ever opens a connection.

    Example: `locties data fetch stations biomes`
    """
    from locties.data.fetch import choose
    from locties.data.fetch import fetch as fetch_source

    try:
        chosen = choose(names or [], tier)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    for source in chosen:
        try:
            paths = fetch_source(source, mirror)
        except OSError as error:
            print_error(error)
            raise typer.Exit(1) from None
        print(f"{source.name:18} {len(paths):3} files {source.bytes / 1e6:6.1f} MB")


@data.command()
def build(
    force: Annotated[bool, typer.Option("--force", help="Build even where it is built.")] = False,
) -> None:
    """Build the one cache file of the embedded tier, and print its path and size.

    It is read from the installed wheels: no network is used. The file can be carried to a machine
    without these wheels: put it into the folder that `LOCTIES_CACHE` names there.

    Example: `locties data build`
    """
    from locties.data import embedded

    try:
        path = embedded.build(force=force)
    except OSError as error:
        print_error(error)
        raise typer.Exit(1) from None
    print(f"{path} {path.stat().st_size / 1e6:.1f} MB")


def print_error(error: Exception) -> None:
    """One line on stderr: what went wrong and what to run."""
    Console(stderr=True, soft_wrap=True, highlight=False, markup=False).print(f"error: {error}")
