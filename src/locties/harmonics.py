"""Real spherical harmonics: fast, and accurate at every latitude, poles included."""

import math
import operator
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from numbers import Integral

import torch
from torch import Tensor

from locties._util.matmul import NEGLIGIBLE
from locties.lonlat import LonLat, check, to_xyz

# Points at a time. On a CPU three blocks of degree 40 then fit in the cache. A GPU needs few, large
# kernels; the larger chunk still bounds the memory.
_CHUNK_CPU, _CHUNK = 2048, 65536


def spherical_harmonics(lonlat: LonLat, degree: int) -> Tensor:
    """All real spherical harmonics of degree l = 0, ..., `degree` - 1 at each point.

    `degree` is the number of degrees, not the largest one: ``l_max = degree - 1``, and there are
    degree^2 columns. ``degree=10`` gives l = 0..9 and 100 columns, as sphericart's ``l_max=9``.

    They are orthonormal on the unit sphere, without the Condon-Shortley phase. Column l*l + l + m
    holds order m = -l, ..., l: a sine for m < 0, a cosine for m > 0. With colatitude theta and
    longitude phi::

        Y_lm = N_lm P_l|m|(cos theta) * { sqrt(2) sin(|m| phi), 1, sqrt(2) cos(m phi) }
        N_lm^2 = (2l + 1) / (4 pi) * (l - |m|)! / (l + |m|)!

    for m < 0, m = 0, m > 0.

    They are computed in float64 as polynomials in the unit vector (x, y, z), so values and
    gradients are accurate everywhere, the poles included. Values below 1e-17 may be returned as
    zero.

    Args:
        lonlat: (N, 2), longitude then latitude in degrees: tensor, array or nested lists.
        degree: the number L of degrees, at least 1.

    Returns:
        (N, L*L) in the dtype of `lonlat`: a transposed view, in which each harmonic is contiguous.

    Example:
        >>> north_pole = [[0.0, 90.0]]
        >>> [round(value, 4) for value in spherical_harmonics(north_pole, degree=2)[0].tolist()]
        [0.2821, 0.0, 0.4886, 0.0]

    Source: Holmes and Featherstone, "A unified approach to the Clenshaw summation and the recursive
    computation of very high degree and order normalised associated Legendre functions" (Journal of
    Geodesy 76, 2002), equation 11.
    """
    if isinstance(degree, bool) or not isinstance(degree, Integral) or degree < 1:
        raise ValueError(f"degree is {degree!r}; pass a whole number of at least 1.")
    lonlat = check(lonlat)
    return harmonics_as(lonlat, int(degree), lonlat.dtype)


def harmonics_as(lonlat: Tensor, degree: int, dtype: torch.dtype) -> Tensor:
    """`spherical_harmonics` of checked coordinates, in any dtype, without synchronising a GPU."""
    x, y, z = to_xyz(lonlat.double()).unbind(-1)
    # A compiled graph has one size of chunk, and manages its own memory.
    if torch.compiler.is_compiling() or (torch.is_grad_enabled() and lonlat.requires_grad):
        return torch.cat([block.to(dtype) for block in _blocks(x, y, z, degree)]).T
    rows = torch.empty(degree**2, len(lonlat), dtype=dtype, device=lonlat.device)
    chunk = _CHUNK_CPU if lonlat.device.type == "cpu" else _CHUNK
    for start in range(0, len(lonlat), chunk):
        points = slice(start, start + chunk)
        parts = torch.split(rows[:, points], [2 * ell + 1 for ell in range(degree)])
        for part, block in zip(
            parts, _blocks(x[points], y[points], z[points], degree), strict=True
        ):
            part.copy_(block)
    return rows.T


def legendre(lat: Tensor, degree: int) -> Tensor:
    """The factor of each harmonic that depends on latitude.

    With `waves`, ``Y_lm = legendre[..., l, |m|] * waves[..., degree - 1 + m]``, so a grid of H
    latitudes and W longitudes needs H + W evaluations, not H * W.

    Returns:
        (H, L, L) float64 for (H,) degrees, zero where the last index m is above l.

    Example:
        >>> lon, lat = torch.tensor([30.0]), torch.tensor([60.0])
        >>> product = legendre(lat, 3)[0, 2, 1] * waves(lon, 3)[0, 2 + 1]
        >>> bool(product.isclose(spherical_harmonics([[30.0, 60.0]], 3)[0, 7]))
        True
    """
    # At longitude 0 every cosine is 1, so the harmonics with m >= 0 are these factors.
    values = harmonics_as(torch.stack([torch.zeros_like(lat), lat], 1), degree, torch.float64)
    parts = values.new_zeros(len(lat), degree, degree)
    for ell in range(degree):
        parts[:, ell, : ell + 1] = values[:, ell**2 + ell : (ell + 1) ** 2]
    return parts


