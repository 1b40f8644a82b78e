"""Probes: the small models fitted on frozen embeddings.

All targets at the same points are fitted together: the costly part, a decomposition or a neighbour
search, depends only on the embeddings. To add a probe, write a subclass of `Probe` and name it in
`PROBES`.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from locties._util.registry import Registry

Array = NDArray[np.float64]
Predictor = Callable[[NDArray[Any]], list[NDArray[Any]]]
# From embeddings `(M, d)` to `(M, C)` for each target: a measurement, or a score for each class.
Columns = Callable[[NDArray[Any]], list[NDArray[Any]]]

# Relative to the number of labels, so that it means the same for 50 labels as for 4,000. With
# standardised features, the smallest gives ordinary least squares, the largest the mean label.
PENALTIES = np.logspace(-7, 4, 12)
NEIGHBOURS = 10
HIDDEN = (64, 64, 64)
STEPS, BATCH = 3000, 200


def is_classification(target: NDArray[Any]) -> bool:
    """Whether a target holds class codes (integer type) and not measurements (floating type)."""
    return np.issubdtype(target.dtype, np.integer)


def as_columns(target: NDArray[Any]) -> Array:
    """A target as columns to average or regress: one, or one for each class."""
    if not is_classification(target):
        return target.astype(np.float64)[:, None]
    one_hot: Array = np.eye(target.max() + 1)[target]
    return one_hot


def _from_columns(target: NDArray[Any], columns: Array) -> NDArray[Any]:
    """From predicted columns (last axis) back to a measurement or a class code."""
    return columns.argmax(-1) if is_classification(target) else columns[..., 0]


def _clip(predicted: NDArray[Any], labels: NDArray[Any]) -> NDArray[Any]:
    """Clip measurements to the range of the training labels; class codes do not change."""
    return predicted if is_classification(labels) else predicted.clip(labels.min(), labels.max())


class Probe(ABC):
    """A small model that predicts targets from frozen embeddings.

    Args:
        x: `(N, d)` embeddings.
        targets: arrays `(N,)`; floating type is regressed, integers are class codes.
        fold: `(N,)` integers.
    """

    def __init__(
        self, x: NDArray[Any], targets: Sequence[NDArray[Any]], fold: NDArray[Any]
    ) -> None:
        self.x = np.asarray(x, dtype=np.float64)
        self.targets = targets
        self.fold = np.asarray(fold)

    @abstractmethod
    def columns(self, *held_out: int) -> Columns:
        """Learn from all folds except those held out.

        The result maps embeddings `(M, d)` to an array `(M, C)` for each target: one column of
        measurements, or a score for each class; the class with the highest score is the prediction.
        """

    def several(self, held_out: Sequence[Sequence[int]]) -> Columns:
        """Fit once without each of these sets of folds; join the columns of all fits.

        This is cheaper than separate fits. The result can be pickled if theirs can.
        """
        return _Several([self.columns(*folds) for folds in held_out])

    def fit(self, *held_out: int) -> Predictor:
        """Learn from all folds but those held out.

        The result maps embeddings `(M, d)` to a list of predictions `(M,)`, one for each target.
        """
        columns = self.columns(*held_out)
        return lambda x: [
            _from_columns(target, part)
            for target, part in zip(self.targets, columns(x), strict=True)
        ]

    def learning(self, *held_out: int) -> NDArray[np.bool_]:
        """`(N,)` rows outside the folds held out."""
        return ~np.isin(self.fold, held_out)


@dataclass(frozen=True)
class _Several:
    fits: Sequence[Columns]

    @property
    def importance(self) -> Any:
        """Importance of each feature `(d,)` in the first fit; one number if all are equal."""
        return getattr(self.fits[0], "importance", 1.0)

    def __call__(self, x: NDArray[Any]) -> list[NDArray[Any]]:
        return [part for fit in self.fits for part in fit(x)]


class _Path(NamedTuple):
    """Ridge solutions for all P penalties and K columns."""

    coefficients: Array  # (d, P, K)
    intercepts: Array  # (P, K)

    def predict(self, x: Array) -> Array:
        """`(N, P, K)`."""
        d, penalties, k = self.coefficients.shape
        flat = x @ self.coefficients.reshape(d, -1)
        return flat.reshape(len(x), penalties, k) + self.intercepts


def _scale(variance: Array) -> Array:
    """Standard deviations; infinite for constant features, so that they have no effect."""
    # Features have unit variance over all rows, so this threshold has no unit.
    return np.where(variance > 1e-10, np.sqrt(np.maximum(variance, 1e-300)), np.inf)


def _shrunk(vectors: Array, values: Array, target: Array) -> Array:
    """`vectors diag(1 / (values + penalty)) vectors^T target` for all penalties: `(m, P, K)`."""
    projected = vectors.T @ target
    weighted = projected[:, None] / (values[:, None, None] + PENALTIES[:, None])
    return (vectors @ weighted.reshape(len(values), -1)).reshape(weighted.shape)


def _primal_path(n: int, x: Array, y: Array, xx: Array, xy: Array) -> _Path:
    """Ridge with standardised features from sums over rows: one decomposition of `(d, d)`."""
    mean, target_mean = x / n, y / n
    covariance = xx / n - np.outer(mean, mean)
    scale = _scale(np.diagonal(covariance))
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    cross = (xy / n - np.outer(mean, target_mean)) / scale[:, None]
    coefficients = _shrunk(vectors, values, cross) / scale[:, None, None]
    return _Path(coefficients, target_mean - np.tensordot(mean, coefficients, 1))


def _dual_path(x: Array, y: Array) -> _Path:
    """As `_primal_path`, for fewer rows than features: one decomposition of `(n, n)`."""
    mean, target_mean, n = x.mean(0), y.mean(0), len(x)
    scale = _scale(x.var(0))
    standard = (x - mean) / scale
    values, vectors = np.linalg.eigh(standard @ standard.T / n)
    weights = _shrunk(vectors, values, (y - target_mean) / n)
    flat = standard.T @ weights.reshape(n, -1)
    coefficients = flat.reshape(-1, *weights.shape[1:]) / scale[:, None, None]
    return _Path(coefficients, target_mean - np.tensordot(mean, coefficients, 1))


@dataclass(frozen=True)
class RidgeColumns:
    """A fitted ridge: from embeddings `(M, d)` to an array `(M, C)` for each target."""

    centre: Array  # (d,), over all rows given, as the spread
    spread: Array
    coefficients: Array  # (d, C of all targets), for features with unit variance
    intercepts: Array
    slices: list[slice]
    ranges: list[tuple[float, float] | None]  # of the training labels; None for classes

    @property
    def importance(self) -> Array:
        """Mean size of the first target's coefficients, for each standardised feature `(d,)`."""
        importance: Array = np.abs(self.coefficients[:, self.slices[0]]).mean(1)
        return importance

    def __call__(self, x: NDArray[Any]) -> list[NDArray[Any]]:
        columns = (x - self.centre) / self.spread @ self.coefficients + self.intercepts
        parts = zip(self.slices, self.ranges, strict=True)
        return [
            columns[:, part] if ends is None else columns[:, part].clip(*ends)
            for part, ends in parts
        ]


