"""Your own data: a table of points becomes a `Task`, a table or raster a `Modality`.

Files are local; nothing here opens a connection.
"""

from __future__ import annotations

import itertools
import warnings
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locties._util.extras import need, needs

with needs("data,own,study", "reading your own data"):
    import pandas as pd

    from locties._util.registry import unknown
    from locties.apply.tables import (
        Problems,
        any_of,
        check_invalid,
        check_separator,
        column_of,
        complaint,
        coordinates,
        numbers_of,
        usable,
    )
    from locties.data import sampling
    from locties.data.manifest import DataError
    from locties.evaluation.tasks import KINDS, Task
    from locties.lonlat import CELL_DEGREES, cell_index, check, to_xyz, usual_columns
    from locties.modalities import EMBEDDED, Chosen
    from locties.modality import PATCH, Modality, Standardise, patch_encoder, profile_encoder

Array = NDArray[Any]

_DELIMITED = {".csv": ",", ".tsv": "\t"}
_PARQUET = (".parquet", ".geoparquet", ".pq")
_VECTOR = (".geojson", ".json", ".gpkg", ".shp", ".fgb", ".kml", ".gml", ".zip")
_WHOLE = 2**26  # values of a raster that are read at once; larger ones are read window by window
_CANDIDATES = 2**22  # pixels looked at to find those that are sampled


def read_task(
    source: Any,
    target: str,
    *,
    lon: str | None = None,
    lat: str | None = None,
    kind: str | None = None,
    unit: str = "",
    name: str | None = None,
    invalid: str = "raise",
) -> Task:
    """Make a task from a table: places, and what is to be predicted there.

    Args:
        source: path of a CSV, TSV, Parquet, GeoParquet, GeoJSON, GeoPackage or Shapefile; or a
            pandas DataFrame; or a GeoDataFrame. Points in any CRS are taken to WGS84; a source
            with geometry needs no columns of coordinates.
        target: the column to predict.
        lon: column of longitudes, degrees (WGS84). By default the only one with a usual name,
            such as lon or Longitude. Not used where there is geometry.
        lat: column of latitudes, likewise.
        kind: "regression" or "classification". By default fractions are regression, and text,
            categories and truth values classification. Whole numbers can be counts or codes, also
            where a missing value has made them floats: `kind` has to be given.
        unit: of a regression target.
        name: of the task; by default `target`.
        invalid: "raise" refuses rows without usable coordinates or target, naming them; "drop"
            leaves them out with a warning. Rows are counted from 0, without the header.

    Returns:
        The task. Points at the same place are kept, with a warning: random folds put some of them
        into training and some into the test.

    Example:
        >>> soil = pd.DataFrame({"lon": [13.4, 2.3], "lat": [52.5, 48.9], "ph": [6.1, 7.4]})
        >>> task = read_task(soil, "ph")
        >>> task.kind, task.target
        ('regression', array([6.1, 7.4]))
    """
    if kind is not None and kind not in KINDS:
        raise unknown("kind of task", kind, KINDS)
    check_invalid(invalid)
    frame = _frame(source)
    lonlat, problems = coordinates(frame, lon, lat)
    column = column_of(frame, target)
    values, unusable = _target(column, target, kind or _kind(column, target))
    keep = _keep(lonlat, problems + unusable, invalid)
    lonlat, values = lonlat[keep], values[keep]
    repeated = len(lonlat) - len(np.unique(check(lonlat).numpy(), axis=0))
    if repeated:
        warnings.warn(
            f"{repeated} of {len(lonlat)} rows stand where another one does: under random folds "
            "a test point then has its own place among the labels; average them, or judge by "
            "splits='block'",
            stacklevel=2,
        )
    regression = np.issubdtype(values.dtype, np.floating)
    return Task(
        name or target,
        torch.from_numpy(lonlat),
        values,
        "regression" if regression else "classification",
        unit,
    )


