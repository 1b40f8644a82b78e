"""Positional features: lonlat to numbers, by name. Only `HashGrid` has learned ones.

A feature is a ``Module(**options)`` with attributes `dim` and `continuous`, and ``forward(lonlat)``
from checked (N, 2) degrees to (N, dim) float32. `continuous` says whether it is continuous on the
sphere: across the date line, and at the poles, where all longitudes are one point. To add one,
write a class and ``FEATURES["mine"] = Mine``.

Below, longitude is lambda and latitude phi, in radians; phases are computed in float64.
"""

import math
from collections.abc import Callable, Sequence
from typing import Self

import torch
from torch import Tensor, nn

from locties._util.registry import Registry, check_counts
from locties.harmonics import harmonics_as
from locties.hash_grid import HashGrid
from locties.lonlat import to_xyz

_CHUNK = 512  # points at a time: larger temporaries take longer to allocate than to compute


class Direct(nn.Module):
    """The coordinates themselves, scaled: (lambda / pi, 2 phi / pi), each within [-1, 1].

    Source: the "direct" baseline of Mai et al. (ICLR 2020, arXiv 2003.00824).
    """

    continuous = False
    dim = 2

    def forward(self, lonlat: Tensor) -> Tensor:
        longitude, latitude = lonlat.unbind(1)
        return torch.stack([longitude / 180, latitude / 90], dim=1).float()


class XYZ(nn.Module):
    """The unit vector: (cos phi cos lambda, cos phi sin lambda, sin phi).

    Source: the "xyz" baseline of Mai et al. (ISPRS J. 202, 2023, arXiv 2306.17624).
    """

    continuous = True
    dim = 3

    def forward(self, lonlat: Tensor) -> Tensor:
        return to_xyz(lonlat.double()).float()


class Wrap(nn.Module):
    """Both coordinates wrapped: (cos lambda, cos 2 phi, sin lambda, sin 2 phi).

    At both poles the latitude terms are the same, and the features still depend on longitude.

    Source: Mac Aodha, Cole and Perona, "Presence-Only Geographical Priors for Fine-Grained Image
    Classification" (ICCV 2019, arXiv 1906.05272).
    """

    continuous = False
    dim = 4

    def forward(self, lonlat: Tensor) -> Tensor:
        longitude, latitude = lonlat.double().unbind(1)
        return torch.cat(_cos_sin(torch.stack([longitude / 360, latitude / 180], dim=1)), dim=1)


class _Exact(nn.Module):
    """A module whose buffers keep their digits: ``half()`` and ``bfloat16()`` leave them alone."""

    _least = torch.float32  # dtype of the buffers when they are made

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = dict(self.named_buffers(recurse=False))
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, exact in before.items():
            after = getattr(self, name)
            if torch.finfo(after.dtype).eps > torch.finfo(self._least).eps:
                setattr(self, name, exact.to(after.device, self._least))
        return self


