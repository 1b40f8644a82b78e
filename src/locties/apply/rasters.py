"""Rasters: opened, checked to lie somewhere on Earth, and sampled pixel by pixel."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locties._util.extras import need, needs
from locties._util.files import DataError
from locties.apply.tables import TABLES, Array, existing, float_points, named
from locties.lonlat import to_xyz

with needs("own", "a raster"):
    import pandas as pd

_WHOLE = 2**26  # values of a raster that are read at once; larger ones are read window by window
_CANDIDATES = 2**22  # pixels looked at to find those that are sampled
# Formats that hold their own pixels. Others, such as VRT, WMS or HDF5, can name further files and
# URLs, which GDAL would open whatever the file is called.
_DRIVERS = (
    *("GTiff", "HFA", "JP2OpenJPEG", "JPEG", "PNG", "WEBP", "GIF", "BMP", "PNM", "GPKG", "MBTiles"),
    *("AAIGrid", "AIG", "GRASSASCIIGrid", "ENVI", "EHdr", "SAGA", "RST", "RRASTER", "PCRaster"),
    *("GRIB", "SRTMHGT", "DTED", "USGSDEM", "GSAG", "GSBG", "GS7BG", "XYZ", "BT", "RMF", "ZMap"),
)


@contextmanager
def open_raster(source: Any) -> Iterator[Any]:
    """A rasterio dataset of a file or of a DataArray."""
    rasterio = need("rasterio", "a raster", "own")
    if not isinstance(source, str | Path):
        with rasterio.MemoryFile() as memory:
            _write(source, memory)
            with memory.open() as dataset:
                yield dataset
        return
    if str(source).startswith(("NETCDF:", "HDF5:")):
        raise ValueError(f"{source} names a variable of a file: {_BY_XARRAY}")
    # Absolute, since GDAL joins the folder to the names of further files that it finds in one.
    path = existing(source).absolute()
    with named(source), rasterio.Env(), warnings.catch_warnings():
        # A missing CRS or geotransform raises an error below.
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        try:
            # rasterio.open takes one driver only.
            dataset = rasterio.io.DatasetReader(str(path), driver=list(_DRIVERS))
        except rasterio.errors.RasterioIOError as error:
            raise DataError(
                f"{source} cannot be read as a raster ({error}). Of NetCDF, HDF5 or Zarr, "
                f"{_BY_XARRAY}; convert another format with gdal_translate, to .tif; names of "
                f"tables end in {', '.join(TABLES)}"
            ) from error
        with dataset:
            _check_place(source, dataset)
            yield dataset


_BY_XARRAY = "pass one variable, as xarray.open_dataset(path)['name']"


def _check_place(path: str | Path, dataset: Any) -> None:
    if dataset.gcps[0] or (dataset.crs is not None and dataset.transform.is_identity):
        raise ValueError(
            f"{path} has no geotransform, so its pixels could lie anywhere: warp it with gdalwarp "
            "where it has ground control points, or set its bounds with gdal_edit.py -a_ullr WEST "
            "NORTH EAST SOUTH"
        )
    if dataset.crs is None:
        raise ValueError(
            f"{path} has no CRS, so its pixels could lie anywhere: write it, with gdal_edit.py "
            "-a_srs EPSG:4326 (or whatever it is)"
        )


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


class Pixels:
    """The pixels of a raster in random order, from which samples are drawn."""

    def __init__(
        self, raster: Any, bands: Sequence[int] | None, patch: int | None, rng: Any
    ) -> None:
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
        """At most n samples at points `inside`, uniform by area: (m, 2) and (m, C[, P, P])."""
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
            row, column, candidates = row[there], column[there], float_points(lonlat[there])
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
        """(C,) of a pixel, or (C, P, P) around it; None where that leaves the raster."""
        if self.patch is None:
            return self.read(slice(row, row + 1), slice(column, column + 1))[:, 0, 0]
        # A raster with south up, or east on the left, is flipped like any other.
        upside, mirrored = self.raster.transform.e > 0, self.raster.transform.a < 0
        size = self.patch
        top = row - size // 2 + upside
        left = column - size // 2 + mirrored
        if top < 0 or top + size > self.height:
            return None
        rows, right = slice(top, top + size), left + size
        if left < 0 or right > self.width:
            if not self.wraps or self.width < size:
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
