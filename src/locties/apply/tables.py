"""Read tables of points: find their coordinates, convert them to WGS84 and check them.

A file that names other files or URLs is refused, so none of them is opened. A problem with a whole
column raises ValueError. Problems with single rows are returned, and the caller refuses or drops
these rows.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import re
import shlex
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from locties._util.extras import need, needs
from locties._util.files import DataError
from locties._util.registry import unknown
from locties.lonlat import check, column_names, usual_columns

with needs("own", "a table"):
    import pandas as pd

    from locties.apply.text import (
        decimal_degrees,
        is_number,
        misread,
        quoted,
        rewritten,
        shown,
        styles_of,
    )

Array = NDArray[Any]
Problems = list[tuple[str, Array]]  # a problem, and the rows (N,) that have it

SEPARATORS = {".csv": ",", ".tsv": "\t"}  # also followed by .gz
PARQUET = (".parquet", ".geoparquet", ".pq")
_JSON, _XML = rb"\s*[{\[]", rb"\s*(<[?!][^>]*>\s*)*<([\w.-]+:)?(kml|FeatureCollection)\b"
# First bytes of each format: GDAL ignores the name and opens a file by its content.
_BEGINNINGS = {
    **{".geojson": _JSON, ".json": _JSON, ".kml": _XML, ".gml": _XML},
    **{".gpkg": rb"SQLite format 3\0", ".shp": rb"\0\0'\n", ".fgb": rb"fgb"},
}
# Formats that begin in the same way and name other files or URLs, which GDAL would open.
_REFERENCES = re.compile(rb"(?i)gdal_streamed_alg|<OGR\w+DataSource|<[\w:]*Capabilities")
TABLES = (*SEPARATORS, *PARQUET, *_BEGINNINGS, ".zip")
_PARTS = range(4, 18)  # codes of multi-part geometry in well-known binary
NO_MONTH = "is not a month from 1 to 12, nor a date"
INVALID = ("raise", "drop", "keep")  # what to do with rows of labels that cannot be used
_SHOWN = 5  # rows named in a message
_MANY = 5  # with fewer places, their extent says nothing
_LARGEST_METRES = 3e7  # largest projected coordinate: the Earth's circumference is 4e7
# Columns count as swapped from this share of latitudes beyond 90. Of places on land all over the
# Earth, swapped, a third are beyond 90; a few mistakes in a short table are fewer.
_SUSPECT = 0.2
_FIT = 0.95  # share of rows that must be possible when swapped


class UnclearColumns(ValueError):
    """Longitude and latitude are not found; the remedy is for tables that take `lon` and `lat`."""

    def __init__(self, problem: str, remedy: str) -> None:
        super().__init__(f"{problem}. {remedy}")
        self.problem = problem


def read_table(source: Any) -> Any:
    """A DataFrame or GeoDataFrame: the one given, or one read from a file.

    Anything else with named columns, such as a polars frame, a pyarrow table, a mapping or a
    structured array, becomes a DataFrame.
    """
    if isinstance(source, pd.DataFrame):
        return source
    if not isinstance(source, str | Path):
        names = None if hasattr(source, "dims") else column_names(source)
        if names is None or isinstance(source, pd.Series):
            raise ValueError(
                "a table is a path, a DataFrame or something else with named columns, not a "
                f"{type(source).__name__}"
                + (
                    ": pass .to_dataframe().reset_index()"
                    if hasattr(source, "to_dataframe")
                    else ""
                )
            )
        if hasattr(source, "to_pandas"):
            return source.to_pandas()
        return pd.DataFrame({name: source[name] for name in names})
    frame = _read_file(source)
    frame.attrs["file"] = str(source)
    return frame


def _read_file(source: str | Path) -> Any:
    path, suffix = existing(source), suffix_of(source)
    if suffix in SEPARATORS:
        return _read_delimited(path, SEPARATORS[suffix])
    with named(path):
        if suffix in PARQUET:
            with needs("own", "Parquet"):
                import pyarrow.parquet

            if b"geo" in (pyarrow.parquet.read_schema(path).metadata or {}):
                _check_wkb(path, pyarrow.parquet.ParquetFile(path))
                return need("geopandas", "GeoParquet", "own").read_parquet(path)
            return pd.read_parquet(path)
        if suffix in TABLES:
            location, options = _vector(path, suffix)
            options = options or _layer(path, location)  # a GML has one, and could name a URL
            frame = need("geopandas", "geometry", "own").read_file(location, **options)
            if location.lower().endswith(".fgb"):
                _check_count(path, frame, location)
            return frame
    if path.is_dir():
        raise ValueError(f"{path} is a folder, not a table: name one file")
    raise ValueError(
        f"{path} is not a table of points: names of tables end in {', '.join(TABLES)}. Save a "
        "spreadsheet as CSV; rename text to .csv if commas are between its fields, to .tsv if tabs "
        "are"
    )


def _layer(path: Path, location: str) -> dict[str, str]:
    """The option of geopandas for the only layer with geometry; ValueError if there are several."""
    found = need("pyogrio", "geometry", "own").list_layers(location)
    layers = [name for name, kind in found if kind is not None]
    if len(layers) > 1:
        one, new = quoted(layers[0]), quoted(str(path.with_name(f"{path.stem}_new.gpkg")))
        code = f"geopandas.read_file({quoted(location)}, layer={one}).to_file({new})"
        raise ValueError(
            f"{path} has several layers ({', '.join(layers)}): make a file of one: python -c "
            + shlex.quote(f"import geopandas; {code}")
        )
    return {"layer": layers[0]} if layers else {}


def _check_count(path: Path, frame: Any, location: str) -> None:
    """Refuse a FlatGeobuf that was cut off between two features: GDAL reads it without a word."""
    stated = need("pyogrio", "geometry", "own").read_info(location)["features"]
    if len(frame) < stated:
        raise DataError(
            f"{path} cannot be read: it is cut off after {len(frame)} of {stated} features; copy "
            "or write it again"
        )


def _check_wkb(path: Path, table: Any) -> None:
    """Refuse GeoParquet with anything but points: nested collections can crash its reader."""
    geo = json.loads(table.schema_arrow.metadata[b"geo"])
    for name, described in geo.get("columns", {}).items():
        if described.get("encoding") != "WKB":
            continue
        for batch in table.iter_batches(columns=[name]):
            check_wkb(batch.column(0).to_pylist(), f"column {name!r} of {path}")


def check_wkb(shapes: Iterable[bytes | None], name: str) -> None:
    """Refuse well-known binary of several parts: the parts can be nested."""
    for row, shape in enumerate(shapes):
        if shape is None or len(shape) < 5:
            continue
        code = int.from_bytes(shape[1:5], "little" if shape[0] else "big")
        if (code & 2**28 - 1) % 1000 in _PARTS:  # without the flags of EWKB, Z and M
            raise ValueError(
                f"{name} holds geometry of several parts, such as in row {row}: give "
                "points, as geopandas.read_parquet(path).explode(ignore_index=True) does"
            )


def _read_delimited(path: Path, separator: str) -> pd.DataFrame:
    """A table of separated values; its header is not changed."""
    packed = path.name.lower().endswith(".gz")
    with (
        named(path),
        path.open("rb") as stream,
        gzip.GzipFile(fileobj=stream) if packed else stream as binary,
        io.TextIOWrapper(binary, encoding="utf-8-sig", newline="") as text,
        warnings.catch_warnings(),
    ):
        # By default pandas drops the last fields of rows that are longer than the header.
        warnings.simplefilter("error", pd.errors.ParserWarning)
        try:
            # By default pandas renames columns that are repeated or have no name.
            header = next(filter(None, csv.reader(text, delimiter=separator)), [])
            check_header(path, header)
            names = range(len(header))
            frame = pd.read_csv(
                text, sep=separator, header=None, names=names, index_col=False, low_memory=False
            )
        except pd.errors.ParserWarning:
            raise ValueError(
                f"{path} has more fields in its rows than in its header, {shown(','.join(header))}:"
                " name every column there, or delete lines above the header"
            ) from None
        except UnicodeDecodeError as error:
            raise not_utf8(path, error) from None
    frame.columns = header
    _check_quotes(path, frame, separator)
    return frame


def _check_quotes(path: Path, frame: pd.DataFrame, separator: str) -> None:
    """Refuse a field that holds whole rows: a stray quote joins everything up to the next one."""
    fields = len(frame.columns)
    texts = np.flatnonzero([dtype.kind == "O" for dtype in frame.dtypes]) if fields > 1 else ()
    numeric: list[int] | None = None

    def is_row(line: str) -> bool:
        """Whether a line has all fields, with a number wherever most rows have one."""
        parts = line.split(separator)
        assert numeric is not None
        return len(parts) == fields and bool(is_number(pd.Series(parts)[numeric]).all())

    for at in texts:
        lines = frame.iloc[:, at].fillna("").astype(str).str.split("\n")
        if not (lines.str.len() > 1).any():
            continue
        if numeric is None:
            shares = [is_number(frame.iloc[:, other]).mean() for other in range(fields)]
            numeric = [other for other, share in enumerate(shares) if share > 0.5]
        joined = lines.map(lambda parts: len(parts) > 1 and any(map(is_row, parts)))
        if joined.any():
            raise DataError(
                f"{path} cannot be read: a quote in {rows_text(joined.to_numpy())}, column "
                f"{str(frame.columns[at])!r}, begins a text that holds whole rows: delete "
                "the quote, or enclose its field in quotes and write it twice"
            )


def not_utf8(file: object, error: UnicodeDecodeError) -> ValueError:
    """The error of a file in another encoding, with the command that converts it."""
    utf16 = error.start == 0 and error.object[:2] in (b"\xff\xfe", b"\xfe\xff")
    encoding, likely = ("utf16", "UTF-16") if utf16 else ("cp1252", "probably Windows-1252")
    path = Path(str(file))
    stem, _, suffix = path.name.partition(".")
    new = shlex.quote(str(path.with_name(f"{stem}_utf8.{suffix.removesuffix('.gz') or 'csv'}")))
    given = shlex.quote(_opened(file))
    if error.object.startswith(b"\x1f\x8b"):
        new = shlex.quote(str(path.with_name(f"{stem}_unpacked.{suffix or 'csv'}")))
        return ValueError(f"{file} is gzip in spite of its name: zcat < {given} > {new}")
    packed = suffix.endswith("gz")
    command = (
        f"zcat {given} | iconv -f {encoding} -t utf8 > {new}"
        if packed
        else f"iconv -f {encoding} -t utf8 {given} > {new}"
    )
    return ValueError(f"{file} is not UTF-8 but {likely} ({error.reason}): {command}")


def _opened(file: object) -> str:
    """The path by which a command opens a file; for "stdin", that of its own input."""
    return "/dev/stdin" if str(file) == "stdin" else str(file)


def check_header(file: object, header: list[str]) -> None:
    """Refuse an empty file, and one column whose name holds another separator."""
    if not header:
        raise DataError(f"{file} cannot be read: it is empty; its first line names the columns")
    if len(header) > 1:
        return
    path = Path(str(file))
    new = str(path.with_name(f"{path.name.partition('.')[0]}_new.csv"))
    for other, decimal in {";": ', decimal=","', "|": "", "\t": "", ",": ""}.items():
        if other in header[0]:
            skip = ", skiprows=1" if header[0].lower().startswith("sep=") else ""
            code = f"import pandas; pandas.read_csv({quoted(_opened(file))}, sep={quoted(other)}"
            code += f"{decimal}{skip}).to_csv({quoted(new)}, index=False)"
            raise ValueError(
                f"{file} has one column, {header[0]!r}: its separator seems to be {other!r}; "
                f"convert it: python -c {shlex.quote(code)}"
            )


def _vector(path: Path, suffix: str) -> tuple[str, dict[str, str]]:
    """The path and options for geopandas; DataError if content and name contradict each other.

    A file of another format could make GDAL open what that file names, such as a URL.
    """
    location, member = str(path), ""
    if suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            tables = [name for name in archive.namelist() if suffix_of(name) in _BEGINNINGS]
            if len(tables) != 1:
                raise DataError(
                    f"{path} holds {len(tables)} files with points, such as a .shp: unpack it, and "
                    "pass the path of one"
                )
            [member] = tables
            with archive.open(member) as file:
                start = file.read(2**16)
        location, suffix = f"/vsizip/{{{path.absolute()}}}/{member}", suffix_of(member)
    else:
        with path.open("rb") as file:
            start = file.read(2**16)
    start = start.removeprefix(b"\xef\xbb\xbf")
    if not re.match(_BEGINNINGS[suffix], start) or _REFERENCES.search(start):
        raise DataError(
            f"{path} cannot be read: {member or 'it'} is not a {suffix} file; convert it to .gpkg"
        )
    return location, {"DOWNLOAD_SCHEMA": "NO"} if suffix == ".gml" else {}


def existing(source: str | Path) -> Path:
    """The path of an existing file; DataError if there is none."""
    path = Path(source)
    if not path.exists():
        raise DataError(f"there is no file {str(source)!r}: give the path of a local file")
    return path


def suffix_of(path: str | Path) -> str:
    """The ending of a name in lower case, without .gz: .csv for a .csv.gz."""
    name = str(path).lower()
    plain = Path(name.removesuffix(".gz")).suffix
    return plain if plain in SEPARATORS else Path(name).suffix


@contextmanager
def named(file: object) -> Iterator[None]:
    """Name the file in every error of its reader: pandas, pyarrow, GDAL, shapely, zlib, ..."""
    try:
        yield
    except (DataError, ImportError, MemoryError):
        raise
    except Exception as error:
        if type(error) is ValueError:  # already says what is wrong with the content
            raise
        reason = str(error.__cause__ or error).strip()
        raise DataError(f"{file} cannot be read: {reason}") from error


def float_points(lonlat: Array) -> Tensor:
    """Checked coordinates (N, 2), rounded to float32."""
    return check(check(lonlat).float())


def column_of(frame: Any, name: str) -> Any:
    """The column of that name; ValueError if there are several."""
    if name not in frame.columns:
        raise unknown("column", name, map(str, frame.columns))
    if list(frame.columns).count(name) > 1:
        raise ValueError(f"there are several columns {name!r}: rename them")
    return frame[name]


def one_column(frame: Any, given: str | None, usual: Sequence[str], argument: str) -> str:
    """The name of a column: the one given, else the only one with a usual name, in any case."""
    if given is not None:
        column_of(frame, given)
        return given
    names = [str(name) for name in frame.columns]
    likely = [name for name in names if name.strip().lower() in usual]
    if len(likely) != 1:
        what = f"several columns could be it: {', '.join(likely)}" if likely else "none is usual"
        raise ValueError(
            f"which column is the {argument}? {what}; columns: {', '.join(names)}. Pass "
            f"{argument}={(likely or names)[0]!r}, or another"
        )
    return likely[0]


def coordinate_columns(
    frame: Any, lon: str | None = None, lat: str | None = None
) -> tuple[str, str]:
    """Names of the columns of longitude and latitude: those given, else the usual ones.

    Usual names are lon, Longitude, lng, decimalLatitude and the like, in any case; each must occur
    once. x and y must be given: they are often metres.
    """
    names = [str(name) for name in getattr(frame, "columns", ())]
    metres = [[name for name in names if name.strip().lower() == key] for key in "xy"]
    found, missing, hints = [], [], []
    usual = usual_columns(names)
    for argument, given, likely, x in zip(("lon", "lat"), (lon, lat), usual, metres, strict=True):
        if given is None and len(likely) > 1:
            column_of(frame, likely[0])  # refuses a repeated name
            raise UnclearColumns(
                f"several columns could be the {argument}: {', '.join(likely)}",
                f"Pass {argument}={likely[0]!r}, or another",
            )
        found.append(given or (likely[0] if likely else argument))
        if found[-1] not in names:
            missing.append(found[-1])
            if likely or x:
                hints.append(" or ".join(f"{argument}={name!r}" for name in likely or x))
    if missing:
        raise UnclearColumns(
            f"there is no column {' nor '.join(map(repr, missing))}; columns: {', '.join(names)}",
            f"Pass {', '.join(hints)}." if hints else _without_hints(frame),
        )
    if found[0] == found[1]:
        raise ValueError(f"lon and lat are both {found[0]!r}: name the column of each")
    return found[0], found[1]


def _without_hints(frame: Any) -> str:
    """The remedy for a table in which no column has a usual name."""
    columns = frame.items() if isinstance(frame, pd.DataFrame) else []
    for name, column in columns:
        if len(column) and re.match(r"\s*point\b", str(column.iloc[0]), re.IGNORECASE):
            return (
                f"Column {str(name)!r} has points as WKT: geopandas.GeoSeries.from_wkt(frame["
                f"{str(name)!r}]) gives points: add their .x and .y as columns lon and lat."
            )
    return "Pass lon= and lat= with their names."


def coordinates(
    frame: Any, lon: str | None = None, lat: str | None = None
) -> tuple[Array, Problems]:
    """Coordinates (N, 2) float64, degrees, and the rows in which they cannot be used."""
    if has_points(frame, lon, lat):
        lonlat, problems = _from_geometry(frame)
        project = f"they are not in the CRS {crs_name(frame.crs)}; name theirs: " + rewritten(
            frame, '.set_crs("EPSG:...", allow_override=True)'
        )
        scale = project
    else:
        lon, lat = coordinate_columns(frame, lon, lat)
        (x, no_x), (y, no_y) = (numbers_of(frame, name) for name in (lon, lat))
        lonlat, problems = np.stack([x, y], axis=1), no_x + no_y
        points = f"geopandas.points_from_xy(t[{quoted(lon)}], t[{quoted(lat)}])"
        project = "name their CRS and take them to degrees: " + rewritten(
            frame,
            f'.pipe(lambda t: geopandas.GeoDataFrame(t, geometry={points}, crs="EPSG:...")'
            ".to_crs(4326))",
            geometry=True,
        )
        scaled = (f"{quoted(name)}: t[{quoted(name)}] / 1e7" for name in (lon, lat))
        scale = rewritten(frame, f".pipe(lambda t: t.assign(**{{{', '.join(scaled)}}}))")
    unread = any_of(problems, len(lonlat))
    swap = swapping(frame, lon, lat)
    return lonlat, problems + out_of_range(lonlat, unread, swap, project, scale)


def has_points(frame: Any, lon: str | None, lat: str | None) -> bool:
    """Whether the places are a frame's geometry, as no column is named."""
    return hasattr(frame, "to_crs") and not (lon or lat)


