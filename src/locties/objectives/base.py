"""The input of an objective, and its interface."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

import torch
from torch import Tensor, nn

from locties.modality import Modality

Negatives = Literal["joint", "within_modality"]
NEGATIVES: tuple[Negatives, ...] = get_args(Negatives)


class Batch(NamedTuple):
    """B (sample, location) pairs.

    Attributes:
        samples: (B, d) embeddings of the samples.
        locations: (B, d) embeddings of their locations, row by row.
        modality: (B,) int64, the number of each pair's modality.
        place: (B,) int64, equal for pairs at the same coordinates; see `place_of`.
        raw: by number m of modality, its samples (B_m, ...) before encoding, in the order of the
            batch. Only objectives with `Objective.reads_samples` need it.
    """

    samples: Tensor
    locations: Tensor
    modality: Tensor
    place: Tensor
    raw: Mapping[int, Tensor] | None = None

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the loss: float64 if an embedding has it, else float32."""
        finer = torch.promote_types(self.samples.dtype, self.locations.dtype)
        return torch.promote_types(finer, torch.float32)


class Objective(nn.Module):
    """A loss. Subclasses define `forward`, and may define `prepare` and `clamp_`.

    Attributes:
        reads_samples: whether `forward` reads `Batch.raw`. With several processes, each then reads
            the samples of the whole batch, not only its share.
        encodes_samples: whether `forward` reads `Batch.samples`. If not, modality encoders are
            neither run nor trained, and `Batch.samples` is zero.

    Example:
        >>> class Distance(Objective):
        ...     def forward(self, batch):
        ...         return (batch.samples - batch.locations).square().mean()
        >>> z, ids = torch.eye(4), torch.arange(4)
        >>> Distance()(Batch(z, z, torch.zeros_like(ids), ids)).item()
        0.0
    """

    reads_samples = False
    encodes_samples = True

    def forward(self, batch: Batch) -> Tensor:
        """The loss of one batch, a scalar with gradients."""
        raise NotImplementedError

    def prepare(self, modalities: Mapping[str, Modality], dim: int) -> None:
        """Called once, before the optimiser is made; modalities in the order of their numbers."""

    def clamp_(self) -> None:
        """Called after each step of the optimiser: bring parameters back within their bounds."""


def place_of(lonlat: Tensor) -> Tensor:
    """Numbers (N,) int64 of places (N, 2): equal where both coordinates are equal in float32."""
    positive_zero = lonlat.float() + 0.0  # -0.0 and 0.0 are the same place
    return positive_zero.contiguous().view(torch.int64).squeeze(1)


def all_are_negatives(batch: Batch, negatives: Negatives) -> bool:
    """Whether all pairs of a batch are surely each other's negatives.

    False on a GPU, where reading the answer would force a synchronisation.
    """
    place = batch.place
    return negatives == "joint" and place.is_cpu and len(torch.unique(place)) == len(place)


def not_negatives(batch: Batch, negatives: Negatives, rows: slice = slice(None)) -> Tensor:
    """(B, B), or `rows` of it: true where j is neither i nor one of i's negatives.

    Pairs at the same place are never each other's negatives; with "within_modality" neither are
    pairs of different modalities.
    """
    excluded = batch.place[rows, None] == batch.place
    if negatives == "within_modality":
        excluded |= batch.modality[rows, None] != batch.modality
    excluded[:, rows].fill_diagonal_(False)
    return excluded
