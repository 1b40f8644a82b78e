"""Fidelity: align samples with locations, and keep what alignment would erase."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locties.modality import BUCKETS, Modality, Standardise
from locties.objectives.base import Batch, Negatives
from locties.objectives.contrastive import Direction, NTXent, nt_xent

POOL = 4  # pixels along each side of a patch's content
TOKEN_CONTENT = 64  # numbers in the content of a row of tokens
FITTED = 4096  # samples from which a content's mean and deviation are computed


def content(samples: Tensor) -> Tensor:
    """A fixed summary of each sample, without learned parameters.

    A profile (B, C) is its own content. A patch (B, C, H, W) is averaged to 4 x 4. Each token has a
    fixed vector of 64 random normal numbers; tokens (B, T), integers below `BUCKETS` with 0 for
    padding, become the mean of their vectors. The result is (B, c) float.

    Example:
        >>> content(torch.rand(2, 3, 16, 16)).shape
        torch.Size([2, 48])
    """
    if samples.ndim == 2 and not samples.is_floating_point():
        return F.embedding_bag(samples, _token_vectors(samples.device), mode="mean", padding_idx=0)
    if samples.ndim == 2:
        return samples
    if samples.ndim == 4:
        return F.adaptive_avg_pool2d(samples, POOL).flatten(1)
    raise ValueError(
        f"samples of shape {tuple(samples.shape)} have no content: pass profiles (B, C), patches "
        "(B, C, H, W) or tokens (B, T)"
    )


@lru_cache(maxsize=2)
def _token_vectors(device: torch.device) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(
        BUCKETS, TOKEN_CONTENT, generator=generator, dtype=torch.float32, device="cpu"
    ).to(device)


def fidelity(
    batch: Batch,
    log_scale: Tensor,
    decoders: Sequence[nn.Module],
    contents: Mapping[int, Tensor],
    weight: float = 0.5,
    direction: Direction = "modality_to_location",
    negatives: Negatives = "joint",
) -> Tensor:
    """Alignment, plus the error of reading each sample's content from its embedding.

    With M the modalities in the batch, z_i the embedding of sample i (not normalised), x_i its
    standardised `content` (c_m numbers) and W_m, b_m the linear decoder of its modality::

        L = (1 - weight) nt_xent + weight 1/M sum_m 1/(B_m c_m) sum_(i in m) |W_m z_i + b_m - x_i|^2

    The second term is one minus the share of content that can be read linearly: about 1 for a
    decoder that predicts the mean, 0 for a perfect one. Computed in float32, or in float64 if an
    embedding has it.

    Args:
        batch, log_scale, direction, negatives: see `nt_xent`.
        decoders: by number m of modality, from (B_m, d) to (B_m, c_m).
        contents: by number m of modality, (B_m, c_m) of its samples, in the order of the batch.
        weight: 0 is `nt_xent`; 1 is a linear auto-encoder of contents, without alignment.

    Source: a design of this project. Thoreau, Levillain and Derksen (arXiv 2509.17943) ask what
    alignment erases; the objective is not theirs.
    """
    with torch.autocast(batch.samples.device.type, enabled=False):
        z = batch.samples.to(batch.dtype)
        errors = [F.mse_loss(decoders[m](z[batch.modality == m]), x) for m, x in contents.items()]
        alignment = nt_xent(batch, log_scale, direction, negatives)
        return (1 - weight) * alignment + weight * torch.stack(errors).mean()


class Decoder(nn.Linear):
    """The linear decoder of one modality: embedding (B, d) to standardised content (B, c).

    Weights start at zero, so it first predicts the mean content and needs no seed. `samples` (N,
    ...) give the mean and deviation of the content.
    """

    def __init__(self, samples: Tensor, dim: int) -> None:
        contents = content(samples)
        with torch.device("meta"):  # draws no random numbers for weights that start at zero
            super().__init__(dim, contents.shape[1], dtype=torch.float32)
        self.to_empty(device=samples.device)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)
        self.standardise = Standardise(contents)

    def content(self, samples: Tensor) -> Tensor:
        """The standardised content (B, c) of samples (B, ...)."""
        standardised: Tensor = self.standardise(content(samples))
        return standardised


class Fidelity(NTXent):
    """`fidelity` with a learned temperature and learned decoders.

    If a batch holds no sample of a modality, its decoder and encoder stay unchanged.

    `weight` is the share of the loss that keeps content, in [0, 1].
    """

    reads_samples = True

    def __init__(
        self,
        weight: float = 0.5,
        direction: Direction = "modality_to_location",
        negatives: Negatives = "joint",
    ) -> None:
        super().__init__(direction, negatives)
        if not 0 <= weight <= 1:
            raise ValueError(f"weight={weight}: it must be in [0, 1]")
        self.weight = weight
        self.decoders: Any = nn.ModuleList()

    def prepare(self, modalities: Mapping[str, Modality], dim: int) -> None:
        """Make a decoder for each modality; decoders made before are replaced."""
        first = (m.samples[_first(m)] for m in modalities.values())
        self.decoders = nn.ModuleList(Decoder(samples, dim) for samples in first)

    def forward(self, batch: Batch) -> Tensor:
        if batch.raw is None:
            raise ValueError("Batch.raw is None: fidelity needs the samples: pass Batch(raw=...)")
        contents = {m: self.decoders[m].content(x) for m, x in batch.raw.items()}
        return fidelity(
            batch,
            self.log_scale,
            self.decoders,
            contents,
            self.weight,
            self.direction,
            self.negatives,
        )


def _first(modality: Modality) -> Tensor:
    """Indices of its first samples."""
    lonlat = modality.lonlat
    return torch.arange(min(FITTED, len(lonlat)), device=lonlat.device)
