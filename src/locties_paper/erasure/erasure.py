"""What alignment erases: private information, in a world of known factors and in real modalities.

A *linear world* has factors that two modalities share and factors that each has alone; what theory
says of encoders trained there is computed in closed form (`predict`), and encoders are trained
beside it (`train`). On real modalities the same question needs no factors: what no other modality
predicts of a modality's content is private (`split_content`), and ridge says how much of it an
embedding still holds (`readable`). `verdict` judges claim C6.

Source: the question is that of Thoreau, Levillain and Derksen (arXiv 2509.17943); the worlds,
measures and derivations here are this project's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import linalg
from torch import Tensor, nn

from locties._util.registry import unknown
from locties.evaluation.probes import Ridge
from locties.evaluation.protocol import Encoder, embed
from locties.evaluation.splits import folds
from locties.evaluation.statistics import Interval, mean_interval
from locties.modalities import Gathered
from locties.modality import Modality
from locties.objectives import INITIAL_LOG_SCALE, LARGEST_LOG_SCALE, Batch, content, nt_xent

Array = NDArray[np.float64]
Tie = Literal["paired", "location"]
TIES = ("paired", "location")
Case = tuple[float, float]  # weight of fidelity, and the part of all pairs trained on
PAIR = ("first", "second")
MARGIN = 0.05  # of claim C6, in R²
SEEDS = 10  # for a verdict
NOISE = 0.2  # variance of each channel's own noise, before scaling
BLUR = 0.05  # of the embedding's root mean square
SHARED_GAINS, PRIVATE_GAINS = (1.0, 0.4), (2.2, 1.3)  # variances, from the strongest to the weakest
LEGS = {
    "erasure": "the fall of private content",
    "selectivity": "the fall of private content less that of shared",
}
EXTRA = "private less shared"
CONTENT = {"private": "private content", "contrast": "private contrast", "shared": "shared content"}


@dataclass(frozen=True)
class World:
    """Two Gaussian modalities of a location, made of shared and of private factors.

    With s the shared factors and p_m those of modality m, all independent and standard normal,

        x_m = A_m s + B_m p_m + noise,        p_m = sqrt(g) u_m + sqrt(1 - g) v_m

    A location determines s and u_m, and says nothing of v_m: g is the part of what is private that
    is geographic. What is known of a location is a rotation of (s, u_1, u_2). The columns of
    (A_m, B_m) are orthogonal, private ones longer than shared ones; channels have a variance of 1
    on average.

    Args:
        factors: k, how many are shared, and how many are private to each modality.
        channels: of each modality, at least 2 k.
        geographic: g, in [0, 1].
        bend: 0 leaves samples as they are; b makes each channel x + b/2 sin 2x, which an encoder
            that is not linear could undo; in [0, 1).
        seed: of the loadings.

    Raises:
        ValueError: at numbers outside these bounds.

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
            raise ValueError(f"bend={self.bend}: it must be in [0, 1), or samples cannot be undone")

    @cached_property
    def loadings(self) -> dict[str, Array]:
        """What `draw` gives, by name, as linear maps `(d, F)` of F independent normal numbers.

        These are s, u_1, u_2, v_1, v_2, and then the noise of each modality's channels.
        """
        k, c = self.factors, self.channels
        rng = np.random.default_rng(self.seed)
        eye = np.eye(5 * k + 2 * c)
        shared, u, v = eye[:k], (eye[k : 2 * k], eye[2 * k : 3 * k]), eye[3 * k : 5 * k]
        lengths = np.sqrt([*np.linspace(*SHARED_GAINS, k), *np.linspace(*PRIVATE_GAINS, k)])
        scale = math.sqrt(c / (lengths @ lengths + c * NOISE))
        maps = {"location": _rotation(3 * k, rng) @ eye[: 3 * k], "shared": shared}
        for m, name in enumerate(PAIR):
            own = math.sqrt(self.geographic) * u[m]
            own = own + math.sqrt(1 - self.geographic) * v[m * k : (m + 1) * k]
            noise = math.sqrt(NOISE) * eye[5 * k + m * c : 5 * k + (m + 1) * c]
            mixing = _rotation(c, rng)[:, : 2 * k] * lengths
            maps[name] = scale * (mixing @ np.concatenate([shared, own]) + noise)
            maps[f"private_{name}"] = own
        order = [*PAIR, "location", "shared", *(f"private_{name}" for name in PAIR)]
        return {name: maps[name] for name in order}

    def covariance(self, one: str, other: str) -> Array:
        """Covariance of two of the parts that `draw` gives, before any bend."""
        return self.loadings[one] @ self.loadings[other].T

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        """n locations: the samples of both modalities, what is known of the location, the factors.

        Returns:
            By name (first, second, location, shared, private_first, private_second) `(n, ...)`
            float32.
        """
        maps = {name: torch.from_numpy(part).float() for name, part in self.loadings.items()}
        independent = torch.randn(n, maps["first"].shape[1], generator=generator)
        drawn = {name: independent @ part.T for name, part in maps.items()}
        for name in PAIR:
            drawn[name] = drawn[name] + self.bend / 2 * (2 * drawn[name]).sin()
        return drawn


