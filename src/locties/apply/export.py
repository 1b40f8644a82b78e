"""A grid of embeddings on disk, as Zarr or GeoTIFF."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from locties.apply import cf
from locties.apply.grid import (
    Edges,
    embed_points,
    pixel_centres,
    pixels_touched,
    rows_embedder,
)
from locties.apply.metadata import Encoder, column_names, resolve
from locties.apply.tiles import Layer, check_ending, write_grid

TILE = 128  # largest side of a tile, in pixels: 16 MB at 256 dimensions


def export_grid(
    encoder: str | Path | Encoder,
    path: str | os.PathLike[str],
    resolution: float = 0.25,
    *,
    region: Sequence[float] | None = None,
    month: int | None = None,
    progress: bool = True,
) -> Path:
    """Embed the centre of every pixel of a global grid into a Zarr store or a GeoTIFF.

    Both hold the encoder's name, the sha256 of its weights, its licence, the CRS and the version of
    locties. The store follows the CF conventions: open it with
    ``xarray.open_zarr(path, decode_coords="all")``. Memory holds one tile at a time. After an
    interrupt, a crash or a full disk, the same call resumes after the last finished tile.

    Args:
        encoder: name or folder as in `locties.load`, a LocationEncoder, or a function from lonlat
            (N, 2) float32 to (N, dim).
        path: a name that ends in .zarr or .tif; the ending chooses the format.
        resolution: pixel size in degrees; it must divide 180.
        region: (west, south, east, north) in degrees; the globe by default. A GeoTIFF covers the
            region, widened to whole pixels. A store has the coordinates of the whole globe. Several
            calls can fill it region by region, each widened to whole chunks; the rest is NaN. Its
            attribute `regions` lists the regions, widened to whole pixels.
        month: 1 to 12, for an encoder with a `time`.

    Raises:
        FileExistsError: something else is at `path`; it stays as it is.
        RuntimeError: another process is writing to `path`.

    Example:
        >>> path = export_grid("melt", "melt.zarr", 10, progress=False)
        >>> import xarray
        >>> xarray.open_zarr(path)["embedding"].sel(lon=13.4, lat=52.5, method="nearest").shape
        (256,)
    """
    target = Path(path)
    check_ending(target)
    lon, lat = pixel_centres(resolution)
    pixels = _pixels((-180.0, -90.0, 180.0, 90.0) if region is None else region, len(lat))
    function, metadata = resolve(encoder, month)
    sample = embed_points(function, torch.tensor([[13.4, 52.5], [-60.0, -3.1]]))
    dim = sample.shape[1]
    grid = cf.embeddings(lon, lat, dim, metadata)
    identity = {
        "weights_sha256": metadata.get("weights_sha256"),
        "month": metadata.get("month"),
        "resolution_degrees": grid.attrs["resolution_degrees"],
        "dimensions": dim,
        "sample": sample[:, :8].tolist(),  # functions have no hash; this tells them apart
    }

    def embed(rows: slice, columns: slice) -> dict[str, np.ndarray]:
        values = rows_embedder(function, lon[columns])(lat[rows])
        return {"embedding": np.moveaxis(values, -1, 0)}

    names = column_names(metadata["encoder"], dim)
    layers = {"embedding": Layer(cf.EMBEDDING, bands=names)}
    return write_grid(
        target, grid, layers, embed, identity, side=TILE, pixels=pixels, progress=progress
    )


def _pixels(region: Sequence[float], height: int) -> Edges:
    """Top, bottom, left and right edge of the pixels that a region in degrees touches."""
    try:
        west, south, east, north = map(float, () if isinstance(region, str) else region)
    except (TypeError, ValueError):
        west = south = east = north = math.nan
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise ValueError(
            f"region={region!r}: give (west, south, east, north) in degrees, west < east within "
            "[-180, 180] and south < north within [-90, 90]; split a region at the antimeridian"
        )
    return pixels_touched(west, south, east, north, height)