def swapping(frame: Any, lon: str | None = None, lat: str | None = None) -> str:
    """What to do if longitude and latitude of a table are swapped."""
    if has_points(frame, lon, lat):
        points = "geopandas.points_from_xy(t.geometry.y, t.geometry.x, crs=t.crs)"
        return "swap them: " + rewritten(frame, f".pipe(lambda t: t.set_geometry({points}))")
    lon, lat = coordinate_columns(frame, lon, lat)
    return f"pass lon={lat!r}, lat={lon!r}"


def out_of_range(
    lonlat: Array, unread: Array, swap: str, project: str, scale: str = "divide them by 1e7"
) -> Problems:
    """Find rows of coordinates (N, 2) that are not degrees; the rows `unread` (N,) are not judged.

    If the columns seem to be swapped, in metres, or whole numbers of 1e-7 degrees, ValueError gives
    the remedy: `swap`, `project` or `scale`.
    """
    known = np.asarray(np.isfinite(lonlat).all(axis=1))
    n = int(known.sum())
    longitude, latitude = np.abs(np.where(known, lonlat.T, 0.0))
    far = (longitude > 1000) | (latitude > 1000)
    if far.sum() > n / 2:
        such = f"coordinates such as {_pair_text(lonlat[far][0])} are not degrees: they seem to be"
        if max(longitude[far].max(), latitude[far].max()) > _LARGEST_METRES:
            raise ValueError(f"{such} degrees times 1e7 (or 1e6); {scale}")
        raise ValueError(f"{such} projected, in metres; {project}")
    beyond = latitude > 90
    fits = (longitude <= 90) & (latitude <= 360)
    if beyond.sum() > _SUSPECT * n and (known & fits).sum() >= _FIT * n:
        raise ValueError(
            f"{beyond.sum()} of {n} latitudes are beyond 90, such as that of "
            f"{_pair_text(lonlat[beyond][0])} ({rows_text(beyond)}). Longitude and latitude seem "
            f"to be swapped; {swap}. If they are not, correct these rows"
        )
    _warn_of_places(lonlat, known)
    return [
        ("longitude or latitude is missing", ~known & ~unread),
        ("latitude is beyond 90 and could be a longitude (swapped?)", beyond & fits),
        ("latitude is outside [-90, 90]", beyond & ~fits),
        ("longitude is outside [-360, 360]", (longitude > 360) & ~beyond),
    ]