class Ridge(Probe):
    """Ridge on standardised features, in closed form; classes by ridge on one-hot targets.

    The same as scikit-learn's ``StandardScaler`` with ``Ridge(alpha=penalty * n)`` or
    ``RidgeClassifier``, but predictions are clipped to the range of the labels (truncated least
    squares). Otherwise one absurd prediction could decide R².

    The penalty is chosen from `PENALTIES` for each target, by squared error or accuracy on the
    other outer folds; among equals, the strongest wins. The fit without folds i and j is used
    twice, so five folds take fifteen decompositions for any number of penalties and targets. Ridge
    ignores constant features.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(100, 3))
        >>> probe = Ridge(x, [x @ [1.0, 2.0, 3.0]], np.arange(100) % 5)
        >>> probe.fit()(np.ones((1, 3)))[0].round(3)
        array([6.])

    Source: Hoerl and Kennard (Technometrics 12, 1970); Györfi, Kohler, Krzyżak and Walk, *A
    Distribution-Free Theory of Nonparametric Regression* (2002), for clipping.
    """

    def __init__(
        self, x: NDArray[Any], targets: Sequence[NDArray[Any]], fold: NDArray[Any]
    ) -> None:
        super().__init__(x, targets, fold)
        # Shift and scale all rows, so that sums of products do not cancel. This changes no result:
        # every training set is standardised again.
        self._centre, spread = self.x.mean(0), self.x.std(0)
        rounding = 1e-6 * np.abs(self.x).max(0, initial=0)
        self._spread = np.where(spread > rounding, spread, np.inf)
        self.x = (self.x - self._centre) / self._spread
        columns = [as_columns(target) for target in targets]
        self._y = np.concatenate(columns, axis=1)
        ends = np.cumsum([0, *(part.shape[1] for part in columns)]).tolist()
        self._slices = [slice(*pair) for pair in pairwise(ends)]
        self._folds = frozenset(np.unique(self.fold).tolist())
        self._paths: dict[frozenset[int], _Path] = {}

    def columns(self, *held_out: int) -> "RidgeColumns":
        learning = self._folds - set(held_out)
        chosen, path = self._choose(learning), self._path(learning)
        pairs = list(zip(chosen, self._slices, strict=True))
        learnt = self.learning(*held_out)
        return RidgeColumns(
            self._centre,
            self._spread,
            np.concatenate([path.coefficients[:, p, part] for p, part in pairs], axis=1),
            np.concatenate([path.intercepts[p, part] for p, part in pairs]),
            self._slices,
            [
                None if is_classification(t) else (t[learnt].min(), t[learnt].max())
                for t in self.targets
            ],
        )

    def several(self, held_out: Sequence[Sequence[int]]) -> "RidgeColumns":
        fits = [self.columns(*folds) for folds in held_out]
        width = self._y.shape[1]
        return RidgeColumns(
            self._centre,
            self._spread,
            np.concatenate([fit.coefficients for fit in fits], axis=1),
            np.concatenate([fit.intercepts for fit in fits]),
            [
                slice(i * width + part.start, i * width + part.stop)
                for i in range(len(fits))
                for part in self._slices
            ],
            [ends for fit in fits for ends in fit.ranges],
        )

    def penalties(self, *held_out: int) -> list[float]:
        """The penalty that inner folds choose for each target, relative to the number of labels."""
        return [float(PENALTIES[p]) for p in self._choose(self._folds - set(held_out))]

    def _choose(self, learning: frozenset[int]) -> list[int]:
        scores = np.zeros((len(self.targets), len(PENALTIES)))
        for inner in sorted(learning) if len(learning) > 1 else ():
            rows = self.fold == inner
            learnt = np.isin(self.fold, list(learning - {inner}))
            predicted = self._path(learning - {inner}).predict(self.x[rows])
            for score, target, part in zip(scores, self.targets, self._slices, strict=True):
                answer = _clip(_from_columns(target, predicted[..., part]), target[learnt])
                truth = target[rows, None]
                if is_classification(target):
                    score += (answer == truth).sum(0)
                else:
                    score -= ((answer - truth) ** 2).sum(0)
        return [len(PENALTIES) - 1 - int(score[::-1].argmax()) for score in scores]

    def _path(self, learning: frozenset[int]) -> _Path:
        if learning not in self._paths:
            rows = np.isin(self.fold, sorted(learning))
            if rows.sum() < self.x.shape[1]:
                self._paths[learning] = _dual_path(self.x[rows], self._y[rows])
            else:
                # Sums over a set of folds are sums of the folds' sums.
                sums = zip(*(self._sums[fold] for fold in sorted(learning)), strict=True)
                n, x, y, xx, xy = (sum(parts) for parts in sums)
                self._paths[learning] = _primal_path(n, x, y, xx, xy)
        return self._paths[learning]

    @cached_property
    def _sums(self) -> dict[int, tuple[Any, ...]]:
        """The arguments of `_primal_path` for each fold: n, x, y, xx, xy."""
        rows = {fold: self.fold == fold for fold in self._folds}
        parts = {fold: (self.x[here], self._y[here]) for fold, here in rows.items()}
        return {f: (len(x), x.sum(0), y.sum(0), x.T @ x, x.T @ y) for f, (x, y) in parts.items()}


