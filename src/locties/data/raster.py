"""A global raster, read at coordinates: bilinear samples and patches of native pixels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor


@dataclass(eq=False)
class Raster:
    """A global grid of values, kept in a small dtype and converted when it is read.

    Row 0 is the northernmost and column 0 the westernmost. The columns span 360 degrees.
    Coordinates are not checked here (`locties.lonlat.check` does that): they must be finite.

    Args:
        values: (C, H, W), any real dtype; the real value is ``values * scale + offset``.
        lon0: longitude of the centre of column 0, degrees.
        lat0: latitude of the centre of row 0, degrees.
        dlon: degrees from one column to the next, eastwards: 360 / W.
        dlat: degrees from one row to the next, southwards, positive.
        scale: unit of the stored values.
        offset: real value of a stored 0.

    Example:
        >>> quarters = Raster(torch.tensor([[[0, 10, 20, 30]]]), -135, 0, 90, 180)
        >>> quarters.sample(torch.tensor([[-135.0, 0.0], [-90.0, 50.0], [180.0, 0.0]])).tolist()
        [[0.0], [5.0], [15.0]]
        >>> quarters.nearest(torch.tensor([[-100.0, 0.0], [100.0, 0.0]])).tolist()
        [[0.0], [30.0]]
        >>> quarters.patches(torch.tensor([[135.0, 0.0]]), 3)[0, 0, 0].tolist()
        [20.0, 30.0, 0.0]
    """

    values: Tensor = field(repr=False)
    lon0: float
    lat0: float
    dlon: float
    dlat: float
    scale: float = 1.0
    offset: float = 0.0

    def __post_init__(self) -> None:
        if self.values.ndim != 3:
            raise ValueError(f"a raster has shape (C, H, W), not {tuple(self.values.shape)}")
        if abs(self.values.shape[2] * self.dlon - 360) > 1e-6 * 360 or self.dlat <= 0:
            raise ValueError(
                f"a raster of {self.values.shape[2]} columns spans 360 degrees with "
                f"dlon = 360 / {self.values.shape[2]} and dlat > 0; "
                f"got dlon = {self.dlon}, dlat = {self.dlat}"
            )
        # Channels last in memory: a pixel's channels are gathered with one read.
        self.values = self.values.permute(1, 2, 0).contiguous().permute(2, 0, 1)

    def sample(self, lonlat: Tensor) -> Tensor:
        """Bilinear values (N, C) float32 at points (N, 2), on the raster's device.

        Between a pole and the centres of the nearest row, that row's values are used.
        """
        column, row = self._position(lonlat)
        row = row.clamp(0, self.values.shape[1] - 1)
        west, north = column.floor(), row.floor()
        east_share, south_share = (column - west)[:, None], (row - north)[:, None]
        west, north = west.int(), north.int()

        def blend(rows: Tensor) -> Tensor:
            left, right = (self._pixels(rows, side).float() for side in (west, west + 1))
            return left + (right - left) * east_share.float()

        upper, lower = blend(north), blend(north + 1)
        return (upper + (lower - upper) * south_share.float()) * self.scale + self.offset

    def nearest(self, lonlat: Tensor) -> Tensor:
        """Values (N, C) float32 of the pixel that contains each point (N, 2)."""
        column, row = self._position(lonlat)
        pixels = self._pixels((row + 0.5).floor().int(), (column + 0.5).floor().int())
        return pixels.float() * self.scale + self.offset

    def patches(self, lonlat: Tensor, size: int) -> Tensor:
        """Patches (N, C, size, size) float32 of native pixels around points (N, 2), north up.

        Columns wrap at the date line; rows beyond a pole repeat the last one. Pixels are not
        resampled, so towards the poles a patch covers fewer kilometres from west to east.
        """
        column, row = self._position(lonlat)
        first = -(size - 1) / 2 + 0.5
        steps = torch.arange(size, device=self.values.device, dtype=torch.int32)
        rows = (row + first).floor().int()[:, None, None] + steps[:, None]
        columns = (column + first).floor().int()[:, None, None] + steps
        # Permute before converting: bytes move faster than floats.
        pixels = self._pixels(rows, columns).permute(0, 3, 1, 2).contiguous()
        return pixels.float() * self.scale + self.offset

    def to(self, device: torch.device | str) -> Raster:
        """The same raster with its values on `device`."""
        return replace(self, values=self.values.to(device))

    def _position(self, lonlat: Tensor) -> tuple[Tensor, Tensor]:
        """Column and row (N,) as real numbers; whole ones are pixel centres."""
        lonlat = lonlat.to(self.values.device)
        return (lonlat[:, 0] - self.lon0) / self.dlon, (self.lat0 - lonlat[:, 1]) / self.dlat

    def _pixels(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Stored values (..., C); columns wrap, rows are clamped."""
        channels, height, width = self.values.shape
        index = rows.clamp(0, height - 1) * width + columns.remainder(width)
        flat = self.values.permute(1, 2, 0).view(height * width, channels)
        return flat.index_select(0, index.flatten()).view(*index.shape, channels)