def read_modality(
    source: Any,
    *,
    name: str,
    columns: Sequence[str] | None = None,
    bands: Sequence[int] | None = None,
    patch: int | None = None,
    lon: str | None = None,
    lat: str | None = None,
    beside: Sequence[str | Modality] = EMBEDDED,
    invalid: str = "raise",
    samples: int = 20_000,
    seed: int = 0,
    validation: int = 1024,
) -> Modality:
    """Make a modality from a table or a raster, to pretrain with.

    Modalities are unpaired: a cell of about 50 km belongs to one of them, or to validation. So
    samples in the cells of the modalities that this one is trained `beside` are left out. By
    default these are all of the embedded tier, which leaves a sixth of the land outside validation
    (the cells of night lights). Name only those that you train with to keep more: beside two of
    them, four sixths. ``beside=()`` keeps every cell outside validation, which is right for a
    modality trained alone; together with another one the run is not unpaired, and `pretrain` warns.

    Args:
        source: a table, as for `read_task`; or path of a raster that rasterio opens; or an xarray
            DataArray, of two dimensions or with bands as a third.
        name: of the modality.
        columns: numeric columns of a table, the profile; each is standardised. By default all
            but coordinates and row numbers; leave out ids.
        bands: of a raster, counted from 1; by default all but an alpha band.
        patch: 16 for patches of 16x16 pixels of the raster's own grid, none of them nodata; by
            default the profile of the bands at one pixel.
        lon: column of longitudes, as for `read_task`.
        lat: column of latitudes, likewise.
        beside: names in `locties.data.sampling.OWNERS`, or `Modality` objects, that it shares no
            cell with.
        invalid: of a table, as for `read_task`; a missing value in any of `columns` counts.
            Pixels of a raster without data are never sampled.
        samples: at most as many; of a raster, at centres of pixels, uniform by area on Earth.
        seed: of the draw.
        validation: at most as many samples in the validation cells.

    Returns:
        The modality. Its validation is None without a sample in a validation cell.
        ``locations="fresh"`` draws again from the same samples.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> soil = pd.DataFrame(rng.uniform([0, 40, 4], [20, 55, 9], (500, 3)),
        ...                     columns=["lon", "lat", "ph"])
        >>> len(read_modality(soil, name="soil").lonlat)
        85
        >>> len(read_modality(soil, name="soil", beside=["climate", "relief"]).lonlat)
        343
    """
    check_invalid(invalid)
    for what, number in {"samples": samples, "validation": validation}.items():
        if number < 1:
            raise ValueError(f"{what}={number}: pass at least 1")
    beside = [beside] if isinstance(beside, str) else list(beside)
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    if _is_raster(source):
        if columns is not None:
            raise ValueError("columns are those of a table: choose bands of a raster")
        with _open(source) as raster:
            pixels = _Pixels(raster, bands, patch, rng)
            training = pixels.draw(samples, lambda points: _free(points, beside))
            if pixels.tried and not len(training[0]):
                raise ValueError(
                    f"modality {name!r}: of {pixels.tried} pixels in its cells none has "
                    + (
                        f"{PATCH}x{PATCH} pixels with data around it: leave patch out, to read "
                        "single pixels"
                        if patch
                        else "data in every band: choose other bands"
                    )
                )
            held_out = pixels.draw(validation, _is_validation)
    else:
        if bands is not None or patch is not None:
            raise ValueError("bands and patch are those of a raster: choose columns of a table")
        points, rows = _profiles(_frame(source), columns, lon, lat, invalid)
        order = torch.from_numpy(rng.permutation(len(points)))
        points, rows = points[order], rows[order]

        def among(inside: Tensor, n: int) -> tuple[Tensor, Tensor]:
            return points[inside][:n], rows[inside][:n]

        training = among(_free(points, beside), samples)
        held_out = among(_is_validation(points), validation)
    if not len(training[0]):
        names = [other if isinstance(other, str) else other.name for other in beside]
        raise ValueError(
            f"modality {name!r} has no sample left outside the cells of "
            f"{', '.join([*names, 'validation'])}: in beside, name only the modalities that you "
            "train with; beside=() keeps all cells but validation's"
        )
    encoder = patch_encoder if patch else profile_encoder
    standardise = Standardise(training[1][:4096])
    make = encoder(training[1].shape[1], standardise)

    def modality(points: Tensor, kept: Tensor, held_out: Modality | None = None) -> Modality:
        index = torch.arange(len(points))
        return Modality(name, points, Chosen(points, kept, index), make, held_out)

    return modality(*training, modality(*held_out) if len(held_out[0]) else None)


# ------------------------------------------------------------------------------------- cells


