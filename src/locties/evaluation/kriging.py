"""Kriging with an embedding: a linear trend and a smooth residual, fitted together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locties.evaluation.probes import PROBES, Array, Probe, as_columns, is_classification

MOST_LABELS = 3000  # the work grows with their cube; this many are drawn if there are more
LABELS_FOR_SCALES = 256  # this many of them are used to fit the scales
NOISE = 1e-4  # smallest noise, as a share of the total variance
STEPS = 60
LARGEST = 6.0  # largest logarithm of a scale
PAIRS = 2**17  # of places and labels at once: 1 MB, which stays in the processor's cache


class Kriging(Probe):
    """A Gaussian process: linear in the embedding, smooth in the place, and noise.

    This is kriging with the embedding as trend. The smooth part has a Matérn covariance of
    smoothness 1.5, a function of the straight distance between places. The four scales (the range,
    and the variance of each part) maximise the posterior density under wide log-normal priors.
    Classes are one-hot targets that share the scales. Predicted measurements are clipped to the
    range of the labels.

    Args:
        x: `(N, d + 3)`: the embedding, then the place on the unit sphere, as from ``"best+xyz"``.
        targets: as for `Probe`.
        fold: as for `Probe`.

    Example:
        >>> places = torch.nn.functional.normalize(
        ...     torch.randn(60, 3, generator=torch.manual_seed(0)), dim=1).numpy()
        >>> probe = Kriging(places, [places[:, 2].astype(float)], np.arange(60) % 5)
        >>> bool(abs(probe.fit()(places[:1])[0][0] - places[0, 2]) < 0.01)
        True

    Source: Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), 2.7 and 5.4.
    """

    def columns(self, *held_out: int) -> KrigingColumns:
        rows = np.flatnonzero(self.learning(*held_out))
        if len(rows) > MOST_LABELS:
            rows = np.sort(np.random.default_rng(0).permutation(rows)[:MOST_LABELS])
        fields = [_field(self.x[rows], as_columns(t)[rows]) for t in self.targets]
        ends = [
            None if is_classification(t) else (t[rows].min(), t[rows].max()) for t in self.targets
        ]
        return KrigingColumns(fields, ends)

    def several(self, held_out: Sequence[Sequence[int]]) -> KrigingColumns:
        fits = [self.columns(*folds) for folds in held_out]
        return KrigingColumns(
            [field for fit in fits for field in fit.fields],
            [ends for fit in fits for ends in fit.ends],
        )


@dataclass(frozen=True)
class _Field:
    """A fitted process: `mean + trend + smooth part`."""

    coefficients: Tensor  # (d, C) of the embedding
    intercept: Tensor  # (C,)
    places: Tensor  # (N, 3)
    weights: Tensor  # (N, C)
    reach: float
    importance: Array

    def __call__(self, x: Tensor) -> Tensor:
        trend = self.intercept + x[:, :-3] @ self.coefficients
        parts = torch.split(x[:, -3:], max(1, PAIRS // len(self.places)))
        return trend + torch.cat([self._smooth(part) for part in parts])

    def _smooth(self, places: Tensor) -> Tensor:
        return _matern(_distance(places, self.places), self.reach) @ self.weights


@dataclass(frozen=True)
class KrigingColumns:
    """A fitted `Kriging`: a function of embeddings and places `(M, d + 3)`."""

    fields: list[_Field]
    ends: list[tuple[float, float] | None]

    @property
    def importance(self) -> Array:
        """Importance of each standardised feature for the first target."""
        return self.fields[0].importance

    def __call__(self, x: NDArray[Any]) -> list[NDArray[Any]]:
        points = _checked(x)
        answers = [field(points).numpy() for field in self.fields]
        return [
            answer if ends is None else answer.clip(*ends)
            for answer, ends in zip(answers, self.ends, strict=True)
        ]


def _checked(x: NDArray[Any]) -> Tensor:
    points = torch.from_numpy(np.asarray(x, np.float64))
    if points.shape[1] < 3 or not torch.allclose(
        points[:, -3:].norm(dim=1), torch.ones((), dtype=points.dtype), atol=1e-4
    ):
        raise ValueError(
            "kriging needs the place on the unit sphere as the last three features: append it, "
            "such as encoder='best+xyz'"
        )
    # float32 places are off the sphere, which would spoil small distances.
    place = torch.nn.functional.normalize(points[:, -3:], dim=1)
    return torch.cat([points[:, :-3], place], dim=1)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    """Straight distances `(N, M)` between places on the unit sphere."""
    # From differences: products would round away distances within a city.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def _matern(distance: Tensor, reach: Any) -> Tensor:
    """Matérn covariance of smoothness 1.5."""
    minus = distance * (-math.sqrt(3) / reach)
    decay = torch.exp(minus)
    return torch.addcmul(decay, minus, decay, value=-1)


def _field(x: NDArray[Any], columns: Array) -> _Field:
    points, known = _checked(x), torch.from_numpy(columns)
    embedding, places = points[:, :-3], points[:, -3:]
    mean = known.mean(0)
    size = float((known - mean).square().mean().sqrt()) or 1.0
    known = (known - mean) / size
    centre = embedding.mean(0)
    spread = (embedding - centre).square().mean(0).sqrt()
    varies = spread > 1e-6 * embedding.abs().amax(0)
    spread = torch.where(varies, spread, torch.inf)
    standard = (embedding - centre) / spread / math.sqrt(max(embedding.shape[1], 1))
    draw = torch.randperm(len(known), generator=torch.Generator().manual_seed(0))
    some = draw[:LABELS_FOR_SCALES].sort().values
    distances = torch.pdist(places[some])
    apart = distances[distances > 0]  # places repeat
    unit = float(apart.median()) / 2 if len(apart) else 1.0

    def covariance_of(rows: Tensor) -> Callable[[Tensor], Tensor]:
        distance = _distance(places[rows], places[rows])
        likeness = standard[rows] @ standard[rows].T

        def covariance(scales: Tensor) -> Tensor:
            reach, smooth, linear, noise = scales.clamp(-LARGEST, LARGEST).exp()
            found: Tensor = smooth * _matern(distance, unit * reach) + linear * likeness
            found.diagonal().add_(noise + NOISE * (1 + smooth + linear))
            return found

        return covariance

    scales = _scales(covariance_of(some), known[some])
    weights = torch.linalg.solve(covariance_of(torch.arange(len(known)))(scales), known)
    reach, smooth, linear, _ = scales.clamp(-LARGEST, LARGEST).exp().tolist()
    weights = weights * size
    coefficients = linear * standard.T @ weights / math.sqrt(max(embedding.shape[1], 1))
    moves = (places.std(0, correction=0) / (unit * reach)).clamp_max(1) * math.sqrt(smooth) * size
    importance = torch.cat([coefficients.abs().mean(1), moves]).numpy()
    coefficients = coefficients / spread[:, None]
    intercept = mean - centre @ coefficients
    return _Field(coefficients, intercept, places, smooth * weights, unit * reach, importance)


def _scales(covariance: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    """Logarithms of range, smooth, linear and noise variance that maximise the posterior."""
    scales = torch.tensor([0.0, 0.0, 0.0, math.log(0.3)], dtype=values.dtype, requires_grad=True)
    search = torch.optim.LBFGS([scales], max_iter=STEPS, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        search.zero_grad()
        factor = torch.linalg.cholesky(covariance(scales))
        fit = (torch.linalg.solve_triangular(factor, values, upper=False) ** 2).sum() / 2
        size = values.shape[1] * factor.diagonal().log().sum()
        prior = scales[0] ** 2 / 8 + (scales[1:] ** 2).sum() / 18
        total: Tensor = fit + size + prior
        total.backward()  # type: ignore[no-untyped-call]
        return total

    with torch.enable_grad():
        search.step(loss)  # type: ignore[no-untyped-call]
    return scales.detach()


PROBES["kriging"] = Kriging
