"""Contrastive losses: NT-Xent and SigLIP."""

import math
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locties._util.matmul import drop_denormal_gradients
from locties._util.registry import check_choice
from locties.objectives._ntxent import lean_nt_xent
from locties.objectives.base import (
    NEGATIVES,
    Batch,
    Negatives,
    Objective,
    all_are_negatives,
    not_negatives,
)

Direction = Literal["modality_to_location", "location_to_modality", "symmetric"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

INITIAL_LOG_SCALE = math.log(1 / 0.07)
LARGEST_LOG_SCALE = math.log(100)

# From this many pairs on, NT-Xent is computed in chunks. At this size a CPU takes about the same
# time either way, and chunks need less memory. A GPU is faster with whole matrices, while they fit.
LEAN_FROM = {"cpu": 2048, "elsewhere": 8193}


def normalised(batch: Batch) -> tuple[Tensor, Tensor]:
    """The embeddings (B, d) of samples and of locations, each of length one."""
    z, e = (F.normalize(x.to(batch.dtype), dim=1) for x in (batch.samples, batch.locations))
    return z, e


def nt_xent_formula(
    batch: Batch,
    log_scale: Tensor,
    direction: Direction = "modality_to_location",
    negatives: Negatives = "joint",
) -> Tensor:
    """`nt_xent` as its formula reads, with all B x B similarities in memory.

    Use it for second-order gradients of large batches.
    """
    with torch.autocast(batch.samples.device.type, enabled=False):
        z, e = normalised(batch)
        logits = (log_scale.to(z.device, z.dtype).exp() * z) @ e.T
        if not all_are_negatives(batch, negatives):
            logits = logits.masked_fill(not_negatives(batch, negatives), -torch.inf)
        drop_denormal_gradients(logits)
        positives = torch.arange(len(z), device=z.device)
        if direction == "symmetric":
            return (F.cross_entropy(logits, positives) + F.cross_entropy(logits.T, positives)) / 2
        return F.cross_entropy(logits if direction == DIRECTIONS[0] else logits.T, positives)


def nt_xent(
    batch: Batch,
    log_scale: Tensor,
    direction: Direction = "modality_to_location",
    negatives: Negatives = "joint",
) -> Tensor:
    """The normalised-temperature cross entropy, averaged over the anchors.

    With z and e the L2-normalised embeddings of samples and locations and s = exp(log_scale)::

        l_i = -log( exp(s z_i.e_i) / sum_j exp(s z_i.e_j) )

    where j runs over i and its negatives. Pairs at the same coordinates are never each other's
    negatives. Computed in float32, or in float64 if an embedding has it. Large batches are computed
    in chunks, to save memory. Their gradients cannot be differentiated again; those of
    `nt_xent_formula` can.

    Args:
        batch: B pairs, of one modality or of several.
        log_scale: scalar, the logarithm of the inverse temperature.
        direction: "modality_to_location" takes samples as anchors and locations as candidates;
            "location_to_modality" the reverse; "symmetric" the mean of both, as CLIP and SatCLIP.
        negatives: "joint" takes every other pair of the batch; "within_modality" those of the
            anchor's own modality.

    Example:
        >>> z, ids = torch.eye(4), torch.arange(4)
        >>> batch = Batch(z, z, torch.zeros_like(ids), ids)
        >>> round(nt_xent(batch, torch.tensor(math.log(100.0))).item(), 6)
        0.0

    Source: Chen et al., SimCLR, arXiv 2002.05709; Hecht et al., arXiv 2606.20167, for location
    tying. The sources give no formula for a batch of several modalities, so direction and negatives
    are parameters.
    """
    check_choice("kind of negatives", negatives, NEGATIVES)
    check_choice("direction", direction, DIRECTIONS)
    lean_from = LEAN_FROM["cpu" if batch.samples.is_cpu else "elsewhere"]
    function = nt_xent_formula if len(batch.samples) < lean_from else lean_nt_xent
    return function(batch, log_scale, direction, negatives)


class NTXent(Objective):
    """`nt_xent` with a learned temperature.

    The inverse temperature starts at 1/0.07 and is clamped to [1, 100] after each step. Clamping it
    in the forward pass would make its gradient vanish at the bound.

    Source: temperature and clamp are those of CLIP (Radford et al., arXiv 2103.00020).
    """

    def __init__(
        self, direction: Direction = "modality_to_location", negatives: Negatives = "joint"
    ) -> None:
        super().__init__()
        check_choice("kind of negatives", negatives, NEGATIVES)
        check_choice("direction", direction, DIRECTIONS)
        self.direction = direction
        self.negatives = negatives
        self.log_scale = nn.Parameter(torch.tensor(INITIAL_LOG_SCALE, dtype=torch.float32))

    def forward(self, batch: Batch) -> Tensor:
        return nt_xent(batch, self.log_scale, self.direction, self.negatives)

    @torch.no_grad()
    def clamp_(self) -> None:
        self.log_scale.clamp_(0.0, LARGEST_LOG_SCALE)


def siglip(batch: Batch, log_scale: Tensor, bias: Tensor, negatives: Negatives = "joint") -> Tensor:
    """The sigmoid loss of SigLIP: each pair is classified as matching or not.

    With z and e the L2-normalised embeddings of samples and locations and t = exp(log_scale)::

        L = -1/B sum_i sum_j log sigmoid( y_ij (t z_i.e_j + b) )

    where y_ij is 1 for i = j and -1 otherwise, and j runs over i and its negatives as in `nt_xent`
    (in the paper, over all pairs). Computed in float32, or in float64 if an embedding has it.

    Source: Zhai et al., "Sigmoid Loss for Language Image Pre-Training" (ICCV 2023, arXiv
    2303.15343); the formula is that of the authors' code.
    """
    check_choice("kind of negatives", negatives, NEGATIVES)
    with torch.autocast(batch.samples.device.type, enabled=False):
        z, e = normalised(batch)
        logits = (log_scale.to(z.dtype).exp() * z) @ e.T + bias.to(z.dtype)
        drop_denormal_gradients(logits)
        sign = 2 * torch.eye(len(logits), dtype=logits.dtype, device=logits.device) - 1
        log_likelihood = F.logsigmoid(sign * logits)
        return -log_likelihood.masked_fill(not_negatives(batch, negatives), 0.0).sum() / len(logits)


class SigLIP(Objective):
    """`siglip` with a learned scale, which starts at 10, and bias, which starts at -10.

    The scale is clamped to [1, 100] after each step, as in `NTXent`; the authors' code does not.
    """

    def __init__(self, negatives: Negatives = "joint") -> None:
        super().__init__()
        check_choice("kind of negatives", negatives, NEGATIVES)
        self.negatives = negatives
        self.log_scale = nn.Parameter(torch.tensor(math.log(10), dtype=torch.float32))
        self.bias = nn.Parameter(torch.tensor(-10.0, dtype=torch.float32))

    def forward(self, batch: Batch) -> Tensor:
        return siglip(batch, self.log_scale, self.bias, self.negatives)

    @torch.no_grad()
    def clamp_(self) -> None:
        self.log_scale.clamp_(0.0, LARGEST_LOG_SCALE)