class _MultiScale(_Exact):
    """Waves at geometrically spaced scales; a subclass gives `_per_scale` of them in `_terms`."""

    continuous = False
    _least = torch.float64
    _per_scale: int
    _adds_grid = False  # whether the terms of `Grid` follow those of sphereC or sphereM

    def __init__(self, scales: int = 16, min_radius: float = 0.01, max_radius: float = 1.0) -> None:
        super().__init__()
        check_counts(scales=scales)
        if not 0 < min_radius <= max_radius < math.inf:
            raise ValueError(
                f"min_radius is {min_radius!r} and max_radius {max_radius!r}; "
                "pass 0 < min_radius <= max_radius, in radians."
            )
        steps = torch.linspace(0, 1, scales, dtype=torch.float64)
        radii = min_radius * (max_radius / min_radius) ** steps
        self.radii: Tensor
        self.register_buffer("radii", radii, persistent=False)
        self.dim = self._per_scale * scales

    def forward(self, lonlat: Tensor) -> Tensor:
        return torch.cat(self._terms(*lonlat.double().unbind(1)), dim=1)

    def _terms(self, longitude: Tensor, latitude: Tensor) -> list[Tensor]:
        """Terms (N, scales) float32, from (N,) degrees."""
        raise NotImplementedError

    def _waves(self, degrees: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of (N,) angles divided by each radius, each (N, scales) float32."""
        return _cos_sin(degrees[:, None] / (360 * self.radii))


class Grid(_MultiScale):
    """Space2Vec's grid: cos(lambda / r_s), cos(phi / r_s), sin(lambda / r_s), sin(phi / r_s).

    Radii r_s = r_min (r_max / r_min)^(s / (S - 1)) for s = 0, ..., S - 1; the waves of radius r are
    360 r degrees long. Each term is given at all S scales before the next: 4 S features. The code
    of Space2Vec uses ``Grid(64, math.radians(0.0005), math.radians(360))``.

    Args:
        scales: the number S of radii.
        min_radius, max_radius: r_min and r_max, in radians.

    Source: Mai et al., "Multi-Scale Representation Learning for Spatial Feature Distributions using
    Grid Cells" (ICLR 2020, arXiv 2003.00824).
    """

    _per_scale = 4

    def _terms(self, longitude: Tensor, latitude: Tensor) -> list[Tensor]:
        cos_longitude, sin_longitude = self._waves(longitude)
        cos_latitude, sin_latitude = self._waves(latitude)
        return [cos_longitude, cos_latitude, sin_longitude, sin_latitude]


class Theory(_MultiScale):
    """Space2Vec's theory: cos and sin of <(lambda, phi), a_j> / r_s in three directions a_j.

    The directions lie 120 degrees apart, a_1 = (1, 0) and a_2, a_3 = (-1/2, +-sqrt(3)/2), so that
    the waves of one scale add up to the hexagonal pattern of grid cells. First the cosines of a_1,
    a_2, a_3, then the sines, each at all S scales: 6 S features. Options and source: as `Grid`.
    """

    _per_scale = 6

    def _terms(self, longitude: Tensor, latitude: Tensor) -> list[Tensor]:
        rise = latitude * (math.sqrt(3) / 2)
        along = (longitude, rise - longitude / 2, -rise - longitude / 2)
        cosines, sines = zip(*map(self._waves, along), strict=True)
        return [*cosines, *sines]


class SphereC(_MultiScale):
    """Sphere2Vec's sphereC: sin phi_s, cos phi_s cos lambda_s, cos phi_s sin lambda_s.

    Scaled angles are phi_s = phi / r_s and lambda_s = lambda / r_s; at r_s = 1 this is the unit
    vector. Each term is given at all S scales before the next: 3 S features. Options: as `Grid`;
    the authors' code uses 32 radii, from 1e-6 to 1 radian.

    Source: Mai et al., "Sphere2Vec: A General-Purpose Location Representation Learning over a
    Spherical Surface for Large-Scale Geospatial Predictions" (ISPRS J. 202, 2023, arXiv
    2306.17624).
    """

    _per_scale = 3

    def _terms(self, longitude: Tensor, latitude: Tensor) -> list[Tensor]:
        cos_longitude, sin_longitude = self._waves(longitude)
        cos_latitude, sin_latitude = self._waves(latitude)
        grid = [cos_latitude, cos_longitude, sin_longitude] if self._adds_grid else []
        return [sin_latitude, cos_latitude * cos_longitude, cos_latitude * sin_longitude, *grid]


class SphereM(_MultiScale):
    """Sphere2Vec's sphereM: sphereC with one angle scaled at a time.

    The terms are sin phi_s, cos phi_s cos lambda, cos phi cos lambda_s, cos phi_s sin lambda, cos
    phi sin lambda_s, each at all S scales before the next: 5 S features. Options and source: as
    `SphereC`.
    """

    _per_scale = 5

    def _terms(self, longitude: Tensor, latitude: Tensor) -> list[Tensor]:
        cos_longitude, sin_longitude = self._waves(longitude)
        cos_latitude, sin_latitude = self._waves(latitude)
        grid = [cos_latitude, cos_longitude, sin_longitude] if self._adds_grid else []
        lambda_, phi = (torch.deg2rad(x)[:, None] for x in (longitude, latitude))
        cos_phi = phi.cos().float()
        return [
            sin_latitude,
            cos_latitude * lambda_.cos().float(),
            cos_phi * cos_longitude,
            cos_latitude * lambda_.sin().float(),
            cos_phi * sin_longitude,
            *grid,
        ]


class SphereCPlus(SphereC):
    """Sphere2Vec's sphereC+: sphereC, then cos phi_s, cos lambda_s, sin lambda_s; 6 S features."""

    _per_scale = 6
    _adds_grid = True


