"""Coordinates: longitude then latitude, in degrees (WGS84), in tensors of shape (N, 2)."""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

MEAN_EARTH_RADIUS_KM = 6371.0088  # IUGG mean radius, (2a + b) / 3 of the GRS80 ellipsoid
BLOCK_DEGREES = 10.0  # spatial blocks: whole ones are held out
CELL_DEGREES = 0.45  # cells of about 50 km: each belongs to one modality, or to validation

_REMEDY = "pass shape (N, 2): longitude then latitude, in degrees"


def check(lonlat: Any) -> Tensor:
    """Coordinates as a tensor, with longitude wrapped to [-180, 180).

    Coordinates already in range come back bit-identical.

    Args:
        lonlat: (N, 2), longitude then latitude in degrees: a tensor, an array or nested lists.

    Returns:
        (N, 2) tensor on the device of `lonlat`; float32 and float64 are kept, half precision
        becomes float32 and anything else float64.

    Raises:
        ValueError: if the shape is not (N, 2), a value is not finite or a latitude lies outside
            [-90, 90]; the message names the first such row.

    Example:
        >>> check([[190.0, 52.5]])
        tensor([[-170.0000,   52.5000]], dtype=torch.float64)
        >>> check([[13.4, 52.5], [2.3, 91.0]])
        Traceback (most recent call last):
        ValueError: lonlat row 1 is (2.3, 91.0): latitude must be in [-90, 90]; pass shape (N, 2): \
longitude then latitude, in degrees.

    Source: longitude before latitude, in degrees of WGS 84, is the order of GeoJSON (RFC 7946,
    sections 3.1.1 and 4).
    """
    points = _as_float_tensor(lonlat)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"lonlat has shape {tuple(points.shape)}; {_REMEDY}.")
    longitude, latitude = points.unbind(1)
    # Comparisons with NaN are false, so two tests also find what is not finite.
    in_range = (longitude >= -180) & (longitude < 180) & (latitude.abs() <= 90)
    if bool(in_range.all()):
        return points
    valid = longitude.isfinite() & (latitude.abs() <= 90)
    if not bool(valid.all()):
        raise _row_error(points, int((~valid).nonzero()[0]))
    wrapped = torch.remainder(longitude + 180, 360) - 180
    # Just west of -180 the remainder rounds to 360 itself.
    wrapped = torch.where(wrapped >= 180, wrapped - 360, wrapped)
    return torch.stack([torch.where(in_range, longitude, wrapped), latitude], dim=1)


def _as_float_tensor(lonlat: Any) -> Tensor:
    if isinstance(lonlat, Tensor):
        if lonlat.is_complex():
            raise ValueError(f"lonlat is complex ({lonlat.dtype}); {_REMEDY}.")
        if lonlat.dtype in (torch.float32, torch.float64):
            return lonlat
        return lonlat.to(torch.float32 if lonlat.is_floating_point() else torch.float64)
    try:
        array = np.asarray(lonlat)
        if array.dtype.kind == "c":
            raise TypeError("the values are complex")
        keep = np.float32 if array.dtype in (np.float16, np.float32) else np.float64
        # A tensor cannot share memory that is read-only, reversed or in foreign byte order.
        return torch.from_numpy(np.require(array, keep, ["C", "W"]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"lonlat cannot be read as numbers ({error}); {_REMEDY}.") from None


def _row_error(points: Tensor, row: int) -> ValueError:
    longitude, latitude = points[row].tolist()
    finite = math.isfinite(longitude) and math.isfinite(latitude)
    problem = "latitude must be in [-90, 90]" if finite else "both values must be finite"
    return ValueError(f"lonlat row {row} is ({longitude}, {latitude}): {problem}; {_REMEDY}.")


def to_xyz(lonlat: Tensor) -> Tensor:
    """Unit vectors on the sphere: x towards (0, 0), y towards (90, 0), z towards the North Pole.

    Args:
        lonlat: (..., 2) degrees.

    Returns:
        (..., 3), in the dtype of `lonlat`.

    Example:
        >>> to_xyz(torch.tensor([[90.0, 0.0]])).round().tolist()
        [[-0.0, 1.0, 0.0]]

    Source: elementary: spherical coordinates, on a sphere.
    """
    longitude, latitude = torch.deg2rad(lonlat).unbind(-1)
    ring = latitude.cos()
    return torch.stack([ring * longitude.cos(), ring * longitude.sin(), latitude.sin()], dim=-1)


def distance_km(a: Tensor, b: Tensor) -> Tensor:
    """Great-circle distance between points, on the sphere of mean Earth radius (6371.0088 km).

    The angle between unit vectors is ``2 atan2(|a - b|, |a + b|)``, which is accurate for points
    that almost coincide and for antipodes alike. Computed in float64.

    Args:
        a: (..., 2) degrees.
        b: (..., 2) degrees; leading dimensions broadcast against those of `a`.

    Returns:
        (...) kilometres, in the wider dtype of the two.

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

    Latitude bands of `degrees` (or the nearest height that divides 180), each cut into
    ``max(1, round(360 / degrees * cos(latitude of the band's middle)))`` columns from -180 on.
    Cells are numbered from the south-west, whatever points are given.

    Args:
        lonlat: (N, 2) degrees.
        degrees: height of a band, e.g. `BLOCK_DEGREES` or `CELL_DEGREES`.

    Returns:
        (N,) int64.

    Raises:
        ValueError: if `degrees` is not in (0, 180].

    Example:
        >>> cell_index(torch.tensor([[-180.0, -90.0], [179.9, 90.0]]), BLOCK_DEGREES).tolist()
        [0, 411]

    Source: a division of this project: latitude bands cut by the cosine.
    """
    columns, first = (table.to(lonlat.device) for table in _bands(degrees))
    longitude, latitude = lonlat.double().unbind(1)
    band = ((latitude + 90) / 180 * len(columns)).long().clamp_(0, len(columns) - 1)
    turn = torch.remainder(longitude + 180, 360) / 360
    column = torch.minimum((turn * columns[band]).long(), columns[band] - 1)
    return first[band] + column


@lru_cache(maxsize=16)
def _bands(degrees: float) -> tuple[Tensor, Tensor]:
    """Columns of each latitude band from the south, and the id of each band's first cell."""
    if not 0 < degrees <= 180:
        raise ValueError(f"cells of {degrees} degrees are impossible; pass a number in (0, 180].")
    bands = round(180 / degrees)
    middles = [math.radians(-90 + 180 * (band + 0.5) / bands) for band in range(bands)]
    columns = torch.tensor([max(1, round(360 / degrees * math.cos(m))) for m in middles])
    return columns, columns.cumsum(0) - columns
