"""Where to sample: points uniform on land, and which modality each place belongs to.

A cell of about 50 km belongs to one modality or to validation, never to two. A fixed hash gives its
owner, so the owner is the same in every run and on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import torch
from torch import Tensor

from locties._util.registry import unknown
from locties.data.embedded import Earth, load
from locties.data.raster import Raster
from locties.lonlat import BLOCK_DEGREES, CELL_DEGREES, cell_index

OWNERS = ("imagery", "rain", "haze", "relief", "toponyms", "night_lights", "temperature", "text")
VALIDATION = -1
VALIDATION_SHARE = 0.1  # share of the blocks of 10 degrees

# Antarctica is not sampled: it is white in the imagery and has no climate station, no inhabitants
# and no labels. A tenth of all pairs would teach almost nothing.
SOUTHERN_LIMIT = -60.0

# Of the first 3,000 salts, this one spreads validation most evenly: over 8 to 13% of the land of
# each of six continents, and of all places.
_BLOCK_SALT = 652
_CELL_SALT, _SECOND_SALT = 1, 2


def owner(lonlat: Tensor) -> Tensor:
    """Who owns each point: an index into `OWNERS`, or `VALIDATION` (-1).

    About a tenth of the blocks of 10 degrees are validation, with all cells of about 50 km that
    overlap them. A cell outside them that holds an article belongs to text. Every other cell
    belongs to one of the rest of `OWNERS`, with equal probability, except that night_lights and
    temperature share one part. From (N, 2) degrees to (N,) int64.
    """
    return _owners(lonlat.device)[cell_index(lonlat, CELL_DEGREES)]


@lru_cache(maxsize=8)
def _owners(device: torch.device) -> Tensor:
    """The owner of each cell, by its id."""
    cells = _all_cells()
    inset = 1e-6  # a cell's edge belongs to its neighbour
    held_out = torch.zeros(len(cells.west), dtype=torch.bool)
    for longitude in (cells.west + inset, cells.west + cells.width - inset):
        for sine, inwards in ((cells.south, inset), (cells.south + cells.height, -inset)):
            latitude = torch.rad2deg(torch.asin(sine.clamp(-1, 1))) + inwards
            corner = torch.stack([longitude, latitude], dim=1)
            held_out |= _is_held_out(cell_index(corner, BLOCK_DEGREES))
    cell = torch.arange(len(held_out))
    drawn = _hash(cell, _CELL_SALT) % 6
    # temperature came later. It took cells from night_lights alone, so no other owner changed.
    late = (drawn == OWNERS.index("night_lights")) & (_hash(cell, _SECOND_SALT) % 2 == 0)
    drawn = torch.where(late, OWNERS.index("temperature"), drawn)
    # Articles stand at so few places that a sixth of them would be nothing to train on.
    drawn[cell_index(load().texts.lonlat, CELL_DEGREES)] = OWNERS.index("text")
    return torch.where(held_out, VALIDATION, drawn).to(device)


def _is_held_out(block: Tensor) -> Tensor:
    return _hash(block, _BLOCK_SALT) % 1000 < 1000 * VALIDATION_SHARE


def land_lonlat(
    earth: Earth, n: int, generator: torch.Generator, owned_by: str | None = None
) -> Tensor:
    """Points uniform by area on land north of 60 degrees south, without lakes.

    Args:
        earth: the embedded tier, for its land mask.
        n: number of points.
        generator: source of randomness; the points are drawn on its device.
        owned_by: only points that belong to this one of `OWNERS`, or to "validation".

    Returns:
        (n, 2) float32 degrees, on the generator's device.
    """
    wanted = None if owned_by is None else _index(owned_by)
    cells = _land_cells(earth.land, wanted, generator.device)
    kept = [torch.empty(0, 2, dtype=torch.float32, device=generator.device)]
    missing = n
    while missing > 0:
        points = cells.draw(int(1.5 * missing) + 64, generator)
        on_land = earth.land.nearest(points)[:, 0].to(points.device) == 1
        points = points[on_land & (points[:, 1] > SOUTHERN_LIMIT)]
        if wanted is not None:
            points = points[owner(points) == wanted]
        kept.append(points)
        missing -= len(points)
    return torch.cat(kept)[:n]


@dataclass(frozen=True)
class _Cells:
    """Cells to draw points in: longitudes in degrees, latitudes as sines."""

    west: Tensor
    width: Tensor
    south: Tensor
    height: Tensor

    @cached_property
    def area(self) -> Tensor:
        """Cumulative area of the cells."""
        return (self.width * self.height).cumsum(0)

    def draw(self, n: int, generator: torch.Generator) -> Tensor:
        """Points (n, 2) float32, uniform by area over all cells."""
        device = generator.device
        rand = torch.rand(3, n, generator=generator, device=device, dtype=torch.float64)
        cell = torch.searchsorted(self.area, rand[0] * self.area[-1], right=True)
        cell.clamp_(max=len(self.area) - 1)
        longitude = self.west[cell] + rand[1] * self.width[cell]
        latitude = torch.rad2deg(torch.asin(self.south[cell] + rand[2] * self.height[cell]))
        # Rounding to float32 can give 180, which is the same as -180.
        longitude = torch.where(longitude.float() >= 180, -180.0, longitude)
        return torch.stack([longitude, latitude], dim=1).float()


@lru_cache(maxsize=1)
def _all_cells() -> _Cells:
    """Every cell of about 50 km, in the order of ids."""
    bands = round(180 / CELL_DEGREES)
    edges = torch.linspace(-90, 90, bands + 1, dtype=torch.float64)
    middles = (edges[1:] + edges[:-1]) / 2
    first, last = (
        cell_index(torch.stack([torch.full_like(middles, lon), middles], 1), CELL_DEGREES)
        for lon in (-180.0, 180.0 - 1e-9)
    )
    index = torch.arange(int(last[-1]) + 1)
    band = torch.searchsorted(first, index, right=True) - 1
    width = 360.0 / (last - first + 1)[band]
    sines = torch.sin(torch.deg2rad(edges))
    west = -180 + (index - first[band]) * width
    return _Cells(west, width, sines[band], (sines[1:] - sines[:-1])[band])


@lru_cache(maxsize=32)
def _land_cells(land: Raster, wanted: int | None, device: torch.device) -> _Cells:
    """The cells of one owner that any land pixel touches: a draw searches only these."""
    index = _with_land(land)
    if wanted is not None:
        index = index[_owners(index.device)[index] == wanted]
    every = _all_cells()
    edges = (every.west, every.width, every.south, every.height)
    return _Cells(*(edge[index].to(device) for edge in edges))


@lru_cache(maxsize=8)
def _with_land(land: Raster) -> Tensor:
    """Ids of the cells that any land pixel touches.

    Cells are wider than two pixels, so a cell that touches a land pixel contains the centre of this
    pixel or of a neighbour.
    """
    is_land = (land.values == 1).float().cpu()
    wrapped = torch.nn.functional.pad(is_land, (1, 1, 0, 0), mode="circular")
    near_land = torch.nn.functional.max_pool2d(wrapped, 3, stride=1, padding=(1, 0))[0]
    row, column = near_land.nonzero(as_tuple=True)
    centres = torch.stack([land.lon0 + column * land.dlon, land.lat0 - row * land.dlat], dim=1)
    index = cell_index(centres[centres[:, 1] > SOUTHERN_LIMIT - land.dlat], CELL_DEGREES)
    unique: Tensor = torch.unique(index)
    return unique


def _index(owned_by: str) -> int:
    if owned_by == "validation":
        return VALIDATION
    if owned_by not in OWNERS:
        raise unknown("owner", owned_by, (*OWNERS, "validation"))
    return OWNERS.index(owned_by)


def _hash(index: Tensor, salt: int) -> Tensor:
    """Hash int64 to non-negative int64: splitmix64's finaliser (Steele et al. 2014).

    Integers give the same result on every platform; int64 multiplication wraps as uint64 does.
    """
    mixed = index + _signed(salt * 0x9E3779B97F4A7C15)
    mixed = (mixed ^ _shift(mixed, 30)) * _signed(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ _shift(mixed, 27)) * _signed(0x94D049BB133111EB)
    return _shift(mixed ^ _shift(mixed, 31), 1)


def _shift(value: Tensor, bits: int) -> Tensor:
    """Logical shift to the right; torch's shift keeps the sign."""
    return (value >> bits) & ((1 << (64 - bits)) - 1)


def _signed(constant: int) -> int:
    """The int64 of the same 64 bits."""
    return (constant + 2**63) % 2**64 - 2**63