class SphereMPlus(SphereM):
    """Sphere2Vec's sphereM+: sphereM, then cos phi_s, cos lambda_s, sin lambda_s; 8 S features."""

    _per_scale = 8
    _adds_grid = True


class _RandomFourier(_Exact):
    """cos(2 pi B v) and sin(2 pi B v) of points v; each sigma gives normal rows of B."""

    def __init__(self, inputs: int, sigmas: Sequence[float], frequencies: int, seed: int) -> None:
        super().__init__()
        check_counts(frequencies=frequencies)
        if not sigmas or not all(0 < sigma < math.inf for sigma in sigmas):
            raise ValueError(f"sigmas are {sigmas!r}; pass at least one positive number.")
        generator = torch.Generator("cpu").manual_seed(seed)
        size = (len(sigmas), frequencies, inputs)
        normal = torch.randn(size, generator=generator, dtype=torch.float32)
        scale = torch.tensor(sigmas, dtype=torch.float32)[:, None, None]
        self.frequencies: Tensor
        # Saved with the weights: torch may change how it turns a seed into numbers.
        self.register_buffer("frequencies", (scale * normal).flatten(0, 1))
        self.dim = 2 * len(self.frequencies)

    def _waves(self, points: Tensor) -> Tensor:
        """(N, inputs) float64 points to (N, dim) float32: all cosines, then all sines."""
        rows = self.frequencies.double().T
        # A compiled graph must not depend on the number of points.
        chunks = [points] if torch.compiler.is_compiling() else torch.split(points, _CHUNK)
        return torch.cat([torch.cat(_cos_sin(some @ rows), dim=1) for some in chunks])


class Fourier(_RandomFourier):
    """Random Fourier features of the unit vector v: cos(2 pi B v), then sin(2 pi B v).

    The entries of B are normal with standard deviation sigma. There are 2 x frequencies x number of
    sigmas features.

    Args:
        sigmas: standard deviations of B, in turns per Earth radius.
        frequencies: rows of B for each sigma.
        seed: determines B.

    Source: Rahimi and Recht, "Random Features for Large-Scale Kernel Machines" (NeurIPS 2007);
    Tancik et al., "Fourier Features Let Networks Learn High Frequency Functions in Low Dimensional
    Domains" (NeurIPS 2020, arXiv 2006.10739). The scales are a choice of this project.
    """

    continuous = True

    def __init__(
        self,
        sigmas: Sequence[float] = (0.25, 1.0, 4.0, 16.0),
        frequencies: int = 64,
        seed: int = 0,
    ) -> None:
        super().__init__(3, sigmas, frequencies, seed)

    def forward(self, lonlat: Tensor) -> Tensor:
        return self._waves(to_xyz(lonlat.double()))


