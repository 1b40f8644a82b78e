"""Open rasters, and check that they lie somewhere on Earth."""

from __future__ import annotations

import re
import shlex
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from locties._util.extras import need
from locties._util.files import DataError
from locties.apply.tables import TABLES, Array, crs_name, existing, named
from locties.lonlat import check, distance_km, usual_columns

# Formats that contain their own pixels. Others, such as VRT, WMS or HDF5, can name other files and
# URLs. GDAL would open those, whatever the ending of the file.
_DRIVERS = (
    *("GTiff", "HFA", "JP2OpenJPEG", "JPEG", "PNG", "WEBP", "GIF", "BMP", "PNM", "MBTiles"),
    *("AAIGrid", "AIG", "GRASSASCIIGrid", "ENVI", "EHdr", "SAGA", "RST", "RRASTER", "PCRaster"),
    *("GRIB", "SRTMHGT", "DTED", "USGSDEM", "GSAG", "GSBG", "GS7BG", "XYZ", "BT", "RMF", "ZMap"),
)
_OFFLINE = {"CPL_VSIL_CURL_ALLOWED_FILENAME": "none"}  # the only file that /vsicurl/ may open
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
# First bytes of files of several variables: HDF5 (also NetCDF 4), HDF4, NetCDF 3. GDAL's names for
# a variable.
_ZARR = ("zarr.json", ".zgroup")  # one of them is in the folder of a Zarr
_CONTAINER = (b"\x89HDF", b"\x0e\x03\x13\x01", b"CDF\1", b"CDF\2", b"CDF\5")
_VARIABLE = re.compile(r"(?i)(?:NETCDF|HDF5|HDF4\w*|ZARR):\"?(.+?)\"?:/*(.+)")
_EASTINGS, _NORTHINGS = ("x", "easting", "eastings"), ("y", "northing", "northings")


@dataclass
class OpenRaster:
    """A raster of a file or of a DataArray, as `Pixels` reads it."""

    crs: Any  # pyproj's CRS
    height: int
    width: int
    # From rows and columns, in pixels from the corner, to coordinates x and y in the CRS.
    position: Callable[[Array, Array], tuple[Array, Array]]
    bands: dict[int, str]  # names by number, from 1
    coded: list[int]  # bands whose values are codes, as those with a colour table
    default: list[int]  # bands that are read by default
    # From bands, rows and columns to (C, h, w) float32 as stored, NaN where there is no data.
    read: Callable[[Sequence[int], slice, slice], Array]
    scale: Array  # (bands,) value = scale * stored + offset
    offset: Array  # (bands,)
    driver: str  # GDAL's name of the format
    nodata: str  # as it is declared
    set_crs: str  # how a user sets the CRS
    set_nodata: str  # how a user declares nodata, with {} for the value

    @cached_property
    def _to_wgs84(self) -> Any:
        pyproj = need("pyproj", "a raster", "own")
        try:
            return pyproj.Transformer.from_crs(self.crs, "EPSG:4326", always_xy=True)
        except pyproj.exceptions.ProjError as error:
            raise ValueError(
                f"the CRS {crs_name(self.crs)} lies nowhere on Earth ({error}): {self.set_crs}"
            ) from None

    def lonlat(self, row: Array, column: Array) -> Array:
        """Degrees (N, 2) of positions in the grid, in pixels from the raster's outer corner."""
        return np.stack(self._to_wgs84.transform(*self.position(row, column)), axis=1)

    def corners(self) -> tuple[Array, Array]:
        """Coordinates x (4,) and y (4,) of the outer corners, in the CRS."""
        row, column = np.meshgrid([0.0, self.height], [0.0, self.width], indexing="ij")
        return self.position(row.ravel(), column.ravel())


@contextmanager
def open_raster(source: Any) -> Iterator[OpenRaster]:
    """Open a file or a DataArray, and check its coordinates against its CRS."""
    if isinstance(source, str | Path):
        with _open_file(source) as raster:
            _check_place(raster)
            yield raster
    else:
        raster = _of_array(source)
        _check_place(raster)
        yield raster


