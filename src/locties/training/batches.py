"""Draw batches: the samples of each modality come in their own shuffled order."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from locties.modality import Modality
from locties.training import processes


def seed_of(name: str, seed: int) -> int:
    """A modality's seed: it depends only on its name and the run's seed."""
    return zlib.crc32(f"{name}/{seed}".encode())


class Stream:
    """Indices of a modality's samples in shuffled order, reshuffled when all were drawn."""

    def __init__(self, length: int, seed: int) -> None:
        self.length = length
        self.generator = torch.Generator().manual_seed(seed)
        self.rest = torch.empty(0, dtype=torch.int64)

    def peek(self, n: int) -> Tensor:
        """The next n indices, without taking them."""
        while len(self.rest) < n:
            order = torch.randperm(self.length, generator=self.generator)
            self.rest = torch.cat([self.rest, order])
        return self.rest[:n]

    def take(self, n: int) -> Tensor:
        """Take the next n indices."""
        taken = self.peek(n)
        self.rest = self.rest[n:]
        return taken

    def state_dict(self) -> dict[str, Tensor]:
        return {"generator": self.generator.get_state(), "rest": self.rest.clone()}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.generator.set_state(state["generator"])
        self.rest = state["rest"]


@dataclass(frozen=True)
class Pairs:
    """B (sample, location) pairs, one modality after the other.

    Attributes:
        lonlat: (B, 2) degrees.
        modality: (B,) int64, the number of each pair's modality.
        rows: which of the B pairs this process embeds.
        samples: by name, the samples of those rows.
        raw: by number, the samples that the objective may read.
        month: (B,), if the modalities have months.
    """

    lonlat: Tensor
    modality: Tensor
    rows: Tensor | slice
    samples: dict[str, Tensor]
    raw: dict[int, Tensor]
    month: Tensor | None


class Batches:
    """Draws the batches of a run, the same pairs in every process.

    A process reads only the samples of its share; with `read_all`, those of the whole batch.
    """

    def __init__(
        self, modalities: Mapping[str, Modality], locations: str, seed: int, read_all: bool
    ) -> None:
        self.modalities, self.fresh = modalities, locations == "fresh"
        self.read_all = read_all and processes.count() > 1
        self.numbers = {name: i for i, name in enumerate(modalities)}
        self.streams = {
            name: Stream(len(m.lonlat), seed_of(name, seed)) for name, m in modalities.items()
        }

    def draw(self, counts: Mapping[str, int], following: Mapping[str, int]) -> Pairs:
        """Pairs of the next step; `following` are the counts of the step after it."""
        drawn = {name: self._draw(name, n) for name, n in counts.items()}
        if not self.fresh:
            self._announce(following)
        lonlat = torch.cat([where for where, *_ in drawn.values()])
        raw = {name: samples for name, (_, samples, *_) in drawn.items()}
        months = [month for _, _, *with_month in drawn.values() for month in with_month]
        samples = {
            name: x[processes.share(len(x))] if self.read_all else x for name, x in raw.items()
        }
        sizes = list(counts.values())
        numbers = torch.tensor([self.numbers[name] for name in counts])
        modality = numbers.repeat_interleave(torch.tensor(sizes)).to(lonlat.device)
        rows = processes.rows(sizes, lonlat.device)
        return Pairs(
            lonlat,
            modality,
            rows,
            samples,
            {self.numbers[n]: x for n, x in raw.items()},
            torch.cat(months) if months else None,
        )

    def _draw(self, name: str, n: int) -> tuple[Tensor, ...]:
        """Locations (n, 2), the samples that this process reads and, if they have any, months."""
        modality, stream = self.modalities[name], self.streams[name]
        if self.fresh:
            lonlat, samples, *month = modality.fresh(n, stream.generator)
            return lonlat, samples[self._read(n)], *month
        index = stream.take(n).to(modality.lonlat.device)
        month = [] if modality.month is None else [modality.month[index]]
        return modality.lonlat[index], modality.samples[index[self._read(n)]], *month

    def _announce(self, following: Mapping[str, int]) -> None:
        """Announce the samples of the next step to modalities that read ahead."""
        for name, n in following.items():
            expect = getattr(self.modalities[name].samples, "expect", None)
            if expect is not None:
                expect(self.streams[name].peek(n)[self._read(n)])

    def _read(self, n: int) -> slice:
        return slice(None) if self.read_all else processes.share(n)

    def state_dict(self) -> dict[str, Any]:
        return {name: stream.state_dict() for name, stream in self.streams.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for name, stream in self.streams.items():
            stream.load_state_dict(state[name])