def _free(points: Tensor, beside: Sequence[str | Modality]) -> Tensor:
    """Which points (N, 2) lie in no cell of validation or of another modality: (N,) bool."""
    owners = sampling.owner(points)
    free = owners != sampling.VALIDATION
    for other in beside:
        other_name = other if isinstance(other, str) else other.name
        if other_name in sampling.OWNERS:
            free &= owners != sampling.OWNERS.index(other_name)
        elif isinstance(other, str):
            raise unknown("modality in beside", other, sampling.OWNERS)
        if not isinstance(other, str):
            taken = cell_index(other.lonlat.cpu(), CELL_DEGREES)
            free &= ~torch.isin(cell_index(points, CELL_DEGREES), taken)
    return free


def _is_validation(points: Tensor) -> Tensor:
    return sampling.owner(points) == sampling.VALIDATION


def _points(lonlat: Array) -> Tensor:
    """Rounded to float32, as a modality keeps them, before a cell is looked up."""
    return check(check(lonlat).float())


# ------------------------------------------------------------------------------------- tables


def _file(source: Any) -> Path:
    path = Path(source)
    if not path.exists():
        raise DataError(f"there is no file {str(source)!r}: give the path of a local file")
    return path


def _suffix(path: Any) -> str:
    return Path(str(path).lower().removesuffix(".gz")).suffix


def _frame(source: Any) -> Any:
    """The source as a DataFrame or GeoDataFrame."""
    if isinstance(source, pd.DataFrame):
        return source
    if not isinstance(source, str | Path):
        raise ValueError(
            f"a table is a path, a DataFrame or a GeoDataFrame, not a {type(source).__name__}"
        )
    path, suffix = _file(source), _suffix(source)
    try:
        if suffix in _DELIMITED:
            return _delimited(path, _DELIMITED[suffix])
        if suffix in _PARQUET:
            with needs("own", "Parquet"):
                import pyarrow.parquet

            if b"geo" in (pyarrow.parquet.read_schema(path).metadata or {}):
                return need("geopandas", "GeoParquet", "own").read_parquet(path)
            return pd.read_parquet(path)
        if suffix in _VECTOR:
            return need("geopandas", "geometry", "own").read_file(path)
    except ValueError as error:
        if type(error) is ValueError:
            raise
        raise DataError(f"{path} cannot be read: {str(error).strip()}") from error
    except (OSError, RuntimeError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error
    raise ValueError(
        f"{path} is not a table: its name must end in "
        f"{', '.join([*_DELIMITED, *_PARQUET, *_VECTOR])}. Or read it with pandas or geopandas and "
        "pass the frame"
    )


def _delimited(path: Path, separator: str) -> pd.DataFrame:
    try:
        check_separator(str(path), list(pd.read_csv(path, sep=separator, nrows=0)))
        with warnings.catch_warnings():
            # By default pandas shifts the values of rows that are too long by one column.
            warnings.simplefilter("error", pd.errors.ParserWarning)
            return pd.read_csv(path, sep=separator, low_memory=False, index_col=False)
    except pd.errors.ParserWarning:
        raise ValueError(
            f"{path} has more fields in its rows than in its header: name every column"
        ) from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 ({error}): pass pandas.read_csv(path, encoding='latin-1'), or "
            "whatever encoding it has"
        ) from None


def _kind(column: Any, name: str) -> str:
    kinds = pd.api.types
    if kinds.is_object_dtype(column) or kinds.is_string_dtype(column):
        text = column.dropna().astype(str)
        numbers = pd.to_numeric(text.str.replace(",", "."), errors="coerce").notna()
        if numbers.mean() > 0.5:
            raise ValueError(
                f"column {name!r} holds numbers as text, such as {text[numbers].iloc[0]!r}"
                + (f" beside {text[~numbers].iloc[0]!r}" if not numbers.all() else "")
                + ": read it with pandas.read_csv(path, decimal=',', na_values=[...]), or pass "
                "kind='classification'"
            )
    if not kinds.is_numeric_dtype(column) or kinds.is_bool_dtype(column):
        return "classification"
    values = column.to_numpy(dtype=np.float64, na_value=np.nan)
    values = values[np.isfinite(values)]
    if len(values) and (values == values.round()).all():
        raise ValueError(
            f"column {name!r} holds whole numbers ({len(np.unique(values))} different ones), "
            "which can be measurements or codes of classes: pass kind='regression' or "
            "kind='classification'"
        )
    return "regression"


