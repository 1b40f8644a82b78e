"""`locties data`: the datasets."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from locties.cli.base import Command, Json, print_json

app = typer.Typer(no_args_is_help=True)


@app.callback()
def main() -> None:
    """List, check, download or build the datasets.

    Data of the tier embedded come with installed packages, as do frozen encoders (frozen). Those of
    the tier open are downloaded by `fetch`.

    Example: `locties data build`
    """


Tier = Annotated[str | None, typer.Option(help="embedded, open or frozen; all by default.")]


@app.command("list", cls=Command)
def list_data(tier: Tier = None, as_json: Json = False) -> None:
    """Show every dataset of the manifest: where it comes from, its size and licence.

    Example: `locties data list --tier embedded`
    """
    from rich.console import Console
    from rich.table import Table

    from locties.data.manifest import sources

    listed = sources(tier)
    if as_json:
        print_json([{"where": source.where, **asdict(source)} for source in listed])
        return
    table = Table("name", "tier", "carrier", "MB", "licence")
    table.columns[3].justify = "right"
    for source in listed:
        megabytes = f"{source.bytes / 1e6:.1f}"
        table.add_row(source.name, source.tier, source.where, megabytes, source.licence)
    Console().print(table)


@app.command(cls=Command)
def verify(
    tier: Annotated[str, typer.Option(help="embedded, open or frozen.")] = "embedded",
    as_json: Json = False,
) -> None:
    """Check every file of a tier by size and sha256; exit with 1 if one fails.

    Example: `locties data verify --tier open`
    """
    from locties.data.manifest import verify as check

    checked = []
    for source, fault in check(tier):
        checked.append({"name": source.name, "fault": fault})
        if not as_json:
            print(f"{source.name:18} {'ok' if fault is None else 'FAULT: ' + fault}")
    if as_json:
        print_json(checked)
    if any(source["fault"] for source in checked):
        raise typer.Exit(1)


@app.command(cls=Command)
def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="Datasets of the open tier; all by default.")
    ] = None,
    mirror: Annotated[
        Path | None,
        typer.Option(
            help="Look in this folder first; files are matched by sha256, not by name.",
            envvar="LOCTIES_MIRROR",
            exists=True,
            file_okay=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Download datasets into the cache folder, each file verified by size and sha256.

    Files that are already there are kept, and a broken download resumes. Nothing else in locties
    opens a connection, except `locties features chips` if you give it addresses.

    Example: `locties data fetch stations biomes`
    """
    from locties.data.fetch import choose
    from locties.data.fetch import fetch as fetch_source

    fetched = []
    for source in choose(names or []):
        paths = fetch_source(source, mirror)
        fetched += [
            {"name": source.name, "path": str(path), "bytes": file.bytes, "sha256": file.sha256}
            for path, file in zip(paths, source.files, strict=True)
        ]
        if not as_json:
            print(f"{source.name:18} {len(paths):3} files {source.bytes / 1e6:6.1f} MB")
    if as_json:
        print_json(fetched)


@app.command(cls=Command)
def build(
    force: Annotated[
        bool, typer.Option("--force", help="Build even if it is built already.")
    ] = False,
    features: Annotated[
        bool, typer.Option("--features", help="Also compute frozen features (2 minutes).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Build the one cache file of the embedded tier, and print its path and size.

    The data come from installed packages, not from the internet. To use the file on a machine
    without these packages, copy it there into the folder that `LOCTIES_CACHE` names. The features
    of the modalities text and imagery_frozen are computed when they are first used; `--features`
    computes them now.

    Example: `locties data build`
    """
    from locties.data import embedded

    path = embedded.build(force=force)
    if features:
        from locties.modalities import imagery_frozen, text

        text()
        imagery_frozen()
    size = path.stat().st_size
    if as_json:
        print_json({"path": str(path), "bytes": size})
    else:
        print(f"{path} {size / 1e6:.1f} MB")
