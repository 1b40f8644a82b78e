"""Diagnostics of an embedding that need no labels.

All use L2-normalised embeddings, since training compares cosines.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from locties.apply.metadata import Encoder
from locties.data.embedded import load
from locties.data.sampling import land_lonlat
from locties.evaluation.baselines import contender
from locties.evaluation.protocol import checked_embedding
from locties.lonlat import MEAN_EARTH_RADIUS_KM, LonLat, check

Array = NDArray[np.float64]

NEAR_KM = 50.0  # about the size of a cell of training
_KEPT = 0.9  # share of the ratios that is fitted, as in Facco et al.
_ROWS = 1024


def diagnose(encoder: str | Path | Encoder, points: int = 5000, seed: int = 0) -> dict[str, float]:
    """Effective rank, intrinsic dimension, alignment and uniformity of a location encoder.

    Alignment compares points with partners within 50 km, both on land, so it needs no samples of
    modalities.

    Args:
        encoder: as in `evaluate`.
        points: number of points, uniform by area on land.
        seed: of the points and their partners.

    Returns:
        Values by name: effective_rank, intrinsic_dimension, alignment, uniformity.

    Example:
        >>> found = diagnose("xyz", points=1000)
        >>> round(found["effective_rank"]), round(found["intrinsic_dimension"])
        (3, 2)
    """
    function, earth = contender(encoder), load()
    generator = torch.Generator().manual_seed(seed)
    lonlat = land_lonlat(earth, points, generator)
    partner = nearby_points(lonlat, NEAR_KM, generator)
    ashore = (earth.land.nearest(partner)[:, 0] == 1).numpy()
    embedding = checked_embedding(function, lonlat)
    return {
        "effective_rank": effective_rank(embedding),
        "intrinsic_dimension": intrinsic_dimension(embedding),
        "alignment": alignment(embedding[ashore], checked_embedding(function, partner)[ashore]),
        "uniformity": uniformity(embedding),
    }


def nearby_points(lonlat: LonLat, km: float, generator: torch.Generator) -> Tensor:
    """A random partner for each point `(N, 2)`, uniform by area in the disc of `km` around it.

    The radius must be small compared with the Earth's.
    """
    points = check(lonlat)
    area, turn = torch.rand(2, len(points), generator=generator, dtype=torch.float64)
    arc, bearing = area.sqrt() * km / MEAN_EARTH_RADIUS_KM, 2 * math.pi * turn
    longitude, latitude = torch.deg2rad(points.double()).unbind(1)
    # The destination on a sphere by arc and bearing.
    sine = latitude.sin() * arc.cos() + latitude.cos() * arc.sin() * bearing.cos()
    east = bearing.sin() * arc.sin() * latitude.cos()
    longitude = longitude + torch.atan2(east, arc.cos() - latitude.sin() * sine)
    moved = torch.stack([longitude, sine.clamp(-1, 1).asin()], dim=1)
    return check(torch.rad2deg(moved).to(points.dtype))


def effective_rank(embedding: NDArray[Any]) -> float:
    """Number of directions that embeddings `(N, d)` use: 1 to d, or 0 if all are the same.

    It is the exponential of the entropy of the singular values' shares, after subtracting the mean.

    Example:
        >>> round(effective_rank(np.concatenate([np.eye(5), -np.eye(5)])), 6)
        5.0

    Source: Roy and Vetterli, "The Effective Rank: A Measure of Effective Dimensionality" (15th
    European Signal Processing Conference, 2007, 606-610). They do not subtract the mean.
    """
    unit = _unit(embedding)
    singular = np.linalg.svd(unit - unit.mean(0), compute_uv=False)
    singular = singular[singular > 1e-12 * math.sqrt(unit.size)]
    share = singular / singular.sum()
    return float(np.exp(-(share * np.log(share)).sum())) if len(share) else 0.0


def intrinsic_dimension(embedding: NDArray[Any]) -> float:
    """Dimension of the surface that embeddings `(N, d)` lie on, at the distance of neighbours.

    TwoNN: take the ratio of the distances to the second and to the first neighbour. Where density
    changes little over that distance, its distribution function is 1 - ratio^-dimension. This is
    fitted to the smaller nine tenths of the ratios. Points that coincide with another are left out.

    A continuous location encoder maps the globe to a surface, so with enough points the result is
    2. It is higher if the embedding changes so much between neighbouring points that the surface
    looks crumpled.

    Source: Facco, d'Errico, Rodriguez and Laio, "Estimating the intrinsic dimension of datasets by
    a minimal neighborhood information" (Scientific Reports 7, 2017, 12140).
    """
    unit = np.unique(_unit(embedding), axis=0)
    if len(unit) < 3:
        raise ValueError(
            f"{len(unit)} different embeddings: two neighbours of each are needed, so at least 3"
        )
    first, second = NearestNeighbors(n_neighbors=2).fit(unit).kneighbors()[0].T
    ratio = np.sort(np.log(second[first > 0] / first[first > 0]))
    kept = round(_KEPT * len(ratio))
    expected = -np.log1p(-np.arange(1, kept + 1) / len(ratio))
    return float(expected @ ratio[:kept] / (ratio[:kept] @ ratio[:kept]))


def alignment(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Mean squared distance between paired embeddings `(N, d)`: 0 if equal, 2 if orthogonal.

    Source: Wang and Isola, "Understanding Contrastive Representation Learning through Alignment and
    Uniformity on the Hypersphere" (ICML 2020, arXiv 2005.10242), with exponent 2.
    """
    return float(((_unit(first) - _unit(second)) ** 2).sum(1).mean())


def uniformity(embedding: NDArray[Any], t: float = 2.0) -> float:
    """Log of the mean over all pairs of exp(-t * squared distance): lower is more evenly spread.

    It is 0 if all embeddings are the same. With t = 2, an even spread over a sphere gives -2.08 in
    3 dimensions and -3.97 in 256. With a larger `t`, near pairs count more.

    Example:
        >>> round(uniformity(np.array([[1.0, 0.0], [0.0, 1.0]])), 6)
        -4.0

    Source: Wang and Isola (ICML 2020, arXiv 2005.10242).
    """
    unit = _unit(embedding)
    total = -float(len(unit))  # without the pairs of a point with itself
    for start in range(0, len(unit), _ROWS):
        total += np.exp(2 * t * (unit[start : start + _ROWS] @ unit.T - 1)).sum()
    return float(np.log(total / (len(unit) * (len(unit) - 1))))


def _unit(embedding: NDArray[Any]) -> Array:
    rows = np.asarray(embedding, dtype=np.float64)
    unit: Array = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    return unit
