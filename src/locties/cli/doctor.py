"""`locties doctor`: how a file would be read, before any work."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import typer

from locties._util.text import printable
from locties.cli.base import Invalid, Json, Kind, Lat, Lon, print_json


def doctor(
    file: Annotated[Path, typer.Argument(help="A table, a raster or a folder of features.")],
    target: Annotated[str | None, typer.Option(help="Column of a table to predict.")] = None,
    lon: Lon = None,
    lat: Lat = None,
    kind: Kind = None,
    invalid: Invalid = "raise",
    as_json: Json = False,
) -> None:
    """Show how a file would be read (format, places, target) and what is wrong with it.

    If the file cannot be used, the exit code is 1, and the last line says what to do.

    Example: `locties doctor soil.csv --target ph`
    """
    from locties.doctor import examine

    facts = examine(file, target, lon=lon, lat=lat, kind=kind, invalid=invalid)
    if as_json:
        print_json(facts)
    noted, problem = facts.pop("warnings"), facts.pop("problem")
    if not as_json:
        width = max(map(len, facts)) + 2
        for name, value in facts.items():
            text = ", ".join(value) if isinstance(value, list) else value
            print(printable(f"{name:{width}}{text}"))
    for warning in noted:
        warnings.warn(warning, stacklevel=1)
    if problem is not None:
        raise OSError(problem)