def _check_place(raster: OpenRaster) -> None:
    """Refuse a CRS that the coordinates contradict."""
    x, y = raster.corners()
    extent = f"from ({x.min():.10g}, {y.min():.10g}) to ({x.max():.10g}, {y.max():.10g})"
    name = crs_name(raster.crs)
    if raster.crs.is_geographic:
        # The pixels of a grid of points extend half a pixel beyond the points.
        beyond_x, beyond_y = np.ptp(x) / raster.width, np.ptp(y) / raster.height
        if (
            np.abs(y).max() > 90 + beyond_y
            or np.abs(x).max() > 540 + beyond_x
            or np.ptp(x) > 360 + 2 * beyond_x
        ):
            raise ValueError(
                f"the raster extends {extent}, so {name} cannot be its CRS, or its axes are "
                f"swapped: {raster.set_crs}"
            )
    unit = raster.crs.axis_info[0].unit_name if raster.crs.axis_info else ""
    if unit == "metre" and np.abs(x).max() <= 360 and np.abs(y).max() <= 90:
        raise ValueError(
            f"the CRS {name} is in metres, but the raster extends {extent}, which looks like "
            f"degrees or radians: {raster.set_crs}"
        )
    raster.lonlat(np.zeros(1), np.zeros(1))


# --------------------------------------------------------------------------------------- of a file


@contextmanager
def _open_file(source: str | Path) -> Iterator[OpenRaster]:
    rasterio = need("rasterio", "a raster", "own")
    if inside := _VARIABLE.fullmatch(str(source)):
        raise ValueError(f"{source} is a variable of a file: {_by_xarray(inside[1], [inside[2]])}")
    # Absolute: GDAL prepends the folder to the names of other files that a file mentions.
    path = existing(source).absolute()
    if path.is_dir() and not any((path / name).exists() for name in _ZARR):
        raise DataError(f"{source} is a folder: name one file, a table or a raster")
    if path.is_dir() or _start(path).startswith(_CONTAINER):
        raise DataError(f"{source} can hold several variables: {_by_xarray(path)}")
    mask = path.with_name(f"{path.name}.msk")
    if mask.is_file() and not _start(mask).startswith(_TIFF):
        raise DataError(
            f"{mask}, the mask of {source}, is not a TIFF: remove it, or write it again"
        )
    with named(source), rasterio.Env(**_OFFLINE), warnings.catch_warnings():
        # A missing CRS or geotransform raises an error below.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            # rasterio.open takes one driver only.
            dataset = rasterio.io.DatasetReader(str(path), driver=list(_DRIVERS))
        except rasterio.errors.RasterioIOError as error:
            raise DataError(
                f"{source} cannot be read as a raster ({error}), and names of tables end in "
                f"{', '.join(TABLES)}. Convert a raster with gdal_translate, to .tif; save a "
                "spreadsheet as CSV"
            ) from error
        with dataset:
            yield _of_dataset(source, dataset)


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _of_dataset(path: str | Path, dataset: Any) -> OpenRaster:
    """The raster of a rasterio dataset; ValueError if its place on Earth is unknown."""
    file = shlex.quote(str(path))
    set_crs = f"rio edit-info {file} --crs EPSG:4326, or its own"
    if dataset.gcps[0] or (dataset.transform.is_identity and dataset.rpcs):
        points = "ground control points" if dataset.gcps[0] else "a camera model (RPC)"
        option = "" if dataset.gcps[0] else "-rpc "
        raise ValueError(
            f"{path} has {points} and no geotransform: gdalwarp {option}-t_srs EPSG:4326 {file} "
            "warped.tif"
        )
    if dataset.transform.is_identity:
        raise ValueError(
            f"{path} has no geotransform, so its pixels could lie anywhere: rio edit-info {file} "
            "--transform '[WIDTH, 0, WEST, 0, -HEIGHT, NORTH]', with width and height of a pixel"
        )
    if dataset.crs is None:
        raise ValueError(f"{path} has no CRS, so its pixels could lie anywhere: {set_crs}")
    bands = dict(zip(dataset.indexes, dataset.descriptions, strict=True))
    kinds = dict(zip(dataset.indexes, (kind.name for kind in dataset.colorinterp), strict=True))

    def position(row: Array, column: Array) -> tuple[Array, Array]:
        t = dataset.transform
        return t.a * column + t.b * row + t.c, t.d * column + t.e * row + t.f

    def read(chosen: Sequence[int], rows: slice, columns: slice) -> Array:
        for band in chosen:
            _check_numbers(dataset.dtypes[band - 1], f"{path}, band {band},")
        window = ((rows.start, rows.stop), (columns.start, columns.stop))
        values = dataset.read(chosen, masked=True, window=window).astype(np.float32)
        return np.ma.filled(values, np.nan)

    return OpenRaster(
        crs=need("pyproj", "a raster", "own").CRS.from_wkt(dataset.crs.to_wkt()),
        height=dataset.height,
        width=dataset.width,
        position=position,
        bands={band: name or kinds[band] for band, name in bands.items()},
        default=[band for band, kind in kinds.items() if kind != "alpha"],
        coded=[band for band, kind in kinds.items() if kind == "palette"],
        read=read,
        scale=np.array(dataset.scales),
        offset=np.array(dataset.offsets),
        driver=dataset.driver,
        nodata=", ".join(dict.fromkeys(map(str, dataset.nodatavals))),
        set_crs=set_crs,
        set_nodata=f"rio edit-info {file} --nodata={{}}",
    )


