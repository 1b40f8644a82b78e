"""Readers of the open tier, on files whose every value is known."""

import numpy as np
import pytest
import torch
from synthetic import (
    BIOMES,
    FILES,
    HOUSES,
    LIGHT,
    MOSAIKS,
    PLACES,
    PLOTS,
    STATIONS,
    biome_code,
    lonlat,
    species,
    warmth,
)

from locties.data import public
from locties.data.manifest import DataError, source

pytestmark = pytest.mark.usefixtures("open_tier")


def test_stations_are_longitude_latitude_and_a_mean():
    points, celsius = public.stations("temperature")
    assert points.tolist() == lonlat(STATIONS, 1).tolist()
    assert celsius == pytest.approx(warmth(lonlat(STATIONS, 1)))
    same, rain = public.stations("precipitation")
    assert same.tolist() == points.tolist()
    assert rain == pytest.approx(40 * celsius)


@pytest.mark.parametrize("label", ["elevation", "population"])
def test_mosaiks_reads_labels_and_never_predictions(label):
    """The columns of predictions hold no number here: reading them would fail."""
    points, labels = public.mosaiks(label)
    assert labels == pytest.approx(points[:, 0].abs().numpy() + points[:, 1].numpy())


def test_mosaiks_joins_its_files_and_keeps_a_point_once():
    points, _ = public.mosaiks("elevation")
    assert points.tolist() == sorted(lonlat(MOSAIKS, 2).tolist())


def test_mosaiks_refuses_files_that_disagree(monkeypatch):
    files = iter([[[5.0, 7.0], [1.0, 2.0], [30.0, 40.0]], [[7.0], [2.0], [41.5]]])
    monkeypatch.setattr(public, "_numbers", lambda *_: np.array(next(files)))
    message = r"mosaiks_elevation: .* 40\.0 and 41\.5 at longitude 7\.0, latitude 2\.0; name files"
    with pytest.raises(DataError, match=message):
        public.mosaiks("elevation")


def test_biomes_are_joined_to_places_each_kept_once():
    points, names = public.biomes()
    expected = lonlat(PLACES, 4)
    place = {tuple(row): name for row, name in zip(points.tolist(), names, strict=True)}
    assert len(place) == len(points) == PLACES - 1 + 1, "one of two biomes out, the rare one in"
    assert tuple(expected[1]) not in place, "a place with two biomes"
    assert (170.05, 70.0) not in place, "a place without a biome"
    assert place[(170.15, 70.0)] == BIOMES[3]
    code = biome_code(expected)
    for i in (0, *range(2, PLACES)):
        assert place[tuple(expected[i])] == BIOMES[code[i]]


def test_plants_are_joined_to_places_with_a_number():
    points, found = public.plant_richness()
    kept = lonlat(PLACES, 4)[1 : PLACES // 2]
    assert sorted(points.tolist()) == sorted(kept.tolist())
    assert found == pytest.approx(species(points.numpy()))


def test_only_plots_of_like_area_and_stems_are_read():
    points, found = public.tree_plots()
    kept = lonlat(PLOTS, 5)[1::3]
    assert points.tolist() == kept.tolist()
    assert found == pytest.approx(np.log(species(kept)))


def test_design_temperatures_are_of_the_file_of_all_years():
    stations = lonlat(FILES, 6)[:-1]
    for season, apart in (("winter", -20), ("summer", 10)):
        points, celsius = public.design_temperature(season)
        assert points.tolist() == stations.tolist()
        assert celsius == pytest.approx(warmth(stations) + apart)


def test_house_values_are_in_dollars():
    points, dollars = public.house_values()
    assert points.tolist() == lonlat(HOUSES, 7).tolist()
    assert dollars == pytest.approx(1000 * (200 + lonlat(HOUSES, 7)[:, 0]))


def test_a_country_is_that_of_the_polygon_around_a_point():
    asked = {
        (-100.0, 40.0): "WE",
        (10.0, 10.0): "EA",
        (179.9, 10.0): "EA",  # its other part
        (25.0, 25.0): "",  # its lake
        (-10.0, 10.0): "",  # the sea
        (10.0, -50.0): "",  # a polygon without a code
        (0.0, 10.0): "EA",  # a coast
        (-180.0, -30.0): "WE",  # a border: the polygon that comes first
    }
    assert public.country_at(list(asked)).tolist() == list(asked.values())
    assert public.country_at(torch.tensor([[190.0, 10.0]])).tolist() == ["WE"], "wrapped"
    assert public.country_at(torch.empty(0, 2)).tolist() == []


def test_a_country_is_not_asked_off_the_globe():
    with pytest.raises(ValueError, match="row 1"):
        public.country_at([[0, 0], [0, 91]])


def test_night_lights_are_the_red_channel_the_right_way_up():
    raster = public.night_lights()
    assert raster.values.shape == (1, 36, 72)
    quarters = torch.tensor([[90.0, 45.0], [-90.0, 45.0], [90.0, -45.0], [-90.0, -45.0]])
    red = raster.nearest(quarters)[:, 0].tolist()
    assert red == pytest.approx([LIGHT, 0, 0, 0], abs=3), "JPEG is off by a few steps"


def test_without_its_file_a_reader_says_what_to_run(monkeypatch):
    monkeypatch.delenv("LOCTIES_MIRROR")
    for name, read in [
        ("stations", lambda: public.stations("precipitation")),
        ("mosaiks_population", lambda: public.mosaiks("population")),
        ("biomes", public.biomes),
        ("plant_richness", public.plant_richness),
        ("tree_plots", public.tree_plots),
        ("design_temperatures", lambda: public.design_temperature("winter")),
        ("house_values", public.house_values),
        ("countries", lambda: public.country_at([[0, 0]])),
        ("night_lights", public.night_lights),
    ]:
        with pytest.raises(DataError) as caught:
            read()
        message = str(caught.value)
        assert message.endswith(f"run: locties data fetch {name}")
        expected = [
            f"is missing (expected {f.bytes} bytes, sha256 {f.sha256})" for f in source(name).files
        ]
        assert any(words in message for words in expected), message


def test_an_impossible_coordinate_names_its_row(monkeypatch):
    monkeypatch.setattr(public, "_numbers", lambda *_: np.array([[0.0, 0.0], [0.0, 95.0], [1, 2]]))
    with pytest.raises(ValueError, match="row 1"):
        public.stations("temperature")
