"""Intervals and sets against MAPIE, and against what they promise."""

import numpy as np
import pytest
from mapie.classification import CrossConformalClassifier
from mapie.regression import CrossConformalRegressor
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import PredefinedSplit

from locties.mapping.conformal import (
    conformal_probe,
    cv_plus_intervals,
    cv_plus_sets,
    smallest_rank,
)

RNG = np.random.default_rng(0)
N, FOLDS = 203, 5  # of unequal size
X = RNG.normal(size=(N, 4))
Y = X @ [1.0, -2.0, 0.5, 0.0] + RNG.standard_t(3, size=N)
FOLD = RNG.permutation(np.arange(N) % FOLDS)
NEW = RNG.normal(size=(60, 4))


@pytest.mark.parametrize("coverage", [0.5, 0.8, 0.9, 0.95])
def test_intervals_are_those_of_mapie(coverage):
    theirs = CrossConformalRegressor(
        LinearRegression(), coverage, method="plus", cv=PredefinedSplit(FOLD)
    ).fit_conformalize(X, Y)
    expected = theirs.predict_interval(NEW)[1][:, :, 0]
    fits = [LinearRegression().fit(X[k != FOLD], Y[k != FOLD]) for k in range(FOLDS)]
    errors = [
        np.sort(np.abs(fit.predict(X[k == FOLD]) - Y[k == FOLD])) for k, fit in enumerate(fits)
    ]
    ours = cv_plus_intervals(np.stack([fit.predict(NEW) for fit in fits]), errors, coverage)
    np.testing.assert_allclose(ours, expected, rtol=1e-12)


class Softmax(ClassifierMixin, BaseEstimator):
    """Probabilities from a fixed function of the features, moved by what it is fitted to."""

    def fit(self, X, y):
        self.classes_, self.shift_ = np.arange(4), np.bincount(y, minlength=4) / len(y)
        return self

    def predict_proba(self, X):
        scores = np.exp(X + 3 * self.shift_)
        return scores / scores.sum(1, keepdims=True)

    def predict(self, X):
        return self.predict_proba(X).argmax(1)


# MAPIE asks for alpha (n - 1) errors that are as large, Romano et al. (2020) for more than
# alpha (n + 1) - 1. With these numbers of labels both are the same.
@pytest.mark.parametrize(("coverage", "n"), [(0.5, 204), (0.8, 204), (0.9, 209), (0.95, 219)])
def test_sets_are_those_of_mapie(coverage, n):
    x, fold = RNG.normal(size=(n, 4)), RNG.permutation(np.arange(n) % FOLDS)
    classes = (x + RNG.gumbel(size=x.shape)).argmax(1)
    theirs = CrossConformalClassifier(
        Softmax(), coverage, conformity_score="lac", cv=PredefinedSplit(fold)
    ).fit_conformalize(x, classes)
    expected = theirs.predict_set(NEW, agg_scores="crossval")[1][:, :, 0]
    fits = [Softmax().fit(x[k != fold], classes[k != fold]) for k in range(FOLDS)]
    errors = []
    for k, fit in enumerate(fits):
        rows = np.flatnonzero(k == fold)
        errors.append(np.sort(-fit.predict_proba(x[rows])[np.arange(len(rows)), classes[rows]]))
    ours = cv_plus_sets(np.stack([fit.predict_proba(NEW) for fit in fits]), errors, coverage)
    assert (ours == expected).all()
    assert 0 < ours.mean() < 1


@pytest.mark.parametrize(
    ("n", "coverage", "rank"), [(9, 0.9, 9), (8, 0.9, 9), (19, 0.95, 19), (99, 0.9, 90)]
)
def test_the_rank_is_exact_in_spite_of_rounding(n, coverage, rank):
    assert smallest_rank(n, coverage) == rank


@pytest.mark.slow
@pytest.mark.parametrize("probe", ["ridge", "knn"])
def test_new_draws_are_held_as_often_as_promised(probe):
    """Over worlds in which folds are exchangeable; CV+ promises 80%, and usually gives 90%."""
    held_values, held_classes = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(160, 3))
        values = x[:, 0] + rng.normal(size=160)
        classes = (x + rng.gumbel(size=x.shape)).argmax(1)
        for target, held in ((values, held_values), (classes, held_classes)):
            fitted = conformal_probe(probe, x[:60], target[:60], np.arange(60) % FOLDS, 0.9)
            held.append(fitted.predict(x[60:]).hold(target[60:]).mean())
    assert np.mean(held_values) == pytest.approx(0.9, abs=0.04)
    assert np.mean(held_classes) == pytest.approx(0.91, abs=0.05)


def test_sets_hold_what_they_promise_where_classes_are_known():
    """Worlds of 30 classes, of which many have labels in one fold alone, or in none."""
    held, sizes = [], []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        x = rng.normal(size=(260, 3))
        rare = rng.permutation(np.repeat(np.arange(15), [100, 60, 30, *[6] * 10, 5, 5]))
        classes = np.where(rng.random(260) < 0.5, (x + rng.gumbel(size=x.shape)).argmax(1), rare)
        fitted = conformal_probe("ridge", x[:60], classes[:60], np.arange(60) % FOLDS, 0.9)
        sets, there = fitted.predict(x[60:]).sets(), classes[60:]
        labelled = np.isin(np.arange(sets.shape[1]), classes[:60])
        assert not sets[:, ~labelled].any(), "a class without a label is in a set"
        known = labelled[there.clip(max=len(labelled) - 1)] & (there < len(labelled))
        assert 0 < known.mean() < 1
        held.append(sets[known, there[known]].mean())
        sizes.append(sets.sum(1).mean() / labelled.sum())
    assert np.mean(held) == pytest.approx(0.9, abs=0.04)
    assert np.mean(sizes) < 0.8


def test_a_set_always_holds_the_predicted_class():
    """A sure class in a world of sure classes: the errors alone would leave some sets empty."""
    x = np.repeat(np.eye(3), 20, 0)
    target = np.repeat(np.arange(3), 20)
    fitted = conformal_probe("ridge", x, target, np.arange(60) % FOLDS, 0.5)
    predictions = fitted.predict(RNG.normal(size=(50, 3)))
    assert predictions.sets()[np.arange(50), predictions.columns.argmax(1)].all()
