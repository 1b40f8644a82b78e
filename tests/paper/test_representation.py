import numpy as np
import pytest
import torch
from scipy.special import hyp0f1

from locties.evaluation import BASELINES
from locties.lonlat import MEAN_EARTH_RADIUS_KM, distance_km
from locties_paper.representation import (
    alignment,
    diagnose,
    effective_rank,
    intrinsic_dimension,
    nearby_points,
    uniformity,
)


def _sphere(n, dim, seed=0, inside=0):
    """Points uniform on the unit sphere in `dim` dimensions, turned into `inside` ones."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, dim))
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    return points @ np.linalg.qr(rng.normal(size=(inside or dim, dim)))[0].T


# --------------------------------------------------------------------------------- effective rank


@pytest.mark.parametrize("rank", [1, 2, 7, 40])
def test_equal_directions_count_as_many_as_there_are(rank):
    turned = np.linalg.qr(np.random.default_rng(0).normal(size=(64, rank)))[0].T
    assert effective_rank(np.concatenate([turned, -turned])) == pytest.approx(rank)


def test_rank_is_exp_of_the_entropy_of_the_shares():
    # Of 100 points on two axes, 64 on the first: singular values 8 and 6.
    points = np.concatenate([np.eye(2)[[0]].repeat(32, 0), np.eye(2)[[1]].repeat(18, 0)])
    share = np.array([8, 6]) / 14
    expected = np.exp(-(share * np.log(share)).sum())
    assert effective_rank(np.concatenate([points, -points])) == pytest.approx(expected)


def test_what_all_have_in_common_and_lengths_do_not_count():
    turned = np.eye(6)[:3]
    balanced = np.concatenate([turned, -turned])
    assert effective_rank(balanced + 5 * np.eye(6)[4]) == pytest.approx(3)
    lengths = np.random.default_rng(0).uniform(1, 9, (6, 1))
    assert effective_rank(balanced * lengths) == pytest.approx(3)
    assert effective_rank(np.ones((5, 4))) == 0


# ---------------------------------------------------------------------------- intrinsic dimension


@pytest.mark.parametrize("dim", [1, 2, 5])
def test_the_dimension_of_a_sphere_is_found_inside_a_larger_space(dim):
    # The estimate's standard error is about dim / sqrt(n), 2%.
    points = _sphere(2500, dim + 1, inside=40)
    assert intrinsic_dimension(points) == pytest.approx(dim, rel=0.08)


def test_a_crumpled_line_looks_like_more_until_points_are_dense():
    def line(n):
        turn = np.random.default_rng(0).uniform(0, 2 * np.pi, (n, 1))
        waves = turn * np.arange(1, 60, 7)
        return np.concatenate([np.cos(waves), np.sin(waves)], 1)

    assert intrinsic_dimension(line(100)) > 1.5
    assert intrinsic_dimension(line(5000)) == pytest.approx(1, abs=0.05)


def test_two_different_embeddings_have_no_dimension():
    with pytest.raises(ValueError, match="2 different embeddings"):
        intrinsic_dimension(np.eye(2).repeat(10, 0))


# ----------------------------------------------------------------------- alignment and uniformity


@pytest.mark.parametrize(("dim", "t"), [(2, 2.0), (3, 2.0), (3, 0.5), (64, 2.0)])
def test_an_even_sphere_has_the_closed_form_of_uniformity(dim, t):
    expected = np.log(hyp0f1(dim / 2, t**2)) - 2 * t
    if dim == 3:
        assert expected == pytest.approx(np.log((1 - np.exp(-4 * t)) / (4 * t)))
    assert uniformity(_sphere(4000, dim), t) == pytest.approx(expected, abs=0.02)


def test_uniformity_is_a_mean_over_pairs():
    points = _sphere(1100, 4) * 3  # more than one chunk; lengths do not count
    unit = points / 3
    pairs = [np.exp(-2 * ((unit[i + 1 :] - unit[i]) ** 2).sum(1)).sum() for i in range(1099)]
    assert uniformity(points) == pytest.approx(np.log(sum(pairs) / (1100 * 1099 / 2)))
    assert uniformity(np.ones((5, 3))) == pytest.approx(0)


def test_alignment_is_the_mean_squared_distance_of_directions():
    first, second = np.array([[1.0, 0], [0, 3]]), np.array([[2.0, 0], [1, 0]])
    assert alignment(first, second) == pytest.approx((0 + 2) / 2)
    assert alignment(first, first) == 0


def test_partners_are_uniform_in_their_discs_even_at_the_pole():
    lonlat = torch.tensor([[0.0, 0.0], [179.99, -40.0], [10.0, 89.9]]).double().repeat(2000, 1)
    other = nearby_points(lonlat, 50, torch.Generator().manual_seed(0))
    assert bool((other[:, 0].abs() <= 180).all())
    km = distance_km(lonlat, other).reshape(-1, 3)
    assert km.max() <= 50 + 1e-6
    # Uniform by area: half of them within 50 / sqrt(2) km, mean square 50^2 / 2.
    assert (km < 50 / 2**0.5).double().mean(0).numpy() == pytest.approx([0.5] * 3, abs=0.04)
    assert (km**2).mean(0).numpy() == pytest.approx([1250] * 3, rel=0.04)
    north = (other[::3, 1] > 0).double().mean()
    assert north == pytest.approx(0.5, abs=0.04)


@pytest.mark.data
def test_coordinates_are_a_surface_in_space_with_known_alignment():
    found = diagnose(BASELINES["xyz"](), points=3000)
    assert found["effective_rank"] == pytest.approx(3, abs=0.1)
    assert found["intrinsic_dimension"] == pytest.approx(2, rel=0.08)
    # The chord is the arc: 50^2 / 2 km2, a little less by the coast, where partners at sea go.
    assert found["alignment"] == pytest.approx(1250 / MEAN_EARTH_RADIUS_KM**2, rel=0.05)
    assert found == diagnose(BASELINES["xyz"](), points=3000)


@pytest.mark.data
def test_a_constant_encoder_has_collapsed():
    with pytest.raises(ValueError, match="different embeddings"):
        diagnose(BASELINES["constant"](), points=100)
