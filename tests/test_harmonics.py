"""Spherical harmonics against scipy, mpmath and their own theorems."""

import math

import mpmath
import numpy as np
import pytest
import torch
from scipy.special import sph_harm_y

from locties.harmonics import _CHUNK_CPU, harmonics_as, legendre, spherical_harmonics, waves
from locties.lonlat import to_xyz

EDGES = [(0, 90), (-37, 90), (0, -90), (120, -90), (-180, 0), (179.999999, 0), (-180, 66.5), (0, 0)]
EDGES += [(45, 89.999999), (45, -89.9), (90, 45), (-90, -45), (12.5, 1e-9)]


def points(n: int, seed: int = 0) -> np.ndarray:
    """Uniform in longitude and latitude, so that high latitudes are well represented."""
    rng = np.random.default_rng(seed)
    uniform = np.c_[rng.uniform(-180, 180, n), rng.uniform(-90, 90, n)]
    return np.concatenate([np.array(EDGES, dtype=float), uniform])


def from_scipy(lonlat: np.ndarray, degree: int) -> np.ndarray:
    """The same basis from scipy's complex harmonics, which have the Condon-Shortley phase."""
    theta, phi = np.pi / 2 - np.deg2rad(lonlat[:, 1]), np.deg2rad(lonlat[:, 0])
    columns = []
    for ell in range(degree):
        for m in range(-ell, ell + 1):
            value = sph_harm_y(ell, abs(m), theta, phi) * (-1) ** m
            part = value.imag if m < 0 else value.real
            columns.append(part if m == 0 else math.sqrt(2) * part)
    return np.stack(columns, axis=1)


def test_float64_matches_scipy_at_degree_40():
    lonlat = points(300)
    ours = spherical_harmonics(lonlat, 40)
    error = np.abs(ours.numpy() - from_scipy(lonlat, 40)).max()
    assert ours.dtype == torch.float64
    assert error < 1e-12, f"largest error {error:.1e}"


def test_float32_is_rounded_once_from_float64():
    lonlat = torch.from_numpy(points(300)).float()
    ours = spherical_harmonics(lonlat, 40)
    reference = from_scipy(lonlat.double().numpy(), 40)
    error = np.abs(ours.numpy() - reference).max()
    assert ours.dtype == torch.float32
    assert error < 1e-6, f"largest error {error:.1e}"
    assert torch.equal(ours, spherical_harmonics(lonlat.double(), 40).float())


HARD = [*EDGES, (45, 90 - 1e-9), (-170, 1e-12 - 90), (33, 1e-300), (1e-300, -0.3)]
HARD += [(np.nextafter(180, 0), 12.3), (-77, -1.5), (160, 87.5), (-3, -60), (101, 75), (20, 30)]


def all_from_mpmath(longitude: float, latitude: float, degree: int) -> np.ndarray:
    """Every harmonic of a point in 50 digits, by the recursion of unnormalised P_lm in l."""
    values = np.zeros(degree**2)
    with mpmath.workdps(50):
        phi, psi = (mpmath.radians(mpmath.mpf(float(angle))) for angle in (longitude, latitude))
        z, ring, sectoral = mpmath.sin(psi), mpmath.cos(psi), mpmath.mpf(1)
        for m in range(degree):
            before, value = mpmath.mpf(0), sectoral
            ratio = 1 / mpmath.factorial(2 * m)  # (l - m)! / (l + m)!
            cosine, sine = mpmath.cos(m * phi), mpmath.sin(m * phi)
            for ell in range(m, degree):
                if ell > m:
                    step = ((2 * ell - 1) * z * value - (ell + m - 1) * before) / (ell - m)
                    before, value = value, step
                    ratio *= mpmath.mpf(ell - m) / (ell + m)
                square = ratio * (2 * ell + 1) / (4 * mpmath.pi) * (2 if m else 1)
                harmonic = mpmath.sqrt(square) * value
                values[ell * ell + ell - m] = harmonic * sine
                values[ell * ell + ell + m] = harmonic * cosine
            sectoral *= (2 * m + 1) * ring
    return values


