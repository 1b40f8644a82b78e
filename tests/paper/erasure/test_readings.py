"""What embeddings of real modalities hold of their private content."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from locties.data.raster import Raster
from locties.lonlat import to_xyz
from locties.modalities import Gathered
from locties.modality import Modality
from locties_paper.erasure import readings
from locties_paper.erasure.readings import Privacy


def earth(pattern: torch.Tensor) -> Raster:
    """A raster of 2 degrees from (C, 90, 180)."""
    return Raster(pattern, lon0=-179, lat0=89, dlon=2, dlat=2)


def raster_modality(name: str, pattern: torch.Tensor) -> Modality:
    lonlat = torch.zeros(4, 2)
    raster = earth(pattern)
    held = Gathered(lonlat, (raster,), lambda r, x: r[0].sample(x), lambda n, g: lonlat)
    return Modality(name, lonlat, held, lambda dim: nn.Identity())


@pytest.fixture
def pair() -> list[Modality]:
    """Two modalities with one channel in common, and one each of their own."""
    generator = torch.Generator().manual_seed(0)
    common, one, other = (torch.randn(90, 180, generator=generator) for _ in range(3))
    smooth = torch.linspace(-1, 1, 90)[:, None].expand(90, 180)
    return [
        raster_modality("one", torch.stack([common + smooth, one])),
        raster_modality("other", torch.stack([common + smooth, other])),
    ]


@pytest.fixture
def points() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(800, 2, generator=generator) * torch.tensor([340.0, 160.0]) - torch.tensor(
        [170.0, 80.0]
    )


def test_what_is_readable_is_read_in_folds_not_learnt_from():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(120, 60))
    y = x @ rng.normal(size=(60, 1)) / math.sqrt(60) + rng.normal(size=(120, 1))  # R² of 0.5
    found = readings.readable(x, {"y": y}, np.arange(120) % 5)["y"]
    assert 0.05 < found < 0.4


def test_parts_add_up_and_shares_tell_what_is_private(pair, points):
    privacy = Privacy.of(pair, to_xyz, points)
    parts = privacy.parts["one"]
    assert np.allclose(parts["shared"] + parts["private"], parts["placed"] + parts["unplaced"])
    own = parts["private"].var(0)
    assert own[0] < 0.05, "the common channel is predicted by the other modality"
    assert own[1] > 0.9, "the channel of its own is not"
    assert parts["placed"][:, 0].var() > 0.1, "the smooth part of it is read from the position"
    assert parts["unplaced"][:, 1].var() > 0.9
    shares = privacy.shares().set_index(["modality", "part"])["share"]
    assert shares["one", "private"] == pytest.approx(own.mean())


def test_reading_tells_an_encoder_that_keeps_from_one_that_erases(pair, points):
    privacy = Privacy.of(pair, to_xyz, points)

    class First(nn.Module):
        def forward(self, x):
            return x[:, :1]

    kept = {"one": nn.Identity(), "other": nn.Identity()}
    table = privacy.read(to_xyz, {"one": First(), "other": nn.Identity()})
    erased = table.set_index(["modality", "source", "part"])["r2"]
    whole = privacy.read(to_xyz, kept).set_index(["modality", "source", "part"])["r2"]
    assert whole["one", "modality", "private"] > 0.9
    assert erased["one", "modality", "private"] < 0.1
    assert erased["one", "modality", "shared"] > 0.9
    assert erased["other", "modality", "private"] > 0.9
    assert abs(whole["one", "location", "unplaced"]) < 0.05


def test_contrast_is_the_spread_within_a_sample():
    patches = torch.zeros(2, 3, 4, 4)
    patches[1, 2, 0, 0] = 1.0
    found = readings._contrast(patches)
    assert found.shape == (2, 3)
    assert found[1, 2] == pytest.approx(0.25)
    assert found[0].abs().sum() == 0
    assert readings._contrast(torch.tensor([[1.0, 3.0]])).item() == pytest.approx(math.sqrt(2))


def test_modalities_that_cannot_be_read_anywhere_are_refused(pair, points):
    names = Modality("names", torch.zeros(3, 2), torch.zeros(3, 5), lambda dim: nn.Identity())
    with pytest.raises(ValueError, match=r"'names'.*leave it out"):
        Privacy.of([*pair, names], to_xyz, points)
    with pytest.raises(ValueError, match="at least two"):
        Privacy.of(pair[:1], to_xyz, points)