def _warn_of_places(lonlat: Array, known: Array) -> None:
    """Warn of places that are probably mistakes: (0, 0), and radians."""
    zero = known & (lonlat == 0).all(axis=1)
    if zero.any():
        warnings.warn(
            f"{zero.sum()} of {len(lonlat)} places are exactly (0, 0), in the Gulf of Guinea "
            f"({rows_text(zero)}): drop these rows if (0, 0) means a missing place",
            stacklevel=4,
        )
    rest = lonlat[known & ~zero]
    if len(rest) >= _MANY and (np.abs(rest) <= (np.pi, np.pi / 2)).all():
        warnings.warn(
            f"all places, such as {_pair_text(rest[0])}, lie in the Gulf of Guinea: if they are "
            "radians, multiply them by 180 / pi",
            stacklevel=4,
        )


def crs_name(crs: Any) -> str:
    """The code or the name of a CRS: some print as pages of JSON."""
    code = crs.to_epsg()
    return f"EPSG:{code}" if code else crs.name


def _from_geometry(frame: Any) -> tuple[Array, Problems]:
    shapely = need("shapely", "geometry", "own")
    try:
        geometry = frame.geometry
    except AttributeError:
        raise ValueError("the frame has no geometry: frame.set_geometry(column)") from None
    if geometry.crs is None:
        raise ValueError(
            "the geometry has no CRS, so its numbers could mean any place: set it, EPSG:4326 "
            "(degrees) or the right one, with " + rewritten(frame, '.set_crs("EPSG:4326")')
        )
    shapes = np.asarray(geometry)
    absent = shapely.is_missing(shapes) | shapely.is_empty(shapes)
    other = ~absent & (shapely.get_type_id(shapes) != 0)
    if other.any():
        raise ValueError(
            f"{other.sum()} of {len(shapes)} geometries are not points, such as a "
            f"{shapes[other.argmax()].geom_type} ({rows_text(other)}): use one point of each, with "
            f"{rewritten(frame, '.pipe(lambda t: t.set_geometry(t.representative_point()))')}; "
            f"or, for MultiPoints, {rewritten(frame, '.explode(ignore_index=True)')}"
        )
    geometry = geometry.where(~absent, None)
    shapes = np.asarray(geometry)
    x, y = shapely.get_x(shapes), shapely.get_y(shapes)
    in_degrees = (np.abs(x[~absent]) <= 360) & (np.abs(y[~absent]) <= 90)
    if not geometry.crs.is_geographic and len(in_degrees) and in_degrees.all():
        raise ValueError(
            f"the CRS {crs_name(geometry.crs)} is not in degrees and all coordinates, such as "
            f"{_pair_text((x[~absent][0], y[~absent][0]))}, seem to be: "
            + rewritten(frame, '.set_crs("EPSG:4326", allow_override=True)')
        )
    moved = np.asarray(geometry.to_crs("EPSG:4326"))
    lonlat = np.stack([shapely.get_x(moved), shapely.get_y(moved)], axis=1)
    lost = ~absent & np.isfinite(x) & np.isfinite(y) & ~np.isfinite(lonlat).all(1)
    return lonlat, [
        ("the geometry is missing", absent),
        (f"the point is outside what {crs_name(geometry.crs)} can express", lost),
    ]


