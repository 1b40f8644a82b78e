"""LocationFeatures among scikit-learn's own tools."""

import pickle
import subprocess
import sys

import geopandas
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline, make_union
from sklearn.utils.estimator_checks import estimator_checks_generator

import locties
from locties import LocationFeatures
from locties.evaluation import folds

RNG = np.random.default_rng(0)
LONLAT = RNG.uniform([-180, -80], [180, 80], (120, 2)).astype(np.float32)
NORTH = LONLAT[:, 1] / 90


def small(seed: int = 0) -> locties.LocationEncoder:
    return locties.LocationEncoder("xyz", "mlp", 6, network_options={"hidden": 8}, seed=seed)


def frame() -> pd.DataFrame:
    return pd.DataFrame(LONLAT, columns=["lon", "lat"]).assign(soil=range(len(LONLAT)))


def test_it_gives_the_encoders_embeddings_of_arrays_frames_and_geometry():
    here = small()(LONLAT).detach().numpy()
    points = geopandas.points_from_xy(*LONLAT.T, crs=4326)
    for places in (
        LONLAT,
        LONLAT.tolist(),
        frame(),
        geopandas.GeoDataFrame(geometry=points).to_crs(3857),
    ):
        result = LocationFeatures(small()).fit_transform(places)
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, here, atol=1e-5)


def test_names_and_metadata_are_those_of_embed():
    features = LocationFeatures("melt").fit(frame())
    embedded = locties.embed("melt", frame())
    assert list(features.get_feature_names_out()) == list(embedded.columns)
    assert features.metadata_ == embedded.attrs


def test_output_is_a_frame_where_that_is_asked_for():
    places = frame().set_index("soil")
    result = LocationFeatures(small()).set_output(transform="pandas").fit_transform(places)
    pd.testing.assert_frame_equal(result, locties.embed(small(), places), check_names=False)


def test_in_a_pipeline_it_predicts():
    model = make_pipeline(LocationFeatures(small()), Ridge(1e-3)).fit(LONLAT, NORTH)
    assert model.score(LONLAT, NORTH) > 0.9
    # Trained on a table, asked at coordinates.
    on_frame = make_pipeline(LocationFeatures(small()), Ridge(1e-3)).fit(frame(), NORTH)
    np.testing.assert_allclose(on_frame.predict(LONLAT), model.predict(LONLAT))


def test_other_columns_pass_through_a_column_transformer():
    columns = make_column_transformer(
        (LocationFeatures(small()), ["lon", "lat"]), remainder="passthrough"
    ).set_output(transform="pandas")
    result = columns.fit_transform(frame())
    assert result.shape == (120, 7)
    assert list(result.iloc[:, -1]) == list(range(120))
    assert result.columns[0] == "locationfeatures__embedding_000"


def test_two_encoders_side_by_side():
    both = make_union(LocationFeatures(small(0)), LocationFeatures(small(1)))
    assert both.fit_transform(LONLAT).shape == (120, 12)


def test_a_grid_search_chooses_the_encoder():
    """One of the two gives the same for every place."""
    model = make_pipeline(LocationFeatures("melt"), Ridge(1e-3))
    grid = {
        "locationfeatures__encoder": [lambda lonlat: 0 * lonlat, small()],
        "ridge__alpha": [1e-3, 1.0],
    }
    block = folds(LONLAT, "block")
    splits = [(np.flatnonzero(block != i), np.flatnonzero(block == i)) for i in range(5)]
    search = GridSearchCV(model, grid, cv=splits).fit(LONLAT, NORTH)
    assert isinstance(search.best_params_["locationfeatures__encoder"], locties.LocationEncoder)
    assert search.best_score_ > 0.8
    assert cross_val_score(search.best_estimator_, LONLAT, NORTH, cv=splits).min() > 0.5


