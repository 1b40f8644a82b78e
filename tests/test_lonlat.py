"""Coordinates: what is accepted, what is refused and how, and the geometry on the sphere."""

import math
from typing import NamedTuple

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
import xarray
from hypothesis import assume, given
from hypothesis import strategies as st

from locties.lonlat import (
    BLOCK_DEGREES,
    CELL_DEGREES,
    MEAN_EARTH_RADIUS_KM,
    cell_index,
    check,
    distance_km,
    read,
    to_xyz,
)

BERLIN, PARIS, SYDNEY = (13.405, 52.52), (2.3522, 48.8566), (151.2093, -33.8688)
longitudes = st.floats(-1e4, 1e4)
latitudes = st.floats(-90, 90)


def uniform_points(n: int, seed: int = 0) -> torch.Tensor:
    """Points uniform by area."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(n, 2, generator=generator, dtype=torch.float64)
    return torch.stack([360 * u[:, 0] - 180, torch.rad2deg(torch.asin(2 * u[:, 1] - 1))], dim=1)


@pytest.mark.parametrize(
    ("given_as", "dtype"),
    [
        ([list(BERLIN), list(PARIS)], torch.float64),
        ((BERLIN, PARIS), torch.float64),
        (np.array([BERLIN, PARIS]), torch.float64),
        (np.array([BERLIN, PARIS], dtype=np.float32), torch.float32),
        (np.array([BERLIN, PARIS], dtype=">f8"), torch.float64),
        (np.array([PARIS, BERLIN])[::-1], torch.float64),
        (np.array([[13, 52], [2, 48]]), torch.float64),
        (torch.tensor([BERLIN, PARIS]), torch.float32),
        (torch.tensor([BERLIN, PARIS], dtype=torch.float64), torch.float64),
        (torch.tensor([[13, 52], [2, 48]]), torch.float64),
        (torch.tensor([BERLIN, PARIS], dtype=torch.bfloat16), torch.float32),
    ],
)
def test_accepts_tensors_arrays_and_lists(given_as, dtype):
    points = check(given_as)
    assert points.dtype == dtype
    assert points.shape == (2, 2)
    assert (points - torch.tensor([BERLIN, PARIS])).abs().max() < 1, "the points have moved"


def test_a_read_only_array_is_accepted_and_left_alone():
    array = np.array([BERLIN, (190.0, 0.0)])
    array.flags.writeable = False
    assert check(array)[1].tolist() == [-170.0, 0.0]
    assert array[1, 0] == 190.0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coordinates_in_range_stay_bit_identical(dtype):
    points = uniform_points(1000).to(dtype)
    points[0, 0] = -180.0
    assert torch.equal(check(points), points)
    with_one_outside = torch.cat([points, torch.tensor([[725.0, 0.0]], dtype=dtype)])
    assert torch.equal(check(with_one_outside)[:-1], points), "wrapping one row changed others"


@pytest.mark.parametrize(
    ("longitude", "wrapped"),
    [(180, -180), (-180, -180), (190, -170), (-190, 170), (360, 0), (540, -180), (-725, -5)],
)
def test_longitude_is_wrapped(longitude, wrapped):
    assert check([[longitude, 10.0]])[0, 0].item() == wrapped


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@given(longitude=longitudes, latitude=latitudes)
def test_wrapped_longitude_is_in_range_and_the_same_place(dtype, longitude, latitude):
    point = torch.tensor([[longitude, latitude]], dtype=dtype)
    wrapped = check(point)
    assert -180 <= wrapped[0, 0] < 180
    tolerance = 1e-9 if dtype == torch.float64 else 2e-5
    assert (to_xyz(wrapped) - to_xyz(point.double())).abs().max() < tolerance


@pytest.mark.parametrize("points", [[BERLIN], np.array([BERLIN]), torch.tensor([BERLIN])])
def test_columns_of_what_has_none_are_refused(points):
    with pytest.raises(ValueError, match=r"lon='x'.* no named columns: leave them out"):
        read(points, lon="x")


def test_just_west_of_the_date_line_wraps_into_range():
    just_west = torch.tensor([[np.nextafter(np.float32(-180), np.float32(-200)), 0.0]])
    assert -180 <= check(just_west)[0, 0] < 180


@pytest.mark.parametrize(
    ("points", "row", "reason"),
    [
        ([BERLIN, (2.3, 91.0)], "row 1 is (2.3, 91.0)", "latitude must be in [-90, 90]"),
        ([(0.0, -90.001)], "row 0 is (0.0, -90.001)", "latitude must be in [-90, 90]"),
        ([BERLIN, BERLIN, (math.nan, 0.0)], "row 2 is (nan, 0.0)", "finite"),
        ([(0.0, math.nan)], "row 0 is (0.0, nan)", "finite"),
        ([(math.inf, 0.0)], "row 0 is (inf, 0.0)", "finite"),
        ([(190.0, 0.0), (0.0, -math.inf)], "row 1 is (0.0, -inf)", "finite"),
    ],
)
def test_a_bad_row_is_named_with_its_value_and_a_remedy(points, row, reason):
    with pytest.raises(ValueError, match="longitude then latitude, in degrees") as error:
        check(points)
    assert row in str(error.value)
    assert reason in str(error.value)


@pytest.mark.parametrize(
    "points",
    [
        BERLIN,
        [[1.0, 2.0, 3.0]],
        [[[1.0, 2.0]]],
        5.0,
        [[1.0, 2.0], [3.0]],
        [["Berlin", "Paris"]],
        None,
        np.array([[1j, 2j]]),
        torch.tensor([[1j, 2j]]),
    ],
)
def test_a_wrong_shape_or_type_is_refused_with_the_remedy(points):
    with pytest.raises(ValueError, match=r"pass shape \(N, 2\): longitude then latitude"):
        check(points)


class Place(NamedTuple):
    latitude: float
    longitude: float


class Polars:
    """What a DataFrame of polars has: columns by name, and an order as an array."""

    def __init__(self, data: dict[str, list[float]]) -> None:
        self.data, self.columns = data, list(data)

    def __getitem__(self, name: str) -> np.ndarray:
        return np.array(self.data[name])

    def __array__(self, dtype: object = None, copy: object = None) -> np.ndarray:
        return np.array([*self.data.values()], dtype).T


# The same two places, with the latitude in front.
LABELLED = {
    "DataFrame": lambda d: pd.DataFrame(d),
    "with other columns": lambda d: pd.DataFrame({"ph": [5, 6], **d}),
    "nullable": lambda d: pd.DataFrame(d).convert_dtypes(),
    "mapping": lambda d: d,
    "pyarrow": lambda d: pa.table(d),
    "record batch": lambda d: pa.RecordBatch.from_pydict(d),
    "structured": lambda d: pd.DataFrame(d).to_records(index=False),
    "rows of a structured array": lambda d: list(pd.DataFrame(d).to_records(index=False)),
    "named tuples": lambda d: [Place(*pair) for pair in zip(*d.values(), strict=True)],
    "mappings": lambda d: pd.DataFrame(d).to_dict("records"),
    "series": lambda d: [row for _, row in pd.DataFrame(d).iterrows()],
    "masked": lambda d: {name: np.ma.masked_invalid(column) for name, column in d.items()},
    "polars": lambda d: Polars(d),
}


@pytest.mark.parametrize("make", LABELLED.values(), ids=LABELLED)
def test_what_has_names_is_read_by_name(make):
    here = make({"latitude": [52.5, 48.9], "longitude": [13.4, 2.3]})
    assert check(here).tolist() == [[13.4, 52.5], [2.3, 48.9]]


@pytest.mark.parametrize(
    ("labelled", "words"),
    [
        (pd.DataFrame([[52.5, 13.4]]), ["DataFrame with 0, 1", "'lon'", "longitude first"]),
        ({"y": [52.5], "x": [13.4]}, ["dict with y, x", "could be none", "longitude first"]),
        ({"lat": [1], "lon": [2], "Longitude": [3]}, ["lon or Longitude", "name one 'lon'"]),
        (pd.DataFrame([[1, 2, 3]], columns=["lat", "lon", "lat"]), ["lat or lat"]),
        ({"lat": [1, 2], "lon": [1]}, ["dict", "pass shape (N, 2)"]),
        ({"lat": ["52°N"], "lon": ["13°E"]}, ["not numbers", "pass shape (N, 2)"]),
        ({"lat": 52.5, "lon": 13.4}, ["shape (2,)", "pass shape (N, 2)"]),
        (pd.Series({"lat": 52.5, "lon": 13.4}), ["shape (2,)", "pass shape (N, 2)"]),
        (
            xarray.DataArray([[52.5, 13.4]], dims=["place", "axis"]),
            ["DataArray with dimensions place, axis", "numpy.stack([longitude, latitude], axis=1)"],
        ),
        (
            xarray.Dataset(coords={"lat": [1, 2], "lon": [3, 4]}),
            ["Dataset with dimensions lat, lon", "numpy.stack"],
        ),
        (
            geopandas.GeoDataFrame(geometry=geopandas.points_from_xy([1], [2], crs=4326)),
            ["GeoDataFrame", "frame.to_crs(4326).get_coordinates().to_numpy()"],
        ),
    ],
)
def test_labels_that_do_not_say_which_is_which_are_refused(labelled, words):
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is tested just below)
        check(labelled)
    for word in words:
        assert word in str(error.value)


def masked(dtype: str) -> np.ma.MaskedArray:
    return np.ma.masked_array([[13, 52], [7, 44], [2, 48]], [[0, 0], [0, 1], [0, 0]], dtype)


@pytest.mark.parametrize(
    "points",
    [
        masked("f8"),
        masked("f4"),
        masked("i8"),
        list(masked("f8")),
        {"lat": masked("f8")[:, 1], "lon": masked("f8")[:, 0]},
        {"lat": list(masked("f8")[:, 1]), "lon": [13, 7, 2]},
        masked("f8").astype([("lat", "f8"), ("lon", "f8")])[:, 1],
        pd.DataFrame({"lat": [52, None, 48], "lon": [13, 7, 2]}).convert_dtypes(),
        pa.table({"lat": [52, None, 48], "lon": [13, 7, 2]}),
    ],
)
@pytest.mark.filterwarnings("ignore:.*converting a masked element to nan")
def test_a_masked_value_is_a_missing_one(points):
    with pytest.raises(ValueError, match=r"row 1 is \(.*nan\): both values .* missing"):
        check(points)


def test_no_points_are_fine():
    assert check(np.empty((0, 2))).shape == (0, 2)


def test_gradients_pass_through_check():
    points = torch.tensor([[190.0, 10.0], [5.0, 5.0]], requires_grad=True)
    check(points).sum().backward()
    assert points.grad is not None
    assert torch.equal(points.grad, torch.ones(2, 2))


def test_axes_of_the_unit_vectors():
    lonlat = torch.tensor([[0, 0], [90, 0], [0, 90], [180, 0], [77, -90]], dtype=torch.float64)
    axes = torch.tensor([[1, 0, 0], [0, 1, 0], [0, 0, 1], [-1, 0, 0], [0, 0, -1]])
    assert (to_xyz(lonlat) - axes).abs().max() < 1e-15


def test_distances_between_cities():
    a = torch.tensor([BERLIN, BERLIN], dtype=torch.float64)
    b = torch.tensor([PARIS, SYDNEY], dtype=torch.float64)
    assert distance_km(a, b).tolist() == pytest.approx([877.5, 16094], rel=1e-3)


def test_distances_agree_with_pyproj_on_the_sphere():
    geod = pytest.importorskip("pyproj").Geod(a=6371008.8, b=6371008.8)
    a, b = uniform_points(500, seed=1), uniform_points(500, seed=2)
    b[:100] = a[:100] + 1e-6  # neighbours, metres apart
    b[100:200] = torch.stack([a[100:200, 0] - 180, -a[100:200, 1]], dim=1)  # antipodes
    metres = geod.inv(*a.numpy().T, *b.numpy().T)[2]
    error = (distance_km(a, b) - torch.from_numpy(metres) / 1000).abs().max()
    assert error < 1e-6, f"off by {error} km"


def test_distances_broadcast_and_take_the_wider_dtype():
    a, b = uniform_points(3).float(), uniform_points(4)
    table = distance_km(a[:, None], b)
    assert table.shape == (3, 4)
    assert table.dtype == torch.float64
    assert torch.equal(table[1], distance_km(a[1], b))
    assert distance_km(a, a).dtype == torch.float32
    assert distance_km(a, a).max() == 0


def test_half_the_globe_is_the_longest_distance():
    poles = distance_km(torch.tensor([0.0, 90.0]), torch.tensor([50.0, -90.0]))
    assert poles.item() == pytest.approx(math.pi * MEAN_EARTH_RADIUS_KM)


@pytest.mark.parametrize(("degrees", "count"), [(BLOCK_DEGREES, 412), (CELL_DEGREES, 203_718)])
def test_cells_are_numbered_without_gaps(degrees, count):
    last = cell_index(torch.tensor([[179.999, 89.999]], dtype=torch.float64), degrees)
    assert cell_index(torch.tensor([[-180.0, -90.0]]), degrees).item() == 0
    assert last.item() == count - 1
    points = cell_index(uniform_points(200_000), BLOCK_DEGREES)
    assert points.unique().tolist() == list(range(412))


def test_a_cell_is_where_the_definition_says():
    for longitude, latitude in uniform_points(200, seed=3).tolist():
        band = math.floor((latitude + 90) / 10)
        counts = [max(1, round(36 * math.cos(math.radians(-85 + 10 * i)))) for i in range(18)]
        column = math.floor((longitude + 180) / 360 * counts[band])
        point = torch.tensor([[longitude, latitude]], dtype=torch.float64)
        assert cell_index(point, 10.0).item() == sum(counts[:band]) + column


def test_cells_have_nearly_equal_areas():
    inside = cell_index(uniform_points(400_000), BLOCK_DEGREES).bincount(minlength=412)
    share = inside.double() / inside.double().mean()
    # The three cells around each pole are the least equal: cos 85 degrees * 36 = 3.14 becomes 3.
    assert share.min() > 0.85
    assert share.max() < 1.15


def test_a_cell_of_half_a_degree_is_about_50_km():
    areas = 4 * math.pi * MEAN_EARTH_RADIUS_KM**2 / 203_718
    assert math.sqrt(areas) == pytest.approx(50, rel=0.01)


@given(longitude=longitudes, latitude=latitudes)
def test_a_cell_depends_on_the_place_alone(longitude, latitude):
    point = check(np.array([[longitude, latitude]], dtype=np.float32))
    alone = cell_index(point, CELL_DEGREES)
    assert alone.item() >= 0
    turned = point + torch.tensor([[360.0, 0.0]], dtype=torch.float64)
    assume(torch.equal(turned[:, 0] - 360, point[:, 0].double()))  # not rounded away
    assert torch.equal(alone, cell_index(point.double(), CELL_DEGREES))
    assume(torch.equal(turned[:, 0] - 360, point[:, 0].double()))  # it rounds just below 0
    assert torch.equal(alone, cell_index(turned, CELL_DEGREES))


@pytest.mark.parametrize("degrees", [0.0, -1.0, 181.0, math.nan])
def test_impossible_cells_are_refused(degrees):
    with pytest.raises(ValueError, match=r"pass a number in \(0, 180\]"):
        cell_index(torch.zeros(1, 2), degrees)