def _by_xarray(path: str | Path, names: Sequence[str] = ()) -> str:
    """How to pass one variable of a file with several, and their names."""
    names = names or _variables(Path(path)) or ["NAME"]
    group, _, name = names[0].lstrip("/").rpartition("/")
    inside = f"{str(path)!r}" + (f", group={group!r}" if group else "")
    others = f" ({', '.join(names)})" if len(names) > 1 else ""
    file, first = path, ""
    if Path(path).is_dir():  # GDAL does not read every Zarr
        file = f"{name}.nc"
        code = f"import xarray; xarray.open_dataset({inside})[[{name!r}]].to_netcdf({file!r})"
        first = f"python -c {shlex.quote(code)} && "
    of_gdal = shlex.quote(f'NETCDF:"{file}":{name}')
    return (
        f"pass one of them{others}, as xarray.open_dataset({inside})[{name!r}]. On the command "
        f"line, make a GeoTIFF of it, as {first}rio convert {of_gdal} {name}.tif does"
    )


def _variables(path: Path) -> list[str]:
    """Names of the arrays of two or more dimensions; none if the file cannot be read."""
    found: list[str] = []

    def visit(name: str, item: Any) -> None:
        if getattr(item, "ndim", 0) > 1:
            found.append(name)

    with suppress(Exception):  # the file is damaged, or its reader is not installed
        if path.is_file() and _start(path) == _CONTAINER[0]:
            with need("h5py", "HDF5", "data").File(path) as file:
                file.visititems(visit)  # which follows no link to another file
        else:
            with need("xarray", "a raster", "own").open_dataset(path) as dataset:
                for name, item in dataset.data_vars.items():
                    visit(str(name), item)
    return found


# ---------------------------------------------------------------------------------- of a DataArray


