"""The data behind the explorer: cells, compression, what is nearest, and the page's parts."""

import base64
import json
import re

import matplotlib as mpl

mpl.use("agg")

import numpy as np
import pytest
import torch

from locties import LocationEncoder
from locties.lonlat import to_xyz
from locties_paper.figures import explorer as module
from locties_paper.figures.explorer import (
    Cells,
    Compressed,
    Explorer,
    chosen_by_default,
    compress,
    cosine,
    explore,
    land_cells,
)


@pytest.fixture(scope="module")
def embedding() -> np.ndarray:
    """Directions in 64 dimensions whose spread falls off, of unequal length."""
    rng = np.random.default_rng(1)
    spread = 0.9 ** np.arange(64)
    mixed = rng.normal(size=(400, 64)) * spread @ np.linalg.qr(rng.normal(size=(64, 64)))[0]
    return (mixed * rng.uniform(0.1, 10, size=(400, 1))).astype(np.float32)


@pytest.fixture(scope="module")
def kept(embedding) -> Compressed:
    return compress(embedding, tolerance=0.05)


@pytest.fixture(scope="module")
def explorer() -> Explorer:
    encoders = {"Position": to_xyz, "Lat & <lon>": lambda lonlat: torch.cos(lonlat / 50)}
    return explore(encoders, resolution=10, population=3_000_000)


@pytest.fixture(scope="module")
def seasonal() -> LocationEncoder:
    return LocationEncoder("xyz", "mlp", dim=16, time="month").eval()


def data(page: str) -> dict:
    return json.loads(re.search(r'class="explorer-data">(.*?)</script>', page, re.S)[1])


def test_similarities_stay_within_the_stated_error(embedding, kept):
    unit = embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
    error = np.abs(cosine(kept.codes, np.arange(400)) - unit @ unit.T)
    # Stated for 256 places against all others; here it is all against all.
    assert kept.mean_error == pytest.approx(error.mean(), rel=0.1)
    assert kept.mean_error < kept.largest_error <= 0.05
    assert error.max() < 0.06
    assert np.quantile(error, 0.999) < kept.largest_error


def test_no_more_dimensions_than_needed_are_kept(embedding, kept):
    assert kept.codes.dtype == np.int8
    assert 8 < kept.codes.shape[1] < 64
    finer = compress(embedding, tolerance=0.01)
    assert finer.codes.shape[1] > kept.codes.shape[1]
    assert finer.largest_error <= 0.01


def test_a_place_is_exactly_like_itself_and_nothing_is_more(kept):
    similar = cosine(kept.codes, np.arange(400))
    np.testing.assert_allclose(np.diag(similar), 1, atol=1e-12)
    assert similar.max() <= 1 + 1e-12


def test_a_tolerance_that_bytes_cannot_keep_is_refused(embedding):
    with pytest.raises(ValueError, match=r"1e-06.*allow more"):
        compress(embedding, tolerance=1e-6)


def test_a_cell_holds_its_own_centre_and_the_sea_has_none():
    cells = land_cells(10)
    found = cells.find(torch.from_numpy(cells.lonlat))
    np.testing.assert_array_equal(found, np.arange(len(cells.number)))
    places = torch.tensor([[37.0, -1.0], [-150.0, -40.0], [10.0, -85.0]])
    assert (cells.find(places) >= 0).tolist() == [True, False, False]
    assert cells.columns[0] < cells.columns[8] == 36


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("resolution", [1.5, 10.0])
def test_cells_reach_both_edges_and_poles_whatever_the_rounding(resolution, dtype):
    """All cells are kept here, so that a cell's position is its number."""
    columns = land_cells(resolution).columns
    cells = Cells(columns, np.arange(columns.sum()), np.empty((0, 2)))
    first = np.cumsum([0, *columns[:-1]])
    lat = 90 - (np.arange(len(columns)) + 0.5) * 180 / len(columns)

    def at(lon: float, lat: np.ndarray) -> np.ndarray:
        return cells.find(torch.tensor([(lon, float(value)) for value in lat], dtype=dtype))

    below = torch.nextafter(torch.tensor(180.0, dtype=dtype), torch.tensor(0.0, dtype=dtype)).item()
    for lon in (-180.0, 180.0, 540.0, -below):
        np.testing.assert_array_equal(at(lon, lat), first)
    np.testing.assert_array_equal(at(below, lat), first + columns - 1)
    assert at(below, np.array([90.0, -90.0])).tolist() == [columns[0] - 1, columns.sum() - 1]
    assert at(-180.0, np.array([90.0, -90.0])).tolist() == [0, first[-1]]