class NearestNeighbour(Probe):
    """The 10 nearest labels, weighted by inverse distance between L2-normalised embeddings.

    It is scikit-learn's ``KNeighborsRegressor`` on measurements and one-hot classes. With fewer
    than 10 labels, or if all embeddings are equal, all labels are neighbours.

    Source: Shepard (1968) for the weights.
    """

    def columns(self, *held_out: int) -> "NearestColumns":
        from sklearn.dummy import DummyRegressor
        from sklearn.neighbors import KNeighborsRegressor
        from sklearn.preprocessing import normalize

        rows = self.learning(*held_out)
        known, columns = normalize(self.x[rows]), [as_columns(t)[rows] for t in self.targets]
        alike = bool((known == known[0]).all())
        nearest = KNeighborsRegressor(min(NEIGHBOURS, len(known)), weights="distance")
        model = DummyRegressor() if alike else nearest
        model.fit(known, np.concatenate(columns, axis=1))
        return NearestColumns(model, np.cumsum([part.shape[1] for part in columns])[:-1])

    def several(self, held_out: Sequence[Sequence[int]]) -> Columns:
        from sklearn.neighbors import NearestNeighbors
        from sklearn.preprocessing import normalize

        known = normalize(self.x)
        learnt = np.array([self.learning(*folds) for folds in held_out])
        if any((known[rows] == known[rows][0]).all() for rows in learnt):
            return super().several(held_out)
        folds = np.unique(self.fold[learnt.any(0)])
        rows = [np.flatnonzero(self.fold == fold) for fold in folds]
        columns = [as_columns(target) for target in self.targets]
        return SharedNearestColumns(
            [NearestNeighbors(n_neighbors=min(NEIGHBOURS, len(r))).fit(known[r]) for r in rows],
            [np.concatenate([part[r] for part in columns], axis=1) for r in rows],
            learnt[:, [r[0] for r in rows]],
            np.cumsum([part.shape[1] for part in columns])[:-1],
        )


