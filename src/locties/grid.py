"""A location encoder evaluated on a regular grid of the whole globe."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

# Few enough for the 1,600 harmonics of L = 40 to take 100 MB, enough for fast matrix products.
POINTS_PER_CHUNK = 16_384


class Grid(NamedTuple):
    """Embeddings at the pixel centres of a global longitude-latitude grid.

    Attributes:
        lon: (W,) degrees, from just east of -180 to just west of 180.
        lat: (H,) degrees, north to south.
        embedding: (H, W, dim) float32, not normalised, like the encoder's own output.
    """

    lon: np.ndarray
    lat: np.ndarray
    embedding: np.ndarray


def embed_grid(encoder: Callable[[Tensor], Tensor], resolution: float = 0.25) -> Grid:
    """Embed the centre of every pixel of a global grid, without gradients and in eval mode.

    Whole rows are embedded at a time, so beside the result itself memory stays small. The
    result takes `4 * dim * (180 / resolution) * (360 / resolution)` bytes: at 0.25 degrees and 256
    dimensions 1.06 GB, at 1 degree 66 MB.

    Args:
        encoder: a LocationEncoder, or any callable from lonlat (N, 2) float32 to (N, dim).
            A module is run on its own device, and its training modes are put back afterwards.
        resolution: pixel size in degrees; it must divide 180.

    Returns:
        Grid of numpy arrays: lon (W,), lat (H,) north to south, embedding (H, W, dim) float32.

    Raises:
        ValueError: `resolution` does not divide 180, or `encoder` did not return (N, dim).

    Example:
        >>> grid = embed_grid(lambda lonlat: lonlat, resolution=90)
        >>> grid.lat, grid.lon
        (array([ 45., -45.]), array([-135.,  -45.,   45.,  135.]))
        >>> grid.embedding[0, 3]
        array([135.,  45.], dtype=float32)
    """
    lon, lat = pixel_centres(resolution)
    rows = max(1, POINTS_PER_CHUNK // len(lon))
    embedding = np.empty((0, 0, 0), np.float32)
    with torch.no_grad(), eval_mode(encoder) as device:
        for start in range(0, len(lat), rows):
            block = lat[start : start + rows]
            lonlat = np.stack(np.meshgrid(lon, block), axis=-1).reshape(-1, 2)
            output = encoder(torch.as_tensor(lonlat, dtype=torch.float32, device=device))
            if output.ndim != 2 or len(output) != len(lonlat):
                raise ValueError(
                    f"the encoder returned shape {tuple(output.shape)} for {len(lonlat)} points: "
                    f"expected ({len(lonlat)}, dim)."
                )
            if start == 0:
                embedding = np.empty((len(lat), len(lon), output.shape[1]), np.float32)
            embedding[start : start + rows] = (
                output.float().cpu().numpy().reshape(len(block), len(lon), -1)
            )
    return Grid(lon, lat, embedding)


def pixel_centres(resolution: float) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes (W,) west to east and latitudes (H,) north to south of pixel centres, in degrees.

    Args:
        resolution: pixel size in degrees; it must divide 180.

    Raises:
        ValueError: it does not; the message names the nearest resolution that does.

    Example:
        >>> pixel_centres(60)[1]
        array([ 60.,   0., -60.])
    """
    if not (math.isfinite(resolution) and resolution > 0):
        raise ValueError(f"resolution {resolution} is not a positive number of degrees.")
    height = max(1, round(180 / resolution))
    if not math.isclose(180 / height, resolution, rel_tol=1e-9):
        near = range(max(1, height - 1), height + 2)
        count = min(near, key=lambda rows: abs(180 / rows - resolution))
        raise ValueError(
            f"resolution {resolution} does not divide 180 degrees: "
            f"the nearest that does is {180 / count:.6g} (180 / {count})."
        )
    # (k + 0.5) * 180 / height, not steps of the resolution, so that rounding does not add up.
    lat = 90 - (np.arange(height) + 0.5) * 180 / height
    lon = (np.arange(2 * height) + 0.5) * 180 / height - 180
    return lon, lat


@contextmanager
def eval_mode(encoder: Callable[[Tensor], Tensor]) -> Iterator[torch.device | None]:
    """Put a module in eval mode for a while and give its device; None for other callables."""
    if not isinstance(encoder, nn.Module):
        yield None
        return
    modes = [(module, module.training) for module in encoder.modules()]
    weight = next(chain(encoder.parameters(), encoder.buffers()), None)
    encoder.eval()
    try:
        yield None if weight is None else weight.device
    finally:
        # Each module's own mode: a frozen part of an encoder in training stays frozen.
        for module, training in modes:
            module.training = training
