"""`locties embed`: add embeddings to a table of places, or embed the whole globe."""

from __future__ import annotations

import csv
import gzip
import json
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from locties._util.extras import need
from locties._util.files import written_aside
from locties.cli.base import find_encoder, going_on, reading, say

ROWS = 2**14  # of a table, in memory at once
Write = Callable[[Any, Any], None]  # a part of the table, and its embeddings


def embed(
    encoder: Annotated[str, typer.Argument(help="A published encoder, or a folder.")],
    file: Annotated[
        str, typer.Argument(help="CSV, TSV, Parquet or GeoParquet; - is CSV from stdin.")
    ] = "-",
    output: Annotated[
        str, typer.Option("--output", "-o", help="CSV, TSV or Parquet; - is CSV to stdout.")
    ] = "-",
    lon: Annotated[
        str | None, typer.Option(help="Column of longitudes; found by its name by default.")
    ] = None,
    lat: Annotated[str | None, typer.Option(help="Column of latitudes; likewise.")] = None,
    invalid: Annotated[str, typer.Option(help="raise or drop rows that cannot be used.")] = "raise",
    grid: Annotated[
        float | None,
        typer.Option(help="Embed the globe at so many degrees, to OUTPUT .zarr or .tif."),
    ] = None,
) -> None:
    """Embed the places of a table: its columns as they are, then the embedding's.

    Longitude and latitude are degrees (WGS84). Of a GeoParquet, its points in any CRS are taken,
    and Parquet made of it is GeoParquet again. A table of any length takes the memory of a few
    thousand rows. An interrupted export of the globe resumes with the same command.

    Example: `locties embed melt < sites.csv > embedded.csv`

    Example: `locties embed melt sites.csv --lon east --lat north --output sites.parquet`

    Example: `locties embed melt --grid 0.25 --output melt.zarr`
    """
    found = find_encoder(encoder)
    if grid is not None:
        _export(found, file, output, grid)
        return

    from tqdm import tqdm

    import locties
    from locties.apply.tables import check_invalid, named

    check_invalid(invalid)
    if "-" not in (file, output) and Path(output).resolve() == Path(file).resolve():
        raise ValueError(f"--output {output} is the input itself: name another file")
    with _open(output) as write, reading(), tqdm(unit=" rows", disable=None) as bar:
        done = left = 0
        for part in _parts(file):
            counted = f" (rows counted from row {done})" if done else ""
            try:
                with named(file):
                    places = _places(part, lon or lat)
                with warnings.catch_warnings(record=True) as noted:
                    embedded = locties.embed(found, places, lon=lon, lat=lat, invalid=invalid)
            except ValueError as error:
                raise ValueError(f"{error}{counted}") from None
            for warning in noted:
                warnings.warn(f"{warning.message}{counted}", stacklevel=1)
            if found != encoder:  # the encoder inside a run has the run's name
                name = Path(encoder).resolve().name
                embedded.columns = [f"{name}_{old.rpartition('_')[2]}" for old in embedded.columns]
            if taken := set(part.columns) & set(embedded.columns):
                raise ValueError(f"the table has a column {min(taken)!r}: drop it, or rename it")
            done += len(part)
            left += len(embedded)
            if len(embedded) or not done:
                write(part.loc[embedded.index], embedded)
            bar.update(len(part))
        if done and not left:
            raise ValueError("no row is left")
        if left < done and done > ROWS:
            say(f"{done - left} of {done} rows are left out")


def _export(encoder: str, file: str, output: str, resolution: float) -> None:
    if file != "-":
        raise ValueError(f"--grid needs no table: leave out {file!r}, or --grid")
    if output == "-":
        raise ValueError("--grid writes a file: give --output FILE.zarr or FILE.tif")
    import locties

    with going_on():
        locties.export_grid(encoder, output, resolution, progress=True)
    print(output)


# ------------------------------------------------------------------------------------- reading


def _parts(file: str) -> Iterator[Any]:
    """The table in parts of `ROWS` rows. Values of a CSV stay text, geometry stays WKB.

    Of a GeoParquet, ``attrs["geo"]`` has the metadata of its geometry.
    """
    from locties.apply.tables import SEPARATORS, named, read_delimited

    suffix = _suffix(file)
    if suffix in SEPARATORS:
        options = {"dtype": str, "keep_default_na": False}
        for part in read_delimited(_stdin(file), SEPARATORS[suffix], ROWS, **options):
            part.attrs = {"text": True}
            yield part
        return
    import pyarrow.parquet

    with named(file), pyarrow.parquet.ParquetFile(file) as table:
        metadata = (table.schema_arrow.metadata or {}).get(b"geo")
        some = table.metadata.num_rows > 0
        for batch in table.iter_batches(ROWS) if some else [table.schema_arrow.empty_table()]:
            part = batch.to_pandas().reset_index(drop=True)
            part.attrs = {"geo": _geo(metadata, file)} if metadata else {}
            yield part


def _stdin(file: str) -> Any:
    """A path, or the stream of - ."""
    if file != "-":
        return Path(file)
    if sys.stdin is None:
        raise OSError("stdin is closed: name a file")
    if sys.stdin.isatty():
        say("reading CSV from the terminal; Ctrl-D ends it")
    return sys.stdin.buffer