def waves(lon: Tensor, degree: int) -> Tensor:
    """The factor of each harmonic that depends on longitude; see `legendre`.

    Returns:
        (W, 2L - 1) float64: sin((L-1) lon), ..., sin(lon), 1, cos(lon), ..., cos((L-1) lon), for
        (W,) degrees.
    """
    m = torch.arange(1, degree, device=lon.device)
    phase = torch.deg2rad(lon.double())[:, None] * m
    one = torch.ones(len(lon), 1, dtype=torch.float64, device=lon.device)
    return torch.cat([phase.sin().flip(1), one, phase.cos()], dim=1)


def _blocks(x: Tensor, y: Tensor, z: Tensor, degree: int) -> Iterator[Tensor]:
    """Yield the (2l + 1, N) harmonics of each degree l, rows in the order m = -l, ..., l.

    Without gradients and outside compiled graphs, two buffers take turns, so that they stay in the
    cache: a block is overwritten two blocks later.
    """
    compiling = torch.compiler.is_compiling()
    # A compiler's symbolic tensors must not stay in the cache.
    coefficients = _coefficients.__wrapped__ if compiling else _coefficients
    norms, columns = coefficients(degree, x.device)
    block = torch.full_like(x, math.sqrt(1 / (4 * math.pi)))[None]
    before = torch.zeros_like(block)
    yield block
    if compiling:
        powers = _powers_in_parts(x, y, degree - 1)
    else:
        complex_powers = _powers(torch.complex(x, y), degree - 1)
        powers = torch.stack([complex_powers.imag, complex_powers.real], dim=1)
    sectoral = norms[:, None] * powers
    ends = torch.nn.functional.hardshrink(sectoral, _negligible(degree))
    if compiling or (torch.is_grad_enabled() and z.requires_grad):
        ends = sectoral + (ends - sectoral).detach()  # same values; gradients also where zero
        for (up, down), end in zip(columns, ends.unbind(), strict=True):
            inner = torch.addcmul(before * down, block, z) * up
            before = torch.nn.functional.pad(block, (0, 0, 1, 1))
            block = torch.cat([end[:1], inner, end[1:]])
            yield block
        return
    # Row degree - 1 + m has order m. Rows not reached yet are multiplied by zero: keep them finite.
    buffers = z.new_zeros(2, 2 * degree - 1, len(z))
    buffers[0, degree - 1] = block
    for ell, ((up, down), end) in enumerate(zip(columns, ends.unbind(), strict=True), start=1):
        buffer = buffers[ell % 2, degree - 1 - ell : degree + ell]
        buffer[1:-1].mul_(down).addcmul_(block, z).mul_(up)
        buffer[:: 2 * ell] = end
        block = buffer
        yield block


def _negligible(degree: int) -> float:
    """The size up to which sectoral values can be set to zero, as near the poles.

    This changes no harmonic by more than 1e-17. Y_lm is at most sqrt((2l + 1) / (2m + 1)
    binom(l + m, 2m)) times its sectoral value, and nearly that at a pole. For m > 0 this factor is
    less than the golden ratio to the power l. Up to L = 100 the result is above float32's smallest
    normal number, so no harmonic is denormal.
    """
    golden_ratio = (1 + math.sqrt(5)) / 2
    return min(NEGLIGIBLE, 1e-17 * golden_ratio**-degree)


def _powers(base: Tensor, count: int) -> Tensor:
    """(count, N): `base` to the powers 1, ..., `count`; each pass doubles their number."""
    powers = base[None]
    while len(powers) < count:
        powers = torch.cat([powers, powers * powers[-1]])
    return powers[:count]


def _powers_in_parts(x: Tensor, y: Tensor, count: int) -> Tensor:
    """The imaginary and real parts (count, 2, N) of `_powers` of x + iy.

    ONNX has no complex numbers. Without a compiler, this takes twice the time of `_powers`.
    """
    imaginary, real = y[None], x[None]
    while len(real) < count:
        a, b = imaginary[-1], real[-1]
        imaginary, real = (
            torch.cat([imaginary, real * a + imaginary * b]),
            torch.cat([real, real * b - imaginary * a]),
        )
    return torch.stack([imaginary[:count], real[:count]], dim=1)


@lru_cache(maxsize=16)
@torch.inference_mode(False)  # a cached inference tensor cannot be used with gradients
def _coefficients(degree: int, device: torch.device) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
    """The coefficients of the recursion, for l = 1, ..., degree - 1.

    First the norms of the sectoral (x + iy)^l, as a column. Then, for each l, the columns A and B
    of Y_l = A (z Y_(l-1) + B Y_(l-2)), for m = -(l-1), ..., l-1. B is zero where Y_(l-2) has no
    row.
    """
    squares = accumulate(((2 * ell + 1) / (2 * ell) for ell in range(1, degree)), operator.mul)
    norms = [math.sqrt(square / (2 * math.pi)) for square in squares]
    columns = []
    for ell in range(1, degree):
        m = torch.arange(1 - ell, ell, dtype=torch.float64, device="cpu")[:, None]
        up = ((4 * ell**2 - 1) / (ell**2 - m**2)).sqrt()
        down = -(((ell - 1) ** 2 - m**2) / max(4 * (ell - 1) ** 2 - 1, 1)).sqrt()
        columns.append((up.to(device), down.to(device)))
    return torch.tensor(norms, dtype=torch.float64, device=device)[:, None], columns
