"""Coordinates: longitude then latitude, in degrees (WGS84), in tensors of shape (N, 2)."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MEAN_EARTH_RADIUS_KM = 6371.0088  # IUGG mean radius, (2a + b) / 3 of the GRS80 ellipsoid
BLOCK_DEGREES = 10.0  # side of a spatial block; whole blocks are held out
CELL_DEGREES = 0.45  # cells of about 50 km: each belongs to one modality, or to validation

# Usual column names, reduced to letters and digits. x and y are not among them: they are often
# metres.
_AROUND = r"(?:gps|dec|decimal)?{}(?:dd|deg|degrees|decimal|dec|wgs84|4326)?"
_LONGITUDE = re.compile(_AROUND.format("(?:lon|long|longitude|lng)"))
_LATITUDE = re.compile(_AROUND.format("(?:lat|latitude)"))
_REMEDY = "pass shape (N, 2): longitude then latitude, in degrees"


class Table(Protocol):
    """A table with named columns, such as a DataFrame of pandas or polars."""

    @property
    def columns(self) -> Any: ...


LonLat = Tensor | NDArray[Any] | Sequence[Sequence[float]] | Mapping[str, Any] | Table


def check(lonlat: LonLat) -> Tensor:
    """Coordinates as a tensor (N, 2), with longitude wrapped to [-180, 180).

    Coordinates already in range come back bit-identical. A table is read by the names of its
    columns, never by their order. A masked value counts as missing.

    Args:
        lonlat: (N, 2), longitude then latitude in degrees: a tensor, an array or nested sequences;
            or a table, structured array or mapping with one column of each, such as lon and lat.

    Returns:
        (N, 2) tensor on the device of `lonlat`; float32 and float64 are kept, half precision
        becomes float32 and anything else float64.

    Example:
        >>> check([[190.0, 52.5]])
        tensor([[-170.0000,   52.5000]], dtype=torch.float64)
        >>> check({"lat": [52.5], "lon": [13.4]})
        tensor([[13.4000, 52.5000]], dtype=torch.float64)
        >>> check([[13.4, 52.5], [2.3, 91.0]])
        Traceback (most recent call last):
        ValueError: lonlat row 1 is (2.3, 91.0): latitude must be in [-90, 90]; pass shape (N, 2): \