def test_a_clone_is_unfitted_and_has_the_same_parameters():
    original = LocationFeatures(small(), lon="x", lat="y")
    copy = clone(original)
    assert (copy.lon, copy.lat) == ("x", "y")
    places = frame().rename(columns={"lon": "x", "lat": "y"})
    np.testing.assert_array_equal(copy.fit_transform(places), original.fit_transform(places))
    assert not hasattr(clone(original), "encoder_")
    assert LocationFeatures("melt").get_params() == {"encoder": "melt", "lon": None, "lat": None}


@pytest.mark.slow
def test_a_pickle_gives_the_same_in_another_process(tmp_path):
    model = make_pipeline(LocationFeatures(small()), Ridge()).fit(LONLAT, NORTH)
    (tmp_path / "model.pickle").write_bytes(pickle.dumps(model))
    script = (
        "import pickle, sys; model = pickle.load(open(sys.argv[1], 'rb'));"
        "print(float(model.predict([[13.4, 52.5]])[0]))"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model.pickle")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert float(printed) == pytest.approx(float(model.predict([[13.4, 52.5]])[0]), abs=1e-5)


@pytest.mark.parametrize(
    ("places", "said"),
    [
        (LONLAT[:, ::-1], "seem to be swapped; pass array"),
        (np.ones((3, 4)), r"shape \(3, 4\); pass shape \(N, 2\)"),
        (np.array([[13.4, np.nan], [1, 2]]), "longitude or latitude is missing|missing: row 0"),
        (frame().rename(columns={"lon": "east"}), "Pass lon="),
    ],
)
def test_what_is_no_place_is_refused_in_fit_and_in_transform(places, said):
    with pytest.raises(ValueError, match=said):
        LocationFeatures(small()).fit(places)
    with pytest.raises(ValueError, match=said):
        LocationFeatures(small()).fit(LONLAT).transform(places)


# ---------------------------------------------------------------------- scikit-learn's own checks


class Anywhere(LocationFeatures):
    """Takes the checks' numbers, of any size and count of columns, for places on the globe."""

    def fit(self, X, y=None):
        fitted = super().fit(self._places(X))
        self.columns_ = np.shape(X)[1]
        return fitted

    def transform(self, X):
        result = super().transform(self._places(X))
        if np.shape(X)[1] != self.columns_:
            raise ValueError("the checks want as many columns as in fit")
        return result

    @staticmethod
    def _places(X):
        X = np.asarray(X)
        if X.ndim != 2 or X.shape[1] < 2 or X.dtype.kind not in "fiu" or not np.isfinite(X).all():
            return X
        return 80 * np.tanh(X[:, :2].astype(np.float64) / 100)


# What a check asks for, and why not here.
NOT_HERE = {
    "check_n_features_in_after_fitting": "any frame with the two columns is taken",
    "check_n_features_in": "it is 2, whatever else a frame holds",
    "check_dtype_object": "names a column that is no number in other words",
    "check_estimators_empty_data_messages": "no place gives no embedding, as with pandas",
    "check_complex_data": "says so in other words",
    "check_fit2d_1feature": "says so in other words",
    "check_fit2d_predict1d": "says so in other words",
    "check_estimators_nan_inf": "says which rows",
    "check_estimator_sparse_tag": "coordinates are not sparse",
    "check_estimator_sparse_array": "coordinates are not sparse",
    "check_estimator_sparse_matrix": "coordinates are not sparse",
    "check_transformer_data_not_an_array": "an array by protocol alone",
    "check_fit2d_1sample": "one place is enough",
    "check_methods_subset_invariance": "wants 1e-7, and float32 in other batches differs by 1e-6",
}
CHECKS = [
    check
    for _, check in estimator_checks_generator(Anywhere("melt"))
    if check.func.__name__ not in NOT_HERE
]


def test_most_checks_are_run():
    assert len(CHECKS) >= 30


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.func.__name__)
def test_scikit_learns_checks_pass(check):
    check(Anywhere("melt"))
