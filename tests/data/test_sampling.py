"""Sampling: uniform by area on land, and cells that belong to one owner only."""

import pytest
import torch
from scipy import stats

from locties.data.embedded import Earth
from locties.data.sampling import (
    OWNERS,
    SOUTHERN_LIMIT,
    VALIDATION,
    _hash,
    land_lonlat,
    owner,
)
from locties.lonlat import BLOCK_DEGREES, CELL_DEGREES, cell_index


def sphere(n: int, seed: int = 0) -> torch.Tensor:
    """Points uniform by area over the whole globe."""
    share = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    latitude = torch.rad2deg(torch.asin(2 * share[:, 1] - 1))
    return torch.stack([share[:, 0] * 360 - 180, latitude], dim=1)


def test_the_hash_is_splitmix64() -> None:
    # First outputs of the reference implementation from seed 0, shifted by the sign's bit.
    assert int(_hash(torch.tensor(0), 1)) == 0xE220A8397B1DCDAF >> 1
    assert int(_hash(torch.tensor(0), 2)) == 0x6E789E6AA1B965F4 >> 1


def test_owners_never_change() -> None:
    # Written down once: another answer here means other training data for every published run.
    places = [
        [13.4, 52.5],
        [-60.0, -3.1],
        [31.2, 30.0],
        [151.0, -33.8],
        [-105.0, 39.7],
        [77.2, 28.6],
        [10.0, 23.0],
        [-100.0, 60.0],
        [120.0, 60.0],
    ]
    # Cities with an article belong to text; without it, the first six were [1, 0, -1, -1, 6, 4].
    assert owner(torch.tensor(places)).tolist() == [7, 7, -1, -1, 7, 7, 1, 4, 0]


def test_a_cell_has_one_owner_be_it_a_modality_or_validation() -> None:
    lonlat = sphere(400_000)
    cells = cell_index(lonlat, CELL_DEGREES)
    pairs = torch.stack([cells, owner(lonlat)], dim=1).unique(dim=0)
    shared = len(pairs) - len(cells.unique())
    assert shared == 0, f"{shared} cells have more than one owner"


def test_validation_takes_whole_blocks_and_little_beside_them() -> None:
    lonlat = sphere(400_000)
    validation = owner(lonlat) == VALIDATION
    blocks = cell_index(lonlat, BLOCK_DEGREES)
    inside = torch.bincount(blocks[validation], minlength=412) / torch.bincount(blocks)
    whole = inside == 1
    assert 30 <= whole.sum() <= 55, f"{whole.sum()} of 412 blocks are validation"
    # A margin of one cell on all four sides of a block of 22 by 22 cells is 17% of it.
    assert inside[~whole].max() < 0.2, "part of a block beyond its margin is validation"


def test_owners_have_their_shares_and_validation_a_tenth_of_the_globe() -> None:
    owners = owner(sphere(200_000))
    shares = torch.bincount(owners + 1).double() / len(owners)
    # 160,000 cells in six parts differ by chance by 0.25% of the globe at most (five deviations),
    # 412 blocks by 7.5%.
    assert shares[0].item() == pytest.approx(0.1, abs=0.05)
    part = (1 - shares[0].item()) / 6
    for name, share in zip(OWNERS[:-1], shares[1:-1].tolist(), strict=True):
        expected = part / 2 if name in ("night_lights", "temperature") else part
        assert share == pytest.approx(expected, abs=0.005), f"{name} has {share:.4f}"
    assert 0.002 < shares[-1] < 0.006, "about 600 cells hold an article"


@pytest.mark.data
def test_validation_is_about_a_tenth_of_the_land_on_every_continent(earth: Earth) -> None:
    lonlat = land_lonlat(earth, 60_000, torch.Generator().manual_seed(0))
    lon, lat = lonlat.unbind(1)
    continents = {
        "all": lon < 999,
        "North America": (lon < -30) & (lat > 15),
        "South America": (lon < -30) & (lat < 15),
        "Africa": (lon > -20) & (lon < 50) & (lat < 35),
        "Europe": (lon > -20) & (lon < 50) & (lat > 35),
        "Asia": (lon > 50) & (lat > 10),
        "Oceania": (lon > 95) & (lat < 10),
    }
    held_out = owner(lonlat) == VALIDATION
    for name, inside in continents.items():
        share = held_out[inside].float().mean().item()
        assert 0.07 < share < 0.14, f"validation is {share:.3f} of {name}"


@pytest.mark.data
def test_points_are_on_land_and_north_of_antarctica(earth: Earth) -> None:
    lonlat = land_lonlat(earth, 20_000, torch.Generator().manual_seed(0))
    assert lonlat.shape == (20_000, 2)
    assert lonlat.dtype == torch.float32
    assert (earth.land.nearest(lonlat) == 1).all()
    assert (lonlat[:, 1] > SOUTHERN_LIMIT).all()
    assert ((lonlat[:, 0] >= -180) & (lonlat[:, 0] < 180)).all()


@pytest.mark.data
@pytest.mark.parametrize("owned_by", [None, "haze", "validation"])
def test_points_are_uniform_by_area(owned_by: str | None, earth: Earth) -> None:
    generator = torch.Generator().manual_seed(0)
    lonlat = land_lonlat(earth, 40_000, generator, owned_by)
    everywhere = sphere(1_500_000, seed=1).float()
    allowed = (earth.land.nearest(everywhere)[:, 0] == 1) & (everywhere[:, 1] > SOUTHERN_LIMIT)
    expected = everywhere[allowed]
    if owned_by:
        wanted = VALIDATION if owned_by == "validation" else OWNERS.index(owned_by)
        expected = expected[owner(expected) == wanted]
    counts = torch.stack(
        [torch.bincount(cell_index(p, 20.0), minlength=103) for p in (lonlat, expected)]
    )
    filled = counts[:, counts.sum(0) >= 20]
    p_value = stats.chi2_contingency(filled.numpy()).pvalue
    assert p_value > 1e-3, f"areas differ from those of rejection over the globe, p = {p_value}"


@pytest.mark.data
def test_no_two_owners_share_a_cell(earth: Earth) -> None:
    generator = torch.Generator().manual_seed(0)
    cells = {
        name: set(cell_index(land_lonlat(earth, 4000, generator, name), CELL_DEGREES).tolist())
        for name in OWNERS
    }
    for one in OWNERS:
        for other in OWNERS:
            assert one == other or not cells[one] & cells[other], f"{one} and {other} share cells"


@pytest.mark.data
def test_the_same_seed_gives_the_same_points(earth: Earth) -> None:
    first, second = (
        land_lonlat(earth, 100, torch.Generator().manual_seed(7), "relief") for _ in range(2)
    )
    assert first.equal(second)


@pytest.mark.data
def test_an_unknown_owner_is_named_with_the_nearest(earth: Earth) -> None:
    with pytest.raises(ValueError, match="unknown owner 'imagry': did you mean 'imagery'"):
        land_lonlat(earth, 1, torch.Generator(), "imagry")
