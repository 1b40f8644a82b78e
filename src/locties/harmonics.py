"""Real spherical harmonics: fast, and accurate at every latitude, poles included."""

import math
from collections.abc import Iterator
from functools import lru_cache
from numbers import Integral
from typing import Any

import torch
from torch import Tensor

from locties.lonlat import check, to_xyz

# Points at a time. On a CPU three blocks of degree 40 then stay in the cache; elsewhere launching
# kernels is what costs, and the working memory is still bounded.
_CHUNK_CPU, _CHUNK = 2048, 65536


def spherical_harmonics(lonlat: Any, degree: int) -> Tensor:
    """All real spherical harmonics of degree l = 0, ..., `degree` - 1 at each point.

    Orthonormal on the unit sphere, without the Condon-Shortley phase; sine for m < 0, cosine for
    m > 0; column l*l + l + m for m = -l, ..., l. With colatitude theta and longitude phi,

        Y_lm = N_lm P_l|m|(cos theta) * { sqrt(2) sin(|m| phi), 1, sqrt(2) cos(m phi) }

    for m < 0, m = 0, m > 0, where N_lm^2 = (2l + 1) / (4 pi) * (l - |m|)! / (l + |m|)!.

    The values are polynomials in the unit vector (x, y, z) and are computed as such, in float64:
    sectoral rows from powers of x + iy, all others by the normalised three-term recursion in l
    (Holmes and Featherstone, J. Geodesy 76, 2002, equation 11). So neither values nor gradients
    are special at the poles, and nothing overflows.

    Args:
        lonlat: (N, 2), longitude then latitude in degrees: tensor, array or nested lists.
        degree: the number L of degrees, at least 1.

    Returns:
        (N, L*L) in the dtype of `lonlat`, a transposed view: each harmonic is contiguous.

    Raises:
        ValueError: if `degree` is not a whole number of at least 1, or for coordinates that
            `locties.lonlat.check` refuses.

    Example:
        >>> north_pole = [[0.0, 90.0]]
        >>> [round(value, 4) for value in spherical_harmonics(north_pole, 2)[0].tolist()]
        [0.2821, 0.0, 0.4886, 0.0]
    """
    if isinstance(degree, bool) or not isinstance(degree, Integral) or degree < 1:
        raise ValueError(f"degree is {degree!r}; pass a whole number of at least 1.")
    lonlat = check(lonlat)
    return harmonics_as(lonlat, int(degree), lonlat.dtype)


def harmonics_as(lonlat: Tensor, degree: int, dtype: torch.dtype) -> Tensor:
    """`spherical_harmonics` in a dtype of choice, for arguments already checked: never waits."""
    x, y, z = to_xyz(lonlat.double()).unbind(-1)
    if torch.is_grad_enabled() and lonlat.requires_grad:
        return torch.cat([block.to(dtype) for block in _blocks(x, y, z, degree)]).T
    rows = torch.empty(degree**2, len(lonlat), dtype=dtype, device=lonlat.device)
    chunk = _CHUNK_CPU if lonlat.device.type == "cpu" else _CHUNK
    for start in range(0, len(lonlat), chunk):
        points = slice(start, start + chunk)
        for ell, block in enumerate(_blocks(x[points], y[points], z[points], degree)):
            rows[ell**2 : (ell + 1) ** 2, points] = block
    return rows.T


def _blocks(x: Tensor, y: Tensor, z: Tensor, degree: int) -> Iterator[Tensor]:
    """For each degree l its (2l + 1, N) harmonics, rows in the order m = -l, ..., l.

    Each block is a fresh tensor that is complete before another reads it, as autograd requires.
    """
    before = block = torch.full_like(x, math.sqrt(1 / (4 * math.pi)))[None]
    yield block
    real, imaginary = block * math.sqrt(2), torch.zeros_like(block)
    for ell, (up, down) in enumerate(_coefficients(degree, x.device), start=1):
        inner = up * z
        inner *= block
        if ell > 1:
            inner[1:-1].addcmul_(down, before, value=-1)
        sectoral = math.sqrt((2 * ell + 1) / (2 * ell))
        real, imaginary = (
            (x * real).addcmul_(y, imaginary, value=-1).mul_(sectoral),
            (x * imaginary).addcmul_(y, real).mul_(sectoral),
        )
        before, block = block, torch.cat([imaginary, inner, real])
        yield block


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # a cached inference tensor could never serve a gradient
def _coefficients(degree: int, device: torch.device) -> list[tuple[Tensor, Tensor]]:
    """For l = 1, ..., degree - 1 the columns A and B of Y_l = A z Y_(l-1) - B Y_(l-2).

    A holds m = -(l-1), ..., l-1; B only m = -(l-2), ..., l-2, since Y_(l-2) has no other rows.
    """
    columns = []
    for ell in range(1, degree):
        m = torch.arange(1 - ell, ell, dtype=torch.float64)[:, None]
        up = ((4 * ell**2 - 1) / (ell**2 - m**2)).sqrt()
        m = m[1:-1]
        ratio = ((ell - 1) ** 2 - m**2) / (ell**2 - m**2)
        down = (ratio * ((2 * ell + 1) / max(2 * ell - 3, 1))).sqrt()
        columns.append((up.to(device), down.to(device)))
    return columns
