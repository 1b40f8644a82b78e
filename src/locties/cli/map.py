"""`locties map`: from a table of labels to a map, its uncertainty, and where to trust it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from locties._util.text import printable
from locties.cli.base import (
    Invalid,
    Kind,
    Lat,
    Lon,
    check_writable,
    find_contender,
    read_labels,
    reading,
    resuming,
    say,
    split_names,
)

RASTERS = (".tif", ".zarr")


def map_(
    file: Annotated[
        Path, typer.Argument(help="Your labels: CSV, Parquet, GeoParquet, GeoJSON, ...")
    ],
    target: Annotated[str, typer.Option(help="The column of FILE to map.")],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help=".tif or .zarr; with --at .csv, .tsv or .parquet."),
    ] = None,
    encoder: Annotated[
        list[str],
        typer.Option(
            help="Encoders or tables of embeddings to choose from; auto: several published ones."
        ),
    ] = ["auto"],  # noqa: B006
    bounds: Annotated[
        str | None,
        typer.Option(help="W,S,E,N in degrees; by default around the labels.", metavar="W,S,E,N"),
    ] = None,
    resolution: Annotated[
        float | None,
        typer.Option(help="Pixel size in degrees; by default the map has about 160,000 pixels."),
    ] = None,
    sea: Annotated[
        bool, typer.Option("--sea", help="Map the sea and the great lakes too.")
    ] = False,
    at: Annotated[
        Path | None, typer.Option(help="Predict at the places of this table, not on a grid.")
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="Write a page about the map: NAME.html, and NAME.png beside it."),
    ] = None,
    coverage: Annotated[
        float, typer.Option(help="Share of true values that the intervals should hold.")
    ] = 0.9,
    unit: Annotated[str, typer.Option(help="Unit of the target, such as mm.")] = "",
    month: Annotated[
        int | None,
        typer.Option(help="For an encoder that takes a month: the month of the map, 1 to 12."),
    ] = None,
    kind: Kind = None,
    lon: Lon = None,
    lat: Lat = None,
    invalid: Invalid = "raise",
    seed: Annotated[int, typer.Option(help="Random seed of the folds.")] = 0,
) -> None:
    """Map a quantity or a class from labelled places.

    Prints which encoder and probe were chosen and why, how well they predict held-out blocks, and
    how often the intervals hold the true value. OUTPUT has for each pixel the value, the ends of
    its interval, whether to trust it, and the distance to the nearest label. If the command is
    interrupted, run it again: it repeats the fit (about half a minute with 1,000 labels), and
    continues after the last finished tile.

    Example: `locties map points.csv --target ph --output ph.tif --report ph.html`

    Example: `locties map points.csv --target ph --at sites.csv --output sites_ph.csv`

    Example: `locties map july_rain.csv --target mm --encoder run --month 7 --output july.tif`

    Example: `locties map points.csv --target ph --bounds 5,47,15,55 --resolution 0.01 -o ph.zarr`
    """
    _check(output, at, report, grid=bounds is not None or resolution is not None or sea)
    check_writable(output, report)
    encoders = [find_contender(name, ["auto"]) for name in split_names(encoder)]

    from locties.mapping.candidates import candidates
    from locties.mapping.conformal import check_coverage
    from locties.mapping.fit import fit_map
    from locties.mapping.output import trusted_share, window_of

    chosen_from = "auto" if "auto" in encoders else encoders
    check_coverage(coverage)
    candidates(chosen_from, month, invalid)  # refuses unknown names
    task = read_labels(
        file, target, lon=lon, lat=lat, kind=kind, unit=unit, invalid=invalid, fixed=month
    )
    window = window_of(task.lonlat.numpy(), bounds, resolution)
    with reading():
        fitted = fit_map(
            chosen_from, task, month=month, invalid=invalid, coverage=coverage, seed=seed
        )
    for line in fitted.summary().splitlines():
        print(printable(line))
    with resuming():
        if at is not None and output is not None:
            with reading():
                there = "drop" if invalid == "drop" else "raise"
                fitted.to_table(output, at, lon=lon, lat=lat, invalid=there)
            print(f"{output}: predictions at the places of {at}")
        elif output is not None:
            rows, columns = window.shape
            size = f"{columns} x {rows} pixels of {window.resolution:.6g} degrees"
            say(f"{output}: {size}, {', '.join(f'{edge:g}' for edge in window.bounds)}")
            write = fitted.to_zarr if output.suffix == ".zarr" else fitted.to_geotiff
            write(output, bounds=bounds, resolution=resolution, sea=sea)
            print(f"{output}: {size}; trusted on {trusted_share(output):.0%} of the mapped area")
        elif report is None:
            say("no map is written: pass --output FILE.tif, or --report FILE.html")
        if report is not None:
            command = shlex.join(["locties", *sys.argv[1:]])
            fitted.report(report, bounds=bounds, resolution=resolution, sea=sea, command=command)
            print(f"{report}: the report")


def _check(output: Path | None, at: Path | None, report: Path | None, *, grid: bool) -> None:
    """Refuse options that do not go together, before any work."""
    if report is not None and report.suffix != ".html":
        raise ValueError(f"--report {report}: give a name that ends in .html")
    if at is None:
        if output is not None and output.suffix not in RASTERS:
            raise ValueError(
                f"--output {output}: give a name that ends in {' or '.join(RASTERS)}; for a table "
                "of predictions at given places, also --at SITES.csv"
            )
        if grid and output is None and report is None:
            raise ValueError("--bounds, --resolution and --sea need --output or --report")
        return
    from locties.apply.parts import ending_of, source_of

    if output is None:
        raise ValueError(f"--at {at} needs --output, the table to write, such as predicted.csv")
    if grid and report is None:
        raise ValueError("--bounds, --resolution and --sea are for a map: drop them, or drop --at")
    if output.resolve() == at.resolve():
        raise ValueError(f"--output {output} is the table of --at itself: name another file")
    ending_of(output)
    with reading():
        source_of(at)
