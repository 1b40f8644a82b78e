"""Each positional feature against its formula, written out point by point with `math`."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y

from locties.features import FEATURES, equal_earth

PLACES = [(13.405, 52.52), (-70.67, -33.45), (179.99, -16.5), (-180.0, 66.0), (0.0, 0.0)]
PLACES += [(25.0, 90.0), (-125.0, -90.0), (77.2, 28.6)]
RADII = [0.01 * 100 ** (s / 15) for s in range(16)]  # the defaults: 16 scales, 0.01 to 1


def grid(lam: float, phi: float) -> list[float]:
    functions = [(math.cos, lam), (math.cos, phi), (math.sin, lam), (math.sin, phi)]
    return [f(angle / r) for f, angle in functions for r in RADII]


def theory(lam: float, phi: float) -> list[float]:
    directions = [(math.cos(2 * math.pi * j / 3), math.sin(2 * math.pi * j / 3)) for j in range(3)]
    along = [lam * a + phi * b for a, b in directions]
    return [f(u / r) for f in (math.cos, math.sin) for u in along for r in RADII]


def sphere_c(lam: float, phi: float) -> list[float]:
    terms: list[Callable[[float], float]] = [
        lambda r: math.sin(phi / r),
        lambda r: math.cos(phi / r) * math.cos(lam / r),
        lambda r: math.cos(phi / r) * math.sin(lam / r),
    ]
    return [term(r) for term in terms for r in RADII]


def sphere_m(lam: float, phi: float) -> list[float]:
    terms: list[Callable[[float], float]] = [
        lambda r: math.sin(phi / r),
        lambda r: math.cos(phi / r) * math.cos(lam),
        lambda r: math.cos(phi) * math.cos(lam / r),
        lambda r: math.cos(phi / r) * math.sin(lam),
        lambda r: math.cos(phi) * math.sin(lam / r),
    ]
    return [term(r) for term in terms for r in RADII]


def rest_of_grid(lam: float, phi: float) -> list[float]:
    functions = [(math.cos, phi), (math.cos, lam), (math.sin, lam)]
    return [f(angle / r) for f, angle in functions for r in RADII]


def xyz(lam: float, phi: float) -> list[float]:
    return [math.cos(phi) * math.cos(lam), math.cos(phi) * math.sin(lam), math.sin(phi)]


def harmonics(lam: float, phi: float) -> list[float]:
    values = []
    for ell in range(40):
        for m in range(-ell, ell + 1):
            y = complex(sph_harm_y(ell, abs(m), math.pi / 2 - phi, lam)) * (-1) ** m
            values.append(y.real if m == 0 else math.sqrt(2) * (y.imag if m < 0 else y.real))
    return values


def map_point(lam: float, phi: float) -> list[float]:
    """Equal Earth by pyproj, on the unit sphere, in half widths of the map."""
    project = pytest.importorskip("pyproj").Proj(proj="eqearth", R=1, over=True)
    half_width = project(180, 0)[0]
    return [c / half_width for c in project(math.degrees(lam), math.degrees(phi))]


def waves(name: str, point: Callable[[float, float], list[float]]) -> Callable:
    def formula(lam: float, phi: float) -> list[float]:
        frequencies = FEATURES[name]().frequencies.tolist()
        v = point(lam, phi)
        turns = [sum(b * c for b, c in zip(row, v, strict=True)) for row in frequencies]
        return [f(2 * math.pi * t) for f in (math.cos, math.sin) for t in turns]

    return formula


FORMULAS: dict[str, Callable[[float, float], list[float]]] = {
    "direct": lambda lam, phi: [lam / math.pi, 2 * phi / math.pi],
    "xyz": xyz,
    "wrap": lambda lam, phi: [math.cos(lam), math.cos(2 * phi), math.sin(lam), math.sin(2 * phi)],
    "grid": grid,
    "theory": theory,
    "sphere_c": sphere_c,
    "sphere_c_plus": lambda lam, phi: sphere_c(lam, phi) + rest_of_grid(lam, phi),
    "sphere_m": sphere_m,
    "sphere_m_plus": lambda lam, phi: sphere_m(lam, phi) + rest_of_grid(lam, phi),
    "fourier": waves("fourier", xyz),
    "equal_earth_fourier": waves("equal_earth_fourier", map_point),
    "spherical_harmonics": harmonics,
}


@pytest.mark.parametrize("name", FORMULAS)
def test_matches_its_formula(name):
    feature = FEATURES[name]()
    values = feature(torch.tensor(PLACES, dtype=torch.float64))
    assert values.shape == (len(PLACES), feature.dim)
    assert values.dtype == torch.float32
    for place, row in zip(PLACES, values, strict=True):
        expected = np.array(FORMULAS[name](*map(math.radians, place)))
        error = np.abs(row.numpy() - expected).max()
        assert error < 1e-6, f"{name} at {place}: off by {error:.1e}"


def test_every_feature_has_a_formula_here_or_loops_of_its_own():
    assert set(FEATURES) == {*FORMULAS, "hash_grid"}


@pytest.mark.parametrize("name", FORMULAS)
def test_float32_coordinates_lose_no_more_than_their_own_rounding(name):
    feature = FEATURES[name]()
    rounded = torch.tensor(PLACES, dtype=torch.float32)
    assert feature(rounded).dtype == torch.float32
    assert (feature(rounded) - feature(rounded.double())).abs().max() < 1e-6


def test_space2vec_in_degrees_is_grid_and_theory_with_converted_radii():
    """Radii from 0.0005 to 360 and longitude and latitude all in degrees, never in radians."""
    lonlat = torch.tensor(PLACES, dtype=torch.float64)
    options = {"scales": 5, "min_radius": math.radians(0.0005), "max_radius": math.radians(360)}
    radii = [0.0005 * (360 / 0.0005) ** (s / 4) for s in range(5)]
    root = math.sqrt(3) / 2
    directions = {
        "grid": [(1.0, 0.0), (0.0, 1.0)],
        "theory": [(1.0, 0.0), (-0.5, root), (-0.5, -root)],
    }
    for name, along in directions.items():
        values = FEATURES[name](**options)(lonlat)
        for (longitude, latitude), row in zip(PLACES, values.tolist(), strict=True):
            angles = [(a * longitude + b * latitude) / r for a, b in along for r in radii]
            expected = [math.cos(u) for u in angles] + [math.sin(u) for u in angles]
            assert row == pytest.approx(expected, abs=1e-6), f"{name} at {(longitude, latitude)}"


def jump(name: str, a: list[tuple[float, float]], b: list[tuple[float, float]]) -> float:
    """The largest difference of a feature between points that are pairwise next to each other."""
    feature = FEATURES[name]()
    with torch.no_grad():
        first, second = (feature(torch.tensor(p, dtype=torch.float64)) for p in (a, b))
    return float((first - second).abs().max())


def largest_jump(name: str) -> float:
    latitudes = np.linspace(-89, 89, 30).tolist()
    step = 1e-7
    west, east = ([(lon, lat) for lat in latitudes] for lon in (-180.0, 180 - step))
    poles = [(lon, pole) for pole in (-90.0, 90.0) for lon in np.linspace(-180, 170, 36).tolist()]
    return max(jump(name, west, east), jump(name, poles, [(0.0, pole) for _, pole in poles]))


@pytest.mark.parametrize("name", [n for n, f in FEATURES.items() if f.continuous])
def test_continuous_over_the_date_line_and_the_poles(name):
    assert largest_jump(name) < 1e-5


@pytest.mark.parametrize("name", [n for n, f in FEATURES.items() if not f.continuous])
def test_those_that_claim_no_continuity_have_none(name):
    assert largest_jump(name) > 0.1


def test_wrap_closes_the_date_line_but_joins_the_poles():
    assert jump("wrap", [(-180.0, 20.0)], [(180 - 1e-7, 20.0)]) < 1e-6
    assert jump("wrap", [(30.0, 90.0)], [(30.0, -90.0)]) < 1e-6
    assert jump("wrap", [(30.0, 90.0)], [(120.0, 90.0)]) > 1


@settings(max_examples=50, deadline=None)
@given(
    lonlat=st.tuples(st.floats(-180, 180, exclude_max=True), st.floats(-90, 90)),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_finite_and_bounded_everywhere(lonlat, dtype):
    point = torch.tensor([lonlat], dtype=dtype)
    for name, make in FEATURES.items():
        values = DEFAULTS.setdefault(name, make())(point)
        assert values.isfinite().all(), f"{name} at {lonlat}"
        # |Y_lm| is at most sqrt((2l + 1) / (4 pi)), by the addition theorem.
        degree = {"spherical_harmonics": 40, "hash_grid": 10}.get(name)
        limit = math.sqrt((2 * degree - 1) / (4 * math.pi)) if degree else 1
        assert values.abs().max() <= limit + 1e-6, f"{name} at {lonlat}"


DEFAULTS: dict[str, torch.nn.Module] = {}


@pytest.mark.parametrize("name", FEATURES)
def test_gradients_are_finite_at_the_poles_too(name):
    places = torch.tensor(PLACES, dtype=torch.float64, requires_grad=True)
    values = FEATURES[name]()(places)
    (values * torch.arange(1, values.shape[1] + 1)).sum().backward()
    assert places.grad is not None
    assert places.grad.isfinite().all()
    assert places.grad.abs().max() > 0


@pytest.mark.parametrize("name", ["fourier", "equal_earth_fourier"])
def test_frequencies_come_from_the_seed_alone_and_are_saved(name):
    torch.manual_seed(1)
    state = torch.random.get_rng_state()
    a, b, c = FEATURES[name](), FEATURES[name](), FEATURES[name](seed=1)
    assert torch.equal(a.frequencies, b.frequencies)
    assert not torch.equal(a.frequencies, c.frequencies)
    assert "frequencies" in a.state_dict()
    assert torch.equal(state, torch.random.get_rng_state()), "the global random state has changed"


def test_frequencies_have_the_spread_asked_for():
    feature = FEATURES["fourier"](sigmas=(0.5, 8.0), frequencies=4000)
    spread = feature.frequencies.view(2, -1).std(dim=1)
    assert spread.tolist() == pytest.approx([0.5, 8.0], rel=0.03)
    assert feature.dim == 2 * 2 * 4000


def test_fourier_features_approximate_the_gaussian_kernel():
    feature = FEATURES["fourier"](sigmas=(0.5,), frequencies=20_000)
    lonlat = torch.tensor([(0.0, 0.0), (10.0, 0.0), (0.0, 40.0), (180.0, 0.0)])
    z = feature(lonlat)
    chord = torch.tensor([2 * math.sin(math.radians(a) / 2) for a in (0, 10, 40, 180)])
    kernel = torch.exp(-2 * (math.pi * 0.5 * chord) ** 2)
    assert (z @ z[0] / 20_000).tolist() == pytest.approx(kernel.tolist(), abs=0.02)


def test_more_points_than_a_chunk_leave_no_seam():
    feature = FEATURES["equal_earth_fourier"](frequencies=8)
    lonlat = torch.rand(1500, 2, generator=torch.Generator().manual_seed(0)) * 80
    together = feature(lonlat)
    assert together.shape == (1500, 48)
    for row in (0, 511, 512, 1499):
        assert torch.allclose(together[row], feature(lonlat[row : row + 1])[0], atol=1e-6)


def test_equal_earth_agrees_with_pyproj():
    rng = np.random.default_rng(0)
    lonlat = np.c_[rng.uniform(-180, 180, 500), rng.uniform(-90, 90, 500)]
    lonlat[:3] = [[-180, 90], [0, -90], [179.999, 0]]
    expected = [map_point(*map(math.radians, place)) for place in lonlat.tolist()]
    error = np.abs(equal_earth(torch.from_numpy(lonlat)).numpy() - np.array(expected)).max()
    assert error < 1e-9, f"off by {error:.1e} of the map's half width"


@pytest.mark.parametrize("name", ["grid", "theory", "sphere_c", "sphere_m_plus"])
def test_scales_run_geometrically_between_the_radii(name):
    feature = FEATURES[name](scales=3, min_radius=0.04, max_radius=1.0)
    assert feature.radii.tolist() == pytest.approx([0.04, 0.2, 1.0])
    assert FEATURES[name](scales=1)(torch.zeros(1, 2)).isfinite().all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("spherical_harmonics", {"degree": 0}),
        ("spherical_harmonics", {"degree": 2.5}),
        ("grid", {"scales": 0}),
        ("grid", {"min_radius": 0.0}),
        ("theory", {"min_radius": 2.0, "max_radius": 1.0}),
        ("sphere_m", {"max_radius": math.inf}),
        ("fourier", {"sigmas": ()}),
        ("fourier", {"sigmas": (1.0, -1.0)}),
        ("equal_earth_fourier", {"frequencies": 0}),
    ],
)
def test_impossible_options_are_refused_with_a_remedy(name, options):
    with pytest.raises(ValueError, match="pass "):
        FEATURES[name](**options)
