"""Probes: the small models fitted on frozen embeddings.

A probe is made from embeddings `(N, d)`, a list of targets `(N,)` at the same points, and the fold
of each point. Targets of floating type are regressed; integer targets are class codes. Then
``fit(held_out)`` learns from every fold but one and gives a predictor for any embeddings. All
targets are fitted together: the costly part, a decomposition or a neighbour search, depends on
the embeddings alone.

A new probe is a class with that constructor and that method, named in `PROBES`.
"""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPClassifier, MLPRegressor

from locties._util.registry import Registry

Array = NDArray[np.float64]
Predictor = Callable[[NDArray[Any]], list[NDArray[Any]]]

# Relative to the number of labels, so that it means the same for 50 labels as for 4,000. With
# standardised features the ends are ordinary least squares and the mean of the labels.
PENALTIES = np.logspace(-7, 4, 12)
NEIGHBOURS = 10
HIDDEN = (64, 64, 64)
STEPS, BATCH = 3000, 200


def is_classification(target: NDArray[Any]) -> bool:
    """Whether a target holds class codes (integer type) and not measurements (floating type)."""
    return np.issubdtype(target.dtype, np.integer)


def _columns(target: NDArray[Any]) -> Array:
    """A target as columns to average or regress: one, or one for each class."""
    if not is_classification(target):
        return target.astype(np.float64)[:, None]
    return np.eye(target.max() + 1)[target]


def _answer(target: NDArray[Any], columns: Array) -> NDArray[Any]:
    """From predicted columns (last axis) back to a measurement or a class code."""
    return columns.argmax(-1) if is_classification(target) else columns[..., 0]


