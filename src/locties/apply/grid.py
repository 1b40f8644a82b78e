"""A location encoder evaluated on a regular grid of the whole globe."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from numbers import Real
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from locties.apply import cf
from locties.apply.metadata import Encoder, resolve, takes_month
from locties.encoder import LocationEncoder
from locties.features import SphericalHarmonics
from locties.harmonics import legendre, waves
from locties.month import cyclic
from locties.networks import split

# The 1,600 harmonics of L = 40 then take 26 MB, which the allocator reuses from chunk to chunk.
POINTS_PER_CHUNK = 4096
POINTS_PER_BLOCK = 16_384  # points per block of `stream_grid`
SIX_DIGITS = 5e-6

Edges = tuple[int, int, int, int]  # edges of pixels of a grid: top, bottom, left, right


class EmbeddingGrid(NamedTuple):
    """Embeddings at the pixel centres of a longitude-latitude grid.

    Attributes:
        lon: (W,) degrees, west to east; a globe begins just east of -180.
        lat: (H,) degrees, north to south.
        embedding: (H, W, dim) float32, not normalised, like the encoder's output.
        metadata: the encoder's name, weights and licence, from `locties.apply.metadata.describe`.
    """

    lon: np.ndarray
    lat: np.ndarray
    embedding: np.ndarray
    metadata: Mapping[str, str] = MappingProxyType({})

    def to_xarray(self) -> Any:
        """The grid as an xarray Dataset that follows the CF conventions; it shares the memory.

        Example:
            >>> dataset = embed_grid(lambda lonlat: lonlat, resolution=90).to_xarray()
            >>> dataset["embedding"].sel(lon=135, lat=45).values
            array([135.,  45.], dtype=float32)
        """
        dataset = cf.embeddings(self.lon, self.lat, self.embedding.shape[-1], self.metadata)
        embedding = np.moveaxis(self.embedding, -1, 0)
        return dataset.assign(embedding=(cf.AXES, embedding, cf.EMBEDDING, cf.GRID_MAPPING))


def embed_grid(
    encoder: str | Path | Encoder, resolution: float = 0.25, *, month: int | None = None
) -> EmbeddingGrid:
    """Embed the centre of every pixel of a global grid, without gradients and in eval mode.

    At 256 dimensions the result takes 1.06 GB at 0.25 degrees and 66 MB at 1 degree. `stream_grid`
    gives the same grid in pieces.

    Args:
        encoder: name or folder as in `locties.load`, a LocationEncoder, or a function from lonlat
            (N, 2) float32 to (N, dim). A module runs on its own device.
        resolution: pixel size in degrees; it must divide 180.
        month: 1 to 12, for an encoder with a `time`. For a grid with a dimension of months, join
            several: ``xarray.concat([embed_grid("mine", 1, month=m).to_xarray() for m in (1, 7)],
            "month")``.

    Example:
        >>> grid = embed_grid(lambda lonlat: lonlat, resolution=90)
        >>> grid.lat, grid.lon
        (array([ 45., -45.]), array([-135.,  -45.,   45.,  135.]))
        >>> grid.embedding[0, 3]
        array([135.,  45.], dtype=float32)
    """
    lon, lat = pixel_centres(resolution)
    embedding, metadata = np.empty((0, 0, 0), np.float32), {}
    row = 0
    for block in stream_grid(encoder, resolution, month=month):
        if row == 0:
            shape = len(lat), *block.embedding.shape[1:]
            try:
                embedding = np.empty(shape, np.float32)
            except MemoryError:
                raise MemoryError(
                    f"a grid of {resolution:g} degrees takes {4e-9 * math.prod(shape):.0f} GB of "
                    "memory, more than there is: write it to a file with locties.export_grid, or "
                    "take a larger resolution"
                ) from None
            metadata = dict(block.metadata)
        embedding[row : row + len(block.lat)] = block.embedding
        row += len(block.lat)
    return EmbeddingGrid(lon, lat, embedding, metadata)


def stream_grid(
    encoder: str | Path | Encoder, resolution: float = 0.25, *, month: int | None = None
) -> Iterator[EmbeddingGrid]:
    """Yield the grid of `embed_grid` in blocks of whole rows, north to south, to save memory.

    Example:
        >>> for block in stream_grid(lambda lonlat: lonlat, resolution=90):
        ...     print(block.lat, block.embedding.shape)
        [ 45. -45.] (2, 4, 2)
    """
    lon, lat = pixel_centres(resolution)
    function, metadata = resolve(encoder, month)
    embed = rows_embedder(function, lon)
    rows = max(1, POINTS_PER_BLOCK // len(lon))
    for start in range(0, len(lat), rows):
        block = lat[start : start + rows]
        yield EmbeddingGrid(lon, block, embed(block), metadata)


def rows_embedder(encoder: Encoder, lon: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from latitudes (H,) to embeddings (H, W, dim) float32 at the longitudes (W,).

    A spherical harmonic is a function of latitude times a function of longitude. So the first layer
    of a LocationEncoder takes W (2L - 1) products for each row instead of W L^2. Other encoders run
    point by point.
    """
    embed_rows = _separable(encoder, lon) or partial(_pointwise, encoder, lon)

    def embed(lat: np.ndarray) -> np.ndarray:
        with torch.no_grad(), eval_mode(encoder) as device:
            return embed_rows(lat, device).float().cpu().numpy()

    return embed