def _of_array(array: Any) -> OpenRaster:
    """The raster of a DataArray, placed by its coordinates; a geotransform is ignored."""
    x, y = _axes(array)
    degrees = x.name in usual_columns([x.name])[0] or str(x.attrs.get("units", "")).startswith(
        "deg"
    )
    crs = _crs(array, degrees)
    columns, rows = _steady(x, crs.is_geographic), _steady(y, False)
    if not degrees and all(
        axis[0] in (0, 0.5) and (np.diff(axis) == 1).all() for axis in (columns, rows)
    ):
        raise ValueError(
            f"{x.name} and {y.name} count columns and rows, so the pixels could lie anywhere: "
            f"array.assign_coords({x.name}=..., {y.name}=...)"
        )
    [column], [row] = x.dims, y.dims
    stored, names = _bands(array, row, column)
    # Floats are already scaled, even if the scale is still among the attributes.
    packed = array.attrs if array.dtype.kind in "iu" else {}
    raster = OpenRaster(
        crs=crs,
        height=len(rows),
        width=len(columns),
        position=lambda at_row, at_column: (_along(columns, at_column), _along(rows, at_row)),
        bands=names,
        coded=[],
        default=list(names),
        read=lambda chosen, *window: stored[(np.array(chosen) - 1, *window)],
        scale=np.full(len(names), float(packed.get("scale_factor", 1))),
        offset=np.full(len(names), float(packed.get("add_offset", 0))),
        driver="DataArray",
        nodata=str(array.rio.nodata),
        set_crs="array.rio.write_crs('EPSG:4326'), or its own",
        set_nodata="array.where(array != {})",
    )
    _check_lonlat(array, raster, row, column)
    return raster


def _axes(array: Any) -> tuple[Any, Any]:
    """The coordinates along columns and rows, each of one dimension."""
    flat = {str(name): axis for name, axis in array.coords.items() if axis.ndim == 1}
    # Dimension coordinates come before others, such as longitudes beside x.
    names = sorted(flat, key=lambda name: name not in array.dims)
    usual = zip(usual_columns(names), (_EASTINGS, _NORTHINGS), strict=True)
    found = [
        [name for name in names if name in degrees or name.lower() in metres]
        for degrees, metres in usual
    ]
    if not all(found):
        swath = [names[0] for names in usual_columns(array.coords) if names]
        if len(swath) == 2:
            raise ValueError(
                f"the places are in {swath[0]} and {swath[1]}, of two dimensions: pass a table, "
                "array.to_dataframe('value').reset_index(), with columns=['value']"
            )
        raise ValueError(
            f"the DataArray has coordinates {', '.join(map(str, array.coords)) or 'of no name'} "
            f"along {', '.join(map(str, array.dims))}: it needs x and y, or lon and lat; "
            ".assign_coords() or .rename() them"
        )
    x, y = (flat[names[0]] for names in found)
    if x.dims == y.dims:
        raise ValueError(
            f"{x.name} and {y.name} run along the same dimension, {x.dims[0]}, as points do: pass "
            "a table, array.to_dataframe('value').reset_index(), with columns=['value']"
        )
    return x, y


def _crs(array: Any, degrees: bool) -> Any:
    """The pyproj CRS of a DataArray; without one, coordinates in degrees are EPSG:4326."""
    need("rioxarray", "a DataArray", "own")
    pyproj = need("pyproj", "a raster", "own")
    try:
        crs = array.rio.crs and pyproj.CRS.from_wkt(array.rio.crs.to_wkt())
    except Exception as error:  # rasterio and pyproj raise many kinds at a wrong attribute
        raise ValueError(
            f"the DataArray's CRS cannot be read ({error}): array.rio.write_crs('EPSG:4326')"
        ) from None
    if crs is None and not degrees:
        raise ValueError("the DataArray has no CRS: array.rio.write_crs('EPSG:4326'), or its own")
    if degrees and crs is not None and not crs.is_geographic:
        raise ValueError(
            f"the DataArray's coordinates are degrees, which its CRS, {crs_name(crs)}, is not in: "
            "array.rio.write_crs('EPSG:4326'), or rename them to x and y"
        )
    return crs or pyproj.CRS("EPSG:4326")


