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
data = typer.Typer(help="The datasets: list, verify, build.", no_args_is_help=True)
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
def verify() -> None:
    """Check every file of the embedded tier by size and sha256; exit with 1 on a fault.

    Example: `locties data verify`
    """
    from locties.data.manifest import verify as check

    console = Console(soft_wrap=True, highlight=False, markup=False)
    faults = 0
    for source, fault in check():
        faults += fault is not None
        console.print(f"{source.name:12} {'ok' if fault is None else 'FAULT: ' + fault}")
    if faults:
        raise typer.Exit(1)


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


convert = typer.Typer(help="Encoders of others as encoder folders.", no_args_is_help=True)
app.add_typer(convert, name="convert")


@convert.callback()
def convert_main() -> None:
    """Encoders of others as encoder folders.

    Example: `locties convert satclip satclip-vit16-l40.ckpt satclip`
    """


@convert.command()
def satclip(
    checkpoint: Annotated[Path, typer.Argument(help="A released .ckpt, or .safetensors.")],
    out: Annotated[Path, typer.Argument(help="Folder to write; it must not exist yet.")],
) -> None:
    """Make an encoder folder of a released SatCLIP checkpoint, and print its size.

    Nothing in the checkpoint is executed. The folder is what `locties.load` reads, and its path
    is the encoder's name wherever one is evaluated.

    Example: `locties convert satclip satclip-vit16-l40.ckpt satclip`
    """
    from locties.peers import convert_satclip

    try:
        config = convert_satclip(checkpoint, out).config
    except (OSError, ValueError) as error:
        print_error(error)
        raise typer.Exit(1) from None
    siren = config["network_options"]
    print(
        f"{out} L = {config['feature_options']['degree']}, "
        f"SIREN {siren['layers']}x{siren['hidden']}, {config['dim']} dimensions"
    )