longitude then latitude, in degrees.
    """
    points = read(lonlat)
    valid, inside = _judged(points)
    if bool((valid & inside).all()):
        return points
    if not bool(valid.all()):
        raise _row_error(points, int((~valid).nonzero()[0]))
    return _wrapped(points, inside)


def nan_if_wrong(lonlat: LonLat) -> Tensor:
    """`check` for exported graphs, which cannot raise: NaN for a place that it would refuse."""
    points = read(lonlat)
    valid, inside = _judged(points)
    return torch.where(valid[:, None], _wrapped(points, inside), torch.nan)


def _judged(points: Tensor) -> tuple[Tensor, Tensor]:
    """Which points (N, 2) are places, and which longitudes need no wrapping: (N,) bool."""
    longitude, latitude = points.unbind(1)
    # A comparison with NaN is false.
    valid = longitude.isfinite() & (latitude.abs() <= 90)
    return valid, (longitude >= -180) & (longitude < 180)


def _wrapped(points: Tensor, inside: Tensor) -> Tensor:
    """Points (N, 2) with longitudes in [-180, 180); those `inside` (N,) stay bit-identical."""
    longitude, latitude = points.unbind(1)
    wrapped = torch.remainder(longitude + 180, 360) - 180
    # Just west of -180 the remainder rounds up to 360.
    wrapped = torch.where(wrapped >= 180, wrapped - 360, wrapped)
    return torch.stack([torch.where(inside, longitude, wrapped), latitude], dim=1)


def read(lonlat: LonLat, lon: str | None = None, lat: str | None = None) -> Tensor:
    """Coordinates as a float tensor (N, 2), NaN where they are missing; no value is checked.

    `lon` and `lat` name the columns of a table whose names are unusual.
    """
    if isinstance(lonlat, Tensor) and not (lon or lat):
        points = lonlat
    else:
        points = _tensor(lonlat, lon, lat)
    if points.is_complex() or points.dtype == torch.bool:
        raise ValueError(f"lonlat holds {points.dtype}; {_REMEDY}.")
    if points.dtype not in (torch.float32, torch.float64):
        points = points.to(torch.float32 if points.is_floating_point() else torch.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"lonlat has shape {tuple(points.shape)}; {_REMEDY}.")
    return points


def usual_columns(names: Iterable[object]) -> tuple[list[str], list[str]]:
    """The names that usually mean longitude, and those that usually mean latitude.

    Example:
        >>> usual_columns(["ID", "Latitude", "Longitude"])
        (['Longitude'], ['Latitude'])
    """
    # Ignore units in brackets, spaces and punctuation.
    plain = [(str(name), re.sub(r"[([].*?[)\]]|[\W_]+", "", str(name).lower())) for name in names]
    longitudes = [name for name, key in plain if _LONGITUDE.fullmatch(key)]
    return longitudes, [name for name, key in plain if _LATITUDE.fullmatch(key)]


def _tensor(lonlat: Any, lon: str | None, lat: str | None) -> Tensor:
    kind = type(lonlat).__name__
    if hasattr(lonlat, "to_crs"):
        raise ValueError(
            f"lonlat is a {kind}: pass frame.to_crs(4326).get_coordinates().to_numpy()."
        )
    if hasattr(lonlat, "dims"):
        raise ValueError(
            f"lonlat is a {kind} with dimensions {', '.join(map(str, lonlat.dims))}: pass "
            "numpy.stack([longitude, latitude], axis=1) of two arrays of numbers."
        )
    columns = _named_columns(lonlat, lon, lat)
    try:
        array = _floats(lonlat) if columns is None else np.stack([*map(_floats, columns)], axis=-1)
        # A tensor cannot share memory that is read-only, reversed or in foreign byte order.
        return torch.from_numpy(np.require(array, array.dtype.newbyteorder("="), ["C", "W"]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"lonlat, a {kind}, cannot be read ({error}); {_REMEDY}.") from None


def _named_columns(lonlat: Any, lon: str | None, lat: str | None) -> tuple[Any, Any] | None:
    """Longitudes and latitudes by name; None if neither columns nor rows have names."""
    names = column_names(lonlat)
    rows = lonlat if names is None and isinstance(lonlat, list | tuple) and lonlat else None
    if rows:
        names = column_names(rows[0])
    if names is None:
        if lon or lat:
            raise ValueError(
                f"lon={lon!r}, lat={lat!r}, and a {type(lonlat).__name__} has no named columns: "
                "leave them out, longitude comes first"
            )
        return None
    longitudes, latitudes = usual_columns(names)
    longitudes = longitudes if lon is None else [name for name in names if name == lon]
    latitudes = latitudes if lat is None else [name for name in names if name == lat]
    if len(longitudes) != 1 or len(latitudes) != 1:
        found = [" or ".join(likely) or "none" for likely in (longitudes, latitudes)]
        raise ValueError(
            f"lonlat is a {type(lonlat).__name__} with {', '.join(names[:9])}: longitude could be "
            f"{found[0]}, latitude {found[1]}; rename one 'lon' and one 'lat', or pass an array of "
            "them, longitude first."
        )
    if rows is None:
        return lonlat[longitudes[0]], lonlat[latitudes[0]]
    get = getattr if hasattr(rows[0], "_fields") else type(rows[0]).__getitem__
    return [get(row, longitudes[0]) for row in rows], [get(row, latitudes[0]) for row in rows]


def column_names(table: Any) -> list[str] | None:
    """Names of a table's columns, a record's fields or a mapping's keys; None if it has none."""
    for names in (
        getattr(table, "_fields", None),
        getattr(table, "column_names", None),
        getattr(getattr(table, "dtype", None), "names", None),
        table.keys() if hasattr(table, "keys") else None,
        getattr(table, "columns", None),
    ):
        if names is not None:
            return [str(name) for name in names]
    return None


