"""Maps as scikit-learn estimators: places in, predictions out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)
from torch import Tensor

from locties.apply.frames import lonlat_of
from locties.apply.metadata import Encoder
from locties.evaluation.baselines import contender
from locties.evaluation.protocol import checked_embedding
from locties.evaluation.splits import count_places, possible_folds
from locties.mapping.conformal import ConformalProbe, Predictions, conformal_probe


class _LocationModel(BaseEstimator):
    """A probe on embeddings with CV+ over spatial blocks."""

    _probe: ConformalProbe

    def __init__(
        self,
        encoder: str | Path | Encoder = "best",
        *,
        probe: str = "ridge",
        coverage: float = 0.9,
        seed: int = 0,
    ) -> None:
        self.encoder = encoder
        self.probe = probe
        self.coverage = coverage
        self.seed = seed

    def _fit(self, X: Any, target: NDArray[Any]) -> Self:
        lonlat = _places(X)
        check_consistent_length(lonlat, target)
        if count_places(lonlat) < 2:
            raise ValueError(
                f"all labels (n_samples={len(target)}) are at one place: give at least two places"
            )
        self.encoder_ = contender(self.encoder)
        self.n_features_in_ = 2
        fold = possible_folds(lonlat, "block", self.seed)
        x = checked_embedding(self.encoder_, lonlat)
        self._probe = conformal_probe(self.probe, x, target, fold, self.coverage)
        return self

    def _predict(self, X: Any) -> Predictions:
        check_is_fitted(self)
        return self._probe.predict(checked_embedding(self.encoder_, _places(X)))

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "_probe")


def _places(X: Any) -> Tensor:
    """Checked coordinates; scikit-learn's own errors if X is not a table of two columns."""
    if not hasattr(X, "columns") and not hasattr(X, "to_crs"):
        X = check_array(X, dtype=None, ensure_all_finite=False, ensure_min_features=2)
    return lonlat_of(X)


class LocationRegressor(RegressorMixin, _LocationModel):
    """Regression on places, with prediction intervals.

    Args:
        encoder: as in `locties.evaluate`.
        probe: "ridge" or "knn".
        coverage: share of true values that intervals or sets should hold.
        seed: determines the folds.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> places = rng.uniform([0, 40], [30, 60], (60, 2))
        >>> model = LocationRegressor("melt").fit(places, places[:, 1])
        >>> bool(model.predict_interval([[10, 50]])[0, 0] < 50)
        True
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to values y (N,) at places X, as `locties.embed` takes them."""
        values = check_array(column_or_1d(y, warn=True), dtype=np.float64, ensure_2d=False)
        return self._fit(X, values)

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Values (M,)."""
        return self._predict(X).columns[:, 0]

    def predict_interval(self, X: Any) -> NDArray[np.float64]:
        """Lower and upper ends (M, 2); infinite with too few labels for the coverage."""
        return self._predict(X).intervals()


class LocationClassifier(ClassifierMixin, _LocationModel):
    """Classification of places, with probabilities and sets.

    Args:
        encoder: as in `locties.evaluate`.
        probe: "ridge" or "knn".
        coverage: share of true values that intervals or sets should hold.
        seed: determines the folds.
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to classes y (N,) at places X, as `locties.embed` takes them."""
        check_classification_targets(y)
        self.classes_, codes = np.unique(column_or_1d(y, warn=True), return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("all labels have one class; give at least 2 classes")
        return self._fit(X, codes.astype(np.int64))

    def predict(self, X: Any) -> NDArray[Any]:
        """Classes (M,)."""
        best = self._predict(X).columns.argmax(1)
        return np.asarray(self.classes_[best])

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Probability of each of `classes_` (M, K)."""
        return self._predict(X).probabilities()

    def predict_set(self, X: Any) -> NDArray[np.bool_]:
        """Which of `classes_` (M, K) the set of each place holds."""
        return self._predict(X).sets()
