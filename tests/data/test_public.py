"""Readers of the open tier, on files whose every value is known."""

import numpy as np
import pytest
import torch
from synthetic import BIOMES, LIGHT, PLACES, STATIONS, biome_code, lonlat, warmth

from locties.data import public
from locties.data.manifest import DataError, source

pytestmark = pytest.mark.usefixtures("open_tier")


def test_stations_are_longitude_latitude_and_temperature():
    points, celsius = public.stations()
    assert points.tolist() == lonlat(STATIONS, 1).tolist()
    assert celsius == pytest.approx(warmth(lonlat(STATIONS, 1)))


@pytest.mark.parametrize("label", ["elevation", "population"])
def test_mosaiks_reads_labels_and_never_predictions(label):
    """The columns of predictions hold no number here: reading them would fail."""
    points, labels = public.mosaiks(label)
    assert labels == pytest.approx(points[:, 0].abs().numpy() + points[:, 1].numpy())


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
        ("stations", public.stations),
        ("mosaiks_population", lambda: public.mosaiks("population")),
        ("biomes", public.biomes),
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
        public.stations()