def _steady(axis: Any, turns: bool) -> Array:
    """The values (n,) of a coordinate, if in order and even; unwrapped at 360 if it `turns`."""
    if axis.dtype.kind not in "iuf" or not np.isfinite(axis).all() or axis.size < 2:
        raise ValueError(
            f"the DataArray's {axis.name} must be two or more finite numbers, not "
            f"{axis.size} of {axis.dtype}: array.assign_coords({axis.name}=...)"
        )
    values = np.asarray(axis, np.float64)
    values = np.unwrap(values, period=360) if turns else values
    steps = np.diff(values)
    if not (steps > 0).all() and not (steps < 0).all():
        at = int(np.argmax(steps * np.sign(np.median(steps)) <= 0))
        raise ValueError(
            f"the DataArray's {axis.name} is not in order: {values[at + 1]:g} follows "
            f"{values[at]:g}; array.drop_duplicates({axis.name!r}).sortby({axis.name!r})"
        )
    uneven = np.abs(np.log(steps[1:] / steps[:-1])) > np.log(1.5)
    if uneven.any():
        at = int(uneven.argmax())
        raise ValueError(
            f"the DataArray's {axis.name} is not evenly spaced: {values[at : at + 3]} follow each "
            f"other; array.interp({axis.name}=...) to even steps"
        )
    return values


def _along(centres: Array, position: Array) -> Array:
    """The coordinate at positions in pixels from the outer edge, given the pixel centres."""
    edges = [1.5 * centres[0] - 0.5 * centres[1], 1.5 * centres[-1] - 0.5 * centres[-2]]
    known = np.array([0, *(np.arange(len(centres)) + 0.5), len(centres)])
    at: Array = np.interp(position, known, [edges[0], *centres, edges[1]])
    return at


def _bands(array: Any, row: Any, column: Any) -> tuple[Array, dict[int, str]]:
    """Values (C, H, W) float32 as stored, NaN where there is no data, and the bands' names."""
    others = [dim for dim in array.dims if dim not in (row, column) and array.sizes[dim] > 1]
    if len(others) > 1:
        raise ValueError(
            f"the DataArray has dimensions {', '.join(map(str, array.dims))}: only one more than "
            f"{row} and {column} can be bands; choose of the others with .isel()"
        )
    _check_numbers(str(array.dtype), "the DataArray")
    stored = array.transpose(..., *others, row, column).to_numpy()
    stored = stored.reshape(-1, *stored.shape[-2:])
    values = stored.astype(np.float32)
    for nodata in (
        array.attrs.get("_FillValue"),
        array.attrs.get("missing_value"),
        array.rio.nodata,
    ):
        if nodata is not None:
            # A float32 -9999.9 is not the same number as a float64 one.
            exact = stored.dtype.type(nodata) if stored.dtype.kind == "f" else nodata
            values[stored == exact] = np.nan
    labels = array[others[0]].to_numpy() if others and others[0] in array.coords else ()
    names = [str(label) for label in labels] or [str(array.name or "value")] * len(values)
    return values, dict(enumerate(names, 1))


def _check_lonlat(array: Any, raster: OpenRaster, row: Any, column: Any) -> None:
    """Refuse axes that contradict the longitudes and latitudes given for every pixel."""
    beside = [
        array[names[0]].transpose(row, column).to_numpy()
        for names in usual_columns(array.coords)
        if names and set(array[names[0]].dims) == {row, column}
    ]
    if len(beside) < 2:
        return
    first_last = np.array([0, raster.height - 1]), np.array([0, raster.width - 1])
    given = np.stack([axis[first_last] for axis in beside], axis=1).astype(np.float64)
    inwards = np.array([0.5, -0.5])
    found, edge = (raster.lonlat(*(at + 0.5 - by for at in first_last)) for by in (0, inwards))
    known = np.isfinite([given, found, edge]).all(axis=(0, 2))
    apart, pixel = (
        distance_km(check(found[known]), check(other[known])).numpy() for other in (given, edge)
    )
    if (apart > 2 * pixel).any():
        raise ValueError(
            f"the DataArray's coordinates along {row} and {column} put a pixel at "
            f"{found[known][apart.argmax()].round(4)}, its longitude and latitude at "
            f"{given[known][apart.argmax()].round(4)}: .drop_vars() those that are out of date"
        )


def _check_numbers(kind: str, what: str) -> None:
    if not re.match("bool|u?int|float", kind):
        raise ValueError(f"{what} holds {kind}, not real numbers: pass a part, such as .real")
