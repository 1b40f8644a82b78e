"""LocationRegressor and LocationClassifier, by themselves and among scikit-learn's own checks."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.sparse import issparse
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.utils.estimator_checks import estimator_checks_generator

from locties import LocationClassifier, LocationRegressor

RNG = np.random.default_rng(0)
LONLAT = RNG.uniform([-20, 35], [40, 65], (150, 2))
NORTH = LONLAT[:, 1] + RNG.normal(size=150)
BELT = np.array(["south", "middle", "north"])[np.digitize(NORTH, [45, 55])]
NEW = RNG.uniform([-20, 35], [40, 65], (400, 2))
NEW_NORTH = NEW[:, 1] + RNG.normal(size=400)


@pytest.mark.parametrize("probe", ["ridge", "knn"])
@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_intervals_hold_as_many_new_values_as_they_promise(probe, coverage):
    model = LocationRegressor("melt", probe=probe, coverage=coverage).fit(LONLAT, NORTH)
    assert model.score(NEW, NEW_NORTH) > 0.9
    low, high = model.predict_interval(NEW).T
    predicted = model.predict(NEW)
    assert ((low <= predicted) & (predicted <= high)).all()
    inside = ((low <= NEW_NORTH) & (high >= NEW_NORTH)).mean()
    # More where the new places are nearer to labels than blocks are.
    assert coverage - 0.05 < inside < coverage + 0.3


def test_sets_hold_as_many_new_classes_as_they_promise():
    model = LocationClassifier("melt").fit(LONLAT, BELT)
    truth = np.digitize(NEW_NORTH, [45, 55])
    codes = np.searchsorted(model.classes_, np.array(["south", "middle", "north"])[truth])
    sets, probabilities = model.predict_set(NEW), model.predict_proba(NEW)
    assert sets[np.arange(400), codes].mean() == pytest.approx(0.9, abs=0.06)
    assert sets.shape == probabilities.shape == (400, 3)
    assert probabilities.sum(1) == pytest.approx(1)
    # Where a class has a probability of 80% to 100%, it is right that often.
    sure = probabilities.max(1) > 0.8
    right = model.predict(NEW[sure]) == model.classes_[codes[sure]]
    assert 0.8 < right.mean() < 1


def test_places_come_as_arrays_or_frames():
    frame = pd.DataFrame({"lat": LONLAT[:, 1], "note": "x", "lon": LONLAT[:, 0]})
    by_frame = LocationRegressor("melt").fit(frame, NORTH).predict(frame)
    by_array = LocationRegressor("melt").fit(LONLAT, NORTH).predict(LONLAT)
    np.testing.assert_allclose(by_frame, by_array)


def test_a_grid_search_chooses_and_a_pickle_predicts_the_same():
    grid = {"encoder": ["constant", "xyz"], "probe": ["ridge", "knn"]}
    search = GridSearchCV(LocationRegressor(), grid, cv=3).fit(LONLAT, NORTH)
    assert search.best_params_["encoder"] == "xyz"
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict(NEW), search.predict(NEW))
    assert not hasattr(clone(search.best_estimator_), "encoder_")


def test_too_few_labels_give_a_prediction_and_infinite_intervals():
    model = LocationRegressor("melt").fit(LONLAT[:5], NORTH[:5])
    assert np.isfinite(model.predict(NEW)).all()
    assert np.isinf(model.predict_interval(NEW)).all()
    assert LocationClassifier("melt").fit(LONLAT[:5], BELT[:5]).predict_set(NEW).all()


@pytest.mark.parametrize(
    ("model", "X", "y", "said"),
    [
        (LocationRegressor(), LONLAT[:, ::-1] * 3, NORTH, "Latitude"),
        (LocationRegressor(), LONLAT, NORTH[:3], "inconsistent numbers"),
        (LocationRegressor(), LONLAT, np.full(150, np.nan), "NaN"),
        (LocationRegressor(), np.tile([[5.0, 5.0]], (150, 1)), NORTH, "one place"),
        (LocationRegressor("bset"), LONLAT, NORTH, "did you mean 'best'"),
        (LocationRegressor("melt", probe="rigde"), LONLAT, NORTH, "did you mean 'ridge'"),
        (LocationRegressor("melt", coverage=90), LONLAT, NORTH, "coverage=90"),
        (LocationClassifier(), LONLAT, np.full(150, "a"), "one class"),
    ],
)
def test_mistakes_are_named(model, X, y, said):
    with pytest.raises(ValueError, match=said):
        model.fit(X, y)


# ---------------------------------------------------------------------- scikit-learn's own checks


class Anywhere:
    """Takes the checks' numbers, of any size and count of columns, for places on the globe."""

    def fit(self, X, y):
        super().fit(self._places(X), y)
        self.columns_ = np.asarray(X).shape[1]
        return self

    def _predict(self, X):
        places = self._places(X)
        if hasattr(self, "columns_") and np.asarray(X).shape[1:] not in ((), (self.columns_,)):
            raise ValueError("the checks want as many columns as in fit")
        return super()._predict(places)

    @staticmethod
    def _places(X):
        if issparse(X):
            return X
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] < 2 or X.dtype.kind not in "fiu" or not np.isfinite(X).all():
            return X
        return 80 * np.tanh(X[:, :2].astype(np.float64) / 100)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        for kind in (tags.regressor_tags, tags.classifier_tags):
            if kind is not None:
                kind.poor_score = True  # two of the ten columns say little
        return tags


class Regressor(Anywhere, LocationRegressor):
    pass


class Classifier(Anywhere, LocationClassifier):
    pass


# What a check asks for, and why not here.
NOT_HERE = {
    "check_n_features_in_after_fitting": "any frame with the two columns is taken",
    "check_dtype_object": "names a column that is no number in other words",
    "check_estimators_nan_inf": "says which rows",
    "check_methods_subset_invariance": "wants 1e-7, and float32 in other batches differs by 1e-6",
}
CHECKS = [
    pytest.param(model, check, id=f"{model.__name__}-{check.func.__name__}")
    for model in (Regressor, Classifier)
    for _, check in estimator_checks_generator(model("melt"))
    if check.func.__name__ not in NOT_HERE
]


def test_most_checks_are_run():
    assert len(CHECKS) >= 90


@pytest.mark.parametrize(("model", "check"), CHECKS)
def test_scikit_learns_checks_pass(model, check):
    check(model("melt"))
