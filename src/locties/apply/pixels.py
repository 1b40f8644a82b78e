"""Sample the pixels of a raster, uniformly by area."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locties._util.extras import needs
from locties.apply.suspicious import suspicious_values
from locties.apply.tables import Array, float_points
from locties.lonlat import to_xyz

with needs("own", "a raster"):
    import pandas as pd

    from locties.apply.rasters import OpenRaster

_WHOLE = 2**26  # values read at once; larger rasters are read window by window
_CANDIDATES = 2**22  # pixels considered for sampling


class Pixels:
    """The pixels of a raster in random order, from which samples are drawn."""

    def __init__(
        self, raster: OpenRaster, bands: Sequence[int] | None, patch: int | None, rng: Any
    ) -> None:
        self.raster, self.patch, self.rng = raster, patch, rng
        self.bands = self._bands(bands)
        self.height, self.width = raster.height, raster.width
        total = self.height * self.width
        # Of a large raster, draw some pixels with repeats, and drop the repeats.
        few = total <= _CANDIDATES
        drawn = rng.permutation(total) if few else rng.integers(total, size=_CANDIDATES)
        self.order = pd.unique(drawn)
        self.tried = 0  # pixels read in the wanted cells
        self._said: set[tuple[int, float]] = set()  # bands and values already warned of
        x, y = raster.corners()
        width = abs(x[1] - x[0])
        straight = raster.crs.is_geographic and x[0] == x[2] and y[0] == y[1]
        # A raster all round the Earth continues from its last column to its first.
        self.wraps = straight and abs(width - 360) < 1e-3 * width / self.width
        # A raster with south up, or east on the left, is flipped.
        self.upside, self.mirrored = bool(y[2] > y[0]), bool(x[1] < x[0])
        small = total * len(self.bands) <= _WHOLE
        self.whole = self._read(slice(0, self.height), slice(0, self.width)) if small else None

    def _bands(self, bands: Sequence[int] | None) -> list[int]:
        known = self.raster.bands
        if bands is None:
            bands = self.raster.default
        elif isinstance(bands, int) or not len(bands):
            raise ValueError(f"bands={bands!r}: give a list of at least one number")
        names = ", ".join(f"{band} ({name})" for band, name in known.items())
        for band in bands:
            if band not in known:
                raise ValueError(
                    f"bands={list(bands)}: the raster has bands 1 to {len(known)}: {names}"
                )
            if band in self.raster.coded:
                warnings.warn(
                    f"band {band} has a table of colours, so its values are probably codes, but "
                    "are read as measurements: make a band of 0 and 1 for each class",
                    stacklevel=4,
                )
        return list(bands)

    def _read(self, rows: slice, columns: slice) -> Array:
        """(C, h, w) float32 as stored, NaN where there is no data."""
        values = self.raster.read(self.bands, rows, columns)
        values[~np.isfinite(values)] = np.nan
        return values

    def area(self, row: Array, column: Array) -> Array:
        """Area of pixels around these positions, on the unit sphere; 0 where it is not defined."""
        quarter = 0.25
        sides = []
        for down, right in ((quarter, 0), (0, quarter)):
            ends = [
                to_xyz(
                    torch.from_numpy(self.raster.lonlat(row + sign * down, column + sign * right))
                )
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
            lonlat = self.raster.lonlat(row + 0.5, column + 0.5)
            area = self.area(row + 0.5, column + 0.5)
            if not largest and area.any():
                # Not the maximum: at the edge of a map of the globe, the area has no bound.
                largest = np.quantile(area[area > 0], 0.99)
            # A corner of a polar map can lie outside the Earth.
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
        stored = np.stack(values)
        self._warn_of_codes(stored)
        of_bands = (np.array(self.bands) - 1, *[None] * (stored.ndim - 2))
        scale, offset = self.raster.scale[of_bands], self.raster.offset[of_bands]
        return torch.stack(points), torch.from_numpy(stored * scale + offset).float()

    def _warn_of_codes(self, stored: Array) -> None:
        """Warn once of each number in samples (m, C[, P, P]) that seems to mean "no data"."""
        for at, band in enumerate(self.bands):
            for value, found in suspicious_values(stored[:, at]):
                if (band, value) not in self._said:
                    self._said.add((band, value))
                    warnings.warn(
                        f"band {band} ({self.raster.bands[band]}) is {value!r} in "
                        f"{found.mean():.1%} of the pixels read, far from all others, as if that "
                        f"meant no data: {self.raster.set_nodata.format(value)}",
                        stacklevel=4,
                    )

    def sample(self, row: int, column: int) -> Array | None:
        """(C,) of a pixel, or (C, P, P) around it; None if it reaches beyond the raster."""
        if self.patch is None:
            return self.read(slice(row, row + 1), slice(column, column + 1))[:, 0, 0]
        size = self.patch
        top = row - size // 2 + self.upside
        left = column - size // 2 + self.mirrored
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
        return patch[:, :: -1 if self.upside else 1, :: -1 if self.mirrored else 1]

    def read(self, rows: slice, columns: slice) -> Array:
        if self.whole is not None:
            return self.whole[:, rows, columns]
        return self._read(rows, columns)