def test_the_nearest_of_a_city_begins_with_itself(explorer):
    for title in explorer.encoders:
        for city in explorer.cities[::7]:
            assert explorer.nearest(city, title)[0] == city
    near = explorer.nearest("Nairobi", "Position", 5)
    assert len(set(near)) == 5
    assert "Addis Ababa" in near


@pytest.mark.slow
def test_the_page_holds_what_was_computed(explorer):
    held = data(explorer.html())
    for encoder, (title, [kept]) in zip(held["encoders"], explorer.encoders.items(), strict=True):
        [month] = encoder["months"]
        codes = np.frombuffer(base64.b64decode(month["codes"]), np.int8)
        assert encoder["title"] == title
        np.testing.assert_array_equal(codes.reshape(-1, month["dim"]), kept.codes)
    numbers = np.frombuffer(base64.b64decode(held["cells"]), "<i4")
    np.testing.assert_array_equal(numbers, explorer.cells.number)
    assert sum(held["columns"]) > len(numbers)
    assert [city[0] for city in held["cities"]] == explorer.cities
    assert held["centre"] == 11, "the middle of the book's other maps"
    coasts = np.frombuffer(base64.b64decode(held["coasts"]["points"]), "<i2").reshape(-1, 2)
    assert len(coasts) == sum(held["coasts"]["lengths"])
    assert np.abs(coasts / 100).max(axis=0).tolist() == [180, 90]


def test_the_page_is_small_whole_and_for_those_without_a_script_too(explorer):
    page = explorer.html()
    assert len(page) < 500_000
    assert not re.search(r'(?:src|href)="(?!data:)|@import|fetch\(|import\(', page)
    assert page.count("<script") == page.count("</script>") == 2
    picture = re.search(r'<noscript><img[^>]+alt="([^"]+)"', page)
    assert picture[1].endswith("Nairobi in Position, Lat &amp; &lt;lon&gt;: one map each.")


def test_one_encoder_of_opposites_does_not_set_the_scale_of_all():
    def near(lonlat):
        return torch.cat([to_xyz(lonlat), torch.ones(len(lonlat), 1)], dim=1)  # no cosine below 0

    low = {
        names: explore(
            {str(i): encoder for i, encoder in enumerate(names)}, 10, population=3_000_000
        ).low
        for names in ((to_xyz,), (near,), (to_xyz, near, near))
    }
    assert low[to_xyz,] < -0.5 < 0 <= low[near,]
    assert low[to_xyz, near, near] == low[near,]


def test_an_encoder_with_a_month_has_an_embedding_of_each(seasonal):
    encoders = {"all": seasonal, "July": seasonal.in_month(7)}
    made = explore(encoders, 10, month_tolerance=0.05, population=3_000_000)
    assert {title: len(kept) for title, kept in made.encoders.items()} == {"all": 12, "July": 1}
    codes = [kept.codes for kept in made.encoders["all"]]
    np.testing.assert_array_equal(codes[6], made.encoders["July"][0].codes)
    assert not np.array_equal(codes[0], codes[6])


def test_months_may_have_a_tolerance_of_their_own(seasonal):
    encoders = {"all": seasonal, "July": seasonal.in_month(7)}
    with pytest.raises(ValueError, match=r"1e-06.*allow more"):
        explore(encoders, 10, month_tolerance=1e-6, population=3_000_000)
    with pytest.raises(ValueError, match=r"1e-06.*allow more"):
        explore(encoders, 10, tolerance=1e-6, population=3_000_000)


def test_the_family_is_shown_once_it_is_published(monkeypatch):
    monkeypatch.setattr(module, "published", lambda: ["best", "clip", "melt", "salt"])
    assert chosen_by_default() == ["melt", "salt", "clip"]
    monkeypatch.setattr(module, "published", lambda: ["base", "clip", "large", "melt", "seasonal"])
    assert chosen_by_default() == ["large", "seasonal", "melt"]
