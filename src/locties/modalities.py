"""The modalities that read data, by name.

To add one, write a function that returns a `locties.modality.Modality`, and
``MODALITIES["mine"] = mine``.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locties._util.registry import Registry, check_counts
from locties.data import embedded, public, sampling
from locties.data.embedded_features import imagery_features, text_features
from locties.data.raster import Raster
from locties.data.surroundings import land_share, place_density
from locties.harmonics import harmonics_as
from locties.modality import (
    FITTED,
    PATCH,
    TOKENS,
    EncoderFactory,
    Modality,
    Samples,
    Standardise,
    patch_encoder,
    profile_encoder,
    text_encoder,
    tokenise,
)


@dataclass(frozen=True, eq=False)
class Gathered:
    """Samples that are read from rasters in memory when they are indexed.

    Args:
        lonlat: (N, 2) degrees.
        read: from rasters and lonlat (B, 2) to samples (B, ...).
        draw: from n and a generator to n new locations (n, 2) of the same kind.
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
        """Draw new locations (n, 2) and read their samples."""
        lonlat = self.draw(n, generator).to(self.lonlat.device)
        return lonlat, self.read(self.rasters, lonlat)

    def to(self, device: torch.device) -> Gathered:
        """A copy with locations and rasters on `device`."""
        rasters = tuple(raster.to(device) for raster in self.rasters)
        return replace(self, lonlat=self.lonlat.to(device), rasters=rasters)