@dataclass(frozen=True)
class NearestColumns:
    """Fitted nearest neighbours: from embeddings `(M, d)` to an array `(M, C)` for each target."""

    model: Any
    ends: NDArray[np.int64]
    importance = 1.0  # of each feature

    def __call__(self, x: NDArray[Any]) -> list[NDArray[Any]]:
        from sklearn.preprocessing import normalize

        answer = self.model.predict(normalize(np.asarray(x, np.float64))).reshape(len(x), -1)
        return np.split(answer, self.ends, axis=1)


@dataclass(frozen=True)
class SharedNearestColumns:
    """Nearest neighbours without some folds, for several fits: one search in each fold serves all.

    The nearest of all labels are among the nearest of each fold.
    """

    searches: Sequence[Any]  # of F folds
    labels: Sequence[Array]  # (n, C of all targets) of each fold
    used: NDArray[np.bool_]  # (fits, F): the folds that a fit learns from
    ends: NDArray[np.int64]
    importance = 1.0  # of each feature

    def __call__(self, x: NDArray[Any]) -> list[NDArray[Any]]:
        from sklearn.preprocessing import normalize

        x = normalize(np.asarray(x, np.float64))
        found = [search.kneighbors(x) for search in self.searches]
        distance = np.concatenate([apart for apart, _ in found], axis=1)
        order = distance.argsort(axis=1, kind="stable")
        distance = np.take_along_axis(distance, order, 1)
        values = np.concatenate(
            [part[rows] for part, (_, rows) in zip(self.labels, found, strict=True)], axis=1
        )
        values = np.take_along_axis(values, order[..., None], 1)
        fold = np.repeat(np.arange(len(found)), [rows.shape[1] for _, rows in found])[order]
        with np.errstate(divide="ignore"):
            weight = 1 / distance
        answers = []
        for used in self.used:
            known = used[fold]
            near = np.where(known & (known.cumsum(1) <= NEIGHBOURS), weight, 0)
            here = np.isinf(near)  # a label in the very place decides alone
            near = np.where(here.any(1, keepdims=True), here, near)
            answer = (near[:, None] @ values)[:, 0] / near.sum(1, keepdims=True)
            answers += np.split(answer, self.ends, axis=1)
        return answers


