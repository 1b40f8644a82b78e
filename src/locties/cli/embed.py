"""`locties embed`: add embeddings to a table of places, or embed the whole globe."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from locties.cli.base import (
    Lat,
    Lon,
    check_writable,
    find_encoder,
    number_of,
    reading,
    resuming,
    say,
)


def embed(
    encoder: Annotated[
        str, typer.Argument(help="A published encoder, or the folder of one or of a run.")
    ],
    file: Annotated[
        str, typer.Argument(help="CSV, TSV, Parquet or GeoParquet; - is CSV from stdin.")
    ] = "-",
    output: Annotated[
        str, typer.Option("--output", "-o", help="CSV, TSV or Parquet; - is CSV to stdout.")
    ] = "-",
    lon: Lon = None,
    lat: Lat = None,
    month: Annotated[
        str | None,
        typer.Option(
            help="For an encoder that takes a month: 1 to 12, or its column; by default the column "
            "month."
        ),
    ] = None,
    invalid: Annotated[
        str, typer.Option(help="Rows that cannot be used: raise stops, drop leaves them out.")
    ] = "raise",
    grid: Annotated[
        float | None,
        typer.Option(
            help="Embed the globe in pixels of this size in degrees; OUTPUT is .zarr or .tif."
        ),
    ] = None,
) -> None:
    """Embed the places of a table: append the embedding to its columns.

    Longitude and latitude are degrees (WGS84). The points of a GeoParquet may have any CRS; if
    OUTPUT is a Parquet file, it is then GeoParquet too. Memory holds a few thousand rows at a time.
    If a command that writes a file is stopped, the same command resumes.

    Example: `locties embed melt < sites.csv > embedded.csv`

    Example: `locties embed melt sites.csv --lon east --lat north --output sites.parquet`

    Example: `locties embed melt --grid 0.25 --output melt.zarr`
    """
    found = find_encoder(encoder)
    if grid is not None:
        if lon or lat:
            raise ValueError("--grid needs no table: drop --lon and --lat, or drop --grid")
        if invalid != "raise":
            raise ValueError(f"--grid has no rows: drop --invalid {invalid}, or drop --grid")
        _export(found, file, output, grid, month)
        return
    if "-" not in (file, output) and Path(output).resolve() == Path(file).resolve():
        raise ValueError(f"--output {output} is the input itself: name another file")
    from locties.apply.metadata import resolve, takes_month
    from locties.apply.parts import ending_of
    from locties.apply.tables import check_invalid

    check_invalid(invalid)
    if output != "-":
        ending_of(output)  # refuses a name that is not a table's
        check_writable(Path(output))
    function, about = resolve(found, fixed := number_of(month))
    about["encoder"] = Path(encoder).resolve().name  # in a run's folder, the run's name
    column = (month or "") if takes_month(function) else None
    if column is None and fixed is None and month is not None:
        raise ValueError(f"{about['encoder']} takes no month: drop --month {month}")
    with reading():
        _embed(function, about, file, output, lon=lon, lat=lat, month=column, invalid=invalid)


def _embed(
    function: Any, about: dict[str, str], file: str, output: str, **options: str | None
) -> None:
    import pandas as pd
    from torch import Tensor

    from locties.apply.append import append_columns
    from locties.apply.grid import embed_points
    from locties.apply.metadata import column_names

    def columns(lonlat: Tensor, month: Tensor | None = None) -> pd.DataFrame:
        embedding = embed_points(function, lonlat, month)
        names = column_names(about["encoder"], embedding.shape[1])
        return pd.DataFrame(embedding, columns=names, copy=False)

    with resuming() if output != "-" else nullcontext():
        append_columns(
            _stdin() if file == "-" else file,
            sys.stdout.buffer if output == "-" else output,
            columns,
            about,
            progress=True,
            **options,  # type: ignore[arg-type]
        )


def _stdin() -> Any:
    if sys.stdin is None:
        raise OSError("stdin is closed: name a file")
    if sys.stdin.isatty():
        say("reading CSV from the terminal; Ctrl-D ends it")
    return sys.stdin.buffer


def _export(encoder: str, file: str, output: str, resolution: float, month: str | None) -> None:
    if file != "-":
        raise ValueError(f"--grid needs no table: drop {file!r}, or drop --grid")
    if output == "-":
        raise ValueError("--grid writes a file: give --output FILE.zarr or FILE.tif")
    if month is not None and number_of(month) is None:
        raise ValueError(f"--grid has no columns: give --month as a number, 1 to 12, not {month!r}")
    import locties

    check_writable(Path(output))
    with resuming():
        locties.export_grid(encoder, output, resolution, month=number_of(month), progress=True)
    print(output)
