"""A modality: samples of one kind, each at its own location, and the encoder that reads them.

This file needs torch alone. The modalities that read data are in `locties.modalities`.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from locties import lonlat as coordinates
from locties import month as months

PATCH = 16  # pixels along each side of a patch
BUCKETS = 2**14  # rows of the table of hashed n-grams
TOKENS = 64  # n-grams kept for each place
FITTED = 4096  # samples from which a channel's mean and deviation are computed

EncoderFactory = Callable[[int], nn.Module]  # from the length of an embedding to an encoder


class Samples(Protocol):
    """N samples that can be indexed: a tensor, or an object that reads them on demand.

    Two optional methods: ``fresh(n, generator)`` draws n new locations and their samples, and
    their months if they have any;
    ``expect(index)`` is called before each training step with the indices (B,), on the CPU, of
    the samples that the next step reads.
    """

    def __getitem__(self, index: Tensor) -> Tensor:
        """Samples (B, ...) at `index` (B,)."""

    def __len__(self) -> int:
        """The number of samples."""

    def to(self, device: torch.device) -> Any:
        """The same samples on `device`."""


@dataclass(frozen=True, eq=False)
class Modality:
    """One kind of observation: samples, each at its own location.

    Args:
        name: used in tables and messages.
        lonlat: (N, 2) degrees, the location of each sample.
        samples: N samples, as a tensor (N, ...) or any `Samples`.
        encoder: makes the modality encoder, given the length of an embedding.
        validation: held-out samples of the same kind, for validation loss and retrieval.
        month: (N,), 1 to 12, of each sample; None if samples have no month. See `by_month`.

    Example:
        >>> rain = Modality("rain", [[0, 0], [10, 20]], torch.rand(2, 12), profile_encoder(12))
        >>> rain.encoder(256)(rain.samples[torch.tensor([0, 1])]).shape
        torch.Size([2, 256])
    """

    name: str
    lonlat: Tensor
    samples: Samples
    encoder: EncoderFactory
    validation: Modality | None = None
    month: Tensor | None = None

    def __post_init__(self) -> None:
        # The name becomes a key of an nn.ModuleDict, which refuses its own attributes and dots.
        if not self.name or "." in self.name or hasattr(nn.ModuleDict, self.name):
            raise ValueError(
                f"a modality cannot be called {self.name!r}: use a word without dots that is not "
                "a method of torch.nn.ModuleDict"
            )
        if len(self.lonlat) == 0:
            raise ValueError(
                f"modality {self.name!r} is empty: give at least one sample with its location"
            )
        if hasattr(self.samples, "mask"):
            raise ValueError(
                f"modality {self.name!r} has masked samples, which would be read as numbers: drop "
                "the masked rows and pass a tensor"
            )
        object.__setattr__(self, "lonlat", coordinates.check(self.lonlat).float())
        if len(self.lonlat) != len(self.samples):
            raise ValueError(
                f"modality {self.name!r} has {len(self.samples)} samples at {len(self.lonlat)} "
                "locations: give one location for each sample"
            )
        if self.month is not None:
            object.__setattr__(self, "month", months.check(self.month, len(self.lonlat)))

    def fresh(self, n: int, generator: torch.Generator) -> tuple[Tensor, ...]:
        """Draw `n` new locations (n, 2), their samples (n, ...) and, if they have any, months."""
        draw: Callable[..., tuple[Tensor, ...]] | None = getattr(self.samples, "fresh", None)
        if draw is None:
            raise ValueError(
                f"modality {self.name!r} has fixed samples only: train with locations='fixed'"
            )
        drawn, wanted = draw(n, generator), ["locations", "samples"]
        if self.month is not None:
            wanted.append("months, as the modality has them")
        if len(drawn) != len(wanted):
            raise ValueError(
                f"samples.fresh of modality {self.name!r} returned {len(drawn)} tensors: let it "
                f"return {len(wanted)}: {', '.join(wanted)}"
            )
        return drawn

    def to(self, device: torch.device) -> Modality:
        """A copy with samples and locations on `device`."""
        return replace(
            self,
            lonlat=self.lonlat.to(device),
            samples=self.samples.to(device),
            validation=None if self.validation is None else self.validation.to(device),
            month=None if self.month is None else self.month.to(device),
        )


@dataclass(frozen=True, eq=False)
class InMonths:
    """Samples of P places, all of them again in each of M / P turns.

    Args:
        of: the places and their samples.
        month: (M,) int64, the month of each new sample.
        monthly: whether the samples of `of` are (P, 12), January to December. A new sample is then
            the value of its month, (1,); else it is the same in all months.
    """

    of: Modality
    month: Tensor
    monthly: bool

    def __getitem__(self, index: Tensor) -> Tensor:
        return self._in_month(self.of.samples[self._place(index)], self.month[index])

    def __len__(self) -> int:
        return len(self.month)

    def fresh(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw new locations, and a month for each."""
        lonlat, samples = self.of.fresh(n, generator)
        month = torch.randint(1, 13, (n,), generator=generator).to(lonlat.device)
        return lonlat, self._in_month(samples, month), month

    def expect(self, index: Tensor) -> None:
        """Announce samples to those that read ahead."""
        expect = getattr(self.of.samples, "expect", None)
        if expect is not None:
            expect(self._place(index))

    def to(self, device: torch.device) -> InMonths:
        """A copy on `device`."""
        return replace(self, of=self.of.to(device), month=self.month.to(device))

    def _place(self, index: Tensor) -> Tensor:
        """The row in `of` of each sample."""
        return index % len(self.of.lonlat)

    def _in_month(self, samples: Tensor, month: Tensor) -> Tensor:
        return samples.gather(1, month[:, None] - 1) if self.monthly else samples