class Mlp(Probe):
    """A small ReLU network, close to SatCLIP's probe. It is slow, so not a default.

    SatCLIP's notebook uses layers of 64 with ReLU, two of which share their weights, and squared
    error. It takes 3,000 steps of Adam at 0.001 over all labels at once, divides the target by its
    largest value and chooses nothing by validation. Here the probe is scikit-learn's
    ``MLPRegressor`` or ``MLPClassifier``: it shares no weights, takes batches of 200, stops when
    the training loss has not fallen by 1e-4 in ten epochs, standardises features and regression
    targets, and has weight decay 1e-4 and a fixed seed.

    Source: Klemmer et al., arXiv 2311.17179, and the notebook
    B01_Example_Air_Temperature_Prediction of github.com/microsoft/satclip, commit 1ead106.
    """

    def columns(self, *held_out: int) -> Columns:
        rows = self.learning(*held_out)
        fitted = [_network(self.x[rows], target, rows) for target in self.targets]
        return lambda x: [columns(np.asarray(x, dtype=np.float64)) for columns in fitted]


def _network(x: Array, target: NDArray[Any], rows: NDArray[np.bool_]) -> Callable[[Array], Array]:
    """One network on standardised features of the rows: from features to columns."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.neural_network import MLPClassifier, MLPRegressor

    mean, deviation, learnt = x.mean(0), x.std(0), target[rows]
    varies = deviation > 1e-6 * np.abs(x).max(0, initial=0)
    if not varies.any() or (learnt == learnt[0]).all():
        usual = as_columns(target)[rows].mean(0)
        return lambda new: np.tile(usual, (len(new), 1))
    spread = np.where(varies, deviation, np.inf)
    classify = is_classification(target)
    centre, scale = (0, 1) if classify else (learnt.mean(), learnt.std())
    batch = min(BATCH, len(x))
    network = (MLPClassifier if classify else MLPRegressor)(
        hidden_layer_sizes=HIDDEN,
        batch_size=batch,
        learning_rate_init=0.001,
        max_iter=-(-STEPS // -(-len(x) // batch)),
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # the number of steps is a setting
        network.fit((x - mean) / spread, learnt if classify else (learnt - centre) / scale)
    if not classify:
        return lambda new: network.predict((new - mean) / spread)[:, None] * scale + centre
    # A class that is not among these labels has probability 0.
    places = np.eye(target.max() + 1)[network.classes_]
    return lambda new: network.predict_proba((new - mean) / spread) @ places


class Boosting(Probe):
    """Gradient-boosted trees: what somebody who has the rasters themselves would fit.

    It is scikit-learn's ``HistGradientBoostingRegressor`` or ``...Classifier`` with its own
    settings and a fixed seed. Trees do not extrapolate, and need no scaling.

    Source: Friedman (Annals of Statistics 29, 2001); Ke et al. (NeurIPS 2017).
    """

    def columns(self, *held_out: int) -> Columns:
        rows = self.learning(*held_out)
        fitted = [_trees(self.x[rows], target, rows) for target in self.targets]
        return lambda x: [columns(np.asarray(x, dtype=np.float64)) for columns in fitted]


def _trees(x: Array, target: NDArray[Any], rows: NDArray[np.bool_]) -> Callable[[Array], Array]:
    """Trees fitted to the rows: from features to columns."""
    from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor

    learnt = target[rows]
    if (learnt == learnt[0]).all():
        usual = as_columns(target)[rows].mean(0)
        return lambda new: np.tile(usual, (len(new), 1))
    if not is_classification(target):
        trees = HistGradientBoostingRegressor(random_state=0).fit(x, learnt)
        return lambda new: trees.predict(new)[:, None]
    trees = HistGradientBoostingClassifier(random_state=0).fit(x, learnt)
    places = np.eye(target.max() + 1)[trees.classes_]
    return lambda new: trees.predict_proba(new) @ places


PROBES = Registry("probe", ridge=Ridge, knn=NearestNeighbour, mlp=Mlp, boosting=Boosting)
