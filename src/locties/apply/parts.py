"""Read tables of places in parts; keep the text of a CSV and the types of a Parquet."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shlex
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np

from locties._util.extras import need, needs
from locties._util.files import DataError
from locties.apply.tables import (
    PARQUET,
    SEPARATORS,
    TABLES,
    Array,
    Problems,
    check_header,
    check_wkb,
    column_of,
    coordinate_columns,
    coordinates,
    existing,
    month_column,
    months_of,
    named,
    not_utf8,
    suffix_of,
)
from locties.apply.text import quoted

with needs("own", "a table"):
    import pandas as pd
    import pyarrow as pa
    import pyarrow.parquet as pq

Quoting = Literal[0, 3]  # csv.QUOTE_MINIMAL, csv.QUOTE_NONE
ROWS = 2**14  # in a part, and so in memory at once
ENDINGS = [f"{name}{packed}" for name in SEPARATORS for packed in ("", ".gz")] + [*PARQUET]


class Source(NamedTuple):
    """A table that can be read.

    Attributes:
        name: its path, or its name in messages.
        ending: one of `ENDINGS`.
        open: returns its bytes; those of a file from the start.
    """

    name: str
    ending: str
    open: Callable[[], IO[bytes]]


class Part(NamedTuple):
    """Some rows of a table.

    Attributes:
        columns: all columns; those of a CSV are text.
        header, lines: lines of a CSV as in the file, without line ends.
        separator, end: what a CSV has between fields, and after a line.
    """

    columns: pa.RecordBatch
    header: str = ""
    lines: tuple[str, ...] = ()
    separator: str = ""
    end: str = "\n"

    def filter(self, keep: Array) -> Part:
        """The rows for which `keep` (N,) is true."""
        if keep.all():
            return self
        lines = tuple(line for line, kept in zip(self.lines, keep, strict=False) if kept)
        return self._replace(columns=self.columns.filter(pa.array(keep)), lines=lines)


def ending_of(path: str | Path) -> str:
    """Which of `ENDINGS` a name has; ValueError if it has none."""
    suffix = suffix_of(path)
    ending = f"{suffix}.gz" if str(path).lower().endswith(f"{suffix}.gz") else suffix
    if ending not in ENDINGS:
        raise ValueError(f"{path} is not a table: its name must end in {', '.join(ENDINGS)}")
    return ending


def separator_of(ending: str) -> str | None:
    """The separator between fields of such a table; None for Parquet."""
    return SEPARATORS.get(ending.removesuffix(".gz"))


def source_of(path: str | Path) -> Source:
    """The table in a file; for one that can only be read whole, ValueError has the conversion."""
    file = existing(path)
    if (suffix := suffix_of(path)) in TABLES and suffix not in {*SEPARATORS, *PARQUET}:
        new = quoted(str(file.with_name(f"{file.stem}_new.parquet")))
        code = f"import geopandas; geopandas.read_file({quoted(str(file))}).to_parquet({new})"
        raise ValueError(
            f"{path} can only be read whole, not row by row: convert it to GeoParquet, if it fits "
            f"into memory, with python -c {shlex.quote(code)}"
        )
    ending = ending_of(path)
    return Source(str(path), ending, lambda: file.open("rb"))


def read_parts(source: Source) -> Iterator[Part]:
    """Yield a table in parts of up to `ROWS` rows; at least one, even for a header alone."""
    separator = separator_of(source.ending)
    return _delimited(source, separator) if separator else _parquet(source)


def places_of(
    part: Part,
    lon: str | None = None,
    lat: str | None = None,
    month: str | None = None,
    file: str = "table.csv",
) -> tuple[Array, Problems]:
    """Coordinates (N, 2) float64 of a part of `file`, and the rows in which they cannot be used.

    They are read from the columns given, else from the geometry of a GeoParquet, else from the
    columns with usual names. With `month`, a column's name or "", months are a third column.
    """
    lonlat, problems = _coordinates_of(part, lon, lat, file)
    if month is None:
        return lonlat, problems
    name = month_column(part.columns.schema.names, month or None)
    column_of(pd.DataFrame(columns=part.columns.schema.names), name)  # refuses a repeated name
    frame = pd.DataFrame({name: _numbers(part.columns.column(name))})
    frame.attrs["file"] = file
    months, wrong = months_of(frame, name)
    return np.column_stack([lonlat, months]), [*problems, *wrong]


def _coordinates_of(
    part: Part, lon: str | None, lat: str | None, file: str
) -> tuple[Array, Problems]:
    schema = part.columns.schema
    if b"geo" in (schema.metadata or {}) and not (lon or lat):
        points = geometry(part.columns)[_described(schema)["primary_column"]]
        points.attrs["file"] = file
        return coordinates(points)
    header = pd.DataFrame(columns=schema.names)
    names = coordinate_columns(header, lon, lat)
    for name in names:
        column_of(header, name)  # refuses a repeated name
    columns = {name: part.columns.column(schema.names.index(name)) for name in names}
    frame = pd.DataFrame({k: _numbers(v) for k, v in columns.items()})
    frame.attrs["file"] = file  # errors name the file
    return coordinates(frame, *names)


def geometry(columns: pa.RecordBatch) -> dict[str, Any]:
    """The geometry columns by name, each a GeoSeries with its CRS; empty if there are none.

    Source: GeoParquet 1.1.0, in which geometry without a "crs" has the CRS OGC:CRS84.
    """
    if b"geo" not in (columns.schema.metadata or {}):
        return {}
    geopandas = need("geopandas", "a GeoParquet file", "own")
    found = {}
    for name, described in _described(columns.schema)["columns"].items():
        if described["encoding"] != "WKB":
            raise ValueError(
                f"column {name!r} has its geometry as {described['encoding']!r}: write it as WKB, "
                "with frame.to_parquet(path) of geopandas"
            )
        wkb = columns.column(columns.schema.names.index(name)).to_numpy(zero_copy_only=False)
        check_wkb(wkb, f"column {name!r}")
        found[name] = geopandas.GeoSeries.from_wkb(wkb, crs=described.get("crs", "OGC:CRS84"))
    return found


def _numbers(column: pa.Array) -> pd.Series:
    """A column as numbers, if all its values are numbers, even as text or decimals."""
    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    values = column.to_pandas()
    try:
        return values if pd.api.types.is_numeric_dtype(values) else pd.to_numeric(values)
    except (ValueError, TypeError):
        return values


def _described(schema: pa.Schema) -> dict[str, Any]:
    """The checked metadata of a GeoParquet's geometry."""
    geo: dict[str, Any] = json.loads(schema.metadata[b"geo"])
    columns = geo.get("columns", {})
    lacks = [key for key in ("primary_column", "columns") if key not in geo]
    lacks += [f"encoding of {name!r}" for name in columns if "encoding" not in columns[name]]
    if lacks or geo["primary_column"] not in columns:
        raise ValueError(
            "this is not a complete GeoParquet: its metadata lacks "
            f"{', '.join(lacks) or 'its primary column'}. Write it with frame.to_parquet(path) of "
            "geopandas"
        )
    return geo


