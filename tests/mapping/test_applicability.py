"""The dissimilarity index against its definition, written out point by point."""

import numpy as np
import pytest

from locties.mapping.applicability import Applicability

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 5)) * [1, 10, 0.1, 3, 1] + [0, 50, 0, -7, 4]
FOLD = np.arange(80) % 4
IMPORTANCE = np.array([1.0, 0.5, 2.0, 0.0, 0.1])


def by_definition(x, new):
    """Of each new point; threshold; as in Meyer and Pebesma (2021), and CAST's `trainDI`."""

    def scaled(values):
        return (values - x.mean(0)) / x.std(0) * IMPORTANCE

    known = scaled(x)
    mean = np.mean(
        [np.linalg.norm(known[i] - known[j]) for i in range(80) for j in range(80) if i != j]
    )
    index = [min(np.linalg.norm(scaled(p) - k) for k in known) / mean for p in new]
    training = [
        min(np.linalg.norm(known[i] - known[j]) for j in range(80) if FOLD[i] != FOLD[j]) / mean
        for i in range(80)
    ]
    first, third = np.quantile(training, [0.25, 0.75])
    return index, max(t for t in training if t <= third + 1.5 * (third - first))


def test_index_and_threshold_are_those_of_the_definition():
    new = RNG.normal(size=(30, 5)) * 20
    index, threshold = by_definition(X, new)
    ours = Applicability(X, IMPORTANCE, FOLD)
    np.testing.assert_allclose(ours(new), index, rtol=1e-4)
    assert ours.threshold == pytest.approx(threshold, rel=1e-4)


def test_a_label_is_like_itself_and_scale_or_constant_features_change_nothing():
    plain = Applicability(X, IMPORTANCE, FOLD)
    assert plain(X) == pytest.approx(0, abs=1e-3)
    other = Applicability(
        np.column_stack([X * 7 + 3, np.full(80, 0.1)]), [*(IMPORTANCE * 9), 5], FOLD
    )
    assert other.threshold == pytest.approx(plain.threshold, rel=1e-4)


@pytest.mark.parametrize("importance", [np.zeros(5), 0.0])
def test_a_model_that_uses_no_feature_is_trusted_everywhere(importance):
    everywhere = Applicability(X, importance, FOLD)
    assert (everywhere(X * 100) <= everywhere.threshold).all()


def test_one_far_label_does_not_raise_the_threshold():
    far = X.copy()
    far[0] = 1e4
    # The far label widens the scale of all, so compare in units of the labels' own distances.
    inside = Applicability(far, 1.0, FOLD)
    assert inside(far[:1] * 0.5) > inside.threshold
