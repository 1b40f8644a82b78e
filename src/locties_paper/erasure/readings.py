"""How much private content the embeddings of real modalities still hold.

The private content of a modality is the part that no other modality predicts. A ridge regression
measures how much of it can be read from an embedding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from locties.apply.metadata import Encoder
from locties.evaluation.probes import Ridge
from locties.evaluation.protocol import checked_embedding
from locties.evaluation.splits import folds
from locties.modalities import Gathered
from locties.modality import Modality
from locties.objectives import content

Array = NDArray[np.float64]


def readable(
    embedding: NDArray[Any], targets: Mapping[str, Array], fold: NDArray[Any]
) -> dict[str, float]:
    """R² of targets that ridge reads from an embedding, in held-out folds.

    Args:
        embedding: `(N, d)`.
        targets: by name, `(N, c)`.
        fold: `(N,)` integer fold of each row.

    Returns:
        By name, 1 minus the squared error over the variance, all columns together.

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
    """`(N, c)`: each row of y, predicted by a ridge fitted on the other folds."""
    probe = Ridge(x, list(y.T), fold)
    answer = np.empty_like(y)
    for held_out in np.unique(fold):
        rows = fold == held_out
        answer[rows] = np.stack(probe.fit(held_out)(x[rows]), axis=1)
    return answer


@dataclass(frozen=True, eq=False)
class Privacy:
    """The private content of raster modalities, and how much of it encoders hold.

    Modalities are unpaired in training, but rasters can all be read at the same points. Each
    modality's content (`locties.objectives.content`) is standardised and split in two ways, by
    ridge in held-out folds, so that chance predicts nothing:

    - *shared* is what the contents of all other modalities predict together; *private* is the rest;
    - *placed* is what the positional features predict; *unplaced* is the rest.

    *contrast* is the private part of a number that no objective uses: the standard deviation of
    each channel of a patch, or of a whole profile.

    Attributes:
        samples: by modality, `(N, ...)`.
        lonlat: `(N, 2)` degrees, where all of them were read.
        fold: `(N,)` random folds.
        parts: by modality and part (shared, private, placed, unplaced, contrast), `(N, c)`.
    """

    samples: dict[str, Tensor]
    lonlat: Tensor
    fold: NDArray[np.int64]
    parts: dict[str, dict[str, Array]]

    @classmethod
    def of(cls, modalities: Sequence[Modality], features: Encoder, lonlat: Tensor) -> Privacy:
        """Read at least two raster modalities at points `(N, 2)`, and split their contents.

        `features` maps lonlat to the positional features that predict what is placed.
        """
        if len(modalities) < 2:
            raise ValueError(f"{len(modalities)} modalities: private content needs at least two")
        samples = {}
        for modality in modalities:
            held = modality.samples
            if not isinstance(held, Gathered):
                raise ValueError(
                    f"modality {modality.name!r} cannot be read at any point, and private content "
                    "is measured at points common to all modalities: leave it out"
                )
            samples[modality.name] = held.read(held.rasters, lonlat)
        fold = folds(lonlat, "random")
        contents = {name: _standard(content(x)) for name, x in samples.items()}
        place = features(lonlat).double().numpy()
        parts = {}
        for name, content_of in contents.items():
            others = np.concatenate([x for other, x in contents.items() if other != name], axis=1)
            contrast = _standard(_contrast(samples[name]))
            shared, placed = (_held_out(x, content_of, fold) for x in (others, place))
            parts[name] = {
                "shared": shared,
                "private": content_of - shared,
                "placed": placed,
                "unplaced": content_of - placed,
                "contrast": contrast - _held_out(others, contrast, fold),
            }
        return cls(samples, lonlat, fold, parts)

    def shares(self) -> pd.DataFrame:
        """Share of each part in the variance of content: columns modality, part, share."""
        return pd.DataFrame(
            [
                {"modality": name, "part": part, "share": float(x.var(0).mean())}
                for name, parts in self.parts.items()
                for part, x in parts.items()
            ]
        )

    @torch.no_grad()
    def read(self, encoder: Encoder, modality_encoders: Mapping[str, nn.Module]) -> pd.DataFrame:
        """R² of each part of each modality, from its own embedding and from the location's.

        Args:
            encoder: from lonlat `(N, 2)` to `(N, d)`.
            modality_encoders: by modality; `Run.modality_encoders`.

        Returns:
            Columns modality, source ("modality" or "location"), part, r2.
        """
        at_location = checked_embedding(encoder, self.lonlat)
        rows = []
        for name, parts in self.parts.items():
            z = modality_encoders[name].cpu()(self.samples[name]).float().numpy()
            for source, embedding in (("modality", z), ("location", at_location)):
                for part, r2 in readable(embedding, parts, self.fold).items():
                    rows.append({"modality": name, "source": source, "part": part, "r2": r2})
        return pd.DataFrame(rows)


def _standard(samples: Tensor) -> Array:
    """`(N, c)` with means 0 and variances 1; constant columns become 0."""
    x = samples.double().numpy()
    spread = x.std(0)
    return (x - x.mean(0)) / np.where(spread > 0, spread, np.inf)


def _contrast(samples: Tensor) -> Tensor:
    """`(N, c)`: standard deviation of each channel of a patch, or of a whole profile."""
    return samples.flatten(2).std(2) if samples.ndim == 4 else samples.std(1, keepdim=True)
