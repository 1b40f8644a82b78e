"""Baselines that `evaluate` scores beside trained encoders, and all names that it accepts.

``BASELINES["xyz"](seed=0)`` is a function from lonlat `(N, 2)` to `(N, d)`. The seed changes only
``"untrained_default"``. `contender` turns a name into a baseline, a peer or a saved encoder.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locties._util.registry import Registry, unknown
from locties.apply.metadata import Encoder, resolve
from locties.encoder import LocationEncoder, published
from locties.harmonics import spherical_harmonics
from locties.lonlat import LonLat, check, to_xyz
from locties.peers import PEERS


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


BASELINES = Registry(
    "baseline",
    constant=constant,
    xyz=xyz,
    harmonics_10=partial(harmonics, 10),
    harmonics_40=partial(harmonics, 40),
    untrained_default=untrained_default,
)


class Appended(nn.Module):
    """An encoder's embedding, followed by a baseline's: `(N, d + d of the baseline)`.

    Each part is scaled to length one at each point, so that both count equally in kNN.

    Example:
        >>> both = Appended(lambda lonlat: torch.tensor([[3.0, 4.0]]), "xyz")
        >>> both(torch.tensor([[0.0, 0.0]]))
        tensor([[0.6000, 0.8000, 1.0000, 0.0000, 0.0000]])
    """

    def __init__(self, encoder: Encoder, baseline: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.baseline: Callable[[Tensor], Tensor] = BASELINES[baseline]()

    def forward(self, lonlat: Tensor) -> Tensor:
        """`(N, 2)` degrees to `(N, d + d of the baseline)`."""
        parts = (torch.as_tensor(self.encoder(lonlat)), self.baseline(lonlat))
        return torch.cat([F.normalize(part.float(), dim=1) for part in parts], dim=1)


def contender(encoder: str | Path | Encoder, seed: int = 0) -> Encoder:
    """The encoder for a name, a folder or an object.

    Args:
        encoder: a name in `BASELINES` or `locties.peers.PEERS`, a published encoder, or the folder
            of a saved one. A plus sign and a baseline append it ("melt+xyz"); "+layers" reads the
            embedding from all layers. A `Path` is a folder; a function or module is returned as it
            is.
        seed: seed of the baseline "untrained_default".

    Returns:
        Function from lonlat `(N, 2)`, degrees, to `(N, d)`. An encoder given by name runs on a GPU
        if there is one.

    Example:
        >>> contender("untrained_default+xyz")(torch.tensor([[0.0, 0.0]])).shape
        torch.Size([1, 259])
    """
    if not isinstance(encoder, str):
        return resolve(encoder)[0]
    first, plus, appended = encoder.rpartition("+") if "+" in encoder else (encoder, "", "")
    if first in BASELINES:
        made = BASELINES[first](seed=seed)
    elif first in PEERS:
        made = PEERS[first]()
    elif first in published() or Path(first).is_dir():
        made = resolve(first)[0]
    else:
        known = [*published(), *BASELINES, *PEERS]
        raise ValueError(f"{unknown('encoder', first, known)} Or give the folder of a saved one.")
    if appended == "layers":
        if not isinstance(made, LocationEncoder):
            raise ValueError(f"{first!r} has no layers to read: pass it without '+layers'")
        made.readout = "layers"
    elif plus:
        made = Appended(made, appended)
    return made.cuda() if isinstance(made, nn.Module) and torch.cuda.is_available() else made