@dataclass(frozen=True, eq=False)
class Chosen:
    """N samples out of a pool of P places; fresh ones are drawn from the whole pool.

    Args:
        lonlat: (P, 2) degrees.
        pool: P samples, as a tensor (P, ...) or any `Samples`.
        index: (N,) int64, the positions of the samples in the pool.
    """

    lonlat: Tensor
    pool: Samples
    index: Tensor

    def __getitem__(self, index: Tensor) -> Tensor:
        return self.pool[self.index[index]]

    def __len__(self) -> int:
        return len(self.index)

    def fresh(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw places (n, 2) from the pool, with their samples."""
        drawn = torch.randint(len(self.pool), (n,), generator=generator).to(self.lonlat.device)
        return self.lonlat[drawn], self.pool[drawn]

    def to(self, device: torch.device) -> Chosen:
        """A copy on `device`."""
        return Chosen(self.lonlat.to(device), self.pool.to(device), self.index.to(device))


class HashedNames:
    """Rows of `tokenise`. On a CPU a row is computed when it is first read: all take 3 s."""

    def __init__(self, names: Sequence[list[str]]) -> None:
        self.names = names
        self.rows = torch.zeros(len(names), TOKENS, dtype=torch.int64)
        self.known = torch.zeros(len(names), dtype=torch.bool)

    def __getitem__(self, index: Tensor) -> Tensor:
        new = torch.unique(index[~self.known[index]])
        self.rows[new] = tokenise([self.names[i] for i in new.tolist()])
        self.known[new] = True
        return self.rows[index]

    def __len__(self) -> int:
        return len(self.names)

    def to(self, device: torch.device) -> HashedNames | Tensor:
        """On a GPU, all rows."""
        if torch.device(device).type == "cpu":
            return self
        return self[torch.arange(len(self))].to(device)


# -------------------------------------------------------------------------- the embedded tier


def _raster_modality(
    name: str,
    rasters: tuple[Raster, ...],
    read: Callable[[tuple[Raster, ...], Tensor], Tensor],
    encoder: Callable[[int, nn.Module], EncoderFactory],
    samples: int,
    seed: int,
    validation: int,
) -> Modality:
    """A modality read from rasters, at points uniform by area on the land cells that it owns.

    If it owns no cells, points are drawn on all land.
    """
    everywhere = name not in sampling.OWNERS

    def draw(n: int, generator: torch.Generator, owned_by: str = name) -> Tensor:
        owner = None if everywhere else owned_by
        return sampling.land_lonlat(embedded.load(), n, generator, owned_by=owner)

    check_counts(samples=samples, validation=validation)
    generator = _generator(name, seed)
    lonlat = draw(samples, generator)
    held_out = draw(validation, generator, "validation")
    standardise = Standardise(read(rasters, lonlat[:FITTED]))
    make = encoder(standardise.mean.shape[0], standardise)
    return Modality(
        name,
        lonlat,
        Gathered(lonlat, rasters, read, draw),
        make,
        Modality(name, held_out, Gathered(held_out, rasters, read, draw), make),
    )


def _patches(name: str, raster: Raster, unit: float, *sizes: int) -> Modality:
    """Patches of a raster, in units of `unit`; `sizes` are samples, seed and validation."""

    def read(rasters: tuple[Raster, ...], lonlat: Tensor) -> Tensor:
        return rasters[0].patches(lonlat, PATCH) / unit

    return _raster_modality(name, (raster,), read, patch_encoder, *sizes)


def _sample(rasters: tuple[Raster, ...], lonlat: Tensor) -> Tensor:
    return rasters[0].sample(lonlat)


def _log_rain(rasters: tuple[Raster, ...], lonlat: Tensor) -> Tensor:
    return rasters[0].sample(lonlat).clamp_min(0).log1p()


def _generator(name: str, seed: int) -> torch.Generator:
    """A stream of random numbers that depends on this modality and the seed alone."""
    return torch.Generator().manual_seed(zlib.crc32(f"{name}:{seed}".encode()))


def imagery(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Patches of Blue Marble, 16x16 pixels of 4 arc minutes, red, green and blue in [0, 1].

    Samples are (N, 3, 16, 16) float32.

    Args:
        samples: number of samples, at points uniform by area on the land cells of this modality.
        seed: determines the points.
        validation: number of held-out samples, in the cells kept for validation.

    Source: NASA's Blue Marble Next Generation; see the manifest.
    """
    return _patches("imagery", embedded.load().imagery, 255, samples, seed, validation)


def relief(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Patches of altitude in km, 16x16 pixels of 5 arc minutes: (N, 1, 16, 16) float32.

    Arguments: see `imagery`. Source: the altitude raster of pvlib; see the manifest.
    """
    return _patches("relief", embedded.load().relief, 1000, samples, seed, validation)


def rain(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Profiles of twelve months of precipitation, log(1 + mm): (N, 12) float32.

    Arguments: see `imagery`. Source: ERA5; see the manifest.
    """
    rasters = (embedded.load().rain,)
    return _raster_modality("rain", rasters, _log_rain, profile_encoder, samples, seed, validation)


def temperature(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Profiles of twelve months of air temperature, degC: (N, 12) float32.

    It answers the task air_temperature, so it is not one of `EMBEDDED`.

    Arguments: see `imagery`. Source: ERA5; see the manifest.
    """
    rasters = (embedded.load().temperature,)
    return _raster_modality(
        "temperature", rasters, _sample, profile_encoder, samples, seed, validation
    )


def haze(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Profiles of monthly Linke turbidity: (N, 12) float32.

    Arguments: see `imagery`. Source: the Linke turbidity rasters of pvlib; see the manifest.
    """
    rasters = (embedded.load().haze,)
    return _raster_modality("haze", rasters, _sample, profile_encoder, samples, seed, validation)


def rasters(
    samples: int = 20_000,
    seed: int = 0,
    validation: int = 1024,
    groups: Sequence[str] | None = None,
) -> Modality:
    """All that the rasters say of a place, and where it is, as profiles: (N, 87) float32.

    Use it for regression, which can learn every value at every point. Points are uniform by area on
    all land, also on cells of other modalities, and held-out points lie among training points.

    Args:
        samples, seed, validation: see `imagery`.
        groups: which of the `RASTER_GROUPS` of columns to read; all by default.

    Sources: those of imagery, relief, rain, haze and toponyms, and GSHHG's shores.
    """
    earth = embedded.load()
    everything = _Everything(earth.imagery, earth.relief, earth.rain, earth.haze, *_surroundings())
    wanted = RASTER_GROUPS if groups is None else groups
    if not wanted:
        raise ValueError(f"groups={groups!r}: name one or more of {', '.join(RASTER_GROUPS)}")
    read = partial(_columns, tuple(RASTER_GROUPS[g] for g in wanted))
    return _raster_modality("rasters", everything, read, profile_encoder, samples, seed, validation)


class _Everything(NamedTuple):
    """Every raster that holds a value of each place on land."""

    imagery: Raster
    relief: Raster
    rain: Raster
    haze: Raster
    settlements: Raster
    land: Raster


def _columns(
    groups: Sequence[Callable[[_Everything, Tensor], Tensor]],
    rasters: Sequence[Raster],
    lonlat: Tensor,
) -> Tensor:
    everything = _Everything(*rasters)
    return torch.cat([read(everything, lonlat) for read in groups], dim=1)


def _patch_and_point(raster: Raster, lonlat: Tensor, side: int, unit: float) -> Tensor:
    """The side x side means of a patch, and the value at its centre, in units of `unit`."""
    means = F.adaptive_avg_pool2d(raster.patches(lonlat, PATCH), side).flatten(1)
    return torch.cat([means, raster.sample(lonlat)], dim=1) / unit


# The numbers of `rasters`: by name of a group, from rasters and lonlat (B, 2) to columns (B, c).
RASTER_GROUPS: dict[str, Callable[[_Everything, Tensor], Tensor]] = Registry(
    "group of rasters",
    **{
        "imagery": lambda of, lonlat: _patch_and_point(of.imagery, lonlat, 2, 255),  # 15
        "relief": lambda of, lonlat: _patch_and_point(of.relief, lonlat, 4, 1000),  # 17
        "rain": lambda of, lonlat: _log_rain((of.rain,), lonlat),  # 12
        "haze": lambda of, lonlat: of.haze.sample(lonlat),  # 12
        "settlements": lambda of, lonlat: of.settlements.sample(lonlat),  # 3
        "land": lambda of, lonlat: of.land.sample(lonlat),  # 3
        # Harmonics of 5 degrees. They keep smooth change over continents in the embedding.
        "position": lambda of, lonlat: harmonics_as(lonlat, 5, torch.float32),  # 25
    },
)


@lru_cache(maxsize=1)
def _surroundings() -> tuple[Raster, Raster]:
    earth = embedded.load()
    return place_density(earth), land_share(earth)


def toponyms(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Names of populated places in all their scripts: rows of `tokenise`, (N, TOKENS) int64.

    Samples are dense where places are dense, not uniform by area. If this modality's cells hold
    fewer than `samples` places, all are taken.

    Arguments: see `imagery`. Source: GeoNames (cities500); see the manifest.
    """
    check_counts(samples=samples, validation=validation)
    places = embedded.load().places
    owners = sampling.owner(places.lonlat)
    generator = _generator("toponyms", seed)
    make = text_encoder()

    def pool(owner: int, n: int) -> Modality:
        owned = (owners == owner).nonzero().squeeze(1)
        names = HashedNames([places.names[i] for i in owned.tolist()])
        index = torch.randperm(len(owned), generator=generator)[:n]
        lonlat = places.lonlat[owned]
        return Modality("toponyms", lonlat[index], Chosen(lonlat, names, index), make)

    training = pool(sampling.OWNERS.index("toponyms"), samples)
    return replace(training, validation=pool(sampling.VALIDATION, validation))


def text(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Wikipedia's summaries of cities and countries, by frozen multilingual USE: (N, 512) float32.

    A place has a summary in each of up to three languages. If this modality's cells hold fewer than
    `samples` of them (they hold about 1,400), all are taken.

    Arguments: see `imagery`. Source: Wikipedia, joined to GeoNames by `locties.data.articles`.
    """
    check_counts(samples=samples, validation=validation)
    lonlat, features = embedded.load().texts.lonlat, text_features()
    owners = sampling.owner(lonlat)
    generator = _generator("text", seed)

    def pool(owner: int, n: int) -> tuple[Tensor, Chosen]:
        owned = (owners == owner).nonzero().squeeze(1)
        index = torch.randperm(len(owned), generator=generator)[:n]
        return lonlat[owned][index], Chosen(lonlat[owned], features[owned], index)

    training = pool(sampling.OWNERS.index("text"), samples)
    return _of_features("text", training, pool(sampling.VALIDATION, validation))


def imagery_frozen(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """The patches of `imagery` by frozen EfficientNet-Lite0: (N, 1280) float32.

    It has the cells of `imagery`, so train with only one of the two. Features are computed once, so
    points are the same for every seed, and n points are the first n of any larger number.

    Args:
        samples: number of samples.
        seed: determines their order.
        validation: number of held-out samples.

    Source: NASA's Blue Marble Next Generation; see the manifest.
    """
    check_counts(samples=samples, validation=validation)
    generator = _generator("imagery_frozen", seed)

    def pool(owned_by: str, n: int) -> tuple[Tensor, Chosen]:
        lonlat, features = imagery_features(n, owned_by)
        index = torch.randperm(n, generator=generator)
        return lonlat[index], Chosen(lonlat, features, index)

    training = pool("imagery", samples)
    return _of_features("imagery_frozen", training, pool("validation", validation))


def _of_features(
    name: str, training: tuple[Tensor, Chosen], held_out: tuple[Tensor, Chosen]
) -> Modality:
    """A modality of frozen features, each standardised."""
    _, samples = training
    first = samples[torch.arange(min(FITTED, len(samples)))]
    make = profile_encoder(first.shape[1], Standardise(first))
    return Modality(name, *training, make, Modality(name, *held_out, make))


# ------------------------------------------------------------------------------ the open tier


def night_lights(samples: int = 20_000, seed: int = 0, validation: int = 1024) -> Modality:
    """Patches of lights at night, 16x16 pixels of 5.3 arc minutes, red in [0, 1].

    Samples are (N, 1, 16, 16) float32. The picture must have been fetched, or be in a mirror.

    Arguments: see `imagery`. Source: NASA's Black Marble picture; see the manifest.
    """
    return _patches("night_lights", public.night_lights(), 255, samples, seed, validation)


# The default set. It needs no fetched file.
EMBEDDED = ("imagery", "rain", "haze", "relief", "toponyms")
# Profiles of twelve months: for an encoder with a month, `pretrain` takes them month by month.
MONTHLY = ("rain", "temperature", "haze")
MODALITIES = Registry(
    "modality",
    imagery=imagery,
    rain=rain,
    temperature=temperature,
    haze=haze,
    relief=relief,
    rasters=rasters,
    toponyms=toponyms,
    text=text,
    imagery_frozen=imagery_frozen,
    night_lights=night_lights,
)