def by_month(modality: Modality) -> Modality:
    """A modality of profiles with twelve months, with one sample for each place and month.

    Neighbouring samples have successive months. Held-out places have one month each.

    Example:
        >>> rain = Modality("rain", [[0, 0]], torch.arange(12.0)[None], profile_encoder(12))
        >>> monthly = by_month(rain)
        >>> monthly.month[:2], monthly.samples[torch.tensor([0, 1])]
        (tensor([1, 2]), tensor([[0.],
                [1.]]))
    """
    profile = modality.samples[torch.arange(1, device=modality.lonlat.device)]
    if profile.shape[1:] != (12,) or not profile.is_floating_point():
        raise ValueError(
            f"modality {modality.name!r} has samples of shape {tuple(profile.shape[1:])}, not "
            "twelve numbers, January to December: give such profiles"
        )
    spread = _spread(modality, monthly=True)
    first = spread.samples[torch.arange(min(FITTED, len(spread.lonlat)))]
    make = profile_encoder(1, Standardise(first))
    held_out = spread.validation and replace(spread.validation, encoder=make)
    return replace(spread, encoder=make, validation=held_out)


def in_every_month(modality: Modality) -> Modality:
    """A modality without months, whose samples are the same in all twelve."""
    return _spread(modality, monthly=False)


def _spread(modality: Modality, monthly: bool, turns: int = 12) -> Modality:
    """Each of N samples in `turns` different months; the first N have all places."""
    place = torch.arange(len(modality.lonlat), device=modality.lonlat.device)
    turn = torch.arange(turns, device=place.device)
    month = ((turn[:, None] + place) % 12 + 1).flatten()
    return replace(
        modality,
        lonlat=modality.lonlat.repeat(turns, 1),
        samples=InMonths(replace(modality, validation=None), month, monthly),
        validation=modality.validation and _spread(modality.validation, monthly, turns=1),
        month=month,
    )


