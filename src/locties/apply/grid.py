"""A location encoder evaluated on a regular grid of the whole globe."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from locties._util.extras import need
from locties.apply import cf
from locties.apply.metadata import Encoder, resolve
from locties.encoder import LocationEncoder
from locties.features import SphericalHarmonics
from locties.harmonics import legendre, waves
from locties.networks import split

# Few enough for the 1,600 harmonics of L = 40 to take 26 MB, memory that is not given back to the
# system and taken anew for each chunk; enough for fast matrix products.
POINTS_PER_CHUNK = 4096
POINTS_PER_BLOCK = 16_384  # of a grid, without its harmonics


class Grid(NamedTuple):
    """Embeddings at the pixel centres of a global longitude-latitude grid.

    Attributes:
        lon: (W,) degrees, from just east of -180 to just west of 180.
        lat: (H,) degrees, north to south.
        embedding: (H, W, dim) float32, not normalised, like the encoder's own output.
        metadata: of what encoder they are, as `locties.apply.metadata.describe` has it.

    Example:
        >>> Grid(np.zeros(4), np.zeros(2), np.zeros((2, 4, 3))).embedding.shape
        (2, 4, 3)
    """

    lon: np.ndarray
    lat: np.ndarray
    embedding: np.ndarray
    metadata: Mapping[str, str] = MappingProxyType({})

    def to_xarray(self) -> Any:
        """The grid as an xarray Dataset that follows the CF conventions, without a copy.

        Returns:
            xarray.Dataset of `embedding` (dimension, lat, lon), with the coordinates, the grid
            mapping `crs` among them, and the metadata as attributes.
            ``dataset["embedding"].sel(dimension=3)`` is a map.

        Raises:
            ImportError: xarray is not there: ``pip install "locties[export]"``.

        Example:
            >>> dataset = embed_grid(lambda lonlat: lonlat, resolution=90).to_xarray()
            >>> dataset["embedding"].sel(lon=135, lat=45).values
            array([135.,  45.], dtype=float32)
        """
        xarray = need("xarray", "Grid.to_xarray", "export")
        dim = self.embedding.shape[-1]
        return xarray.Dataset(
            {
                "embedding": (
                    cf.AXES,
                    np.moveaxis(self.embedding, -1, 0),
                    cf.EMBEDDING,
                    cf.GRID_MAPPING,
                ),
            },
            {
                "crs": ((), np.int32(0), cf.CRS),
                "dimension": ("dimension", np.arange(dim, dtype=np.int32), cf.DIMENSION),
                "lat": ("lat", self.lat, cf.LAT),
                "lon": ("lon", self.lon, cf.LON),
            },
            cf.dataset(self.metadata, 360 / len(self.lon)),
        )


def embed_grid(encoder: str | Path | Encoder, resolution: float = 0.25) -> Grid:
    """Embed the centre of every pixel of a global grid, without gradients and in eval mode.

    The result takes `4 * dim * (180 / resolution) * (360 / resolution)` bytes: at 0.25 degrees and
    256 dimensions 1.06 GB, at 1 degree 66 MB. `stream_grid` gives it piece by piece.

    Args:
        encoder: a LocationEncoder, the name or folder of one as in `locties.load`, or any callable
            from lonlat (N, 2) float32 to (N, dim).
            A module is run on its own device, and its training modes are put back afterwards.
        resolution: pixel size in degrees; it must divide 180.

    Returns:
        Grid of numpy arrays: lon (W,), lat (H,) north to south, embedding (H, W, dim) float32.

    Raises:
        ValueError: `resolution` does not divide 180, or `encoder` is none or did not return
            (N, dim).
        FileNotFoundError: no encoder of that name or folder.

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
    for block in stream_grid(encoder, resolution):
        if row == 0:
            embedding = np.empty((len(lat), *block.embedding.shape[1:]), np.float32)
            metadata = dict(block.metadata)
        embedding[row : row + len(block.lat)] = block.embedding
        row += len(block.lat)
    return Grid(lon, lat, embedding, metadata)