def _rotation(n: int, rng: np.random.Generator) -> Array:
    return np.linalg.qr(rng.normal(size=(n, n)))[0]


# ------------------------------------------------------------------------------- what theory says


class Prediction(NamedTuple):
    """Best linear encoders of a world, and what can be read from them.

    Attributes:
        encoders: by name of modality, and "location" where that is the tie, (dim, d) weights.
        value: what the encoders are best in: see `predict`.
        r2: by (embedded modality, factors), the mean R² of those factors.
        lasting: the same for the encoders that climbing from alignment alone ends in. Where it
            differs from `r2`, more than one optimum holds, and training may end in any.
    """

    encoders: dict[str, Array]
    value: float
    r2: dict[tuple[str, str], float]
    lasting: dict[tuple[str, str], float]


def predict(world: World, dim: int, weight: float = 0.0, tie: Tie = "paired") -> Prediction:
    """What the linear encoders that are best in alignment and fidelity keep.

    In a Gaussian world with many negatives, the least contrastive loss of linear encoders, given
    the subspaces that they read, is -1/2 times the sum of squared canonical correlations between
    these subspaces; the best linear decoder leaves of a modality what its subspace does not hold.
    So the encoders sought maximise

        (1 - weight)/2 mean_t |P_a K_t P_b|² + weight mean_m tr(P_m S_m) / tr(S_m)

    over projections P of rank `dim` in whitened coordinates; K_t is the whitened cross-covariance
    of the tie t = (a, b), S_m the covariance of modality m. Paired modalities have one tie, of one
    with the other; unpaired ones are tied to location each. With all projections but one held, the
    best last one is a generalised symmetric eigenproblem (`scipy.linalg.eigh`). These are solved in
    turn until nothing changes, from starts that hold the best directions of alignment and the best
    of fidelity in every proportion; the best end is taken. Any bend is ignored.

    With a weight of 0 and more dimensions than correlations, the loss leaves open what is in those
    to spare. Here they are empty, so R² is the least that a best encoder holds; the most is had
    from a small weight, such as 1e-6.

    Args:
        world: the world.
        dim: length of an embedding, at most `world.channels`, or what is known of a location.
        weight: of fidelity, 0 (alignment alone) to 1.
        tie: "paired", or "location" for modalities that never meet.

    Returns:
        The encoders, the value reached, and R² of each modality's factors from its embedding (and
        from that of location).

    Raises:
        ValueError: at another tie, or a weight or dimension that cannot be.

    Example:
        >>> world = World(factors=2, channels=6)
        >>> aligned, kept = predict(world, 2).r2, predict(world, 2, weight=1.0).r2
        >>> round(aligned["first", "private_first"], 2), round(kept["first", "private_first"], 2)
        (0.0, 0.89)
    """
    _check(tie, weight)
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
                drawn_in = weight * held.get(view, np.zeros_like(spread[view]))
                for pair in (pair for pair in ties if view in pair):
                    other = pair[0] if view == pair[1] else pair[1]
                    toward = world.covariance(view, other) @ encoders[other].T
                    drawn_in = drawn_in + (1 - weight) / 2 / len(ties) * toward @ toward.T
                encoders = encoders | {view: _top(drawn_in, spread[view], dim)}
            before, value = value, _value(world, encoders, ties, held, weight)
            if value <= before + 1e-12:
                return value, encoders

    whole = {view: np.linalg.inv(np.linalg.cholesky(spread[view])) for view in views}
    aligned = ascend(whole, 0.0)[1]
    faithful = {view: _top(held.get(view, spread[view]), spread[view], dim) for view in views}
    ends = [
        ascend({v: np.concatenate([aligned[v][:n], faithful[v][: dim - n]]) for v in views}, weight)
        for n in range(dim, -1, -1)
    ]
    value, best = max(ends, key=lambda end: end[0])
    return Prediction(best, value, _r2(world, best), _r2(world, ends[0][1]))