def embed_points(encoder: Encoder, lonlat: Tensor, month: Tensor | None = None) -> np.ndarray:
    """Embeddings (N, dim) float32 of lonlat (N, 2), in chunks, without gradients, in eval mode.

    `month` (N,) is needed for an encoder with a `time`.
    """
    embedding, start = np.empty((0, 0), np.float32), 0
    with torch.no_grad(), eval_mode(encoder) as device:
        there = None if month is None else month.to(device)
        for output in _outputs(encoder, lonlat.to(device), there):
            if start == 0:
                embedding = np.empty((len(lonlat), output.shape[1]), np.float32)
            embedding[start : start + len(output)] = output.float().cpu().numpy()
            start += len(output)
    return embedding


EmbedRows = Callable[[np.ndarray, torch.device | None], Tensor]  # (H,) degrees to (H, W, dim)


def _outputs(encoder: Encoder, lonlat: Tensor, month: Tensor | None = None) -> Iterator[Tensor]:
    """The encoder's output (n, dim) for each chunk of lonlat (N, 2)."""
    months = [] if month is None else [month]
    for points, *of_points in zip(
        *(torch.split(x, POINTS_PER_CHUNK) for x in (lonlat, *months)), strict=True
    ):
        output = encoder(points, *of_points)
        if output.ndim != 2 or len(output) != len(points):
            raise ValueError(
                f"the encoder returned shape {tuple(output.shape)} for {len(points)} points: "
                f"it must return ({len(points)}, dim)"
            )
        yield output


def _pointwise(
    encoder: Encoder, lon: np.ndarray, lat: np.ndarray, device: torch.device | None
) -> Tensor:
    lonlat = np.stack(np.meshgrid(lon, lat), axis=-1).reshape(-1, 2)
    points = torch.as_tensor(lonlat, dtype=torch.float32, device=device)
    return torch.cat(list(_outputs(encoder, points))).reshape(len(lat), len(lon), -1)