class Standardise(nn.Module):
    """Subtract the mean of each channel of `samples` (N, C, ...), and divide by its deviation."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, samples: Tensor) -> None:
        super().__init__()
        axes = [axis for axis in range(samples.ndim) if axis != 1]
        deviation, mean = torch.std_mean(samples.double(), axes, keepdim=True)
        self.register_buffer("mean", mean[0].float())
        self.register_buffer("deviation", deviation[0].float().clamp_min(1e-6))

    def forward(self, samples: Tensor) -> Tensor:
        return (samples - self.mean) / self.deviation


def profile_encoder(channels: int, standardise: nn.Module | None = None) -> EncoderFactory:
    """Make encoders of profiles, (B, channels) to (B, dim): two hidden layers of 256.

    `standardise` is a module applied first, such as `Standardise`.
    """

    def make(dim: int) -> nn.Module:
        return nn.Sequential(
            standardise or nn.Identity(),
            nn.Linear(channels, 256),
            nn.GELU(),
            nn.Linear(256, 256),
            nn.GELU(),
            nn.Linear(256, dim),
        )

    return make


def patch_encoder(channels: int, standardise: nn.Module | None = None) -> EncoderFactory:
    """Make encoders of image patches, (B, channels, 16, 16) to (B, dim): three convolutions."""

    def make(dim: int) -> nn.Module:
        return nn.Sequential(
            standardise or nn.Identity(),
            nn.Conv2d(channels, 32, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(32, 64, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Conv2d(64, 128, 4, stride=2, padding=1),
            nn.GELU(),
            nn.Flatten(),
            nn.Linear(128 * (PATCH // 8) ** 2, 256),
            nn.GELU(),
            nn.Linear(256, dim),
        )

    return make


def text_encoder() -> EncoderFactory:
    """Make encoders of texts, rows of `tokenise` (B, TOKENS) to (B, dim): a mean of n-gram vectors.

    Example:
        >>> text_encoder()(256)(tokenise([["Berlin"], ["Paris", "Parijs"]])).shape
        torch.Size([2, 256])

    Source: hashed character n-grams after Bojanowski et al. (TACL 5, 2017, arXiv 1607.04606).
    """

    def make(dim: int) -> nn.Module:
        return nn.Sequential(
            nn.EmbeddingBag(BUCKETS, 128, mode="mean", padding_idx=0),
            nn.Linear(128, 256),
            nn.GELU(),
            nn.Linear(256, dim),
        )

    return make


def ngrams(text: str) -> list[str]:
    """Character n-grams of length 1 to 4, shortest first, with the ends of the text marked.

    Case is folded and Unicode forms are composed (NFKC), so that a name has one spelling.

    Example:
        >>> ngrams("Ōsu")
        ['<', 'ō', 's', 'u', '>', '<ō', 'ōs', 'su', 'u>', '<ōs', 'ōsu', 'su>', '<ōsu', 'ōsu>']
    """
    word = f"<{unicodedata.normalize('NFKC', text).casefold()}>"
    return [word[i : i + n] for n in range(1, 5) for i in range(len(word) - n + 1)]


def tokenise(names: list[list[str]]) -> Tensor:
    """Hash the n-grams of each place's names into a row of bucket numbers.

    A bucket is CRC-32 modulo (`BUCKETS` - 1), plus 1; 0 is padding. N-grams of the first name come
    first, repeats count once, and at most `TOKENS` are kept.

    Args:
        names: the names of each of N places, in any script.

    Returns:
        (N, TOKENS) int64.
    """
    rows = torch.zeros(len(names), TOKENS, dtype=torch.int64)
    for row, place in zip(rows, names, strict=True):
        buckets: dict[int, None] = {}
        for name in place:
            for gram in ngrams(name):
                buckets[zlib.crc32(gram.encode()) % (BUCKETS - 1) + 1] = None
            if len(buckets) >= TOKENS:
                break
        kept = list(buckets)[:TOKENS]
        row[: len(kept)] = torch.tensor(kept)
    return rows