def _top(drawn_in: Array, spread: Array, dim: int) -> Array:
    """(dim, d): leading generalised eigenvectors, of unit variance, or 0 where the value is 0."""
    d = len(spread)
    values, vectors = linalg.eigh(drawn_in, spread, subset_by_index=[d - dim, d - 1])
    return np.ascontiguousarray(np.where(values > 1e-9, vectors, 0.0).T[::-1])


def _r2(world: World, encoders: Mapping[str, Array]) -> dict[tuple[str, str], float]:
    """From encoders that give uncorrelated numbers of unit variance, or 0."""
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


def _check(tie: str, weight: float) -> None:
    if tie not in TIES:
        raise unknown("tie", tie, TIES)
    if not 0 <= weight <= 1:
        raise ValueError(f"weight={weight}: it must be in [0, 1]")


# --------------------------------------------------------------------------------- what is measured


def on_sphere(samples: Tensor, locations: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Lift embeddings so that cosines times a scale are their plain dot products.

    `nt_xent` compares cosines; linear theory knows dot products. With r the greatest length and two
    coordinates more, (z, sqrt(r² - |z|²), 0) and (e, 0, sqrt(r² - |e|²)) have length r each and the
    dot product z.e.

    Args:
        samples: (B, d).
        locations: (B, d).

    Returns:
        Both as (B, d + 2), and the log_scale, log r², at which `nt_xent` sees z.e.

    Example:
        >>> z, e = torch.tensor([[3.0, 0.0]]), torch.tensor([[1.0, 1.0]])
        >>> a, b, log_scale = on_sphere(z, e)
        >>> round((log_scale.exp() * F.cosine_similarity(a, b)).item(), 4)
        3.0
    """
    square = [part.square().sum(1, keepdim=True) for part in (samples, locations)]
    r2 = torch.cat(square).max().detach() * (1 + 1e-4)
    rest_z, rest_e = ((r2 - part).sqrt() for part in square)
    nought = torch.zeros_like(rest_z)
    return (
        torch.cat([samples, rest_z, nought], dim=1),
        torch.cat([locations, nought, rest_e], dim=1),
        r2.log(),
    )


def train(
    world: World,
    dim: int,
    weight: float = 0.0,
    tie: Tie = "paired",
    *,
    similarity: Literal["dot", "cosine"] = "cosine",
    hidden: int = 0,
    steps: int = 300,
    batch: int = 256,
    learning_rate: float = 0.05,
    seed: int = 0,
) -> nn.ModuleDict:
    """Train the encoders of a world's modalities by the loss of `locties.objectives.fidelity`.

    That is, (1 - weight) `nt_xent` + weight times the mean square error of linear decoders from
    each modality's embedding to its sample. Each step draws new locations. Paired modalities see
    the same ones and are each other's anchors (symmetric). Tied by location, each sees its own
    half of the batch, as in MELT: samples are the anchors, all locations of the batch candidates.

    Args:
        world: the world.
        dim: length of an embedding.
        weight: of fidelity, 0 to 1.
        tie: "paired" or "location".
        similarity: "cosine", the library's own with its learned temperature; "dot", for which the
            theory is exact.
        hidden: 0 for linear encoders; else two hidden layers of that many.
        steps: of Adam, its rate falling to zero along a cosine.
        batch: pairs.
        learning_rate: at the start.
        seed: of weights and draws.

    Returns:
        By name of modality, and "location" where that is the tie, encoders (B, d) to (B, dim).

    Raises:
        ValueError: at another tie, similarity or weight.
    """
    _check(tie, weight)
    if similarity not in ("dot", "cosine"):
        raise unknown("similarity", similarity, ("dot", "cosine"))
    generator = torch.Generator().manual_seed(seed)
    views = list(PAIR) if tie == "paired" else [*PAIR, "location"]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        encoders = nn.ModuleDict(
            {view: _network(len(world.loadings[view]), dim, hidden) for view in views}
        )
    decoders = nn.ModuleDict({m: nn.Linear(dim, world.channels) for m in PAIR})
    for parameter in decoders.parameters():
        nn.init.zeros_(parameter)
    log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))
    parameters = [*encoders.parameters(), *decoders.parameters(), log_scale]
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    place = torch.arange(batch)
    modality = place * len(PAIR) // batch
    for _ in range(steps):
        drawn = world.draw(batch, generator)
        if tie == "paired":
            seen = {m: drawn[m] for m in PAIR}
            z = {m: encoders[m](x) for m, x in seen.items()}
            one, other = z["first"], z["second"]
        else:
            seen = {m: drawn[m][modality == i] for i, m in enumerate(PAIR)}
            z = {m: encoders[m](x) for m, x in seen.items()}
            one, other = torch.cat(list(z.values())), encoders["location"](drawn["location"])
        scale: Tensor = log_scale
        if similarity == "dot":
            one, other, scale = on_sphere(one, other)
        direction: Any = "symmetric" if tie == "paired" else "modality_to_location"
        alignment = nt_xent(Batch(one, other, modality * 0, place), scale, direction)
        errors = [F.mse_loss(decoders[m](z[m]), x) for m, x in seen.items()]
        loss = (1 - weight) * alignment + weight * torch.stack(errors).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        rate.step()
        log_scale.data.clamp_(0.0, LARGEST_LOG_SCALE)
    return encoders.eval()


def _network(channels: int, dim: int, hidden: int) -> nn.Module:
    if not hidden:
        return nn.Linear(channels, dim, bias=False)
    return nn.Sequential(
        nn.Linear(channels, hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, dim),
    )


@torch.no_grad()
def measure(
    world: World, encoders: Mapping[str, nn.Module], n: int = 2000, seed: int = 1
) -> dict[tuple[str, str], float]:
    """R² of a world's factors, read by ridge from its embedded samples.

    Noise of `BLUR` times the embedding's root mean square is added to each number first: ridge on
    exact numbers reads a direction however short alignment has made it.

    Args:
        world: the world.
        encoders: by name of modality, and perhaps "location".
        n: locations drawn, read in five folds.
        seed: of the draw.

    Returns:
        As `Prediction.r2`.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = world.draw(n, generator)
    factors = [name for name in drawn if name.startswith(("shared", "private"))]
    targets = {name: drawn[name].double().numpy() for name in factors}
    fold = np.arange(n) % 5
    r2: dict[tuple[str, str], float] = {}
    for view, encoder in encoders.items():
        z = encoder(drawn[view])
        z = z + BLUR * z.square().mean().sqrt() * torch.randn(z.shape, generator=generator)
        r2 |= {(view, name): value for name, value in readable(z.numpy(), targets, fold).items()}
    return r2


# ------------------------------------------------------------------------------- real modalities


def readable(
    embedding: NDArray[Any], targets: Mapping[str, Array], fold: NDArray[Any]
) -> dict[str, float]:
    """How much of some targets ridge reads from an embedding in held-out folds.

    Args:
        embedding: `(N, d)`.
        targets: by name, `(N, c)`.
        fold: `(N,)` integer fold of each row.

    Returns:
        By name, R² over all columns together: one minus the sum of squared errors over that about
        the column means. Not above 1; 0 is no better than the means.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> readable(x[:, :2], {"sum": x[:, :1] + x[:, 1:2]}, np.arange(200) % 5)["sum"] > 0.99
        True
    """
    answers = _held_out(embedding, np.concatenate(list(targets.values()), axis=1), fold)
    ends = np.cumsum([target.shape[1] for target in targets.values()])[:-1]
    return {
        name: float(1 - np.square(target - answer).sum() / np.square(target - target.mean(0)).sum())
        for (name, target), answer in zip(
            targets.items(), np.split(answers, ends, axis=1), strict=True
        )
    }


def _held_out(x: NDArray[Any], y: Array, fold: NDArray[Any]) -> Array:
    """(N, c): each row of y predicted by a ridge that has not seen its fold."""
    probe = Ridge(x, list(y.T), fold)
    answer = np.empty_like(y)
    for held_out in np.unique(fold):
        rows = fold == held_out
        answer[rows] = np.stack(probe.fit(held_out)(x[rows]), axis=1)
    return answer


@dataclass(frozen=True, eq=False)
class Privacy:
    """What is private in modalities that can be read anywhere, and how much encoders hold of it.

    Modalities are unpaired in training; rasters can all be read at the same points for measurement.
    A modality's content (`locties.objectives.content`) is standardised and split in two ways, by
    ridge in held-out folds, so that nothing counts as predicted by chance:

    - *shared* is what the contents of all others predict together; *private* is the rest;
    - *placed* is what the positional features predict; *unplaced* is the rest.

    *contrast* is the private part of numbers that no objective here sees: the standard deviations
    within a sample, of each channel over a patch's pixels or of a profile over its numbers.

    Attributes:
        samples: by name of modality, `(N, ...)`.
        lonlat: `(N, 2)` degrees, where all of them were read.
        fold: `(N,)` random folds.
        parts: by name of modality and of part (shared, private, placed, unplaced, contrast),
            `(N, c)`.
    """

    samples: dict[str, Tensor]
    lonlat: Tensor
    fold: NDArray[np.int64]
    parts: dict[str, dict[str, Array]]

    @classmethod
    def of(cls, modalities: Sequence[Modality], features: Encoder, lonlat: Tensor) -> Privacy:
        """Read and split modalities at points.

        Args:
            modalities: at least two, of rasters.
            features: positional features: from lonlat `(N, 2)` to `(N, d)`.
            lonlat: `(N, 2)` degrees.

        Raises:
            ValueError: one modality alone, or one that has samples only where they stand.
        """
        if len(modalities) < 2:
            raise ValueError("what is private needs at least two modalities to compare")
        samples = {}
        for modality in modalities:
            held = modality.samples
            if not isinstance(held, Gathered):
                raise ValueError(
                    f"modality {modality.name!r} has samples only where they stand, and what is "
                    "private is measured at points common to all: leave it out"
                )
            samples[modality.name] = held.read(held.rasters, lonlat)
        fold = folds(lonlat, "random")
        contents = {name: _standard(content(x)) for name, x in samples.items()}
        place = features(lonlat).double().numpy()
        parts = {}
        for name, own in contents.items():
            others = np.concatenate([x for other, x in contents.items() if other != name], axis=1)
            contrast = _standard(_contrast(samples[name]))
            shared, placed = _held_out(others, own, fold), _held_out(place, own, fold)
            parts[name] = {
                "shared": shared,
                "private": own - shared,
                "placed": placed,
                "unplaced": own - placed,
                "contrast": contrast - _held_out(others, contrast, fold),
            }
        return cls(samples, lonlat, fold, parts)

    def shares(self) -> pd.DataFrame:
        """The variance of each part of a content, whose columns have 1 each: modality, part, share.

        Of the contrast it is the private share, like that of "private".
        """
        return pd.DataFrame(
            [
                {"modality": name, "part": part, "share": float(x.var(0).mean())}
                for name, parts in self.parts.items()
                for part, x in parts.items()
            ]
        )

    @torch.no_grad()
    def read(self, encoder: Encoder, modality_encoders: Mapping[str, nn.Module]) -> pd.DataFrame:
        """R² of each part of each modality, from its own embedding and from that of location.

        Args:
            encoder: from lonlat `(N, 2)` to `(N, d)`.
            modality_encoders: by name of modality; `Run.modality_encoders`.

        Returns:
            Columns modality, source ("modality" or "location"), part, r2.
        """
        at_location = embed(encoder, self.lonlat)
        rows = []
        for name, parts in self.parts.items():
            z = modality_encoders[name].cpu()(self.samples[name]).float().numpy()
            for source, embedding in (("modality", z), ("location", at_location)):
                for part, r2 in readable(embedding, parts, self.fold).items():
                    rows.append({"modality": name, "source": source, "part": part, "r2": r2})
        return pd.DataFrame(rows)


def _standard(samples: Tensor) -> Array:
    """(N, c) with means of 0 and variances of 1, or 0 where a column is constant."""
    x = samples.double().numpy()
    spread = x.std(0)
    return (x - x.mean(0)) / np.where(spread > 0, spread, np.inf)


def _contrast(samples: Tensor) -> Tensor:
    """(N, c): standard deviation of each channel of a patch, or of all of a profile."""
    return samples.flatten(2).std(2) if samples.ndim == 4 else samples.std(1, keepdim=True)


# -------------------------------------------------------------------------------- claim and gain


def _interval(values: pd.Series) -> Interval:
    """As `mean_interval`, with NaN for the ends of a single value, and for all three of none."""
    if len(values) > 1:
        return mean_interval(values)
    return Interval(float(values.mean()), math.nan, math.nan)


def _text(interval: Interval, form: str) -> str:
    """The mean and, where they are known, the ends."""
    if math.isnan(interval.mean):
        return "none"
    mean, low, high = (format(number, form) for number in interval)
    return mean if math.isnan(interval.low) else f"{mean} [{low}, {high}]"


class Verdict(NamedTuple):
    """A verdict with the statistics that it rests on.

    Attributes:
        verdict: of the two together.
        decisive: "erasure" or "selectivity", the one that decides.
        legs: both, by name, with their intervals.
        n: number of seeds.
    """

    verdict: Literal["supported", "refuted", "undecided"]
    decisive: str
    legs: dict[str, Interval]
    n: int

    @property
    def told(self) -> str:
        """The verdict and, named, the statistic that decides it.

        Example:
            >>> legs = {"erasure": Interval(0.3, 0.2, 0.4)}
            >>> Verdict("supported", "erasure", legs, 10).told
            'supported (erasure, the fall of private content: +0.300 [+0.200, +0.400])'
        """
        name = self.decisive
        return f"{self.verdict} ({name}, {LEGS[name]}: {_text(self.legs[name], '+.3f')})"


def verdict(table: pd.DataFrame, margin: float = MARGIN) -> Verdict:
    """Claim C6: alignment erases what modalities do not share.

    Fixed before any published run, but not before all trials: drafted after a pilot of one seed,
    its intervals after a trial of three seeds and the rule of ten seeds after a second; the margin
    never moved. For each seed, the mean over modalities of R² read from modality embeddings, of
    private and of shared content, before (untrained encoders) and after tying.
    Two statistics, paired by seed:

    1. *erasure*: private R² before, less private R² after;
    2. *selectivity*: erasure, less the same fall of shared R². An encoder that loses everything
       alike erases nothing in particular.

    Each has a 95% t-interval over seeds. Supported where both lower ends are above `margin`: wrong
    in at most 2.5% of cases, since both have to be (intersection-union). Refuted where an upper
    end is below it: wrong in at most 5%, since either may be (Bonferroni). Undecided otherwise, and
    with fewer than ten seeds (one alone has no interval). The statistic that decides is, where an
    upper end is below the margin, that of the lower upper end, else that of the lower lower end.

    Args:
        table: columns seed, modality, part ("private" or "shared"), stage ("before" or "after")
            and r2: one row for each combination.
        margin: the least fall in R² that counts.

    Raises:
        ValueError: a combination that is missing or there twice.
    """
    cells = table[["seed", "modality", "part", "stage"]].drop_duplicates()
    known = cells["part"].isin(["private", "shared"]) & cells["stage"].isin(["before", "after"])
    wanted = table["seed"].nunique() * table["modality"].nunique() * 4
    if not known.all() or not len(table) == len(cells) == wanted:
        raise ValueError(
            "C6 needs one row for each seed, modality, part (private, shared) and stage (before, "
            f"after), which are {wanted}: there are {len(table)} rows of {len(cells)} combinations"
        )
    means = table.pivot_table("r2", ["seed", "part"], "stage")
    fall = (means["before"] - means["after"]).rename("fall").reset_index()
    fall = fall.pivot_table("fall", "seed", "part")
    legs = {
        "erasure": _interval(fall["private"]),
        "selectivity": _interval(fall["private"] - fall["shared"]),
    }
    refuted = any(leg.high < margin for leg in legs.values())
    decisive = min(legs, key=lambda name: legs[name].high if refuted else legs[name].low)
    supported = legs[decisive].low > margin
    judged: Any = "refuted" if refuted else "supported" if supported else "undecided"
    return Verdict(judged if len(fall) >= SEEDS else "undecided", decisive, legs, len(fall))


def compare(readings: pd.DataFrame, after: Case = (0.0, 1.0), before: Case = (0.0, 0.0)) -> Verdict:
    """`verdict` of some encoders against others, of the same seeds.

    Args:
        readings: one row for each seed, run, modality, source and part: columns seed, weight (of
            fidelity), trained (the part of all pairs; 0 is untrained), those of `Privacy.read`.
        after: weight and trained of the encoders judged; by default aligned for all pairs.
        before: those of the encoders that they are held against; by default untrained. (1.0, 1.0)
            is training for content alone.

    Returns:
        The verdict; falls are in R², from `before` to `after`.

    Raises:
        ValueError: as `verdict` does.

    Example:
        >>> readings = pd.DataFrame(
        ...     [(0, 0.0, t, "haze", "modality", part, r2)
        ...      for t, part, r2 in [(0.0, "private", 0.5), (0.0, "shared", 0.6),
        ...                          (1.0, "private", 0.2), (1.0, "shared", 0.6)]],
        ...     columns=["seed", "weight", "trained", "modality", "source", "part", "r2"])
        >>> compare(readings).told
        'undecided (erasure, the fall of private content: +0.300)'
    """
    read = readings.query("source == 'modality' and part in ('private', 'shared')")
    stages = {before: "before", after: "after"}
    cases = zip(read["weight"], read["trained"], strict=True)
    read = read.assign(stage=[stages.get(case, "") for case in cases])
    return verdict(read[read["stage"] != ""])


def gain(table: pd.DataFrame, value: str) -> pd.DataFrame:
    """Relative gain of fidelity over plain alignment that is aligned as well.

    Plain alignment, trained for less, is aligned less and may keep more. So each fidelity run is
    compared with the plain runs of its seed at its own alignment, by linear interpolation between
    them. Where it is aligned less than all of these, or more, there is nothing to compare it with,
    and it has no row.

    Args:
        table: one row a run, columns seed, weight (0 for plain alignment), alignment (greater is
            more) and `value`.
        value: the column compared, such as a mean R² of private content.

    Returns:
        Columns seed, weight, alignment, value, plain (at that alignment) and gain (relative).

    Example:
        >>> table = pd.DataFrame({"seed": 0, "weight": [0, 0, 0.5], "alignment": [1.0, 2.0, 1.5],
        ...                       "r2": [0.4, 0.2, 0.33]})
        >>> gain(table, "r2")[["plain", "gain"]].round(3).to_numpy().tolist()
        [[0.3, 0.1]]
    """
    rows = []
    for seed, runs in table.groupby("seed"):
        plain = runs[runs["weight"] == 0].sort_values("alignment")
        known = plain["alignment"].to_numpy()
        for run in runs[runs["weight"] > 0].itertuples():
            if known.min() <= run.alignment <= known.max():
                base = float(np.interp(run.alignment, known, plain[value]))
                rows.append(
                    {
                        "seed": seed,
                        "weight": run.weight,
                        "alignment": run.alignment,
                        "value": getattr(run, value),
                        "plain": base,
                        "gain": getattr(run, value) / base - 1,
                    }
                )
    return pd.DataFrame(rows, columns=["seed", "weight", "alignment", "value", "plain", "gain"])


def trade_off(readings: pd.DataFrame) -> pd.DataFrame:
    """What each run with any alignment in its loss ends in: how aligned, and what is read.

    Args:
        readings: as for `compare`, with a column alignment, of the run.

    Returns:
        One row a run: columns seed, weight, trained, alignment, and by name of each part its R²
        from modality embeddings, a mean over modalities.

    Example:
        >>> readings = pd.DataFrame({
        ...     "seed": 0, "weight": 0.5, "trained": 1.0, "alignment": 0.1, "source": "modality",
        ...     "modality": ["haze", "relief"], "part": "private", "r2": [0.2, 0.4]})
        >>> trade_off(readings).round(3).to_dict("records")
        [{'seed': 0, 'weight': 0.5, 'trained': 1.0, 'alignment': 0.1, 'private': 0.3}]
    """
    runs = readings.query("source == 'modality' and trained > 0 and weight < 1")
    runs = runs.pivot_table("r2", ["seed", "weight", "trained", "alignment"], "part")
    return runs.reset_index().rename_axis(columns=None)


class Gains(NamedTuple):
    """What fidelity gains at equal alignment, by kind of content, as means over seeds.

    Attributes:
        relative: by kind (private, contrast, shared), 0.1 being a tenth more than plain alignment
            keeps; then "private less shared", paired by seed. 95% intervals, of which one seed
            has none; all is NaN without any.
        r2: the same as differences of R².
        compared: number of fidelity runs that have a plain run to be compared with.
        runs: number of all fidelity runs.
        seeds: of those compared.
    """

    relative: dict[str, Interval]
    r2: dict[str, Interval]
    compared: int
    runs: int
    seeds: int

    @property
    def table(self) -> pd.DataFrame:
        """As text: a row for each kind, columns "relative gain", "gain in R²" and "compared"."""
        shown = {
            "relative gain": {kind: _text(gain, "+.1%") for kind, gain in self.relative.items()},
            "gain in R²": {kind: _text(gain, "+.3f") for kind, gain in self.r2.items()},
        }
        return pd.DataFrame(shown).assign(compared=f"{self.compared} of {self.runs}")

    @property
    def told(self) -> str:
        """The relative gains as a clause, also of one seed, or of none."""
        had = f"{self.compared} of {self.runs} fidelity runs were aligned between plain runs of "
        had += "their seed"
        if not self.seeds:
            return f"{had}, so nothing can be compared"
        private, contrast, shared = (
            f"{name} by {_text(self.relative[kind], '+.1%')}" for kind, name in CONTENT.items()
        )
        seeds = f"over {self.seeds} seeds" if self.seeds > 1 else "for this one seed"
        return f"{had}; there fidelity changes {private}, {contrast} and {shared}, {seeds}"

    @property
    def specific(self) -> str:
        """Whether private content gains more R² than shared content does, as a clause.

        "Hardly" where, by the upper end, less than half of the gain could be beyond that of shared.
        """
        extra = self.r2[EXTRA]
        if extra.low > 0:
            return "a part of the gain is specific to what modalities do not share"
        if extra.high < 0:
            return "what modalities do not share gains less than what they do"
        if extra.high < self.r2["private"].mean / 2:
            return "the gain is hardly specific to what modalities do not share"
        return "these runs cannot tell whether the gain is specific to what modalities do not share"


def gains(readings: pd.DataFrame) -> Gains:
    """`gain` of each kind of content: the mean over a seed's runs, then over seeds.

    Args:
        readings: as for `trade_off`, with parts private, contrast and shared.

    Returns:
        The gains; NaN where no fidelity run is aligned between plain runs of its seed.

    Example:
        >>> runs = [(0.0, 0.5, 0.1, 0.5), (0.0, 1.0, 0.3, 0.3), (0.5, 1.0, 0.2, 0.5)]
        >>> rows = [(0, *run[:3], "haze", "modality", part, run[3])
        ...         for run in runs for part in ("private", "contrast", "shared")]
        >>> columns = ["seed", "weight", "trained", "alignment", "modality", "source", "part", "r2"]
        >>> found = gains(pd.DataFrame(rows, columns=columns))
        >>> found.table.loc["private"].tolist()
        ['+25.0%', '+0.100', '1 of 1']
    """
    runs = trade_off(readings)
    own = {kind: gain(runs, kind) for kind in CONTENT}
    seeds = {
        kind: table.assign(r2=table["value"] - table["plain"])
        .groupby("seed")[["gain", "r2"]]
        .mean()
        for kind, table in own.items()
    }
    seeds[EXTRA] = seeds["private"] - seeds["shared"]
    return Gains(
        {kind: _interval(table["gain"]) for kind, table in seeds.items()},
        {kind: _interval(table["r2"]) for kind, table in seeds.items()},
        len(own["private"]),
        int((runs["weight"] > 0).sum()),
        len(seeds["private"]),
    )
