"""Baselines that stand beside every encoder: what location alone gives, untrained.

`BASELINES` maps a name to a factory: ``BASELINES["xyz"](seed=0)`` is a function from lonlat
`(N, 2)` to `(N, d)`. Only ``"untrained"`` depends on the seed.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from locties.encoder import LocationEncoder
from locties.harmonics import spherical_harmonics
from locties.lonlat import to_xyz
from locties.registry import Registry

Baseline = Callable[[Tensor], Tensor]


def constant(seed: int = 0) -> Baseline:
    """`(N, 1)` of ones: probes answer the mean label, or the commonest class."""
    return lambda lonlat: torch.ones(len(lonlat), 1)


def xyz(seed: int = 0) -> Baseline:
    """`(N, 3)` unit vectors: with kNN, a strong spatial prior."""
    return to_xyz


def harmonics(degree: int, seed: int = 0) -> Baseline:
    """`(N, degree**2)` raw spherical harmonics, without a network.

    The distance between two such vectors depends on the distance on the sphere alone (addition
    theorem), so kNN finds nearly the neighbours that it finds on `xyz`: rank it once.
    """
    return partial(spherical_harmonics, degree=degree)


def untrained(seed: int = 0) -> LocationEncoder:
    """Location encoder of the default architecture with its initial weights."""
    return LocationEncoder(seed=seed).eval()


BASELINES = Registry(
    "baseline",
    constant=constant,
    xyz=xyz,
    harmonics_10=partial(harmonics, 10),
    harmonics_40=partial(harmonics, 40),
    untrained=untrained,
)