@pytest.mark.parametrize(("degree", "every"), [(10, 1), (40, 5), (100, 12)])
def test_error_against_fifty_digits(degree, every):
    lonlat = np.array(HARD, dtype=float)[::every]
    single = torch.from_numpy(lonlat).float()
    single[single[:, 0] >= 180, 0] = -180.0
    for points_, bound in ((torch.from_numpy(lonlat), 1e-10), (single, 2e-7)):
        truth = np.stack([all_from_mpmath(*point, degree) for point in points_.tolist()])
        error = np.abs(spherical_harmonics(points_, degree).double().numpy() - truth).max()
        assert error < bound, f"{points_.dtype}: largest error {error:.1e}"


@pytest.mark.parametrize("degree", [10, 40, 100])
def test_no_value_is_denormal_near_the_poles(degree):
    """Some processors multiply denormal numbers many times slower than others."""
    lat = 90 - torch.logspace(-6, 1.9, 300)
    values = spherical_harmonics(torch.stack([lat.cos() * 180, lat], dim=1), degree)
    assert values.dtype == torch.float32
    denormal = (values != 0) & (values.abs() < torch.finfo(torch.float32).tiny)
    assert not denormal.any(), f"{denormal.sum()} of {denormal.numel()}"


def test_what_is_faint_at_first_is_kept_where_it_grows():
    """In l = m, ..., 199 a harmonic grows by up to 1e41."""
    for longitude, latitude in [(33.0, 68.0)]:
        values = spherical_harmonics([[longitude, latitude]], 200)[0].numpy()
        error = np.abs(values - all_from_mpmath(longitude, latitude, 200)).max()
        assert error < 1e-10, f"{latitude} degrees: largest error {error:.1e}"


def test_the_parts_of_latitude_and_longitude_multiply_to_the_harmonics():
    lonlat = torch.from_numpy(points(100))
    lon, lat = lonlat.unbind(1)
    latitude, longitude = legendre(lat, 40), waves(lon, 40)
    expected = spherical_harmonics(lonlat, 40)
    for ell in range(40):
        m = torch.arange(-ell, ell + 1)
        product = latitude[:, ell, m.abs()] * longitude[:, 39 + m]
        assert (product - expected[:, ell**2 : (ell + 1) ** 2]).abs().max() < 1e-12, ell
        assert not latitude[:, ell, ell + 1 :].any()


def test_addition_theorem():
    """sum_m Y_lm(a) Y_lm(b) = (2l + 1) / (4 pi) P_l(a . b)."""
    a, b = torch.from_numpy(points(100, seed=1)), torch.from_numpy(points(100, seed=2)).flip(0)
    products = (spherical_harmonics(a, 40) * spherical_harmonics(b, 40)).numpy()
    cosine = (to_xyz(a) * to_xyz(b)).sum(dim=1).numpy()
    for ell in range(40):
        legendre = np.polynomial.Legendre.basis(ell)(cosine)
        ours = products[:, ell * ell : (ell + 1) ** 2].sum(axis=1)
        assert ours == pytest.approx((2 * ell + 1) / (4 * np.pi) * legendre, abs=1e-11), ell


def test_orthonormal_by_exact_quadrature():
    """L Gauss-Legendre latitudes and 2L longitudes integrate products of degree 2L - 2 exactly."""
    degree = 24
    z, weight = np.polynomial.legendre.leggauss(degree)
    longitude = np.arange(2 * degree) * (360 / (2 * degree)) - 180
    grid = np.stack(np.meshgrid(longitude, np.rad2deg(np.arcsin(z))), axis=-1).reshape(-1, 2)
    values = spherical_harmonics(grid, degree).numpy()
    weights = np.repeat(weight, 2 * degree) * np.pi / degree
    gram = (values * weights[:, None]).T @ values
    assert np.abs(gram - np.eye(degree**2)).max() < 1e-12