def numbers_of(frame: Any, name: str, skip: Array | None = None) -> tuple[Array, Problems]:
    """A column as float64, NaN where a value is missing, and the rows that hold no number.

    Rows to `skip`, (N,) bool, are not judged; their values are NaN.
    """
    column = column_of(frame, name)
    kinds = pd.api.types
    if kinds.is_numeric_dtype(column) and column.dtype.kind in "iuf":
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        return values if skip is None else np.where(skip, np.nan, values), []
    column = column.astype(object)
    given = column.notna().to_numpy() & (True if skip is None else ~skip)
    kind = kinds.infer_dtype(column[given], skipna=True)
    if kind not in ("string", "integer", "floating", "decimal", "empty") and "mixed" not in kind:
        raise ValueError(
            f"column {name!r} holds {kind} values, such as {column[given].iloc[0]}, not real "
            "numbers: convert them, or name another column"
        )
    values = pd.to_numeric(column.where(given), errors="coerce").to_numpy(np.float64)
    wrong = given & np.isnan(values)
    if not given.any():
        return values, []
    texts = [text for text in column[given].unique() if isinstance(text, str)]
    if wrong.any() and (styles := styles_of(texts)):
        raise misread(frame, name, texts, styles)
    first = shown(str(column[wrong if wrong.any() else given].iloc[0]))
    if wrong.sum() > given.sum() / 2:
        degrees = decimal_degrees(str(column[wrong].iloc[0]))
        raise ValueError(
            f"column {name!r} holds text, such as {first}: "
            + (
                f"write coordinates as decimal degrees, south and west negative, here {degrees}"
                if degrees is not None
                else "give numbers (of a date, such as its year; coordinates as decimal degrees), "
                "or name another column"
            )
        )
    if wrong.any():
        return values, [(f"{name!r} holds text, such as {first}", wrong)]
    if texts and len(texts) == column[given].nunique() and not (~given & column.notna()).any():
        remedy = rewritten(frame, f".astype({{{quoted(name)}: float}})")
        raise ValueError(f"column {name!r} holds numbers as text, such as {first}: {remedy}")
    return values, []


