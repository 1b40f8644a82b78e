"""The modalities' own values."""

import numpy as np
import pytest
import torch

from locties.evaluation.raw import Raw
from locties.modalities import MODALITIES

pytestmark = pytest.mark.data


def test_it_is_what_the_rasters_hold_at_the_place():
    lonlat = torch.tensor([[-60.0, -3.1], [13.4, 52.5], [129.7, 62.0]])
    values = Raw(["haze"])(lonlat)
    haze = MODALITIES["haze"](samples=10)
    profiles = haze.samples.read(haze.samples.rasters, lonlat)
    assert values.shape == profiles.shape == (3, 12)
    for month in range(12):
        assert torch.equal(values[:, month].argsort(), profiles[:, month].argsort())


def test_modalities_weigh_the_same_whatever_their_number_of_values():
    lonlat = MODALITIES["imagery"](samples=2000, seed=5).lonlat
    values = Raw(["imagery", "haze"])(lonlat)
    imagery, haze = values.split([48, 12], dim=1)
    for part in (imagery, haze):
        assert part.square().sum(1).mean().item() == pytest.approx(0.5, rel=0.15)


def test_a_modality_that_leaks_can_be_left_out():
    assert Raw(["imagery"])([[13.4, 52.5]]).shape == (1, 48)


def test_samples_at_places_are_read_from_the_nearest():
    names = Raw(["toponyms"])([[13.4, 52.5], [13.41, 52.51]])
    assert names.shape == (2, 256)
    with pytest.raises(ValueError, match="clouds"):
        Raw(["clouds"])


def test_raw_values_of_a_month_are_those_of_that_month():
    lonlat = MODALITIES["haze"](samples=300, seed=5).lonlat
    monthly = Raw(["haze", "relief"], time="month")
    year = MODALITIES["haze"](samples=10).samples
    profiles = year.read(year.rasters, lonlat)
    values = {month: monthly(lonlat, month) for month in (1, 7)}
    assert values[1].shape == (300, 1 + 16)
    assert torch.equal(values[1][:, 1:], values[7][:, 1:]), "relief has no months"
    haze = torch.cat([values[month][:, 0] for month in (1, 7)])
    expected = torch.cat([profiles[:, 0], profiles[:, 6]])
    assert np.corrcoef(haze, expected)[0, 1] == pytest.approx(1, abs=1e-5), "one scale for all"
    assert torch.equal(monthly(lonlat[:2], [1, 7])[1], values[7][1])
