"""Prediction intervals and sets: CV+ and cross-conformal sets over spatial folds.

Each fold's labels are predicted by a model that has not seen the fold, and the errors there say how
far a prediction can be off. If whole blocks were exchangeable, a new place would lie inside with a
probability of at least 2 * coverage - 1, and usually of about `coverage`. Blocks of one world
are not quite that, so `fit_map` also measures the coverage on blocks held back.

Source: Barber, Candès, Ramdas and Tibshirani, "Predictive inference with the jackknife+" (Annals of
Statistics 49, 2021); Romano, Sesia and Candès, "Classification with valid and adaptive coverage"
(NeurIPS 2020).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from locties.evaluation.probes import PROBES, Columns, is_classification

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ConformalProbe:
    """A probe on all labels, with one for each fold that has not seen it.

    Attributes:
        columns: the probe on all labels: from embeddings `(M, d)` to `[(M, C)]`.
        without: the K probes, each fitted without one fold.
        errors: of each fold's labels, by the probe without it: absolute errors, or minus the score
            of the true class.
        sharpness: of class probabilities, softmax(sharpness * scores).
    """

    columns: Columns
    without: Sequence[Columns]
    errors: Sequence[Array]
    coverage: float
    sharpness: float

    @property
    def importance(self) -> Any:
        """Of each feature `(d,)`, or one number where all count alike."""
        return getattr(self.columns, "importance", 1.0)

    def predict(self, x: NDArray[Any]) -> Array:
        """`(M, C)`: measurements, or a score for each class."""
        return self.columns(x)[0]

    def intervals(self, x: NDArray[Any]) -> Array:
        """Lower and upper ends `(M, 2)`; infinite with too few labels for the coverage.

        They hold the prediction, which CV+ alone does not promise.
        """
        folds = np.stack([columns(x)[0][:, 0] for columns in self.without])
        ends = cv_plus_intervals(folds, self.errors, self.coverage)
        value = self.predict(x)
        return np.concatenate([np.minimum(ends[:, :1], value), np.maximum(ends[:, 1:], value)], 1)

    def sets(self, x: NDArray[Any]) -> NDArray[np.bool_]:
        """Which classes `(M, C)` each set holds: the predicted one always."""
        folds = np.stack([columns(x)[0] for columns in self.without])
        sets = cv_plus_sets(folds, self.errors, self.coverage)
        sets[np.arange(len(sets)), self.predict(x).argmax(1)] = True
        return sets

    def probabilities(self, x: NDArray[Any]) -> Array:
        """Of each class: `(M, C)`."""
        return softmax(self.sharpness * self.predict(x))


def conformal_probe(
    probe: str, x: NDArray[Any], target: NDArray[Any], fold: NDArray[np.int64], coverage: float
) -> ConformalProbe:
    """Fit a probe on embeddings `(N, d)`, with intervals or sets from the folds `(N,)`."""
    made = PROBES[probe](x, [target], fold)
    without, errors, scores = [], [], []
    for each in np.unique(fold).tolist():
        columns, here = made.columns(each), fold == each
        scores.append(columns(x[here])[0])
        errors.append(np.sort(_errors(scores[-1], target[here])))
        without.append(columns)
    order = np.argsort(fold, kind="stable")
    sharpness = _sharpness(np.concatenate(scores), target[order])
    return ConformalProbe(made.columns(), without, errors, coverage, sharpness)


def cv_plus_intervals(folds: Array, errors: Sequence[Array], coverage: float) -> Array:
    """CV+ intervals `(M, 2)`.

    Args:
        folds: `(K, M)` predictions by the models without each of K folds.
        errors: of each fold's labels, their absolute errors by the model without it.
        coverage: wanted, such as 0.9.
    """
    n = sum(map(len, errors))
    rank = smallest_rank(n, coverage)
    if rank > n:
        return np.tile([-np.inf, np.inf], (folds.shape[1], 1))
    fold, error = np.repeat(np.arange(len(folds)), list(map(len, errors))), np.concatenate(errors)
    ends = []
    for sign in (-1, 1):
        reach = (sign * folds[fold] + error[:, None]).T
        ends.append(sign * np.partition(reach, rank - 1, axis=1)[:, rank - 1])
    return np.stack(ends, axis=1)


def cv_plus_sets(folds: Array, errors: Sequence[Array], coverage: float) -> NDArray[np.bool_]:
    """Cross-conformal sets `(M, C)`.

    Args:
        folds: `(K, M, C)` scores by the models without each of K folds.
        errors: of each fold's labels, minus the score of the true class by the model without it;
            sorted.
        coverage: wanted, such as 0.9.
    """
    smaller = sum(np.searchsorted(e, -s, side="left") for e, s in zip(errors, folds, strict=True))
    return np.asarray(smaller < smallest_rank(sum(map(len, errors)), coverage))


def smallest_rank(n: int, coverage: float) -> int:
    """The rank, from 1, of the error that covers; more than n where n labels are too few.

    Example:
        >>> smallest_rank(9, 0.9), smallest_rank(8, 0.9)
        (9, 9)
    """
    return math.ceil(round(coverage * (n + 1), 9))


def softmax(scores: Array) -> Array:
    """Probabilities `(M, C)` from scores."""
    from scipy.special import softmax

    probabilities: Array = softmax(scores, axis=1)
    return probabilities


def _errors(columns: Array, target: NDArray[Any]) -> Array:
    if is_classification(target):
        return np.asarray(-columns[np.arange(len(target)), target])
    return np.asarray(np.abs(columns[:, 0] - target))


def _sharpness(scores: Array, target: NDArray[Any]) -> float:
    """That of the smallest log loss on labels not learnt from; 1 for measurements.

    Source: Guo, Pleiss, Sun and Weinberger, "On calibration of modern neural networks" (ICML 2017).
    """
    if not is_classification(target):
        return 1.0
    from scipy.special import log_softmax

    grid = np.logspace(-1, 2, 31)
    rows = np.arange(len(target))
    gains = [log_softmax(each * scores, axis=1)[rows, target].mean() for each in grid]
    return float(grid[int(np.argmax(gains))])
