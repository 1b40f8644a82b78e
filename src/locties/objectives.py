"""Objectives: losses that tie location embeddings to the embeddings of samples.

An objective is a module that turns one `Batch` into a scalar loss. What it learns (a temperature)
are its parameters; `clamp_` is called after every optimiser step.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locties.registry import Registry, unknown

Direction = Literal["modality_to_location", "location_to_modality", "symmetric"]
Negatives = Literal["joint", "within_modality"]
DIRECTIONS = ("modality_to_location", "location_to_modality", "symmetric")
NEGATIVES = ("joint", "within_modality")

INITIAL_LOG_SCALE = math.log(1 / 0.07)
LARGEST_LOG_SCALE = math.log(100)


class Batch(NamedTuple):
    """What an objective sees of B (sample, location) pairs.

    Attributes:
        samples: (B, d) embeddings of the samples by their modality encoders.
        locations: (B, d) embeddings of their locations, row by row.
        modality: (B,) int64, which modality each pair came with.
        place: (B,) int64, equal where two pairs stand at the same coordinates.
    """

    samples: Tensor
    locations: Tensor
    modality: Tensor
    place: Tensor


def place_of(lonlat: Tensor) -> Tensor:
    """Give every distinct coordinate an integer: the bits of its float32 (lon, lat) pair.

    Args:
        lonlat: (N, 2) degrees.

    Returns:
        (N,) int64, equal exactly where both coordinates are equal in float32.
    """
    positive_zero = lonlat.float() + 0.0  # -0.0 and 0.0 are the same place
    return positive_zero.contiguous().view(torch.int64).squeeze(1)


def nt_xent(
    batch: Batch,
    log_scale: Tensor,
    direction: Direction = "modality_to_location",
    negatives: Negatives = "joint",
) -> Tensor:
    """The normalised-temperature cross entropy of MELT and SALT, averaged over the anchors.

    With z and e the L2-normalised embeddings of samples and locations and s = exp(log_scale),

        l_i = -log( exp(s z_i.e_i) / sum_j exp(s z_i.e_j) )

    where j runs over i and all its negatives. Pairs at the same coordinates as i are not its
    negatives: they are left out of the sum. Computed in float32 (float64 stays float64).

    Args:
        batch: B pairs, of one modality or of several.
        log_scale: scalar, the logarithm of the inverse temperature.
        direction: "modality_to_location" takes the samples as anchors and the locations as
            candidates (asymmetric, the reading of MELT here); "location_to_modality" the other
            way; "symmetric" the mean of both (SatCLIP, CLIP).
        negatives: "joint" takes all pairs of the batch as candidates, whichever modality they
            came with; "within_modality" only those of the anchor's own modality.

    Returns:
        Scalar loss.

    Raises:
        ValueError: at an unknown direction or kind of negatives.

    Example:
        >>> z, ids = torch.eye(4), torch.arange(4)
        >>> batch = Batch(z, z, torch.zeros_like(ids), ids)
        >>> round(nt_xent(batch, torch.tensor(math.log(100.0))).item(), 6)
        0.0

    Source: Chen et al., SimCLR, arXiv 2002.05709, for the loss; Hecht et al., arXiv 2606.20167,
    for its use with location tying. The sources at hand give no formula for the mixed batch:
    direction and negatives are therefore parameters.
    """
    if direction not in DIRECTIONS:
        raise unknown("direction", direction, DIRECTIONS)
    if negatives not in NEGATIVES:
        raise unknown("kind of negatives", negatives, NEGATIVES)
    at_least_float32 = torch.promote_types(batch.samples.dtype, torch.float32)
    with torch.autocast(batch.samples.device.type, enabled=False):
        z = F.normalize(batch.samples.to(at_least_float32), dim=1)
        e = F.normalize(batch.locations.to(at_least_float32), dim=1)
        logits = log_scale.to(at_least_float32).exp() * (z @ e.T)
        left_out = batch.place[:, None] == batch.place
        if negatives == "within_modality":
            left_out |= batch.modality[:, None] != batch.modality
        left_out.fill_diagonal_(False)
        logits = logits.masked_fill(left_out, -torch.inf)
        target = torch.arange(len(logits), device=logits.device)
        if direction == "modality_to_location":
            return F.cross_entropy(logits, target)
        if direction == "location_to_modality":
            return F.cross_entropy(logits.T, target)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


class NTXent(nn.Module):
    """`nt_xent` with its learned temperature.

    The inverse temperature starts at 1/0.07 and is clamped at 100 after each step; a clamp in the
    forward pass would freeze it there, since its gradient would vanish.

    Args:
        direction: see `nt_xent`.
        negatives: see `nt_xent`.
    """

    def __init__(
        self, direction: Direction = "modality_to_location", negatives: Negatives = "joint"
    ) -> None:
        super().__init__()
        if direction not in DIRECTIONS:
            raise unknown("direction", direction, DIRECTIONS)
        if negatives not in NEGATIVES:
            raise unknown("kind of negatives", negatives, NEGATIVES)
        self.direction = direction
        self.negatives = negatives
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE))

    def forward(self, batch: Batch) -> Tensor:
        """The loss of one batch."""
        return nt_xent(batch, self.log_scale, self.direction, self.negatives)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Keep the scale in [1, 100]; called after the optimiser's step."""
        self.log_scale.clamp_(0.0, LARGEST_LOG_SCALE)


OBJECTIVES = Registry("objective", nt_xent=NTXent)