def _target(column: Any, name: str, kind: str) -> tuple[Array, Problems]:
    """Values (N,): float64 of a regression; text or int64 of a classification."""
    if kind == "regression":
        values, problems = numbers_of(column, name)
        unread = any_of(problems, len(values))
        return values, [
            *problems,
            (f"{name!r} is missing or not finite", ~np.isfinite(values) & ~unread),
        ]
    kinds = pd.api.types
    if kinds.is_datetime64_any_dtype(column) or str(column.dtype) == "geometry":
        raise ValueError(f"column {name!r} is of type {column.dtype}, not classes")
    missing = column.isna().to_numpy()
    numeric = kinds.is_numeric_dtype(column) and not kinds.is_bool_dtype(column)
    if numeric:
        values = column.to_numpy(dtype=np.float64, na_value=np.nan)
        missing = ~np.isfinite(values)
        if not (values[~missing] == values[~missing].round()).all():
            raise ValueError(
                f"column {name!r} holds fractions, not codes of classes: pass "
                "kind='regression', or cut it into classes with pandas.cut"
            )
    problems = [
        (
            f"{name!r} is missing (empty, NA or null; to read them as text, pass "
            "pandas.read_csv(path, keep_default_na=False))",
            missing,
        )
    ]
    if numeric:
        return np.where(missing, 0, values).astype(np.int64), problems
    return column.astype(object).map(str).to_numpy(dtype=str), problems


def _keep(lonlat: Array, problems: Problems, invalid: str) -> Array:
    """Rows that can be used, (N,) bool; raises or warns at the others."""
    n = len(lonlat)
    if not n:
        raise ValueError("the table has no row")
    if any_of(problems, n).all():
        raise ValueError(f"{complaint(problems, n)}. No row is left")
    return usable(problems, n, invalid)


def _profiles(
    frame: Any, columns: Sequence[str] | None, lon: str | None, lat: str | None, invalid: str
) -> tuple[Tensor, Tensor]:
    """Usable rows: lonlat (N, 2) and their columns (N, C), float32."""
    lonlat, problems = coordinates(frame, lon, lat)
    if columns is None:
        numeric = frame.select_dtypes(["number", "bool"]).columns
        row_numbers = "Unnamed: 0"  # what DataFrame.to_csv makes of an index
        others = {lon, lat, row_numbers, *itertools.chain(*usual_columns(frame.columns))}
        columns = [name for name in numeric if name not in others]
        if not columns:
            raise ValueError("the table has no numeric column beside the coordinates")
    elif isinstance(columns, str) or not len(columns):
        raise ValueError(f"columns={columns!r}: give a list of at least one name")
    values = []
    for name in columns:
        column = column_of(frame, name)
        if pd.api.types.is_bool_dtype(column):
            column = column.astype("Float64")
        if not pd.api.types.is_numeric_dtype(column) and isinstance(
            column.dtype, pd.CategoricalDtype
        ):
            raise ValueError(f"column {name!r} holds categories: take pandas.get_dummies(frame)")
        numbers, unread = numbers_of(column, name)
        values.append(numbers)
        absent = ~np.isfinite(numbers) & ~any_of(unread, len(numbers))
        problems += [*unread, (f"{name!r} is missing or not finite", absent)]
    keep = _keep(lonlat, problems, invalid)
    return _points(lonlat[keep]), torch.from_numpy(np.stack(values, axis=1)[keep]).float()


# ------------------------------------------------------------------------------------- rasters


def _is_raster(source: Any) -> bool:
    if isinstance(source, str | Path):
        return _suffix(source) not in (*_DELIMITED, *_PARQUET, *_VECTOR)
    if type(source).__module__.startswith("xarray."):
        if not hasattr(source, "dtype"):
            raise ValueError("a Dataset: pass one DataArray, as dataset['name'] or .to_array()")
        return True
    return False


@contextmanager
def _open(source: Any) -> Iterator[Any]:
    """A rasterio dataset of a file or of a DataArray."""
    rasterio = need("rasterio", "a raster", "own")
    if not isinstance(source, str | Path):
        with rasterio.MemoryFile() as memory:
            _write(source, memory)
            with memory.open() as dataset:
                yield dataset
        return
    path = _file(source)
    with warnings.catch_warnings():
        # A missing CRS or geotransform raises an error below.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            dataset = rasterio.open(path)
        except rasterio.errors.RasterioIOError as error:
            raise DataError(
                f"{path} cannot be read as a raster ({error}). What xarray reads can be "
                "passed as a DataArray; known endings of tables: "
                f"{', '.join([*_DELIMITED, *_PARQUET, *_VECTOR])}"
            ) from error
    with dataset:
        if not dataset.count:
            raise ValueError(
                f"{path} holds several variables: pass one, as xarray.open_dataset(path)['name']"
            )
        if dataset.gcps[0] or (dataset.crs is not None and dataset.transform.is_identity):
            raise ValueError(
                f"{path} has no geotransform, so its pixels could lie anywhere: warp it with "
                "gdalwarp where it has ground control points, or set its bounds with gdal_edit.py "
                "-a_ullr WEST NORTH EAST SOUTH"
            )
        if dataset.crs is None:
            raise ValueError(
                f"{path} has no CRS, so its pixels could lie anywhere: write it, with "
                "gdal_edit.py -a_srs EPSG:4326 (or whatever it is)"
            )
        yield dataset


