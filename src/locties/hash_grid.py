"""A learned grid of many resolutions on the sphere, as positional features."""

import torch
from torch import Tensor, nn

from locties._util.registry import check_counts
from locties.harmonics import harmonics_as
from locties.lonlat import to_xyz

_PRIMES = (1, 2_654_435_761, 805_459_861)  # of the spatial hash
# Tables learn this many times faster than the optimiser's rate: they are stored divided by it.
_GAIN = 10.0
_STARTS_WITHIN = 1e-4  # initial values of the tables


class HashGrid(nn.Module):
    """Spherical harmonics, joined to learned numbers at the corners of finer and finer cells.

    The unit vector lies in the cube [-1, 1]^3. At each of several levels the cube is divided into
    n^3 cells, and a table holds learned numbers for their corners; a place gets the mean of its
    cell's eight corners, weighted by nearness (trilinear). From level to level, n grows from
    `coarsest` to `finest` by a constant factor. A hash maps corners to the rows of a table, so a
    level takes `rows` x `width` numbers. Several corners may share a row; training resolves such
    collisions. The harmonics carry the smooth part.

    A cell is 12,742 / n km wide: 25 km at 512. Output is float32.

    Args:
        levels: number of grids.
        coarsest, finest: cells along each axis of the first and of the last grid.
        width: learned numbers at a corner.
        rows: rows of each table.
        degree: number of degrees of the harmonics.

    Source: Müller, Evans, Schied and Keller, "Instant Neural Graphics Primitives with a
    Multiresolution Hash Encoding" (ACM Transactions on Graphics 41, 2022, arXiv 2201.05989); the
    grid in the cube around the sphere and the added harmonics are choices of this project.
    """

    continuous = True

    def __init__(
        self,
        levels: int = 12,
        coarsest: int = 4,
        finest: int = 512,
        width: int = 4,
        rows: int = 2**16,
        degree: int = 10,
    ) -> None:
        super().__init__()
        check_counts(
            levels=levels, coarsest=coarsest, finest=finest, width=width, rows=rows, degree=degree
        )
        if not coarsest <= finest <= 2**20:
            raise ValueError(
                f"coarsest is {coarsest} and finest {finest} cells an axis; pass coarsest <= "
                "finest <= 1,048,576."
            )
        ratio = (finest / coarsest) ** (1 / max(1, levels - 1))
        cells = [round(coarsest * ratio**level) for level in range(levels)]
        self.rows, self.degree = rows, degree
        self.cells: Tensor
        self.register_buffer("cells", torch.tensor(cells), persistent=False)
        self.tables = nn.Parameter(torch.empty(levels * rows, width, dtype=torch.float32))
        nn.init.uniform_(self.tables, -_STARTS_WITHIN / _GAIN, _STARTS_WITHIN / _GAIN)
        self.dim = degree**2 + levels * width

    def forward(self, lonlat: Tensor) -> Tensor:
        index, weight = self.corners(lonlat)
        learned = _GAIN * (self.tables[index] * weight[..., None]).sum(2).flatten(1)
        smooth = harmonics_as(lonlat, self.degree, learned.dtype)
        return torch.cat([smooth, learned], dim=1)

    def corners(self, lonlat: Tensor) -> tuple[Tensor, Tensor]:
        """Rows (N, levels, 8) of the corners around each place, and their weights, summing to 1."""
        along = (to_xyz(lonlat.double())[:, None] + 1) / 2 * self.cells[:, None]  # (N, levels, 3)
        first = torch.minimum(along.floor().long(), self.cells[:, None] - 1)
        beyond = (along - first).to(self.tables.dtype)
        index = torch.zeros(*first.shape[:2], 8, dtype=torch.int64, device=lonlat.device)
        weight = torch.ones(index.shape, dtype=beyond.dtype, device=lonlat.device)
        for axis, prime in enumerate(_PRIMES):
            step = torch.tensor([(corner >> axis) & 1 for corner in range(8)], device=index.device)
            index ^= (first[..., axis, None] + step) * prime
            share = beyond[..., axis, None]
            weight *= torch.where(step == 1, share, 1 - share)
        level = torch.arange(len(self.cells), device=index.device)[:, None]
        return index % self.rows + level * self.rows, weight