@pytest.mark.parametrize("latitude", [90.0, -90.0])
def test_at_a_pole_every_longitude_is_one_point(latitude):
    values = spherical_harmonics([[lon, latitude] for lon in (-180.0, -30.0, 0.0, 111.1)], 40)
    assert (values - values[0]).abs().max() < 1e-14


def test_the_date_line_closes():
    lat = torch.linspace(-90, 90, 50, dtype=torch.float64)
    east, west = (torch.stack([torch.full_like(lat, lon), lat], 1) for lon in (180.0, -180.0))
    gap = harmonics_as(east, 40, torch.float64) - harmonics_as(west, 40, torch.float64)
    assert gap.abs().max() < 1e-13


def test_gradients_are_right_everywhere_even_at_the_poles():
    lonlat = torch.tensor([*EDGES, (20.0, 50.0)], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda p: harmonics_as(p, 4, torch.float64), lonlat)


@pytest.mark.parametrize("degree", [10, 40, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_finite(dtype, degree):
    lonlat = torch.tensor(HARD, dtype=torch.float64).to(dtype).requires_grad_()
    with_gradient = spherical_harmonics(lonlat, degree)
    with_gradient.square().mul(torch.arange(degree**2)).sum().backward()
    assert lonlat.grad is not None
    assert lonlat.grad.isfinite().all()
    assert lonlat.grad.abs().max() > 0
    assert torch.equal(with_gradient.detach(), spherical_harmonics(lonlat.detach(), degree))


def test_gradients_work_after_inference_mode():
    with torch.inference_mode():
        spherical_harmonics([[1.0, 2.0]], 9)  # fills the cache of coefficients
    lonlat = torch.tensor([[1.0, 2.0]], requires_grad=True)
    spherical_harmonics(lonlat, 9).sum().backward()
    assert lonlat.grad is not None


def test_chunks_leave_no_seam():
    lonlat = torch.from_numpy(points(2 * _CHUNK_CPU + 5)).float()
    together = spherical_harmonics(lonlat, 6)
    for row in (0, _CHUNK_CPU - 1, _CHUNK_CPU, 2 * _CHUNK_CPU, len(lonlat) - 1):
        assert torch.equal(together[row : row + 1], spherical_harmonics(lonlat[row : row + 1], 6))


def test_memory_beside_the_result_is_bounded_by_chunks(tensor_sizes):
    n, degree = 20 * _CHUNK_CPU, 12
    lonlat = torch.from_numpy(points(n)[:n])
    with tensor_sizes() as tensors:
        result = harmonics_as(lonlat, degree, torch.float32)
    three_blocks = 3 * (2 * degree - 1) * _CHUNK_CPU * 8
    unit_vectors = n * 3 * 8
    assert max(tensors.bytes - {result.nbytes}) <= max(three_blocks, unit_vectors)


@pytest.mark.parametrize("degree", [1, 2, 3, 10])
def test_l_goes_up_to_degree_minus_one(degree):
    lonlat = points(20)
    values = spherical_harmonics(lonlat, degree).numpy()
    assert values == pytest.approx(from_scipy(lonlat, degree), abs=1e-12)
    highest = spherical_harmonics(lonlat, degree + 1).numpy()[:, degree**2 :]
    assert highest.shape[1] == 2 * degree + 1, "l_max = degree is the next one's"
    assert spherical_harmonics(points(5), degree).shape == (5 + len(EDGES), degree**2)
    assert spherical_harmonics(np.empty((0, 2)), degree).shape == (0, degree**2)


@pytest.mark.parametrize("degree", [0, -1, 2.5, "40", True, None])
def test_a_bad_degree_is_refused(degree):
    with pytest.raises(ValueError, match="pass a whole number of at least 1"):
        spherical_harmonics([[0.0, 0.0]], degree)  # type: ignore[arg-type]


def test_bad_coordinates_are_refused():
    with pytest.raises(ValueError, match="row 1"):
        spherical_harmonics([[0.0, 0.0], [0.0, 91.0]], 3)