def _separable(encoder: Encoder, lon: np.ndarray) -> EmbedRows | None:
    """`_pointwise` through the factors of spherical harmonics; None for any other encoder."""
    # Only exact types without hooks: others may compute something different.
    if type(encoder) is not LocationEncoder or type(encoder.features) is not SphericalHarmonics:
        return None
    if any(m._forward_hooks or m._forward_pre_hooks for m in encoder.modules()):
        return None
    if takes_month(encoder):
        return None  # the encoder's own error says how to pass one
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
    if encoder.month is not None:
        month = cyclic(torch.tensor([encoder.month], device=device))[0]
        bias = bias + weight[:, degree**2 :] @ month.to(weight)
    order = torch.arange(1 - degree, degree, device=device).abs()
    longitudes = waves(torch.tensor(lon, device=device), degree).to(weight.dtype)

    def embed_rows(lat: np.ndarray, device: torch.device | None) -> Tensor:
        latitudes = legendre(torch.tensor(lat, device=device), degree)[:, :, order]
        folded = torch.einsum("hlm,mlk->hmk", latitudes, by_order)
        folded[:, degree - 1] += bias  # order 0: its wave is 1 everywhere
        # One row at a time fits the cache of a CPU.
        return torch.stack(
            [encoder.read(rest, longitudes @ row) for row in folded.to(weight.dtype)]
        )

    return embed_rows


def rows_of_globe(resolution: float) -> int:
    """How many rows of pixels a global grid has.

    Args:
        resolution: pixel size in degrees; it must divide 180, to six digits.

    Example:
        >>> rows_of_globe(0.25)
        720
    """
    number = isinstance(resolution, Real) and not isinstance(resolution, bool | np.bool_)
    if not (number and 1e-6 <= resolution < math.inf):
        raise ValueError(
            f"resolution={resolution!r}: give the size of a pixel in degrees, a number that "
            "divides 180, such as 0.25 or 1"
        )
    height = max(1, round(180 / resolution))
    if not math.isclose(180 / height, resolution, rel_tol=SIX_DIGITS):
        near = range(max(1, height - 1), height + 2)
        count = min(near, key=lambda rows: abs(180 / rows - resolution))
        raise ValueError(
            f"resolution={resolution!r} does not divide 180 degrees: "
            f"the nearest that does is {180 / count:.6g} (180 / {count})"
        )
    return height


def pixel_centres(resolution: float, pixels: Edges | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Longitudes (W,) west to east and latitudes (H,) north to south of a global grid's pixels.

    Args:
        resolution: pixel size in degrees; it must divide 180.
        pixels: only these; columns may continue beyond 180 degrees east.

    Example:
        >>> pixel_centres(60)[1]
        array([ 60.,   0., -60.])
    """
    height = rows_of_globe(resolution)
    top, bottom, left, right = pixels or (0, height, 0, 2 * height)
    # (k + 0.5) * 180 / height: adding steps of the resolution would add up rounding errors.
    lat = 90 - (np.arange(top, bottom) + 0.5) * 180 / height
    lon = (np.arange(left, right) + 0.5) * 180 / height - 180
    return lon, lat


def pixels_touched(west: float, south: float, east: float, north: float, height: int) -> Edges:
    """Edges of the pixels of a global grid of `height` rows that a region in degrees touches.

    Example:
        >>> pixels_touched(-180, 40, 10.1, 90, 18)
        (0, 5, 0, 20)
    """
    # Rounded, so that an edge between two pixels touches only one of them.
    edges = (90 - north, 90 - south, 180 + west, 180 + east)
    top, bottom, left, right = (round(edge * height / 180, 6) for edge in edges)
    return int(top), math.ceil(bottom), int(left), math.ceil(right)


@contextmanager
def eval_mode(encoder: Encoder) -> Iterator[torch.device | None]:
    """Put a module in eval mode for the block and yield its device; None for a plain function."""
    if not isinstance(encoder, nn.Module):
        yield None
        return
    modes = [(module, module.training) for module in encoder.modules()]
    weight = next(chain(encoder.parameters(), encoder.buffers()), None)
    encoder.eval()
    try:
        yield None if weight is None else weight.device
    finally:
        # Each module gets its own mode back: parts in eval mode stay in eval mode.
        for module, training in modes:
            module.training = training
