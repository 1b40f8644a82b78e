"""Where a map can be trusted: how much a place's embedding differs from those of the labels.

Source: Meyer and Pebesma, "Predicting into unknown space? Estimating the area of applicability of
spatial prediction models" (Methods in Ecology and Evolution 12, 2021, doi
10.1111/2041-210X.13650); as in the R package CAST.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PAIRS = 2**21  # of places and labels at once: 8 MB


class Applicability:
    """The dissimilarity index of places, and the threshold up to which they are trusted.

    Features are standardised and weighted by their importance in the probe. The index is the
    distance to the nearest label, divided by the mean distance between labels. For the threshold,
    each label gets its index from the labels of other folds. The threshold is the largest of these
    that is no outlier: at most 1.5 interquartile ranges above the third quartile.

    Args:
        x: `(N, d)` embeddings of the labels.
        importance: `(d,)`, or one number for all features.
        fold: `(N,)` integers.

    Attributes:
        threshold: places with a larger index are not trusted.
    """

    def __init__(self, x: NDArray[Any], importance: Any, fold: NDArray[np.int64]) -> None:
        self._centre, spread = x.mean(0, dtype=np.float64), x.std(0, dtype=np.float64)
        varies = spread > 1e-6 * np.abs(x).max(0)
        self._weight = np.where(varies, importance / np.where(varies, spread, 1), 0.0)
        self._known = self._weighted(x)
        self._unit = self._mean_distance() or 1.0
        nearest = np.empty(len(x))
        for each in np.unique(fold):
            here = fold == each
            nearest[here] = _nearest(self._known[here], self._known[~here])
        self.threshold = _largest_usual(nearest / self._unit)

    def __call__(self, x: NDArray[Any]) -> Array:
        """The dissimilarity index of embeddings `(M, d)`: `(M,)`."""
        return _nearest(self._weighted(x), self._known) / self._unit

    def _weighted(self, x: NDArray[Any]) -> NDArray[np.float32]:
        weighted: NDArray[np.float32] = ((x - self._centre) * self._weight).astype(np.float32)
        return weighted

    def _mean_distance(self) -> float:
        """Mean distance between two different labels."""
        from sklearn.metrics import pairwise_distances_chunked

        n = len(self._known)
        total = sum(float(part.sum()) for part in pairwise_distances_chunked(self._known))
        return total / (n * (n - 1)) if n > 1 else 0.0


def _nearest(x: NDArray[np.float32], known: NDArray[np.float32]) -> Array:
    """Distance from each row of x to the nearest known row."""
    distance = np.zeros(len(x))
    if not len(known):
        return distance
    half = np.square(known).sum(1) / 2
    size = max(1, PAIRS // len(known))
    for start in range(0, len(x), size):
        part = x[start : start + size]
        # A product finds the nearest fast but rounds small distances to 0, so take differences.
        nearest = (half - part @ known.T).argmin(1)
        distance[start : start + size] = np.linalg.norm(part - known[nearest], axis=1)
    return distance


def _largest_usual(values: Array) -> float:
    """The largest value within 1.5 interquartile ranges of the third quartile."""
    first, third = np.quantile(values, [0.25, 0.75])
    return float(values[values <= third + 1.5 * (third - first)].max())
