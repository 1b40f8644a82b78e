"""Baselines that `evaluate` scores beside trained encoders, and all names that it accepts.

``BASELINES["xyz"](seed=0)`` is a function from lonlat `(N, 2)` to `(N, d)`. The seed changes only
``"untrained_default"``. `contender` turns a name into a baseline, a peer or a saved encoder.
"""

from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locties import month as months
from locties._util.registry import Registry, unknown
from locties.apply.embedding_table import EmbeddingTable, is_table
from locties.apply.metadata import Encoder, in_month, resolve, takes_month
from locties.encoder import LocationEncoder
from locties.evaluation.raw import Raw
from locties.harmonics import spherical_harmonics
from locties.lonlat import LonLat, check, to_xyz
from locties.peers import PEERS
from locties.saved import is_encoder, published


def constant(seed: int = 0) -> Encoder:
    """The same embedding everywhere: probes predict the mean label or the commonest class."""
    return _ones


def xyz(seed: int = 0) -> Encoder:
    """The unit vector of each place `(N, 3)`: with kNN, a strong spatial prior."""
    return _unit_vectors


def _ones(lonlat: LonLat) -> Tensor:
    return torch.ones(len(check(lonlat)), 1)


def _unit_vectors(lonlat: LonLat) -> Tensor:
    return to_xyz(check(lonlat))


def harmonics(degree: int, seed: int = 0) -> Encoder:
    """Spherical harmonics of `degree` degrees `(N, degree**2)`, without a network."""
    return partial(spherical_harmonics, degree=degree)


def untrained_default(seed: int = 0) -> LocationEncoder:
    """The default `LocationEncoder` with initial weights, drawn with `seed`."""
    return LocationEncoder(seed=seed).eval()


def raw(seed: int = 0) -> Raw:
    """The embedded modalities' own values at each place, without any training; see `Raw`."""
    return Raw()


BASELINES = Registry(
    "baseline",
    constant=constant,
    xyz=xyz,
    harmonics_10=partial(harmonics, 10),
    harmonics_40=partial(harmonics, 40),
    untrained_default=untrained_default,
    raw=raw,
)


class Month(nn.Module):
    """The month alone, `(N, 4)`. "melt+month" adds the season to an encoder without a month."""

    time = "month"

    def forward(self, lonlat: LonLat, month: Any) -> Tensor:
        points = check(lonlat)
        return months.cyclic(months.check(month, len(points)).to(points.device))


def month(seed: int = 0) -> Encoder:
    """Sine and cosine of the turn of the year; see `locties.month.cyclic`."""
    return Month()


def raw_month(seed: int = 0) -> Raw:
    """As the baseline `raw`, with each monthly modality's value in the month of the target."""
    return Raw(time="month")


# They take a month beside each place, for `locties.evaluation.tasks.MONTHLY_TASKS`.
MONTHLY_BASELINES = Registry("baseline with a month", month=month, raw_month=raw_month)


class Joined(nn.Module):
    """Encoders side by side: `(N, 2)` degrees to `(N, d)`, where d is the sum of their lengths.

    Each part is scaled to length one at each point, so that all count equally in kNN. A part with
    ``unit_length = False`` keeps its lengths, as `Raw` does: they are one on average.

    Example:
        >>> both = Joined(lambda lonlat: torch.tensor([[3.0, 4.0]]), BASELINES["xyz"]())
        >>> both(torch.tensor([[0.0, 0.0]]))
        tensor([[0.6000, 0.8000, 1.0000, 0.0000, 0.0000]])
    """

    def __init__(self, *encoders: Encoder) -> None:
        super().__init__()
        self.encoders: tuple[Encoder, ...] = tuple(
            part
            for encoder in encoders
            for part in (encoder.encoders if isinstance(encoder, Joined) else [encoder])
        )
        for number, part in enumerate(self.encoders):
            if isinstance(part, nn.Module):  # takes its mode and device from this module
                self.add_module(str(number), part)
        self.time = "month" if any(map(takes_month, self.encoders)) else None

    def in_month(self, month: Any) -> "Joined":
        """These encoders, those that take a month fixed in this one."""
        return Joined(*(in_month(e, month) if takes_month(e) else e for e in self.encoders))

    def forward(self, lonlat: Tensor, month: Any = None) -> Tensor:
        """`(N, 2)` degrees, and `(N,)` months if a part takes them, to `(N, d)`."""
        return torch.cat([self._scaled(each, lonlat, month) for each in self.encoders], dim=1)

    @staticmethod
    def _scaled(encoder: Encoder, lonlat: Tensor, month: Any) -> Tensor:
        given = (lonlat, month) if takes_month(encoder) else (lonlat,)
        part = torch.as_tensor(encoder(*given)).float()
        return F.normalize(part, dim=1) if getattr(encoder, "unit_length", True) else part


def contender(encoder: str | Path | Encoder, seed: int = 0, *, invalid: str = "raise") -> Encoder:
    """The encoder for a name, a folder or an object.

    Args:
        encoder: a name in `BASELINES`, `MONTHLY_BASELINES` or `locties.peers.PEERS`, a published
            encoder, the folder of a saved one, or a table of embeddings for
            `locties.EmbeddingTable`. Plus signs join several ("melt+geoclip+xyz"). "+layers" reads
            the encoder before it from all layers. A `Path` is a folder or a table; a function or
            module is returned as it is.
        seed: seed of the baseline "untrained_default".
        invalid: what to do with rows of a table that cannot be used, "raise" or "drop".

    Returns:
        Function from lonlat `(N, 2)`, degrees, to `(N, d)`. An encoder given by name runs on a GPU
        if there is one.

    Example:
        >>> contender("untrained_default+xyz")(torch.tensor([[0.0, 0.0]])).shape
        torch.Size([1, 259])
    """
    if isinstance(encoder, Path) and is_table(encoder):
        return EmbeddingTable(encoder, invalid=invalid)
    if not isinstance(encoder, str):
        return resolve(encoder)[0]
    parts: list[Encoder] = []
    for name in parts_of(encoder):
        if name == "layers" and parts:
            if not isinstance(parts[-1], LocationEncoder):
                before = encoder.partition("+layers")[0]
                raise ValueError(f"{before!r} has no layers to read: pass it without '+layers'")
            parts[-1].readout = "layers"
        else:
            parts.append(_single(name, seed, invalid))
    made = Joined(*parts) if len(parts) > 1 else parts[0]
    return made.cuda() if isinstance(made, nn.Module) and torch.cuda.is_available() else made


def parts_of(encoder: str) -> list[str]:
    """The names that plus signs join; a path that exists is one name.

    Example:
        >>> parts_of("best+layers+xyz")
        ['best', 'layers', 'xyz']
    """
    return [encoder] if Path(encoder).exists() else encoder.split("+")


def _single(name: str, seed: int, invalid: str) -> Encoder:
    if name in BASELINES:
        return BASELINES[name](seed=seed)  # type: ignore[no-any-return]
    if name in MONTHLY_BASELINES:
        return MONTHLY_BASELINES[name](seed=seed)  # type: ignore[no-any-return]
    if name in PEERS:
        return PEERS[name]()  # type: ignore[no-any-return]
    if is_encoder(name):
        return resolve(name)[0]
    if is_table(name):
        return EmbeddingTable(name, invalid=invalid)
    known = [*published(), *BASELINES, *MONTHLY_BASELINES, *PEERS]
    raise ValueError(
        f"{unknown('encoder', name, known)} Or give the folder of a saved one, or a table of "
        "embeddings."
    )
