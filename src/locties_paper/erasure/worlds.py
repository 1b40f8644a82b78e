"""Linear worlds with known factors, and the theoretical best encoders there.

Source: Thoreau, Levillain and Derksen (arXiv 2509.17943) ask what alignment erases. The worlds,
measures and derivations here are this project's own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor

from locties._util.registry import unknown

Array = NDArray[np.float64]
Tie = Literal["paired", "location"]
TIES = ("paired", "location")
PAIR = ("first", "second")  # the modalities of a world
NOISE = 0.2  # variance of the noise in each channel, before scaling
SHARED_GAINS, PRIVATE_GAINS = (1.0, 0.4), (2.2, 1.3)  # variances, strongest and weakest factor


@dataclass(frozen=True)
class World:
    """Two Gaussian modalities of a location, made of shared and of private factors.

    With s the shared factors and p_m those of modality m, all independent and standard normal,

        x_m = A_m s + B_m p_m + noise,        p_m = sqrt(g) u_m + sqrt(1 - g) v_m

    A location determines s and u_m but not v_m, so g is the geographic share of the private
    factors. A location is given as a rotation of (s, u_1, u_2). The columns of (A_m, B_m) are
    orthogonal, and private columns are longer than shared ones. The mean variance of a channel is
    1.

    Args:
        factors: k, the number of shared factors, and of private factors of each modality.
        channels: of each modality, at least 2 k.
        geographic: g, in [0, 1].
        bend: b in [0, 1). Each channel becomes x + b/2 sin 2x, which only a nonlinear encoder
            undoes.
        seed: of the loadings.

    Example:
        >>> world = World(factors=2, channels=6)
        >>> {name: tuple(part.shape) for name, part in world.draw(5, torch.Generator()).items()}
        ... # doctest: +NORMALIZE_WHITESPACE
        {'first': (5, 6), 'second': (5, 6), 'location': (5, 6), 'shared': (5, 2),
         'private_first': (5, 2), 'private_second': (5, 2)}
    """

    factors: int = 4
    channels: int = 12
    geographic: float = 0.0
    bend: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.factors < 1 or self.channels < 2 * self.factors:
            raise ValueError(
                f"factors={self.factors}, channels={self.channels}: a world needs at least 1 "
                "factor, and twice as many channels as factors"
            )
        if not 0 <= self.geographic <= 1:
            raise ValueError(f"geographic={self.geographic}: it must be in [0, 1]")
        if not 0 <= self.bend < 1:
            raise ValueError(f"bend={self.bend}: it must be in [0, 1), or encoders cannot undo it")

    @cached_property
    def loadings(self) -> dict[str, Array]:
        """Linear maps `(d, F)` from F independent standard normal numbers, by name in `draw`.

        The numbers are s, u_1, u_2, v_1, v_2, then the noise of each modality's channels.
        """
        k, c = self.factors, self.channels
        rng = np.random.default_rng(self.seed)
        eye = np.eye(5 * k + 2 * c)
        shared, u, v = eye[:k], (eye[k : 2 * k], eye[2 * k : 3 * k]), eye[3 * k : 5 * k]
        lengths = np.sqrt([*np.linspace(*SHARED_GAINS, k), *np.linspace(*PRIVATE_GAINS, k)])
        scale = math.sqrt(c / (lengths @ lengths + c * NOISE))
        maps = {"location": _rotation(3 * k, rng) @ eye[: 3 * k], "shared": shared}
        for m, name in enumerate(PAIR):
            private = math.sqrt(self.geographic) * u[m]
            private = private + math.sqrt(1 - self.geographic) * v[m * k : (m + 1) * k]
            noise = math.sqrt(NOISE) * eye[5 * k + m * c : 5 * k + (m + 1) * c]
            mixing = _rotation(c, rng)[:, : 2 * k] * lengths
            maps[name] = scale * (mixing @ np.concatenate([shared, private]) + noise)
            maps[f"private_{name}"] = private
        order = [*PAIR, "location", "shared", *(f"private_{name}" for name in PAIR)]
        return {name: maps[name] for name in order}

    def covariance(self, one: str, other: str) -> Array:
        """Covariance of two parts that `draw` returns, before any bend."""
        return self.loadings[one] @ self.loadings[other].T

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """Samples of both modalities at n locations, the locations and the factors, as float32."""
        maps = {name: torch.from_numpy(part).float() for name, part in self.loadings.items()}
        independent = torch.randn(n, maps["first"].shape[1], generator=generator)
        drawn = {name: independent @ part.T for name, part in maps.items()}
        for name in PAIR:
            drawn[name] = drawn[name] + self.bend / 2 * (2 * drawn[name]).sin()
        return drawn


def _rotation(n: int, rng: np.random.Generator) -> Array:
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


class Prediction(NamedTuple):
    """The best linear encoders of a world, and what can be read from them.

    Attributes:
        encoders: weights (dim, d) by modality, with "location" if that is the tie.
        value: of the objective in `predict`.
        r2: by (embedded modality, factors), the mean R² of those factors.
        lasting: the same for the optimum reached from alignment alone. If it differs from `r2`,
            there are several optima, and training may end in any of them.
    """

    encoders: dict[str, Array]
    value: float
    r2: dict[tuple[str, str], float]
    lasting: dict[tuple[str, str], float]


def predict(world: World, dim: int, weight: float = 0.0, tie: Tie = "paired") -> Prediction:
    """The linear encoders that maximise alignment and fidelity, and what they keep.

    In a Gaussian world with many negatives, the smallest contrastive loss of linear encoders that
    read given subspaces is -1/2 times the sum of squared canonical correlations between the
    subspaces. The best linear decoder loses all content outside its subspace. So the encoders
    maximise

        (1 - weight)/2 mean_t |P_a K_t P_b|² + weight mean_m tr(P_m S_m) / tr(S_m)

    over projections P of rank `dim` in whitened coordinates. K_t is the whitened cross-covariance
    of the tie t = (a, b), and S_m the covariance of modality m. Paired modalities have one tie,
    with each other; unpaired ones are each tied to location. If all projections but one are fixed,
    the best choice of that one solves a generalised symmetric eigenproblem. These problems are
    solved in turn until nothing changes. The starts mix the best directions of alignment and of
    fidelity in every proportion, and the best result is returned. Any bend is ignored.

    With a weight of 0 and more dimensions than correlations, the loss does not determine the spare
    dimensions. They are empty here, so R² is the smallest that a best encoder can have. A small
    weight, such as 1e-6, gives the largest.

    Args:
        world: the world.
        dim: length of an embedding, at most `world.channels`.
        weight: of fidelity, from 0 (alignment alone) to 1.
        tie: "paired", or "location" for modalities that never meet.

    Example:
        >>> world = World(factors=2, channels=6)
        >>> aligned, kept = predict(world, 2).r2, predict(world, 2, weight=1.0).r2
        >>> round(aligned["first", "private_first"], 2), round(kept["first", "private_first"], 2)
        (0.0, 0.89)
    """
    check(tie, weight)
    views = list(PAIR) if tie == "paired" else [*PAIR, "location"]
    most = min(len(world.loadings[view]) for view in views)
    if not 1 <= dim <= most:
        raise ValueError(f"dim={dim}: it must be from 1 to {most} in this world")
    ties = [("first", "second")] if tie == "paired" else [(m, "location") for m in PAIR]
    spread = {view: world.covariance(view, view) for view in views}
    held = {m: spread[m] @ spread[m] / np.trace(spread[m]) / len(PAIR) for m in PAIR}

    def ascend(encoders: dict[str, Array], weight: float) -> tuple[float, dict[str, Array]]:
        value = -math.inf
        while True:
            for view in views:
                objective = weight * held.get(view, np.zeros_like(spread[view]))
                for pair in (pair for pair in ties if view in pair):
                    other = pair[0] if view == pair[1] else pair[1]
                    toward = world.covariance(view, other) @ encoders[other].T
                    objective = objective + (1 - weight) / 2 / len(ties) * toward @ toward.T
                encoders = encoders | {view: _leading(objective, spread[view], dim)}
            before, value = value, _value(world, encoders, ties, held, weight)
            if value <= before + 1e-12:
                return value, encoders

    whole = {view: np.linalg.inv(np.linalg.cholesky(spread[view])) for view in views}
    aligned = ascend(whole, 0.0)[1]
    faithful = {view: _leading(held.get(view, spread[view]), spread[view], dim) for view in views}
    ends = [
        ascend({v: np.concatenate([aligned[v][:n], faithful[v][: dim - n]]) for v in views}, weight)
        for n in range(dim, -1, -1)
    ]
    value, best = max(ends, key=lambda end: end[0])
    return Prediction(best, value, _r2(world, best), _r2(world, ends[0][1]))


def _leading(objective: Array, spread: Array, dim: int) -> Array:
    """(dim, d): leading generalised eigenvectors, of unit variance, or 0 where the value is 0."""
    d = len(spread)
    values, vectors = linalg.eigh(objective, spread, subset_by_index=[d - dim, d - 1])
    return np.ascontiguousarray(np.where(values > 1e-9, vectors, 0.0).T[::-1])


def _r2(world: World, encoders: Mapping[str, Array]) -> dict[tuple[str, str], float]:
    """R² of the factors, for encoders whose outputs are uncorrelated with variance 1 or 0."""
    factors = ("shared", *(f"private_{m}" for m in PAIR))
    return {
        (view, name): float(np.square(world.covariance(name, view) @ w.T).sum(1).mean())
        for view, w in encoders.items()
        for name in factors
    }


def _value(
    world: World,
    encoders: Mapping[str, Array],
    ties: Sequence[tuple[str, str]],
    held: Mapping[str, Array],
    weight: float,
) -> float:
    aligned = [
        np.square(encoders[a] @ world.covariance(a, b) @ encoders[b].T).sum() for a, b in ties
    ]
    kept = sum(np.trace(encoders[m] @ part @ encoders[m].T) for m, part in held.items())
    return float((1 - weight) / 2 * np.mean(aligned) + weight * kept)


def check(tie: str, weight: float) -> None:
    """Refuse an unknown tie, or a weight outside [0, 1]."""
    if tie not in TIES:
        raise unknown("tie", tie, TIES)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight={weight}: it must be in [0, 1]")
