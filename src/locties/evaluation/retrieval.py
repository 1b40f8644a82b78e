"""Retrieval: from a sample, find where on the Earth it was taken.

Each held-out sample is embedded by its modality encoder, each held-out location by the location
encoder, and the locations are ranked by cosine similarity to the sample. Nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from locties.apply.grid import eval_mode
from locties.apply.metadata import Encoder
from locties.evaluation.baselines import contender
from locties.evaluation.protocol import called, check_finite, checked_embedding, share
from locties.evaluation.splits import block_index
from locties.evaluation.statistics import Interval, block_bootstrap
from locties.lonlat import distance_km
from locties.modality import Modality

if TYPE_CHECKING:
    import pandas as pd

RADII_KM = (25, 200, 750, 2500)
RANKS = (1, 10)
COLUMNS = ["encoder", "modality", "seed", "metric", "value", "low", "high", "chance", "candidates"]
_CHUNK = 1024
# The order of the candidates breaks ties; it is the same for every encoder.
_TIE_SEED = 0


@dataclass(frozen=True, eq=False)
class Ranking:
    """Candidate locations for each held-out sample of a modality.

    Attributes:
        queries: (N, 2) where the samples were taken, degrees.
        candidates: (M, 2) the distinct locations among these, in shuffled order.
        true: (N,) int64, which candidate is the sample's true location.
        similarity: (N, M) cosine of sample and location embedding.
        error_km: (N,) float64, from the true location to the one ranked first.
        rank: (N,) int64, place of the true location, 0 for the first. Ties keep the order of the
            candidates, so constant embeddings rank at random.
    """

    queries: Tensor
    candidates: Tensor
    true: Tensor
    similarity: Tensor
    error_km: NDArray[np.float64]
    rank: NDArray[np.int64]

    def best(self, k: int) -> Tensor:
        """`(N, k)` int64 indices into `candidates`: the k most similar, the best first."""
        return self.similarity.argsort(dim=1, descending=True, stable=True)[:, :k]


def rank(
    encoder: str | Path | Encoder, modality_encoders: Mapping[str, nn.Module], modality: Modality
) -> Ranking:
    """Rank a modality's held-out locations for each of its held-out samples.

    Args:
        encoder: as in `evaluate`.
        modality_encoders: modules from samples `(B, ...)` to `(B, d)`, by name of modality.
        modality: a modality with a `validation`, whose samples and locations are used.
    """
    held_out = modality.validation
    if held_out is None:
        raise ValueError(
            f"modality {modality.name!r} has no held-out samples to retrieve from: "
            "give it a validation"
        )
    if modality.name not in modality_encoders:
        raise ValueError(
            f"no encoder for modality {modality.name!r}: there is one for "
            f"{', '.join(sorted(modality_encoders)) or 'none'}"
        )
    queries = held_out.lonlat.cpu()
    distinct, true = torch.unique(queries, dim=0, return_inverse=True)
    order = torch.randperm(len(distinct), generator=torch.Generator().manual_seed(_TIE_SEED))
    candidates, true = distinct[order], order.argsort()[true]
    e = torch.from_numpy(checked_embedding(encoder, candidates)).float()
    z = _embed_samples(modality_encoders[modality.name], held_out)
    if z.shape[1] != e.shape[1]:
        raise ValueError(
            f"the encoder of {modality.name!r} gives {z.shape[1]} numbers and the location encoder "
            f"{e.shape[1]}: use those of one run"
        )
    similarity = F.normalize(z, dim=1) @ F.normalize(e, dim=1).T
    of_true = similarity.gather(1, true[:, None])
    earlier = torch.arange(len(candidates)) < true[:, None]
    before = (similarity > of_true) | ((similarity == of_true) & earlier)
    # torch's argmax may return any of several equal values; numpy's returns the first.
    first = candidates[similarity.numpy().argmax(1)]
    error = distance_km(queries.double(), first.double()).numpy()
    return Ranking(queries, candidates, true, similarity, error, before.sum(1).numpy())


def retrieve(
    encoder: str | Path | Encoder,
    modality_encoders: Mapping[str, nn.Module],
    modalities: Sequence[Modality],
    *,
    name: str | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """A table of how well each modality's held-out samples find where they were taken.

    Candidates are the distinct held-out locations of the same modality. They lie in whole blocks
    without training samples.

    Metrics: ``within_25_km`` (200, 750, 2500) is the share of samples whose top-ranked location
    lies within this distance. ``recall_at_1`` and ``recall_at_10`` are the share whose true
    location is among the first 1 or 10. ``median_km`` is the (lower) median distance to the
    top-ranked location. ``low`` and ``high`` are the 95% interval of a bootstrap over blocks of 10
    degrees. ``chance`` is the exact mean over all rankings.

    Args:
        encoder: as in `evaluate`.
        modality_encoders: modules by name of modality, such as `Run.modality_encoders`.
        modalities: modalities with a `validation`.
        name: name of the encoder in the table; by default its own name.
        seed: the encoder's training seed, a column of the table; it changes nothing else.

    Example:
        >>> from locties.lonlat import to_xyz
        >>> lonlat = torch.tensor([[0.0, 0.0], [90.0, 0.0], [0.0, 90.0]])
        >>> xyz = torch.eye(3)  # each sample is its own unit vector
        >>> held_out = Modality("axis", lonlat, xyz, lambda dim: nn.Identity())
        >>> axis = Modality("axis", lonlat, xyz, lambda dim: nn.Identity(), held_out)
        >>> table = retrieve(to_xyz, {"axis": nn.Identity()}, [axis])
        >>> found = table.set_index("metric").loc["within_25_km"]
        >>> print(found["value"], found["chance"])
        1.0 0.3333333333333333

    Source: the radii are those of image geolocation, as in GeoCLIP (Vivanco Cepeda et al., NeurIPS
    2023, arXiv 2309.16020), without its 1 km.
    """
    import pandas as pd

    function, rows = contender(encoder), []
    for modality in modalities:
        ranking = rank(function, modality_encoders, modality)
        blocks, chance = block_index(ranking.queries), _chance(ranking)
        hits = {f"within_{km}_km": ranking.error_km <= km for km in RADII_KM}
        hits |= {f"recall_at_{k}": ranking.rank < k for k in RANKS}
        scores = {
            metric: block_bootstrap(np.stack([hit, np.ones_like(hit)], 1), blocks, share)
            for metric, hit in hits.items()
        }
        scores["median_km"] = _median(ranking.error_km, blocks)
        rows += [
            [modality.name, metric, *score, chance[metric], len(ranking.candidates)]
            for metric, score in scores.items()
        ]
    columns = ["modality", "metric", "value", "low", "high", "chance", "candidates"]
    table = pd.DataFrame(rows, columns=columns)
    return table.assign(encoder=name or called(encoder), seed=seed)[COLUMNS]


@torch.no_grad()
def _embed_samples(encoder: nn.Module, held_out: Modality) -> Tensor:
    with eval_mode(encoder) as device:
        parts = [
            encoder(held_out.samples[index.to(held_out.lonlat.device)].to(device)).float().cpu()
            for index in torch.split(torch.arange(len(held_out.lonlat)), _CHUNK)
        ]
    embedding = torch.cat(parts)
    check_finite(embedding.numpy(), f"the encoder of {held_out.name!r}", "samples")
    return embedding


def _chance(ranking: Ranking) -> dict[str, float]:
    """The average scores of a random order of the candidates."""
    parts = [
        distance_km(part.double()[:, None], ranking.candidates.double()).numpy()
        for part in torch.split(ranking.queries, _CHUNK)
    ]
    distance, candidates = np.concatenate(parts), len(ranking.candidates)
    chance = {f"within_{km}_km": float((distance <= km).mean()) for km in RADII_KM}
    chance |= {f"recall_at_{k}": min(1.0, k / candidates) for k in RANKS}
    return chance | {"median_km": float(np.median(distance))}


def _median(error: NDArray[np.float64], blocks: NDArray[np.int64]) -> Interval:
    """The lower median; for each error, a sum counts the errors up to it."""
    ascending = np.unique(error)

    def lower_median(sums: NDArray[np.float64]) -> NDArray[np.float64]:
        median: NDArray[np.float64] = ascending[(2 * sums >= sums[..., -1:]).argmax(-1)]
        return median

    return block_bootstrap(error[:, None] <= ascending, blocks, lower_median)