def _parquet(source: Source) -> Iterator[Part]:
    # With a buffer, a row group is not read whole.
    with (
        named(source.name),
        pq.ParquetFile(source.name, buffer_size=2**20, pre_buffer=False) as table,
    ):
        schema, start = table.schema_arrow, 0
        for batch in table.iter_batches(ROWS):
            yield Part(_indexed(batch.replace_schema_metadata(schema.metadata), start))
            start += len(batch)
        if not start:
            yield Part(pa.RecordBatch.from_pylist([], schema))


def _indexed(batch: pa.RecordBatch, start: int) -> pa.RecordBatch:
    """A batch with its index as a column, if pandas keeps the index as a range in the metadata.

    A range from 0 only counts the rows, so it does not become a column.
    """
    metadata = batch.schema.metadata or {}
    about = json.loads(metadata.get(b"pandas", b"{}"))
    match about.get("index_columns"):
        case [{"kind": "range", "start": first, "step": step, "name": name}] if (
            first or step != 1 or name is not None
        ):
            label = "__index_level_0__" if name is None else str(name)
            index = first + step * np.arange(start, start + len(batch))
            kinds = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}
            about["columns"].append({"name": name, "field_name": label, **kinds})
            about["index_columns"] = [label]
            metadata[b"pandas"] = json.dumps(about).encode()
            batch = batch.append_column(label, pa.array(index))
    return batch.replace_schema_metadata(metadata)