def stream_grid(encoder: str | Path | Encoder, resolution: float = 0.25) -> Iterator[Grid]:
    """`embed_grid` in blocks of whole rows, north to south, so that memory stays small.

    A block is of about `POINTS_PER_BLOCK` points, at least one row. Spherical harmonics are
    products of a function of latitude and one of longitude (`locties.harmonics.legendre`), so with
    them the first layer of a `LocationEncoder` costs W x (2L - 1) products a row, not W x L^2.

    Args:
        encoder: as in `embed_grid`.
        resolution: pixel size in degrees; it must divide 180.

    Yields:
        Grid: all of lon, some of lat, and the embedding there.

    Raises:
        ValueError, FileNotFoundError: as in `embed_grid`.

    Example:
        >>> for block in stream_grid(lambda lonlat: lonlat, resolution=90):
        ...     print(block.lat, block.embedding.shape)
        [ 45. -45.] (2, 4, 2)
    """
    lon, lat = pixel_centres(resolution)
    function, metadata = resolve(encoder)
    embed = rows_embedder(function, lon)
    rows = max(1, POINTS_PER_BLOCK // len(lon))
    for start in range(0, len(lat), rows):
        some = lat[start : start + rows]
        yield Grid(lon, some, embed(some), metadata)


def rows_embedder(encoder: Encoder, lon: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """A function from latitudes (H,) to embeddings (H, W, dim) float32 at the longitudes (W,).

    Example:
        >>> rows_embedder(lambda lonlat: lonlat, np.array([13.0, 14.0]))(np.array([52.0]))
        array([[[13., 52.],
                [14., 52.]]], dtype=float32)
    """
    embed_rows = _separably(encoder, lon) or partial(_pointwise, encoder, lon)

    def embed(lat: np.ndarray) -> np.ndarray:
        # Gradients and training modes are back as they were when a block is handed out.
        with torch.no_grad(), eval_mode(encoder) as device:
            return embed_rows(lat, device).float().cpu().numpy()

    return embed


def embed_points(encoder: Encoder, lonlat: Tensor) -> np.ndarray:
    """Embeddings (N, dim) float32 of places (N, 2), in chunks, without gradients, in eval mode.

    Example:
        >>> embed_points(lambda lonlat: lonlat, torch.tensor([[13.4, 52.5]]))
        array([[13.4, 52.5]], dtype=float32)
    """
    embedding, start = np.empty((0, 0), np.float32), 0
    with torch.no_grad(), eval_mode(encoder) as device:
        for output in _outputs(encoder, lonlat.to(device)):
            if start == 0:
                embedding = np.empty((len(lonlat), output.shape[1]), np.float32)
            embedding[start : start + len(output)] = output.float().cpu().numpy()
            start += len(output)
    return embedding


EmbedRows = Callable[[np.ndarray, torch.device | None], Tensor]  # (H,) degrees to (H, W, dim)


def _outputs(encoder: Encoder, lonlat: Tensor) -> Iterator[Tensor]:
    """What the encoder makes of places (N, 2), a chunk at a time: (n, dim)."""
    for points in lonlat.split(POINTS_PER_CHUNK):
        output = encoder(points)
        if output.ndim != 2 or len(output) != len(points):
            raise ValueError(
                f"the encoder returned shape {tuple(output.shape)} for {len(points)} points: "
                f"expected ({len(points)}, dim)."
            )
        yield output


def _pointwise(
    encoder: Encoder,
    lon: np.ndarray,
    lat: np.ndarray,
    device: torch.device | None,
) -> Tensor:
    lonlat = np.stack(np.meshgrid(lon, lat), axis=-1).reshape(-1, 2)
    points = torch.as_tensor(lonlat, dtype=torch.float32, device=device)
    return torch.cat(list(_outputs(encoder, points))).unflatten(0, (len(lat), len(lon)))


def _separably(encoder: Encoder, lon: np.ndarray) -> EmbedRows | None:
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
        return torch.stack(
            [encoder.read(rest, longitudes @ row) for row in folded.to(weight.dtype)]
        )

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
def eval_mode(encoder: Encoder) -> Iterator[torch.device | None]:
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