def _write(array: Any, memory: Any) -> None:
    """A DataArray as a GeoTIFF in memory, NaN where it has no data."""
    need("rioxarray", "a DataArray", "own")
    names = {"lon": "x", "longitude": "x", "lat": "y", "latitude": "y"}
    geographic = any(dim in names for dim in array.dims)
    array = array.rename({dim: names[dim] for dim in array.dims if dim in names})
    if not {"x", "y"} <= set(array.dims) or array.ndim > 3:
        raise ValueError(
            f"the DataArray has dimensions {tuple(array.dims)}: it needs x and y (or lon and lat) "
            "and at most one more for bands; .isel() or .rename() the others"
        )
    array = array.transpose(..., "y", "x")
    for axis in ("x", "y"):
        if axis not in array.coords:
            raise ValueError(f"the DataArray has no coordinates along {axis}: .assign_coords()")
        steps = np.diff(np.asarray(array[axis], dtype=np.float64))
        if len(steps) == 0 or not np.allclose(steps, steps.mean(), rtol=1e-3, atol=0):
            raise ValueError(f"the DataArray's {axis} is not evenly spaced: .interp() it to a grid")
    crs = array.rio.crs or ("EPSG:4326" if geographic else None)
    if crs is None:
        raise ValueError("the DataArray has no CRS: array.rio.write_crs('EPSG:4326'), or its own")
    nodata = array.rio.nodata
    values = np.atleast_3d(array.to_numpy().T).T.astype(np.float32)
    if nodata is not None:
        values[values == np.float32(nodata)] = np.nan
    bands, height, width = values.shape
    profile = {"count": bands, "height": height, "width": width, "dtype": "float32"}
    with memory.open(
        driver="GTiff",
        crs=crs,
        transform=array.rio.transform(recalc=True),
        nodata=np.nan,
        **profile,
    ) as dataset:
        dataset.write(values)