def _floats(values: Any) -> NDArray[Any]:
    """Numbers as float32 or float64, NaN where they are masked."""
    rows = values if isinstance(values, list | tuple) else ()
    if isinstance(values, np.ma.MaskedArray) or any(isinstance(r, np.ma.MaskedArray) for r in rows):
        array: NDArray[Any] = np.ma.asarray(values)
    else:
        array = np.asarray(values)
    if array.dtype.kind not in "fiuO":
        raise TypeError(f"its values are {array.dtype}, not numbers")
    float_type = np.float32 if array.dtype in (np.float16, np.float32) else np.float64
    return np.ma.filled(array.astype(float_type, copy=False), np.nan)


def _row_error(points: Tensor, row: int) -> ValueError:
    longitude, latitude = points[row].tolist()
    finite = math.isfinite(longitude) and math.isfinite(latitude)
    problem = (
        "latitude must be in [-90, 90]" if finite else "both values must be finite, none missing"
    )
    return ValueError(f"lonlat row {row} is ({longitude}, {latitude}): {problem}; {_REMEDY}.")


def to_xyz(lonlat: Tensor) -> Tensor:
    """Unit vectors (..., 3) of (..., 2) degrees: x to (0, 0), y to (90, 0), z to the North Pole."""
    longitude, latitude = torch.deg2rad(lonlat).unbind(-1)
    ring = latitude.cos()
    return torch.stack([ring * longitude.cos(), ring * longitude.sin(), latitude.sin()], dim=-1)


def distance_km(a: Tensor, b: Tensor) -> Tensor:
    """Great-circle distance between points, on the sphere of mean Earth radius (6371.0088 km).

    The angle between unit vectors is ``2 atan2(|a - b|, |a + b|)``, which is accurate even if the
    points almost coincide or are antipodes. `a` and `b` are (..., 2) degrees and broadcast.

    Example:
        >>> round(distance_km(torch.tensor([13.4, 52.5]), torch.tensor([2.35, 48.86])).item())
        876

    Source: W. Kahan, "How futile are mindless assessments of roundoff" (2006), section 12.
    """
    u, v = to_xyz(a.double()), to_xyz(b.double())
    angle = 2 * torch.atan2((u - v).norm(dim=-1), (u + v).norm(dim=-1))
    return (MEAN_EARTH_RADIUS_KM * angle).to(torch.promote_types(a.dtype, b.dtype))


def cell_index(lonlat: Tensor, degrees: float) -> Tensor:
    """The cell of each point, in a fixed division of the globe into cells of nearly equal area.

    The globe is cut into latitude bands of `degrees` (or the nearest height that divides 180), and
    each band into ``max(1, round(360 / degrees * cos(latitude of the band's middle)))`` columns
    from -180 on. Cells are numbered from the south-west; a cell's number does not depend on the
    points (N, 2).
    """
    columns, first = (table.to(lonlat.device) for table in _bands(degrees))
    longitude, latitude = lonlat.double().unbind(1)
    band = ((latitude + 90) / 180 * len(columns)).long().clamp_(0, len(columns) - 1)
    turn = torch.remainder(longitude + 180, 360) / 360
    column = torch.minimum((turn * columns[band]).long(), columns[band] - 1)
    return first[band] + column


@lru_cache(maxsize=16)
def _bands(degrees: float) -> tuple[Tensor, Tensor]:
    """Number of columns of each latitude band, from the south, and the id of its first cell."""
    if not 0 < degrees <= 180:
        raise ValueError(f"cells of {degrees} degrees are impossible; pass a number in (0, 180].")
    bands = round(180 / degrees)
    middles = [math.radians(-90 + 180 * (band + 0.5) / bands) for band in range(bands)]
    columns = torch.tensor([max(1, round(360 / degrees * math.cos(m))) for m in middles])
    return columns, columns.cumsum(0) - columns
