"""Contenders beside every encoder: what location alone gives, and encoders with it appended.

`BASELINES` maps a name to a factory: ``BASELINES["xyz"](seed=0)`` is a function from lonlat
`(N, 2)` to `(N, d)`. Only ``"untrained"`` depends on the seed. `append` puts a baseline beside an
encoder's embedding, and `contender` makes either from its name: "xyz", "melt", "melt+xyz".
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from locties._util.registry import Registry
from locties.encoder import LocationEncoder, load
from locties.harmonics import spherical_harmonics
from locties.lonlat import to_xyz
from locties.peers import PEERS

Baseline = Callable[[Tensor], Tensor]


def constant(seed: int = 0) -> Baseline:
    """The embedding that says nothing: probes answer the mean label, or the commonest class.

    Args:
        seed: not used; every baseline takes one.

    Returns:
        Function from lonlat `(N, 2)` to `(N, 1)` of ones.

    Example:
        >>> constant()(torch.zeros(2, 2)).tolist()
        [[1.0], [1.0]]

    Source: elementary.
    """
    return lambda lonlat: torch.ones(len(lonlat), 1)


def xyz(seed: int = 0) -> Baseline:
    """The unit vector of each place: with kNN, a strong spatial prior.

    Args:
        seed: not used; every baseline takes one.

    Returns:
        Function from lonlat `(N, 2)`, degrees, to `(N, 3)`.

    Example:
        >>> xyz()(torch.tensor([[0.0, 0.0]])).tolist()
        [[1.0, 0.0, 0.0]]

    Source: elementary.
    """
    return to_xyz


def harmonics(degree: int, seed: int = 0) -> Baseline:
    """Raw spherical harmonics, without a network.

    The distance between two such vectors depends on the distance on the sphere alone (addition
    theorem), so kNN finds nearly the neighbours that it finds on `xyz`: rank it once.

    Args:
        degree: the number L of degrees.
        seed: not used; every baseline takes one.

    Returns:
        Function from lonlat `(N, 2)`, degrees, to `(N, degree**2)`.

    Raises:
        ValueError: where the function is called, as `locties.harmonics.spherical_harmonics`.

    Example:
        >>> harmonics(10)(torch.zeros(2, 2)).shape
        torch.Size([2, 100])

    Source: the features of Russwurm et al. (ICLR 2024, arXiv 2310.06743), alone.
    """
    return partial(spherical_harmonics, degree=degree)


def untrained(seed: int = 0) -> LocationEncoder:
    """Location encoder of the default architecture with its initial weights.

    Args:
        seed: of the weights.

    Returns:
        The encoder, in eval mode, from lonlat `(N, 2)`, degrees, to `(N, 256)`.

    Raises:
        ValueError: a seed that is no whole number.

    Example:
        >>> untrained()([[13.4, 52.5]]).shape
        torch.Size([1, 256])

    Source: a control of this project.
    """
    return LocationEncoder(seed=seed).eval()


BASELINES = Registry(
    "baseline",
    constant=constant,
    xyz=xyz,
    harmonics_10=partial(harmonics, 10),
    harmonics_40=partial(harmonics, 40),
    untrained=untrained,
)


class Appended(nn.Module):
    """An encoder's embedding with raw coordinates appended.

    Each part is divided by its own length, point by point, so that neither swamps the other: in
    kNN the squared distance is the sum of those of the parts. Ridge standardises every feature
    anyway. What an encoder says by the length of its embedding is lost; training with cosines
    gives it no meaning.

    Args:
        encoder: function from lonlat `(N, 2)` to `(N, d)`; a module becomes part of this one.
        raw: a name in `BASELINES`.

    Raises:
        ValueError: `raw` is no name in `BASELINES`.

    Example:
        >>> Appended(xyz(), "constant")(torch.tensor([[0.0, 0.0]])).tolist()
        [[1.0, 0.0, 0.0, 1.0]]
    """

    def __init__(self, encoder: Baseline, raw: str) -> None:
        super().__init__()
        self.encoder = encoder
        self.raw = BASELINES[raw]()

    def forward(self, lonlat: Tensor) -> Tensor:
        """`(N, 2)` to `(N, d + d of the raw part)`."""
        parts = (torch.as_tensor(self.encoder(lonlat)), self.raw(lonlat))
        return torch.cat([F.normalize(part.float(), dim=1) for part in parts], dim=1)


def append(encoder: Baseline, raw: str) -> Appended:
    """Append raw coordinates to what an encoder gives, each part as unit vectors.

    Args:
        encoder: function from lonlat `(N, 2)` to `(N, d)`.
        raw: a name in `BASELINES`.

    Returns:
        Module from lonlat `(N, 2)`, degrees, to `(N, d + d of the raw part)`.

    Raises:
        ValueError: `raw` is no name in `BASELINES`.

    Example:
        >>> beside = append(lambda lonlat: torch.tensor([[3.0, 4.0]]), "xyz")
        >>> beside(torch.tensor([[0.0, 0.0]]))
        tensor([[0.6000, 0.8000, 1.0000, 0.0000, 0.0000]])
    """
    return Appended(encoder, raw)


def contender(name: str, seed: int = 0) -> Baseline:
    """What a table calls "xyz", "melt", "geoclip", "path/to/encoder" or, with more, "melt+xyz".

    What has weights is put on a GPU when there is one.

    Args:
        name: a baseline, a peer in `locties.peers.PEERS`, a published encoder or the folder of a
            saved one; after a plus sign, the baseline to append to it, or "layers" to read the
            embedding from all of its layers.
        seed: of the untrained encoder.

    Returns:
        Function from lonlat `(N, 2)`, degrees, to `(N, d)`.

    Raises:
        ValueError: what comes after the plus sign is no baseline.
        FileNotFoundError: neither a baseline, nor a peer, nor a published encoder, nor a folder.
        ImportError: the peer's package is not installed.

    Example:
        >>> contender("untrained+xyz")(torch.tensor([[0.0, 0.0]])).shape
        torch.Size([1, 259])
    """
    first, plus, raw = name.rpartition("+") if "+" in name else (name, "", "")
    if first in BASELINES:
        encoder = BASELINES[first](seed=seed)
    else:
        encoder = PEERS[first]() if first in PEERS else load(first)
    if raw == "layers":
        if not isinstance(encoder, LocationEncoder):
            raise ValueError(f"{first!r} has no layers to read: take it without '+layers'")
        encoder.readout, plus = raw, ""
    whole = append(encoder, raw) if plus else encoder
    if isinstance(whole, nn.Module) and torch.cuda.is_available():
        return whole.cuda()
    return whole
