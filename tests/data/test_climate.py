"""Köppen-Geiger classes: each rule on made-up months, and cities on flat terrain."""

import pytest
import torch

from locties.data.climate import KOPPEN_CLASSES, koppen
from locties.data.embedded import Earth


def classify(temperature: list[float], rain: list[float], lat: float = 45.0) -> str:
    return KOPPEN_CLASSES[int(koppen([temperature], [rain], [lat]))]


def season(january: float, july: float) -> list[float]:
    """Twelve months on a cosine from January to July and back."""
    phase = torch.cos(torch.arange(12) * torch.pi / 6)
    return ((january + july) / 2 + (january - july) / 2 * phase).tolist()


def halves(summer: float, winter: float) -> list[float]:
    """Rain of April to September, and of the other months."""
    return [winter] * 3 + [summer] * 6 + [winter] * 3


WET = [100.0] * 12
RULES = {
    "Af": ([27.0] * 12, WET),
    "Am": ([27.0] * 12, [40.0, *[200.0] * 11]),  # 40 >= 100 - 2240 / 25
    "Aw": ([27.0] * 12, [5.0, *[100.0] * 11]),
    "BWh": ([25.0] * 12, [5.0] * 12),
    "BWk": (season(-5, 25), [5.0] * 12),
    "BSh": ([25.0] * 12, [40.0] * 12),
    "BSk": (season(-5, 25), [25.0] * 12),
    "Csa": (season(8, 26), halves(5, 90)),
    "Csb": (season(8, 20), halves(5, 90)),
    "Csc": (season(1, 10.5), halves(5, 90)),
    "Cwa": (season(8, 26), halves(150, 10)),
    "Cwb": (season(8, 20), halves(150, 10)),
    "Cwc": (season(1, 10.5), halves(150, 10)),
    "Cfa": (season(8, 26), WET),
    "Cfb": (season(4, 18), WET),
    "Cfc": (season(1, 10.5), WET),
    "Dsa": (season(-10, 26), halves(5, 90)),
    "Dsb": (season(-10, 20), halves(5, 90)),
    "Dsc": (season(-20, 12), halves(5, 90)),
    "Dsd": (season(-45, 15), halves(5, 90)),
    "Dwa": (season(-10, 26), halves(150, 10)),
    "Dwb": (season(-10, 20), halves(150, 10)),
    "Dwc": (season(-20, 12), halves(150, 10)),
    "Dwd": (season(-45, 15), halves(150, 10)),
    "Dfa": (season(-10, 26), WET),
    "Dfb": (season(-10, 20), WET),
    "Dfc": (season(-20, 12), WET),
    "Dfd": (season(-45, 15), WET),
    "ET": (season(-30, 5), WET),
    "EF": (season(-40, -5), WET),
}


@pytest.mark.parametrize("expected", KOPPEN_CLASSES)
def test_each_class_has_a_climate_of_its_own(expected: str) -> None:
    assert classify(*RULES[expected]) == expected


def test_places_are_classified_one_by_one_as_together() -> None:
    temperature, rain = (torch.tensor(v) for v in zip(*RULES.values(), strict=True))
    together = koppen(temperature, rain, torch.full((len(RULES),), 45.0))
    assert [KOPPEN_CLASSES[c] for c in together] == list(RULES)


def test_south_of_the_equator_summer_is_december() -> None:
    turned = [values[6:] + values[:6] for values in RULES["Csa"]]
    assert classify(*turned, lat=-33.0) == "Csa"


def test_latitude_decides_only_where_both_halves_are_equally_warm() -> None:
    # 330 mm at 20 degC: wet summers ask for 680 mm (desert below 340), wet winters for 400 mm.
    rain = halves(summer=55, winter=0)
    assert classify([20.0] * 12, rain, lat=10.0) == "BWh"
    assert classify([20.0] * 12, rain, lat=-10.0) == "BSh"


@pytest.mark.parametrize(("annual", "expected"), [(339.0, "BWh"), (341.0, "BSh"), (681.0, "Aw")])
def test_the_dry_threshold_is_at_half_and_whole(annual: float, expected: str) -> None:
    # 2 * 20 + 28 = 68: desert below 340 mm, steppe below 680 mm, where rain falls in summer.
    assert classify([20.0] * 12, halves(annual / 6, 0.0)) == expected


def test_the_drier_half_decides_where_both_are_dry() -> None:
    # One dry month in each half.
    rain = [0.0, 150, 150, 90, 90, 90, 5.0, 90, 90, 150, 150, 150]
    assert classify(season(5, 26), rain) == "Csa"
    rain = [0.0, 60, 60, 150, 150, 150, 5.0, 150, 150, 60, 60, 60]
    assert classify(season(5, 26), rain) == "Cwa"


def test_dry_goes_before_polar() -> None:
    assert classify(season(-8, 9.5), [2.0] * 12) == "BWk"


@pytest.mark.parametrize(
    ("temperature", "rain", "lat", "message"),
    [
        (torch.zeros(2, 12), torch.zeros(3, 12), torch.zeros(2), r"rain has shape \(3, 12\)"),
        (torch.zeros(12), torch.zeros(1, 12), torch.zeros(1), r"temperature has shape \(12,\)"),
        (torch.full((1, 12), 290.0), torch.zeros(1, 12), torch.zeros(1), "not kelvin"),
        (torch.full((1, 12), torch.nan), torch.zeros(1, 12), torch.zeros(1), "row 0 is not finite"),
        (torch.zeros(1, 12), -torch.ones(1, 12), torch.zeros(1), "negative"),
    ],
)
def test_wrong_input_is_named(
    temperature: torch.Tensor, rain: torch.Tensor, lat: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        koppen(temperature, rain, lat)


# Cities well inside their zone and on flat terrain, since grid cells are means over 28 km.
CITIES = {
    "Manaus": (-60.0, -3.1, "Af"),
    "Singapore": (103.8, 1.35, "Af"),
    "Bangkok": (100.5, 13.75, "Aw"),
    "Cairo": (31.24, 30.04, "BWh"),
    "Alice Springs": (133.9, -23.7, "BWh"),
    "Seville": (-6.0, 37.4, "Csa"),
    "Perth, inland": (116.0, -31.9, "Csa"),
    "London": (-0.12, 51.5, "Cfb"),
    "Buenos Aires": (-58.6, -34.7, "Cfa"),
    "Moscow": (37.6, 55.75, "Dfb"),
    "Winnipeg": (-97.1, 49.9, "Dfb"),
    "Seoul": (127.0, 37.5, "Dwa"),
    "Utqiagvik, inland": (-156.7, 71.2, "ET"),
    "Summit, Greenland": (-38.5, 72.6, "EF"),
}


@pytest.mark.data
@pytest.mark.parametrize("city", CITIES)
def test_cities_have_the_class_of_the_published_map(city: str, earth: Earth) -> None:
    lon, lat, expected = CITIES[city]
    point = torch.tensor([[lon, lat]])
    (found,) = koppen(earth.temperature.sample(point), earth.rain.sample(point), point[:, 1])
    assert KOPPEN_CLASSES[found] == expected
