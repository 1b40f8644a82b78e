"""What surrounds a place: densities and shares that can be worked out by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from locties.data.raster import Raster
from locties.data.surroundings import land_share, place_density


def an_earth(places=(), land=None):
    values = torch.zeros(1, 180, 360) if land is None else land
    return SimpleNamespace(
        places=SimpleNamespace(lonlat=torch.tensor(places).reshape(-1, 2)),
        land=Raster(values, -179.5, 89.5, 1.0, 1.0),
    )


@pytest.mark.parametrize("latitude", [0.05, 60.05])
def test_one_settlement_has_the_density_of_its_kernel(latitude):
    density = place_density(an_earth([[20.05, latitude]]), [50.0])
    here = density.sample(torch.tensor([[20.05, latitude]])).exp().item()
    assert here == pytest.approx(1 / (2 * np.pi * 50**2) + 1e-5, rel=0.02)
    east = 50 / 111.2 / np.cos(np.deg2rad(latitude))
    aside = density.sample(torch.tensor([[20.05 + east, latitude]])).exp().item()
    assert aside == pytest.approx(np.exp(-0.5) / (2 * np.pi * 50**2) + 1e-5, rel=0.05)


def test_settlements_count_across_the_date_line():
    density = place_density(an_earth([[179.95, 0.05]]), [50.0])
    both = density.sample(torch.tensor([[-179.95, 0.05], [179.85, 0.05]]))
    assert both[0].item() == pytest.approx(both[1].item(), abs=1e-3)


def test_the_share_of_land_is_half_at_a_straight_coast():
    land = torch.zeros(1, 180, 360)
    land[:, :, 180:] = 1  # east of Greenwich
    land[:, 80:100, 300:320] = 2  # a lake, which is no land
    share = land_share(an_earth(land=land), [30.0])
    points = torch.tensor([[0.0, 0.0], [60.0, 0.0], [-60.0, 0.0], [130.0, 0.0]])
    assert share.sample(points)[:, 0].tolist() == pytest.approx([0.5, 1.0, 0.0, 0.0], abs=0.01)
