import numpy as np
import pytest
import torch

from locties.evaluation.splits import block_index, folds, nearest_label_km
from locties.lonlat import distance_km


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
