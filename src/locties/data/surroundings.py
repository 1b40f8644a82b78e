"""What surrounds a place, at several scales: how many settlements, and how much land."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from locties._util.extras import needs
from locties.data.embedded import Earth, pixel_grid
from locties.data.raster import Raster
from locties.lonlat import MEAN_EARTH_RADIUS_KM

KILOMETRES = (15.0, 50.0, 150.0)  # standard deviations of the kernels
STEP = 0.1  # degrees
_FEWEST = 1e-5  # settlements per km2: where there are none, the logarithm ends


def place_density(earth: Earth, kilometres: Sequence[float] = KILOMETRES) -> Raster:
    """Settlements per km2, as a natural logarithm, one channel for each kernel; 0.1 degrees.

    All settlements count one, whatever their population.
    """
    height, width = round(180 / STEP), round(360 / STEP)
    lon, lat = earth.places.lonlat.double().numpy().T
    row = np.clip(((90 - lat) / STEP).astype(np.int64), 0, height - 1)
    column = np.clip(((lon + 180) / STEP).astype(np.int64), 0, width - 1)
    counts = np.zeros((height, width))
    np.add.at(counts, (row, column), 1)
    area = (np.deg2rad(STEP) * MEAN_EARTH_RADIUS_KM) ** 2 * _cosines(height)[:, None]
    return _raster([np.log(_FEWEST + _blurred(counts / area, km)) for km in kilometres])


def land_share(earth: Earth, kilometres: Sequence[float] = KILOMETRES) -> Raster:
    """The share of land around a place, one channel for each kernel; 0.1 degrees.

    Near a coast it falls from one, so it says how far the sea is.
    """
    height, width = round(180 / STEP), round(360 / STEP)
    rows, columns = np.indices((height, width)).reshape(2, -1)
    centres = np.stack([-180 + STEP * (columns + 0.5), 90 - STEP * (rows + 0.5)], axis=1)
    on_land = earth.land.nearest(torch.from_numpy(centres))[:, 0] == 1
    shares = on_land.double().numpy().reshape(height, width)
    return _raster([_blurred(shares, km) for km in kilometres])


def _cosines(height: int) -> NDArray[np.float64]:
    """The cosine of the latitude of each row, north to south."""
    return np.cos(np.deg2rad(90 - 180 * (np.arange(height) + 0.5) / height))


def _blurred(values: NDArray[np.float64], kilometres: float) -> NDArray[np.float64]:
    """Means (H, W) by a Gaussian kernel, as wide in kilometres on every latitude below 87."""
    with needs("data", "the surroundings of places"):
        from scipy.ndimage import gaussian_filter1d

    pixels = kilometres / np.deg2rad(STEP) / MEAN_EARTH_RADIUS_KM
    blurred: NDArray[np.float64] = gaussian_filter1d(values, pixels, axis=0, mode="nearest")
    for row, cosine in zip(blurred, _cosines(len(values)), strict=True):
        if row.any():
            row[:] = gaussian_filter1d(row, pixels / max(cosine, 0.05), mode="wrap")
    return blurred


def _raster(channels: Sequence[NDArray[np.float64]]) -> Raster:
    values = torch.from_numpy(np.stack(channels).astype(np.float32))
    return Raster(values, **pixel_grid(*values.shape[1:]))