def _within(answer: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Measurements cut to the range of the labels learnt from; class codes as they are."""
    return answer if is_classification(labels) else answer.clip(labels.min(), labels.max())


def _slices(blocks: Sequence[Array]) -> list[slice]:
    ends = np.cumsum([block.shape[1] for block in blocks]).tolist()
    return [slice(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


@dataclass(frozen=True)
class _Moments:
    """The sums over a set of rows that ridge needs; those of a difference of sets subtract."""

    n: int
    x: Array  # (d,)
    y: Array  # (K,)
    xx: Array  # (d, d)
    xy: Array  # (d, K)

    @classmethod
    def of(cls, x: Array, y: Array) -> "_Moments":
        return cls(len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y)

    def __add__(self, other: "_Moments") -> "_Moments":
        return _Moments(
            self.n + other.n,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
        )


@dataclass(frozen=True)
class _Path:
    """Ridge solutions for every penalty: coefficients `(d, P, K)`, intercepts `(P, K)`."""

    coefficients: Array
    intercepts: Array

    def predict(self, x: Array) -> Array:
        """`(N, P, K)`."""
        d, penalties, k = self.coefficients.shape
        flat = x @ self.coefficients.reshape(d, -1)
        return flat.reshape(len(x), penalties, k) + self.intercepts


def _scale(variance: Array) -> Array:
    """Standard deviations; infinite where a feature is constant, which takes it out."""
    # Features come with unit variance over all rows, so this threshold has no unit.
    return np.where(variance > 1e-10, np.sqrt(np.maximum(variance, 1e-300)), np.inf)


def _shrunk(vectors: Array, values: Array, target: Array) -> Array:
    """`vectors diag(1 / (values + penalty)) vectors^T target` for all penalties: `(m, P, K)`."""
    projected = vectors.T @ target
    weighted = projected[:, None] / (values[:, None, None] + PENALTIES[:, None])
    return (vectors @ weighted.reshape(len(values), -1)).reshape(weighted.shape)


def _primal_path(sums: _Moments) -> _Path:
    """Ridge with standardised features from sums alone: one decomposition of a `(d, d)` matrix."""
    mean, target_mean = sums.x / sums.n, sums.y / sums.n
    covariance = sums.xx / sums.n - np.outer(mean, mean)
    scale = _scale(np.diagonal(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    cross = (sums.xy / sums.n - np.outer(mean, target_mean)) / scale[:, None]
    coefficients = _shrunk(vectors, values, cross) / scale[:, None, None]
    return _Path(coefficients, target_mean - np.tensordot(mean, coefficients, 1))


def _dual_path(x: Array, y: Array) -> _Path:
    """The same for fewer rows than features: one decomposition of an `(n, n)` matrix."""
    mean, target_mean, n = x.mean(0), y.mean(0), len(x)
    scale = _scale(x.var(0))
    standard = (x - mean) / scale
    values, vectors = np.linalg.eigh(standard @ standard.T / n)
    weights = _shrunk(vectors, values, (y - target_mean) / n)
    flat = standard.T @ weights.reshape(n, -1)
    coefficients = flat.reshape(-1, *weights.shape[1:]) / scale[:, None, None]
    return _Path(coefficients, target_mean - np.tensordot(mean, coefficients, 1))


class Ridge:
    """Ridge on standardised features, in closed form; classes by ridge on one-hot targets.

    It equals scikit-learn's ``StandardScaler`` and ``Ridge(alpha=penalty * n)`` or
    ``RidgeClassifier``, with predictions cut to the range of the labels learnt from: far from all
    labels a linear probe can be wrong by more than the Earth holds, and one such point would
    decide R² (truncated least squares: Györfi, Kohler, Krzyżak and Walk 2002, *A
    Distribution-Free Theory of Nonparametric Regression*).

    The penalty is chosen among `PENALTIES` for each target, by squared error or accuracy on inner
    folds. These are the other outer folds, so they are of the same kind: blocks inside blocks. It
    also makes the set without folds i and j serve twice, inside i and inside j: fifteen
    decompositions for five folds, whatever the number of penalties and targets. Among equal
    scores the strongest penalty wins. Constant features are left out; where all are, the
    prediction is the mean or the commonest class.

    Args:
        x: `(N, d)` embeddings.
        targets: arrays `(N,)`; floating type is regressed, integers are class codes.
        fold: `(N,)` integer fold of each row.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> probe = Ridge(x, [x @ [1.0, 2.0, 3.0]], np.arange(100) % 5)
        >>> probe.fit()(np.ones((1, 3)))[0].round(3)
        array([6.])

    Source: Hoerl and Kennard (Technometrics 12, 1970); the cut is truncated least squares as in
    Györfi et al. (2002).
    """

    def __init__(
        self, x: NDArray[Any], targets: Sequence[NDArray[Any]], fold: NDArray[Any]
    ) -> None:
        features = np.asarray(x, dtype=np.float64)
        # One shift and scale for all rows changes no result, since every training set is
        # standardised again, but keeps sums of products from cancelling.
        self._centre = features.mean(0)
        spread = features.std(0)
        rounding = 1e-6 * np.abs(features).max(0, initial=0)
        self._spread = np.where(spread > rounding, spread, np.inf)
        self._x = (features - self._centre) / self._spread
        self._targets = targets
        columns = [_columns(target) for target in targets]
        self._slices = _slices(columns)
        self._y = np.concatenate(columns, axis=1)
        self._fold = np.asarray(fold)
        self._folds = frozenset(np.unique(self._fold).tolist())
        self._moments: dict[int, _Moments] = {}
        self._paths: dict[frozenset[int], _Path] = {}

    def fit(self, held_out: int | None = None) -> Predictor:
        """Predictor learnt from all folds but `held_out` (all, by default).

        Args:
            held_out: a fold to leave out.

        Returns:
            Function from `(M, d)` embeddings to a list of predictions `(M,)`, one for each target.

        Example:
            >>> x = np.random.default_rng(0).normal(size=(100, 3))
            >>> fold = np.arange(100) % 5
            >>> predict = Ridge(x, [x @ [1.0, 2.0, 3.0]], fold).fit(held_out=0)
            >>> predict(np.eye(3))[0].round(3)
            array([1., 2., 3.])
        """
        outside = frozenset() if held_out is None else frozenset({held_out})
        chosen, path = self._choose(outside), self._path(self._folds - outside)
        pairs = list(zip(chosen, self._slices, strict=True))
        coefficients = np.concatenate([path.coefficients[:, p, part] for p, part in pairs], axis=1)
        intercepts = np.concatenate([path.intercepts[p, part] for p, part in pairs])
        learnt = ~np.isin(self._fold, list(outside))

        def predict(x: NDArray[Any]) -> list[NDArray[Any]]:
            columns = (x - self._centre) / self._spread @ coefficients + intercepts
            return [
                _within(_answer(target, columns[:, part]), target[learnt])
                for target, part in zip(self._targets, self._slices, strict=True)
            ]

        return predict

    def penalties(self, held_out: int | None = None) -> list[float]:
        """The penalty that inner folds choose for each target, relative to the number of labels.

        Args:
            held_out: as in `fit`.

        Returns:
            One of `PENALTIES` for each target.

        Example:
            >>> x = np.random.default_rng(0).normal(size=(100, 3))
            >>> fold = np.arange(100) % 5
            >>> Ridge(x, [x @ [1.0, 2.0, 3.0]], fold).penalties()
            [1e-07]

        Source: as `Ridge`; the grid and the choice by inner folds are this project's.
        """
        outside = frozenset() if held_out is None else frozenset({held_out})
        return [float(PENALTIES[p]) for p in self._choose(outside)]

    def _choose(self, outside: frozenset[int]) -> list[int]:
        scores = np.zeros((len(self._targets), len(PENALTIES)))
        learning = self._folds - outside
        if len(learning) > 1:
            for inner in sorted(learning):
                rows = self._fold == inner
                learnt = np.isin(self._fold, list(learning - {inner}))
                predicted = self._path(learning - {inner}).predict(self._x[rows])
                for score, target, part in zip(scores, self._targets, self._slices, strict=True):
                    answer = _within(_answer(target, predicted[..., part]), target[learnt])
                    truth = target[rows, None]
                    if is_classification(target):
                        score += (answer == truth).sum(0)
                    else:
                        score -= ((answer - truth) ** 2).sum(0)
        return [len(PENALTIES) - 1 - int(score[::-1].argmax()) for score in scores]

    def _path(self, learning: frozenset[int]) -> _Path:
        if learning not in self._paths:
            rows = np.isin(self._fold, sorted(learning))
            if rows.sum() < self._x.shape[1]:
                self._paths[learning] = _dual_path(self._x[rows], self._y[rows])
            else:
                first, *rest = (self._sums(fold) for fold in sorted(learning))
                self._paths[learning] = _primal_path(sum(rest, start=first))
        return self._paths[learning]

    def _sums(self, fold: int) -> _Moments:
        if fold not in self._moments:
            rows = self._fold == fold
            self._moments[fold] = _Moments.of(self._x[rows], self._y[rows])
        return self._moments[fold]


class NearestNeighbour:
    """The 10 nearest labels, weighted by inverse distance between L2-normalised embeddings.

    It equals scikit-learn's ``KNeighborsRegressor`` and ``KNeighborsClassifier`` with
    ``weights="distance"``. With fewer labels than 10 all are neighbours; so they are where every
    embedding is the same, since no label is then nearer than another.

    Args:
        x: `(N, d)` embeddings.
        targets: arrays `(N,)`; floating type is averaged, integers are class codes.
        fold: `(N,)` integer fold of each row.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> probe = NearestNeighbour(x, [x[:, 0]], np.arange(100) % 5)
        >>> bool(abs(probe.fit()(x[:1])[0][0] - x[0, 0]) < 1e-12)
        True

    Source: Shepard (1968) for the weights; k = 10 is a choice of this project.
    """

    def __init__(
        self, x: NDArray[Any], targets: Sequence[NDArray[Any]], fold: NDArray[Any]
    ) -> None:
        self._x = _unit(x)
        self._targets = targets
        self._fold = np.asarray(fold)

    def fit(self, held_out: int | None = None) -> Predictor:
        """Predictor learnt from all folds but `held_out` (all, by default).

        Args:
            held_out: a fold to leave out.

        Returns:
            Function from `(M, d)` embeddings to a list of predictions `(M,)`, one for each target.

        Example:
            >>> x = np.random.default_rng(0).normal(size=(100, 3))
            >>> fold = np.arange(100) % 5
            >>> predict = NearestNeighbour(x, [fold], fold).fit(held_out=0)
            >>> 0 in predict(x)[0]  # no label of the fold held out was seen
            False
        """
        rows = np.ones(len(self._fold), bool) if held_out is None else self._fold != held_out
        known, columns = self._x[rows], [_columns(target[rows]) for target in self._targets]
        search = NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(known))).fit(known)
        alike = (known == known[0]).all()

        def predict(x: NDArray[Any]) -> list[NDArray[Any]]:
            if alike:
                means = [np.tile(column.mean(0), (len(x), 1)) for column in columns]
                return [_answer(*each) for each in zip(self._targets, means, strict=True)]
            distance, nearest = search.kneighbors(_unit(x))
            same = distance == 0
            weight = np.where(same.any(1, keepdims=True), same, 1 / np.where(same, 1, distance))
            weight /= weight.sum(1, keepdims=True)
            return [
                _answer(target, np.einsum("nk,nkc->nc", weight, column[nearest]))
                for target, column in zip(self._targets, columns, strict=True)
            ]

        return predict


class Mlp:
    """SatCLIP's probe, for repeating its setting: a small ReLU network. Slow, so not a default.

    SatCLIP's notebook ``B01_Example_Air_Temperature_Prediction`` (github.com/microsoft/satclip,
    commit 1ead106; Klemmer et al., arXiv 2311.17179) has layers of 64 with ReLU, two of which
    share their weights; squared error; 3,000 steps of Adam at 0.001 over all labels at once; the
    target divided by its largest value. Nothing in it is chosen by validation. Here the network is
    scikit-learn's ``MLPRegressor`` or ``MLPClassifier``, one for each target, in these settings:

    - three layers of 64 (weights not shared), ReLU, Adam at 0.001, at most 3,000 steps;
    - batches of 200, and an end where the training loss has not fallen by 1e-4 in ten epochs;
    - features and regression targets standardised by the labels learnt from;
    - scikit-learn's default weight decay, 1e-4.

    Weights start from a fixed seed, so a result repeats. Where every feature is constant, or the
    labels have one class, the answer is the mean or the commonest class.

    Args:
        x: `(N, d)` embeddings.
        targets: arrays `(N,)`; floating type is regressed, integers are class codes.
        fold: `(N,)` integer fold of each row.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 2))
        >>> probe = Mlp(x, [(x[:, 0] > 0).astype(int)], np.arange(200) % 5)
        >>> probe.fit()(np.array([[2.0, 0.0], [-2.0, 0.0]]))[0]
        array([1, 0])

    Source: Klemmer et al., arXiv 2311.17179, and their notebook named above.
    """

    def __init__(
        self, x: NDArray[Any], targets: Sequence[NDArray[Any]], fold: NDArray[Any]
    ) -> None:
        self._x = np.asarray(x, dtype=np.float64)
        self._targets = targets
        self._fold = np.asarray(fold)

    def fit(self, held_out: int | None = None) -> Predictor:
        """Predictor learnt from all folds but `held_out` (all, by default).

        Args:
            held_out: a fold to leave out.

        Returns:
            Function from `(M, d)` embeddings to a list of predictions `(M,)`, one for each target.

        Example:
            >>> x = np.random.default_rng(0).normal(size=(200, 2))
            >>> fold = np.arange(200) % 5
            >>> predict = Mlp(x, [(x[:, 0] > 0).astype(int)], fold).fit(held_out=0)
            >>> predict(np.array([[2.0, 0.0], [-2.0, 0.0]]))[0]
            array([1, 0])
        """
        rows = np.ones(len(self._fold), bool) if held_out is None else self._fold != held_out
        fitted = [_network(self._x[rows], target[rows]) for target in self._targets]
        return lambda x: [predict(np.asarray(x, dtype=np.float64)) for predict in fitted]


def _network(x: Array, target: NDArray[Any]) -> Callable[[Array], NDArray[Any]]:
    """One network on standardised features: a function from features to answers."""
    mean, deviation = x.mean(0), x.std(0)
    varies = deviation > 1e-6 * np.abs(x).max(0, initial=0)
    if not varies.any() or (target == target[0]).all():
        usual = _answer(target, _columns(target).mean(0))
        return lambda new: np.full(len(new), usual)
    spread = np.where(varies, deviation, np.inf)
    classify = is_classification(target)
    centre, scale = (0, 1) if classify else (target.mean(), target.std())
    batch = min(BATCH, len(x))
    epochs = -(-STEPS // -(-len(x) // batch))
    network = (MLPClassifier if classify else MLPRegressor)(
        hidden_layer_sizes=HIDDEN,
        batch_size=batch,
        learning_rate_init=0.001,
        max_iter=epochs,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is a setting
        network.fit((x - mean) / spread, target if classify else (target - centre) / scale)
    return lambda new: network.predict((new - mean) / spread) * scale + centre


def _unit(x: NDArray[Any]) -> Array:
    features = np.asarray(x, dtype=np.float64)
    length = np.linalg.norm(features, axis=1, keepdims=True)
    return features / np.maximum(length, np.finfo(np.float64).tiny)


PROBES = Registry("probe", ridge=Ridge, knn=NearestNeighbour, mlp=Mlp)
