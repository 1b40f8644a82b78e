"""A location encoder evaluated on a regular grid of the whole globe."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from locties.encoder import LocationEncoder
from locties.features import SphericalHarmonics
from locties.harmonics import legendre, waves
from locties.networks import split

# Few enough for the 1,600 harmonics of L = 40 to take 100 MB, enough for fast matrix products.
POINTS_PER_CHUNK = 16_384


class Grid(NamedTuple):
    """Embeddings at the pixel centres of a global longitude-latitude grid.

    Attributes:
        lon: (W,) degrees, from just east of -180 to just west of 180.
        lat: (H,) degrees, north to south.
        embedding: (H, W, dim) float32, not normalised, like the encoder's own output.

    Example:
        >>> Grid(np.zeros(4), np.zeros(2), np.zeros((2, 4, 3))).embedding.shape
        (2, 4, 3)
    """

    lon: np.ndarray
    lat: np.ndarray
    embedding: np.ndarray


def embed_grid(encoder: Callable[[Tensor], Tensor], resolution: float = 0.25) -> Grid:
    """Embed the centre of every pixel of a global grid, without gradients and in eval mode.

    The result takes `4 * dim * (180 / resolution) * (360 / resolution)` bytes: at 0.25 degrees and
    256 dimensions 1.06 GB, at 1 degree 66 MB. `stream_grid` gives it piece by piece.

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
    embedding = np.empty((0, 0, 0), np.float32)
    row = 0
    for block in stream_grid(encoder, resolution):
        if row == 0:
            embedding = np.empty((len(lat), *block.embedding.shape[1:]), np.float32)
        embedding[row : row + len(block.lat)] = block.embedding
        row += len(block.lat)
    return Grid(lon, lat, embedding)


def stream_grid(encoder: Callable[[Tensor], Tensor], resolution: float = 0.25) -> Iterator[Grid]:
    """`embed_grid` in blocks of whole rows, north to south, so that memory stays small.

    A block is of about `POINTS_PER_CHUNK` points, at least one row. Spherical harmonics are
    products of a function of latitude and one of longitude (`locties.harmonics.legendre`), so with
    them the first layer of a `LocationEncoder` costs W x (2L - 1) products a row, not W x L^2.

    Args:
        encoder: as in `embed_grid`.
        resolution: pixel size in degrees; it must divide 180.

    Yields:
        Grid: all of lon, some of lat, and the embedding there.

    Raises:
        ValueError: as in `embed_grid`.

    Example:
        >>> for block in stream_grid(lambda lonlat: lonlat, resolution=90):
        ...     print(block.lat, block.embedding.shape)
        [ 45. -45.] (2, 4, 2)
    """
    lon, lat = pixel_centres(resolution)
    embed_rows = _separably(encoder, lon) or partial(_pointwise, encoder, lon)
    rows = max(1, POINTS_PER_CHUNK // len(lon))
    for start in range(0, len(lat), rows):
        some = lat[start : start + rows]
        # Gradients and training modes are back as they were when a block is handed out.
        with torch.no_grad(), eval_mode(encoder) as device:
            embedding = embed_rows(some, device).float().cpu().numpy()
        yield Grid(lon, some, embedding)


EmbedRows = Callable[[np.ndarray, torch.device | None], Tensor]  # (H,) degrees to (H, W, dim)


def _pointwise(
    encoder: Callable[[Tensor], Tensor],
    lon: np.ndarray,
    lat: np.ndarray,
    device: torch.device | None,
) -> Tensor:
    lonlat = np.stack(np.meshgrid(lon, lat), axis=-1).reshape(-1, 2)
    outputs = []
    for points in torch.as_tensor(lonlat, dtype=torch.float32, device=device).split(
        POINTS_PER_CHUNK
    ):
        output = encoder(points)
        if output.ndim != 2 or len(output) != len(points):
            raise ValueError(
                f"the encoder returned shape {tuple(output.shape)} for {len(points)} points: "
                f"expected ({len(points)}, dim)."
            )
        outputs.append(output)
    return torch.cat(outputs).unflatten(0, (len(lat), len(lon)))


def _separably(encoder: Callable[[Tensor], Tensor], lon: np.ndarray) -> EmbedRows | None:
    """Rows by the factors of spherical harmonics; None for an encoder that has no use for them."""
    # Exact types: a subclass may compute something else.
    if type(encoder) is not LocationEncoder or type(encoder.features) is not SphericalHarmonics:
        return None
    parts = split(encoder.network)
    if parts is None:
        return None
    weight, bias, rest = parts
    degree, device = encoder.features.degree, encoder.device
    # (2L - 1, L, hidden) in float64: the weights of each order m, zero where |m| > l.
    by_order = weight.new_zeros(2 * degree - 1, degree, len(weight), dtype=torch.float64)
    for ell in range(degree):
        columns = weight.detach()[:, ell**2 : (ell + 1) ** 2]
        by_order[degree - 1 - ell : degree + ell, ell] = columns.T
    order = torch.arange(1 - degree, degree, device=device).abs()
    longitudes = waves(torch.as_tensor(lon, device=device), degree).to(weight.dtype)

    def embed_rows(lat: np.ndarray, device: torch.device | None) -> Tensor:
        latitudes = legendre(torch.as_tensor(lat, device=device), degree)[:, :, order]
        folded = torch.einsum("hlm,mlk->hmk", latitudes, by_order)
        folded[:, degree - 1] += bias  # whose wave is 1 everywhere
        # A row at a time stays in the cache of a CPU.
        return torch.stack([rest(longitudes @ row) for row in folded.to(weight.dtype)])

    return embed_rows


def pixel_centres(resolution: float) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes (W,) west to east and latitudes (H,) north to south of pixel centres, in degrees.

    Args:
        resolution: pixel size in degrees; it must divide 180.

    Returns:
        Longitudes (W,) and latitudes (H,), float64.

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