def _geo(metadata: bytes, file: str) -> dict[str, Any]:
    """The checked metadata of a GeoParquet's geometry."""
    geo: dict[str, Any] = json.loads(metadata)
    columns = geo.get("columns", {})
    lacks = [key for key in ("primary_column", "columns") if key not in geo]
    lacks += [f"encoding of {name!r}" for name in columns if "encoding" not in columns[name]]
    if lacks or geo["primary_column"] not in columns:
        raise ValueError(
            f"{file} is not a complete GeoParquet: its metadata lacks "
            f"{', '.join(lacks) or 'its primary column'}. Write it with frame.to_parquet(path) of "
            "geopandas"
        )
    return geo


def _suffix(file: str) -> str:
    from locties.apply.tables import PARQUET, SEPARATORS, suffix_of

    suffix = ".csv" if file == "-" else suffix_of(file)
    if suffix not in (known := (*SEPARATORS, *PARQUET)):
        raise ValueError(f"{file} is not a table: its name must end in {', '.join(known)}")
    return suffix


def _places(part: Any, columns: str | None) -> Any:
    """The points of a GeoParquet, or the table where there are none or columns are given."""
    if columns or "geo" not in part.attrs:
        return _numbers(part)
    return _geometry(part)[part.attrs["geo"]["primary_column"]]


def _geometry(part: Any) -> dict[str, Any]:
    """A part's columns of geometry by name, each a GeoSeries with its CRS; empty without any.

    Source: GeoParquet 1.1.0, in which geometry without a "crs" is of OGC:CRS84.
    """
    if "geo" not in part.attrs:
        return {}
    geopandas = need("geopandas", "a GeoParquet file", "own")
    columns = {}
    for name, described in part.attrs["geo"]["columns"].items():
        if described["encoding"] != "WKB":
            raise ValueError(
                f"column {name!r} has its geometry as {described['encoding']!r}: write it as WKB, "
                "which is what frame.to_parquet(path) of geopandas does"
            )
        crs = described.get("crs", "OGC:CRS84")
        columns[name] = geopandas.GeoSeries.from_wkb(part[name], crs=crs)
    return columns


def _numbers(part: Any) -> Any:
    """A part of a CSV with numbers in the columns that hold nothing else; any other as it is."""
    import pandas as pd

    if "text" not in part.attrs:
        return part

    def numbers(column: Any) -> Any:
        try:
            return pd.to_numeric(column)
        except (ValueError, TypeError):
            return column

    return part.apply(numbers)


# ------------------------------------------------------------------------------------- writing


@contextmanager
def _open(output: str) -> Iterator[Write]:
    """A function that writes part after part; a file appears whole or not at all."""
    from locties.apply.tables import SEPARATORS

    suffix = _suffix(output)
    if output == "-":
        yield _csv_writer(sys.stdout.buffer, ",")
        return
    with written_aside(Path(output)) as aside:
        if suffix in SEPARATORS:
            packed = output.lower().endswith(".gz")
            with gzip.open(aside, "wb") if packed else aside.open("wb") as stream:
                yield _csv_writer(stream, SEPARATORS[suffix])
        else:
            with _parquet_writer(aside) as write:
                yield write


class _Lines(list[str]):
    """A file for `csv.writer` that keeps a line for each row."""

    def write(self, line: str) -> None:
        self.append(line)


def _csv_writer(stream: Any, separator: str) -> Write:
    """Floats are written by pyarrow, eight times as fast as pandas, and joined to the text."""
    import io

    import pyarrow as pa
    import pyarrow.csv

    begun = False

    def write(part: Any, embedded: Any) -> None:
        nonlocal begun
        left = _Lines()
        writer = csv.writer(left, delimiter=separator, lineterminator="")
        if not begun:
            writer.writerow([*part.columns, *embedded.columns])
            stream.write(f"{left.pop()}\n".encode())
            begun = True
        part = part.assign(**{name: column.to_wkt() for name, column in _geometry(part).items()})
        writer.writerows(part.astype(object).where(part.notna(), "").itertuples(index=False))
        numbers = io.BytesIO()
        pa.csv.write_csv(
            pa.Table.from_pandas(embedded, preserve_index=False),
            numbers,
            pa.csv.WriteOptions(include_header=False, delimiter=separator),
        )
        right = numbers.getvalue().decode().splitlines()
        rows = (f"{a}{separator}{b}\n" for a, b in zip(left, right, strict=True))
        stream.write("".join(rows).encode())
        stream.flush()

    return write


@contextmanager
def _parquet_writer(path: Path) -> Iterator[Write]:
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer: Any = None

    def write(part: Any, embedded: Any) -> None:
        nonlocal writer
        whole = pd.concat([_numbers(part), embedded], axis=1)
        whole.attrs = embedded.attrs  # which encoder, its hash and licence
        # The first part sets the type of each column.
        schema = None if writer is None else writer.schema
        table = pa.Table.from_pandas(whole, schema, preserve_index=False)
        if writer is None:
            geo = {"geo": json.dumps(part.attrs["geo"])} if "geo" in part.attrs else {}
            writer = pq.ParquetWriter(
                path, table.schema.with_metadata({**table.schema.metadata, **geo})
            )
        writer.write_table(table)

    try:
        yield write
    finally:
        if writer is not None:
            writer.close()