def _delimited(source: Source, separator: str) -> Iterator[Part]:
    quoting = _quoting(source) if separator == "\t" else csv.QUOTE_MINIMAL
    records = _records(source, separator, quoting)
    first, names = next(records, ("", []))
    check_header(source.name, names)
    header = first.rstrip("\r\n")
    end = first.removeprefix(header) or "\n"
    schema = pa.schema([pa.field(name, pa.string()) for name in names])
    lines: list[str] = []
    rows: list[list[str]] = []

    def part() -> Part:
        columns = zip(*rows, strict=True) if rows else [()] * len(names)
        arrays = [pa.array(column, pa.string()) for column in columns]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        return Part(batch, header, tuple(lines), separator, end)

    empty = True
    for line, fields in records:
        if len(fields) != len(names):
            raise ValueError(
                f"{source.name} has {len(fields)} fields, not {len(names)} as in its header, in "
                f"the row {line.rstrip()!r}: give each column a name and each row all its fields"
            )
        lines.append(line.rstrip("\r\n"))
        rows.append(fields)
        if len(rows) == ROWS:
            yield part()
            lines, rows, empty = [], [], False
    if rows or empty:
        yield part()


def _records(source: Source, separator: str, quoting: Quoting) -> Iterator[tuple[str, list[str]]]:
    """Each row's text and its fields, without blank lines and a byte-order mark."""
    packed, lines = source.ending.endswith(".gz"), []
    with (
        named(source.name),
        source.open() as stream,
        gzip.GzipFile(fileobj=stream) if packed else stream as binary,
        io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text,
    ):

        def kept() -> Iterator[str]:
            for line in text:
                lines.append(line)
                yield line

        reader = csv.reader(kept(), delimiter=separator, quoting=quoting, strict=True)
        limit = csv.field_size_limit(2**31 - 1)  # a polygon as text can be long
        try:
            for fields in reader:
                if fields:
                    yield "".join(lines), fields
                lines.clear()
        except UnicodeDecodeError as error:
            raise not_utf8(source.name, error) from None
        except csv.Error as error:
            raise DataError(
                f"{source.name} cannot be read: line {reader.line_num}: {error}; inside quotes, "
                "write a quote twice"
            ) from None
        finally:
            csv.field_size_limit(limit)


def _quoting(source: Source) -> Quoting:
    """Whether quotes in a TSV enclose fields or are plain text."""

    def shape(quoting: Quoting) -> Counter[int]:
        try:
            return Counter(len(fields) for _, fields in _records(source, "\t", quoting))
        except DataError:
            return Counter()

    around, text = shape(csv.QUOTE_MINIMAL), shape(csv.QUOTE_NONE)
    if around == text or len(text) != 1:
        return csv.QUOTE_MINIMAL
    if len(around) != 1:
        return csv.QUOTE_NONE
    raise ValueError(
        f"{source.name} can be read in two ways, with {around.total() - 1} or "
        f"{text.total() - 1} rows: its quotes stand around line breaks, or are text. Delete them "
        f"with tr -d '\"' < {source.name} > plain{source.ending}, or convert the table to CSV"
    )
