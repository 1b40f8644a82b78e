"""The learned grid against plain loops over its cells, and what it can learn."""

import itertools
import math

import pytest
import torch

import locties
from locties.features import FEATURES
from locties.hash_grid import HashGrid

PLACES = torch.tensor(
    [[13.405, 52.52], [-70.67, -33.45], [179.99, -16.5], [-180.0, 66.0], [25.0, 90.0], [0.0, 0.0]],
    dtype=torch.float64,
)

PRIMES = (1, 2654435761, 805459861)


@pytest.fixture
def grid():
    torch.manual_seed(0)
    grid = HashGrid(levels=5, coarsest=3, finest=200, width=2, rows=1000, degree=4)
    with torch.no_grad():
        grid.tables.normal_()
    return grid


def by_hand(grid, lon, lat):
    """The learned numbers of a place: at each level, the weighted mean of eight corners."""
    lam, phi = math.radians(lon), math.radians(lat)
    v = [math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)]
    values = []
    for level, n in enumerate(
        [3, 9, 24, 70, 200]
    ):  # a ratio of (200 / 3)^(1/4) from one to the next
        along = [(x + 1) / 2 * n for x in v]
        cell = [min(math.floor(a), n - 1) for a in along]
        total = torch.zeros(2)
        for corner in itertools.product((0, 1), repeat=3):
            row, weight = 0, 1.0
            for c, step, a, prime in zip(
                cell, corner, along, (1, 2654435761, 805459861), strict=True
            ):
                row ^= (c + step) * prime
                weight *= (a - c) if step else 1 - (a - c)
            total += weight * 10 * grid.tables[row % 1000 + 1000 * level].detach()
        values += total.tolist()
    return values


def test_it_is_the_weighted_mean_of_the_corners(grid):
    values = grid(PLACES)
    assert values.shape == (6, grid.dim) == (6, 16 + 10)
    assert torch.equal(values[:, :16], FEATURES["spherical_harmonics"](degree=4)(PLACES))
    for place, row in zip(PLACES.tolist(), values[:, 16:].tolist(), strict=True):
        assert row == pytest.approx(by_hand(grid, *place), abs=1e-4), place


@pytest.mark.slow
def test_cells_are_continuous_where_they_meet(grid):
    with torch.no_grad():
        along = torch.stack([torch.linspace(0, 40, 400_001), torch.linspace(-30, 30, 400_001)], 1)
        values = grid(along)
    steps = (values[1:] - values[:-1]).abs().max()
    assert steps < 0.05, f"a step of {steps:.3f} between places 17 m apart"


def test_a_step_changes_what_is_near_and_leaves_the_rest():
    """A grid without collisions: the gradient of a place touches its own corners alone."""
    grid = HashGrid(levels=1, coarsest=8, finest=8, width=1, rows=2**20, degree=1)
    grid(PLACES[:1])[:, 1:].sum().backward()
    assert int((grid.tables.grad != 0).sum()) == 8
    assert grid.tables.grad.sum().item() == pytest.approx(10, rel=1e-5)


@pytest.mark.slow
def test_it_resolves_what_harmonics_cannot():
    """Stripes of 4 degrees, where harmonics of degree 10 see nothing finer than 18."""
    generator = torch.Generator().manual_seed(0)
    lonlat = (torch.rand(3000, 2, generator=generator) - 0.5) * torch.tensor([60.0, 60.0])
    stripes = torch.sign(torch.sin(lonlat[:, :1].deg2rad() * 90))
    errors = {}
    for features in ("spherical_harmonics", "hash_grid"):
        encoder = locties.LocationEncoder(
            features, "mlp", 1, feature_options={"degree": 10}, network_options={"hidden": 32}
        )
        optimiser = torch.optim.Adam(encoder.parameters(), lr=1e-2)
        for _ in range(120):
            some = torch.randperm(2500, generator=generator)[:500]
            loss = (encoder(lonlat[some]) - stripes[some]).square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        errors[features] = (encoder(lonlat[2500:]) - stripes[2500:]).square().mean().item()
    assert errors["hash_grid"] < 0.5 < 0.8 < errors["spherical_harmonics"], errors


def test_it_is_saved_with_its_tables(tmp_path):
    encoder = locties.LocationEncoder("hash_grid", "linear", 4, feature_options={"rows": 64})
    with torch.no_grad():
        encoder.features.tables.normal_()
    encoder.save(tmp_path / "mine")
    assert torch.equal(locties.load(tmp_path / "mine")(PLACES), encoder.eval()(PLACES))


@pytest.mark.parametrize(("coarsest", "finest"), [(10, 9), (4, 2**21)])
def test_impossible_cells_are_refused(coarsest, finest):
    with pytest.raises(ValueError, match=f"coarsest is {coarsest} and finest {finest}"):
        HashGrid(coarsest=coarsest, finest=finest)