class EqualEarthFourier(_RandomFourier):
    """GeoCLIP's features: random Fourier features of the Equal Earth map.

    As `Fourier`, with v = `equal_earth` in place of the unit vector. GeoCLIP gives each sigma its
    own network and adds their outputs; here one network gets all features.

    Args:
        sigmas: standard deviations of B, in turns per half width of the map.
        frequencies, seed: see `Fourier`.

    Source: Vivanco Cepeda, Nayak and Shah, "GeoCLIP: Clip-Inspired Alignment between Locations and
    Images for Effective Worldwide Geo-localization" (NeurIPS 2023, arXiv 2309.16020).
    """

    continuous = False

    def __init__(
        self,
        sigmas: Sequence[float] = (2.0**0, 2.0**4, 2.0**8),
        frequencies: int = 256,
        seed: int = 0,
    ) -> None:
        super().__init__(2, sigmas, frequencies, seed)

    def forward(self, lonlat: Tensor) -> Tensor:
        return self._waves(equal_earth(lonlat.double()))


class SphericalHarmonics(nn.Module):
    """Real spherical harmonics Y_lm for l = 0, ..., degree - 1: degree^2 features.

    Output is float32, or float64 after ``.double()``. See `locties.harmonics.spherical_harmonics`.

    Args:
        degree: the number L of degrees, ``l_max + 1``; structures of 180 / L degrees are resolved.

    Source: Russwurm et al., "Geographic Location Encoding with Spherical Harmonics and Sinusoidal
    Representation Networks" (ICLR 2024, arXiv 2310.06743).
    """

    continuous = True

    def __init__(self, degree: int = 40) -> None:
        super().__init__()
        check_counts(degree=degree)
        self.degree = degree
        self.dim = degree**2
        # Only its dtype is used: .double() and .float() change it.
        self._dtype_of: Tensor
        self.register_buffer("_dtype_of", torch.zeros((), dtype=torch.float32), persistent=False)

    def forward(self, lonlat: Tensor) -> Tensor:
        return harmonics_as(lonlat, self.degree, self._dtype_of.dtype)


def equal_earth(lonlat: Tensor) -> Tensor:
    """The Equal Earth map, scaled so that the equator runs from x = -1 to x = 1.

    With sin theta = sqrt(3)/2 sin phi and the polynomial p(theta) = A1 theta + A2 theta^3 +
    A3 theta^7 + A4 theta^9, the map is x = 2 sqrt(3) lambda cos theta / (3 p'(theta)), y = p.
    From (N, 2) degrees to (N, 2).

    Source: Savric, Patterson and Jenny, "The Equal Earth map projection" (IJGIS 33, 2019).
    """
    a1, a2, a3, a4 = 1.340264, -0.081106, 0.000893, 0.003796
    longitude, latitude = lonlat.unbind(1)
    theta = torch.asin(math.sqrt(3) / 2 * torch.deg2rad(latitude).sin())
    square = theta**2
    sixth = square**3
    slope = a1 + 3 * a2 * square + sixth * (7 * a3 + 9 * a4 * square)
    x = longitude / 180 * theta.cos() * (a1 / slope)
    half_width = 2 * math.pi / (math.sqrt(3) * a1)
    y = theta * (a1 + a2 * square + sixth * (a3 + a4 * square)) / half_width
    return torch.stack([x, y], dim=1)


def _cos_sin(turns: Tensor) -> tuple[Tensor, Tensor]:
    """Cosine and sine, float32, of float64 angles in whole turns.

    Whole turns are subtracted in float64, which is exact; the fast float32 functions then have
    errors of about 2e-7 at any frequency.
    """
    angle = turns.round().neg_().add_(turns).mul_(2 * math.pi).float()
    return angle.cos(), angle.sin()


FEATURES = Registry(
    "feature",
    direct=Direct,
    xyz=XYZ,
    wrap=Wrap,
    grid=Grid,
    theory=Theory,
    sphere_c=SphereC,
    sphere_c_plus=SphereCPlus,
    sphere_m=SphereM,
    sphere_m_plus=SphereMPlus,
    fourier=Fourier,
    equal_earth_fourier=EqualEarthFourier,
    spherical_harmonics=SphericalHarmonics,
    hash_grid=HashGrid,
)