class _Pixels:
    """The pixels of a raster in random order, from which samples are drawn."""

    def __init__(
        self, raster: Any, bands: Sequence[int] | None, patch: int | None, rng: Any
    ) -> None:
        if patch not in (None, PATCH):
            raise ValueError(f"patch={patch}: the patch encoder reads {PATCH} pixels; or pass None")
        self.raster, self.patch, self.rng = raster, patch, rng
        self.bands = self._bands(bands)
        self.height, self.width = raster.height, raster.width
        total = self.height * self.width
        # Some pixels of a large raster, drawn with repeats, which are dropped.
        few = total <= _CANDIDATES
        drawn = rng.permutation(total) if few else rng.integers(total, size=_CANDIDATES)
        self.order = pd.unique(drawn)
        self.tried = 0  # pixels in cells where samples are wanted
        transform = raster.transform
        _, south, _, north = raster.bounds
        beyond = max(abs(south), abs(north)) - abs(transform.e) - abs(transform.d)
        if raster.crs.is_geographic and beyond > 90:
            raise ValueError(
                f"the raster goes from latitude {south:g} to {north:g}, so {raster.crs} cannot be "
                "its CRS, or its axes are swapped"
            )
        turns = raster.crs.is_geographic and transform.b == transform.d == 0
        # A raster once round the Earth wraps from its last column to its first.
        self.wraps = turns and abs(abs(transform.a) * self.width - 360) < 1e-3 * abs(transform.a)
        pyproj = need("pyproj", "a raster", "own")
        crs = pyproj.CRS.from_wkt(raster.crs.to_wkt())
        self.to_wgs84 = pyproj.Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
        small = total * len(self.bands) <= _WHOLE
        self.whole = self._clean(raster.read(self.bands, masked=True)) if small else None

    def _bands(self, bands: Sequence[int] | None) -> list[int]:
        alpha = need("rasterio.enums", "a raster", "own").ColorInterp.alpha
        kinds = dict(zip(self.raster.indexes, self.raster.colorinterp, strict=True))
        if bands is None:
            return [band for band, kind in kinds.items() if kind != alpha]
        if isinstance(bands, int) or not len(bands):
            raise ValueError(f"bands={bands!r}: give a list of at least one number")
        for band in bands:
            if band not in kinds:
                raise ValueError(f"bands={list(bands)}: the raster has bands 1 to {len(kinds)}")
        return list(bands)

    @staticmethod
    def _clean(values: Any) -> Array:
        """(C, h, w) float32, NaN where there is no data."""
        if values.dtype.kind == "c":
            raise ValueError(f"the raster holds complex numbers ({values.dtype}): give real ones")
        numbers: Array = values.astype(np.float32).filled(np.nan)
        numbers[~np.isfinite(numbers)] = np.nan
        return numbers

    def lonlat(self, row: Array, column: Array) -> Array:
        """Degrees (N, 2) of positions in the grid, in pixels from the raster's outer corner."""
        t = self.raster.transform
        x, y = t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f
        return np.stack(self.to_wgs84.transform(x, y), axis=1)

    def area(self, row: Array, column: Array) -> Array:
        """Area of pixels around these positions, on the unit sphere; 0 where it is not defined."""
        quarter = 0.25
        sides = []
        for down, right in ((quarter, 0), (0, quarter)):
            ends = [
                to_xyz(torch.from_numpy(self.lonlat(row + sign * down, column + sign * right)))
                for sign in (1, -1)
            ]
            sides.append((ends[0] - ends[1]).numpy() / (2 * quarter))
        area: Array = np.linalg.norm(np.cross(sides[0], sides[1]), axis=1)
        return np.nan_to_num(area)

    def draw(self, n: int, inside: Callable[[Tensor], Tensor]) -> tuple[Tensor, Tensor]:
        """At most n samples at points `inside`, uniform by area: (m, 2) and (m, C[, 16, 16])."""
        points: list[Tensor] = []
        values: list[Array] = []
        largest = 0.0
        for start in range(0, len(self.order), 2**16):
            row, column = np.divmod(self.order[start : start + 2**16], self.width)
            lonlat = self.lonlat(row + 0.5, column + 0.5)
            area = self.area(row + 0.5, column + 0.5)
            if not largest and area.any():
                # Not the largest: at the rim of a map of the globe it has no bound.
                largest = np.quantile(area[area > 0], 0.99)
            # A corner of a polar map lies outside the Earth.
            there = np.isfinite(lonlat).all(1) & (np.abs(lonlat[:, 1]) <= 90)
            there &= self.rng.random(len(row)) * largest < area
            row, column, candidates = row[there], column[there], _points(lonlat[there])
            for i in torch.nonzero(inside(candidates))[:, 0].tolist():
                self.tried += 1
                sample = self.sample(int(row[i]), int(column[i]))
                if sample is not None and not np.isnan(sample).any():
                    points.append(candidates[i])
                    values.append(sample)
                if len(points) == n:
                    break
            if len(points) == n:
                break
        if not points:
            return torch.empty(0, 2), torch.empty(0, len(self.bands))
        return torch.stack(points), torch.from_numpy(np.stack(values))

    def sample(self, row: int, column: int) -> Array | None:
        """(C,) of a pixel, or (C, 16, 16) around it; None where that leaves the raster."""
        if self.patch is None:
            return self.read(slice(row, row + 1), slice(column, column + 1))[:, 0, 0]
        # A raster with south up, or east on the left, is flipped like any other.
        upside, mirrored = self.raster.transform.e > 0, self.raster.transform.a < 0
        top = row - PATCH // 2 + upside
        left = column - PATCH // 2 + mirrored
        if top < 0 or top + PATCH > self.height:
            return None
        rows, right = slice(top, top + PATCH), left + PATCH
        if left < 0 or right > self.width:
            if not self.wraps or self.width < PATCH:
                return None
            left, right = left % self.width, right % self.width
            parts = [self.read(rows, slice(left, self.width)), self.read(rows, slice(0, right))]
            patch = np.concatenate(parts, axis=2)
        else:
            patch = self.read(rows, slice(left, right))
        return patch[:, :: -1 if upside else 1, :: -1 if mirrored else 1]

    def read(self, rows: slice, columns: slice) -> Array:
        if self.whole is not None:
            return self.whole[:, rows, columns]
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        return self._clean(self.raster.read(self.bands, masked=True, window=window))
