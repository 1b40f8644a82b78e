"""Encoders trained in a world keep what theory says."""

import math

import pytest
import torch
from torch import nn

from locties.objectives import Batch, nt_xent
from locties_paper.erasure.training import measure, on_sphere, train
from locties_paper.erasure.worlds import World, predict

FIRST = ("first", "private_first")
SHARED = ("first", "shared")


def test_unknown_choices_are_refused():
    with pytest.raises(ValueError, match="did you mean 'location'"):
        predict(World(), 4, tie="locaton")
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        train(World(), 4, similarity="cosin")
    with pytest.raises(ValueError, match="weight=2"):
        train(World(), 4, weight=2)


def test_on_the_sphere_nt_xent_sees_plain_dot_products():
    z, e = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    a, b, log_scale = on_sphere(z, e)
    ids = torch.arange(6)
    found = nt_xent(Batch(a, b, ids * 0, ids), log_scale)
    assert found == pytest.approx(nn.functional.cross_entropy(z @ e.T, ids).item(), abs=1e-5)


def test_the_least_loss_of_gaussian_embeddings_is_what_theory_says():
    """-1/2 the sum of squared canonical correlations, but for log B and a finite batch."""
    world = World(channels=8, factors=2)
    best = predict(world, 2).encoders
    correlation = best["first"] @ world.covariance("first", "second") @ best["second"].T
    drawn = world.draw(4000, torch.Generator().manual_seed(0))
    w = torch.from_numpy(correlation @ best["second"]).float()
    z = drawn["first"] @ torch.from_numpy(best["first"]).float().T
    a, b, log_scale = on_sphere(z, drawn["second"] @ w.T)
    ids = torch.arange(4000)
    loss = nt_xent(Batch(a, b, ids * 0, ids), log_scale).item() - math.log(4000)
    assert loss == pytest.approx(-predict(world, 2).value, abs=0.03)


TOLERANCE = 0.03


@pytest.mark.parametrize("weight", [0.0, 0.5, 1.0])
def test_trained_linear_encoders_keep_what_theory_says(weight):
    world = World()
    found = measure(world, train(world, 4, weight, similarity="dot", steps=150))
    expected = predict(world, 4, weight).r2
    assert found == pytest.approx(expected, abs=TOLERANCE)


def test_trained_cosines_erase_as_well():
    found = measure(World(), train(World(), 4, steps=150))
    assert found[FIRST] < TOLERANCE
    assert found[SHARED] == pytest.approx(predict(World(), 4).r2[SHARED], abs=TOLERANCE)


def test_trained_encoders_tied_by_location_keep_what_theory_says():
    world = World(geographic=0.5)
    found = measure(world, train(world, 12, tie="location", similarity="dot", steps=150))
    assert found == pytest.approx(predict(world, 12, tie="location").r2, abs=0.05)