def usual_months(names: Sequence[str]) -> list[str]:
    """The columns that are called month, in any case."""
    return [name for name in names if name.strip().lower() == "month"]


def month_column(names: Sequence[str], given: str | None = None) -> str:
    """The name of the column of months: the one given, else the only one called month."""
    if given is not None:
        if given not in names:
            raise unknown("column", given, names)
        return given
    likely = usual_months(names)
    if len(likely) != 1:
        problem = "no column is" if not likely else f"{len(likely)} columns are"
        raise ValueError(
            f"the encoder takes a month and {problem} called month; columns: {', '.join(names)}. "
            "Pass month=7, or month= and the name of a column of numbers, 1 to 12, or of dates"
        )
    return likely[0]


def months_of(frame: Any, name: str) -> tuple[Array, Problems]:
    """A column of months, 1 to 12, as float64 (N,), and the rows that hold none.

    Dates, also as text that begins with year and month (2024-07-31), give their month.
    """
    column, kinds = column_of(frame, name), pd.api.types
    if isinstance(column.dtype, pd.PeriodDtype):
        column = column.dt.to_timestamp()
    problems: Problems = []
    if kinds.is_datetime64_any_dtype(column):
        values = column.dt.month.to_numpy(dtype=np.float64, na_value=np.nan)
    elif kinds.is_numeric_dtype(column):
        values, problems = numbers_of(frame, name)
    else:
        dates = column.astype("string").str.extract(r"^\s*\d{4}-(\d\d)(?:-\d\d.*)?$")[0]
        texts = column.dropna().astype("string")
        if dates.notna().any():
            values = dates.astype("Float64").to_numpy(dtype=np.float64, na_value=np.nan)
        elif len(texts) and not is_number(texts).any():
            raise ValueError(
                f"column {name!r} holds text, such as {shown(texts.iloc[0])}: give months as "
                "numbers, 1 to 12, or as dates such as 2024-07-31, or name another column"
            )
        else:
            values, problems = numbers_of(frame, name)
    no_month = ~np.isin(values, np.arange(1, 13)) & ~any_of(problems, len(values))
    return values, [*problems, (f"{name!r} {NO_MONTH}", no_month)]


