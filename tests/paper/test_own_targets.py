"""Targets that one modality alone holds, at places on which nothing trains."""

import numpy as np
import pytest
import torch

import locties
from locties.data.sampling import OWNERS, owner
from locties_paper import design
from locties_paper.own_targets import FREE, OF_NAMES, OWN, modality_of, own_values


def test_every_modality_has_two_targets_and_none_trains_on_their_places():
    assert sorted(map(modality_of, OWN)) == sorted([*design.FIVE] * 2)
    assert FREE not in design.FIVE


@pytest.mark.data
@pytest.mark.parametrize("name", OWN)
def test_places_are_free_and_change_with_the_draw(name):
    task, other = (OWN[name](300, draw) for draw in (0, 1))
    assert (task.name, task.tier) == (name, "own")
    assert (owner(task.lonlat) == OWNERS.index(FREE)).all()
    assert len(task.target) == 300
    assert not torch.equal(task.lonlat, other.lonlat)


@pytest.mark.data
def test_targets_have_the_values_of_the_earth():
    means = {name: OWN[name](2000, 0) for name in OWN if name not in OF_NAMES}
    north = means["rain_season"].lonlat[:, 1] > 30
    assert all(torch.equal(each.lonlat[:, 1] > 30, north) for each in means.values())
    assert 0.2 < means["imagery_brightness"].target.mean() < 0.6
    assert 0.4 < means["relief_height"].target.mean() < 1.0  # km
    # Siberia and the boreal forest are wettest in summer, the southern tropics in December.
    assert means["rain_season"].target[north].mean() > 0.2
    south = (means["rain_season"].lonlat[:, 1] < -5).numpy()
    assert means["rain_season"].target[south].mean() < -0.5
    steep = means["relief_roughness"].target > np.log(500)
    assert means["relief_height"].target[steep].mean() > 1


@pytest.mark.data
@pytest.mark.parametrize("name", OWN)
def test_a_modality_reads_its_own_targets_from_its_values(name):
    task = OWN[name](1000, 0)
    table = locties.evaluate(own_values(modality_of(name)), task, splits="block", labels="all")
    score = table[table["metric"].isin(["r2", "accuracy"])]["value"].max()
    constant = max(np.bincount(task.target)) / 1000 if task.classes else 0.0
    assert score > constant + 0.05


@pytest.mark.data
def test_own_targets_keep_clear_of_pilot_places():
    for task in design.tasks("own", 0):
        assert not design.is_pilot(task).any(), task.name
