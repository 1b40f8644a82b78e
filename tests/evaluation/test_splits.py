import numpy as np
import pytest
import torch

from locties.evaluation import TIERS
from locties.evaluation.splits import (
    block_degrees,
    block_index,
    folds,
    nearest_label_km,
    possible_folds,
)
from locties.lonlat import BLOCK_DEGREES, cell_index, distance_km


@pytest.fixture(scope="module")
def globe():
    rng = np.random.default_rng(0)
    latitude = np.rad2deg(np.arcsin(rng.uniform(-1, 1, 3000)))
    return torch.tensor(np.stack([rng.uniform(-180, 180, 3000), latitude], 1))


@pytest.mark.parametrize("split", ["random", "block"])
def test_folds_are_even_complete_and_repeat_with_their_seed(globe, split):
    fold = folds(globe, split, n=5, seed=1)
    sizes = np.bincount(fold)
    assert len(sizes) == 5
    assert sizes.max() - sizes.min() <= 30, f"uneven folds: {sizes}"
    assert (fold == folds(globe, split, n=5, seed=1)).all()
    assert (fold != folds(globe, split, n=5, seed=2)).any()


def test_block_folds_never_split_a_block_and_random_folds_do(globe):
    block = block_index(globe)

    def folds_per_block(split):
        fold = folds(globe, split)
        return max(len(np.unique(fold[block == each])) for each in np.unique(block))

    assert folds_per_block("block") == 1
    assert folds_per_block("random") > 1


def test_block_folds_do_not_depend_on_the_order_of_points(globe):
    order = np.random.default_rng(3).permutation(len(globe))
    assert (folds(globe[order], "block") == folds(globe, "block")[order]).all()


def test_unknown_split_names_the_nearest(globe):
    with pytest.raises(ValueError, match="did you mean 'block'"):
        folds(globe, "blocks")


@pytest.mark.parametrize(
    ("lonlat", "split", "said"),
    [
        (np.full((100, 2), 5.5), "block", "at 5 places or more, but there are 1: add"),
        (np.repeat([[0, 0], [1, 1], [2, 2]], 9, 0), "block", "at 5 places.*there are 3: add"),
        ([[0, 0], [1, 1], [2, 2]], "random", "at 5 points or more, but there are 3: add"),
    ],
)
def test_fewer_places_than_folds_is_a_clear_error(lonlat, split, said):
    with pytest.raises(ValueError, match=said):
        folds(lonlat, split)


def test_a_single_fold_is_refused():
    with pytest.raises(ValueError, match="n=1"):
        folds([[0, 0], [1, 1], [2, 2]], "random", n=1)


def test_nearest_label_is_the_least_of_all_distances(globe):
    test, train = globe[:200], globe[200:500]
    every = distance_km(test[:, None], train[None])
    assert nearest_label_km(test, train) == pytest.approx(every.amin(1).numpy(), rel=1e-9)


def test_nearest_label_crosses_the_date_line_and_needs_a_label():
    assert nearest_label_km([[179.5, 0]], [[-179.5, 0], [170, 0]])[0] == pytest.approx(111.2, abs=1)
    with pytest.raises(ValueError, match="no training label"):
        nearest_label_km([[0, 0]], np.empty((0, 2)))


def test_held_out_blocks_are_farther_from_labels_than_random_points(globe):
    def median(split):
        test = folds(globe, split) == 0
        return np.median(nearest_label_km(globe[test], globe[~test]))

    assert median("block") > 1.5 * median("random")


def region(n, degrees, lon=5.7, lat=50.9):
    return np.random.default_rng(1).uniform([lon, lat], [lon + degrees, lat + degrees], (n, 2))


@pytest.mark.parametrize(
    ("lonlat", "side"),
    [
        (region(60, 0.1), 0.02),  # ten kilometres
        (region(500, 1e-3), 0.0),  # a garden: each place is a block
        (region(60, 1), 0.2),
        (region(500, 10), 2),
        (region(3000, 40, 0, 20), 5),
        (region(20, 160, -179, -80), 10),
        (region(5, 0.001), 0.0),
        (np.repeat(region(6, 1), 10, axis=0), 0.2),
    ],
)
def test_blocks_are_as_large_as_the_extent_of_the_labels_allows(lonlat, side):
    assert block_degrees(lonlat) == side
    fold, block = folds(lonlat, "block"), block_index(lonlat)
    assert len(np.unique(fold)) == 5
    for each in np.unique(block):
        assert len(np.unique(fold[block == each])) == 1


def test_blocks_of_the_globe_stay_ten_degrees(globe):
    assert block_degrees(globe) == BLOCK_DEGREES
    assert (block_index(globe) == cell_index(globe, BLOCK_DEGREES).numpy()).all()


@pytest.mark.data
@pytest.mark.parametrize(("tier", "name"), [(t, n) for t, tasks in TIERS.items() for n in tasks])
@pytest.mark.parametrize("points", [1000, 5000])
def test_blocks_of_published_tasks_stay_ten_degrees(earth, open_tier, tier, name, points):
    task = TIERS[tier][name](points=points)
    assert (block_index(task.lonlat) == cell_index(task.lonlat, BLOCK_DEGREES).numpy()).all()


@pytest.mark.parametrize("degrees", [0.001, 0.1, 3, 100])
def test_a_place_never_stands_on_both_sides_of_a_block_split(degrees):
    lonlat = np.repeat(region(30, degrees, -60, -60), 3, axis=0)
    fold = folds(lonlat, "block").reshape(30, 3)
    assert (fold == fold[:, :1]).all()


@pytest.mark.parametrize(("places", "folds_"), [(1, 1), (2, 2), (3, 3), (5, 5), (40, 5)])
@pytest.mark.parametrize("split", ["random", "block"])
def test_possible_folds_are_as_many_as_there_are_places(places, folds_, split):
    lonlat = np.repeat(region(places, 1), 2, axis=0)
    assert len(np.unique(possible_folds(lonlat, split))) == folds_