def any_of(problems: Problems, n: int) -> Array:
    """Rows (n,) with any of these problems."""
    found: Array = np.any([np.zeros(n, dtype=bool), *(rows for _, rows in problems)], axis=0)
    return found


def unusable_rows(problems: Problems) -> dict[int, str]:
    """The rows with problems, and the first problem of each."""
    found: dict[int, str] = {}
    for what, rows in problems:
        for row in np.flatnonzero(rows).tolist():
            found.setdefault(row, what)
    return found


def complaint(problems: Problems, n: int, of: str = "") -> str:
    """Which of n rows cannot be used, and why; empty if all can. `of` names their table."""
    wrong = any_of(problems, n)
    if not wrong.any():
        return ""
    reasons = reasons_text(problems)
    return (
        f"{wrong.sum()} of {n} rows{of} cannot be used (row 0 is the first below the header). "
        f"{reasons[0].upper()}{reasons[1:]}"
    )


def reasons_text(problems: Problems) -> str:
    """What is wrong, and in which rows."""
    return "; ".join(f"{what}: {_rows(rows)}" for what, rows in problems if rows.any())


def check_invalid(invalid: str, known: Sequence[str] = ("raise", "drop")) -> None:
    """Refuse anything but the known values."""
    if invalid not in known:
        raise unknown("value of invalid", invalid, known)


def usable(
    problems: Problems, n: int, invalid: str, of: str = "", drop: str = "invalid='drop'"
) -> Array:
    """Which of n rows can be used, (n,) bool: "drop" warns of the others, else they are refused.

    `of` names their table, and `drop` is what to pass to drop them.
    """
    message = complaint(problems, n, of)
    if message and invalid != "drop":
        raise ValueError(f"{message}. Correct them, or pass {drop} to drop them")
    if message:
        warnings.warn(f"{message}. They are dropped", stacklevel=4)
    return ~any_of(problems, n)


def rows_text(wrong: Array) -> str:
    """The first of these rows (N,), how many more there are, and how they are counted."""
    return f"{_rows(wrong)}, counted from 0 below the header"


def _rows(wrong: Array) -> str:
    index = np.flatnonzero(wrong)
    more = f" and {len(index) - _SHOWN} more" if len(index) > _SHOWN else ""
    first = ", ".join(map(str, index[:_SHOWN]))
    return f"row{'s' if len(index) > 1 else ''} {first}{more}"


def _pair_text(point: Any) -> str:
    return f"({point[0]:.10g}, {point[1]:.10g})"
