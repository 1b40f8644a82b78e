"""Worlds of known factors, and what theory says of the best encoders there."""

import numpy as np
import pytest
import torch

from locties_paper.erasure import worlds
from locties_paper.erasure.worlds import World, predict

FIRST = ("first", "private_first")
SHARED = ("first", "shared")


def test_drawn_parts_have_the_covariances_of_the_loadings():
    world = World(geographic=0.4)
    drawn = world.draw(100_000, torch.Generator().manual_seed(0))
    for one in drawn:
        for other in drawn:
            found = drawn[one].double().T @ drawn[other].double() / 100_000
            assert np.allclose(found.numpy(), world.covariance(one, other), atol=0.03), (one, other)


def test_modalities_share_the_shared_factors_alone():
    world = World()
    assert np.allclose(world.covariance("private_first", "second"), 0)
    assert np.allclose(world.covariance("private_first", "private_second"), 0)
    assert np.linalg.matrix_rank(world.covariance("first", "second"), tol=1e-9) == world.factors


@pytest.mark.parametrize("geographic", [0.0, 0.3, 1.0])
def test_a_location_knows_the_shared_factors_and_the_geographic_part_of_private_ones(geographic):
    world = World(geographic=geographic)
    known = np.square(world.covariance("shared", "location")).sum(1)
    private = np.square(world.covariance("private_second", "location")).sum(1)
    assert np.allclose(known, 1)
    assert np.allclose(private, geographic)


def test_channels_have_unit_variance_on_average():
    world = World(factors=3, channels=10)
    assert np.trace(world.covariance("first", "first")) == pytest.approx(10)


def test_a_bend_is_monotone_so_that_it_can_be_undone():
    straight, bent = (
        World(bend=bend).draw(1000, torch.Generator().manual_seed(0)) for bend in (0, 0.9)
    )
    order = straight["first"][:, 0].argsort()
    assert (bent["first"][order, 0].diff() > 0).all()
    assert (bent["first"] - straight["first"]).abs().max() > 0.3


@pytest.mark.parametrize(
    "wrong", [{"factors": 0}, {"channels": 7}, {"geographic": 1.1}, {"bend": 1.0}]
)
def test_impossible_worlds_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        World(**wrong)


def scores(world: World, weight: float) -> tuple[np.ndarray, np.ndarray]:
    """Of each shared and each private direction, by hand: loadings are orthogonal here."""
    k, c = world.factors, world.channels
    shared = np.linspace(*worlds.SHARED_GAINS, k)
    private = np.linspace(*worlds.PRIVATE_GAINS, k)
    total = shared.sum() + private.sum() + c * worlds.NOISE
    correlation = shared / (shared + worlds.NOISE)
    return (
        (1 - weight) / 2 * correlation**2 + weight * (shared + worlds.NOISE) / total,
        weight * (private + worlds.NOISE) / total,
    )


@pytest.mark.parametrize("weight", [0.0, 0.3, 0.66, 0.75, 0.88, 1.0])
@pytest.mark.parametrize("dim", [1, 4, 6])
def test_theory_keeps_the_directions_of_the_highest_score(weight, dim):
    world = World()
    best = np.sort(np.concatenate(scores(world, weight)))[::-1][:dim].sum()
    assert predict(world, dim, weight).value == pytest.approx(best, abs=1e-8)


def test_alignment_alone_is_canonical_correlation_analysis():
    world = World(geographic=0.5, channels=9, factors=3)
    whitened = [
        np.linalg.inv(np.linalg.cholesky(world.covariance(m, m))) for m in ("first", "second")
    ]
    k = whitened[0] @ world.covariance("first", "second") @ whitened[1].T
    correlations = np.linalg.svd(k, compute_uv=False)
    for dim in (1, 2, 3):
        found = predict(world, dim)
        assert found.value == pytest.approx(np.square(correlations[:dim]).sum() / 2)
        assert found.r2[FIRST] == pytest.approx(0, abs=1e-12)


def test_no_pair_of_random_subspaces_beats_the_theory():
    world, rng = World(factors=2, channels=5), np.random.default_rng(0)
    spread = {m: world.covariance(m, m) for m in ("first", "second")}
    cross, weight = world.covariance("first", "second"), 0.7
    best = predict(world, 2, weight).value
    for _ in range(300):
        encoders = []
        for m in spread:
            w = rng.normal(size=(2, 5))
            encoders.append(np.linalg.inv(np.linalg.cholesky(w @ spread[m] @ w.T)) @ w)
        aligned = np.square(encoders[0] @ cross @ encoders[1].T).sum()
        kept = [
            np.square(w @ s).sum() / np.trace(s)
            for w, s in zip(encoders, spread.values(), strict=True)
        ]
        assert (1 - weight) / 2 * aligned + weight * np.mean(kept) <= best + 1e-12


def test_where_alignment_lasts_it_holds_less_of_what_is_private():
    end = predict(World(), 4, 0.75)
    assert end.lasting[FIRST] < end.r2[FIRST]
    for weight in (0.0, 0.5, 1.0):
        one = predict(World(), 4, weight)
        assert one.lasting[FIRST] == pytest.approx(one.r2[FIRST])


def test_alignment_lasts_to_twice_the_ratio_at_which_fidelity_is_better():
    world = World(factors=1, channels=4)
    (shared,), (private,) = worlds.SHARED_GAINS[:1], worlds.PRIVATE_GAINS[:1]
    correlation = shared / (shared + worlds.NOISE)
    total = shared + private + 4 * worlds.NOISE
    ratio = correlation**2 * total / (2 * (private - shared))
    for factor, best, lasting in ((0.95, 0, 0), (1.05, 1, 0), (1.95, 1, 0), (2.05, 1, 1)):
        weight = factor * ratio / (1 + factor * ratio)
        found = predict(world, 1, weight)
        assert (found.r2[FIRST] > 0.5) == best, factor
        assert (found.lasting[FIRST] > 0.5) == lasting, factor


def test_room_makes_fidelity_free():
    """With as many numbers as factors, the least weight keeps all and costs no alignment."""
    world = World()
    kept, aligned = predict(world, 8, 1e-6), predict(world, 8, 0.0)
    assert aligned.r2[FIRST] == pytest.approx(0, abs=1e-9)
    assert kept.r2[FIRST] > 0.85
    assert kept.r2[SHARED] == pytest.approx(aligned.r2[SHARED])


def test_tied_by_location_what_is_geographic_survives():
    for geographic, kept in ((0.0, 0.0), (0.3, 0.894), (0.9, 0.894)):
        world = World(geographic=geographic)
        found = predict(world, 12, tie="location").r2
        assert found[FIRST] == pytest.approx(kept, abs=1e-3)
        assert found["location", "private_first"] == pytest.approx(geographic)
        assert predict(world, 4, tie="location").r2[FIRST] == pytest.approx(0, abs=1e-9)
        assert predict(world, 12).r2[FIRST] == pytest.approx(0, abs=1e-9), "paired, all is lost"


@pytest.mark.parametrize("dim", [0, 13])
def test_a_dimension_that_cannot_be_is_refused(dim):
    with pytest.raises(ValueError, match=f"dim={dim}"):
        predict(World(), dim)
