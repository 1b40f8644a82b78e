"""The content of a sample, and the linear heads that read it from an embedding."""

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locties.modality import BUCKETS, FITTED, Modality, Standardise

POOL = 4  # pixels along each side of a patch's content
TOKEN_CONTENT = 64  # numbers in the content of a row of tokens


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


def make_decoders(modalities: Mapping[str, Modality], dim: int) -> nn.ModuleList:
    """A `Decoder` for each modality, fitted to the scale of its first samples."""
    first = (m.samples[_first(m)] for m in modalities.values())
    return nn.ModuleList(Decoder(samples, dim) for samples in first)


def contents_of(
    raw: Mapping[int, Tensor] | None, decoders: Sequence[Any], objective: str
) -> dict[int, Tensor]:
    """By number m of modality, the standardised contents (B_m, c_m) of a batch's samples."""
    if raw is None:
        raise ValueError(f"Batch.raw is None: {objective} needs the samples: pass Batch(raw=...)")
    contents = (raw if isinstance(raw, ReadOnce) else ReadOnce(raw)).contents
    return {m: decoders[m].standardise(x) for m, x in contents.items()}


class ReadOnce(dict[int, Tensor]):
    """The samples of a batch, whose contents are computed once for all who read them."""

    @cached_property
    def contents(self) -> dict[int, Tensor]:
        return {m: content(x) for m, x in self.items()}


def reading_error(
    embedding: Tensor,
    modality: Tensor,
    decoders: Sequence[nn.Module],
    contents: Mapping[int, Tensor],
) -> Tensor:
    """The mean squared error of contents read from embeddings, averaged over modalities.

    Args:
        embedding: (B, d).
        modality: (B,) int64, the number of each row's modality.
        decoders: by number m of modality, from (B_m, d) to (B_m, c_m).
        contents: by number m of modality, (B_m, c_m) standardised, in the order of the rows.
    """
    rows = {m: embedding[modality == m] for m in contents}
    errors = [F.mse_loss(decoders[m](rows[m]), x) for m, x in contents.items()]
    return torch.stack(errors).mean()


def _first(modality: Modality) -> Tensor:
    """Indices of its first samples."""
    lonlat = modality.lonlat
    return torch.arange(min(FITTED, len(lonlat)), device=lonlat.device)
