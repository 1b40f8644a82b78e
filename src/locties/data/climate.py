"""Köppen-Geiger climate classes from monthly temperature and precipitation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

KOPPEN_CLASSES = (
    *("Af", "Am", "Aw"),
    *("BWh", "BWk", "BSh", "BSk"),
    *("Csa", "Csb", "Csc", "Cwa", "Cwb", "Cwc", "Cfa", "Cfb", "Cfc"),
    *("Dsa", "Dsb", "Dsc", "Dsd", "Dwa", "Dwb", "Dwc", "Dwd", "Dfa", "Dfb", "Dfc", "Dfd"),
    *("ET", "EF"),
)
_FIRST = {name: index for index, name in enumerate(KOPPEN_CLASSES)}


def koppen(temperature: Any, rain: Any, lat: Any) -> Tensor:
    """Köppen-Geiger class of each place, by the rules of Peel, Finlayson and McMahon (2007).

    Summer is the warmer half of April to September and October to March. Where the paper leaves a
    choice, we follow Beck et al. (2018): B comes before all other classes; a climate with a dry
    summer and a dry winter gets the class of the drier season; exactly 10 degC is polar.

    Args:
        temperature: (N, 12) monthly mean air temperature, January to December, degC.
        rain: (N, 12) monthly precipitation, snow included, mm.
        lat: (N,) latitude; decides which half is summer if both are equally warm.

    Returns:
        (N,) int64, index into `KOPPEN_CLASSES`.

    Example:
        >>> wet_tropics = koppen([[27.0] * 12], [[200.0] * 12], [0.0])
        >>> KOPPEN_CLASSES[wet_tropics[0]]
        'Af'

    Source: Peel, Finlayson and McMahon (Hydrology and Earth System Sciences 11, 2007, 1633-1644);
    Beck et al. (Scientific Data 5, 2018, 180214).
    """
    temperature, rain, lat = (torch.as_tensor(v).double() for v in (temperature, rain, lat))
    _check(temperature, rain, lat)
    warm_half = _summer(temperature, lat)
    classes = torch.full((len(lat),), -1)
    for found, chosen in (
        _dry(temperature, rain, warm_half),
        _tropical(temperature, rain),
        _polar(temperature),
        _temperate_or_cold(temperature, rain, warm_half),
    ):
        classes = torch.where((classes < 0) & found, chosen, classes)
    return classes


def _check(temperature: Tensor, rain: Tensor, lat: Tensor) -> None:
    n = len(lat) if lat.ndim == 1 else None
    for name, monthly in (("temperature", temperature), ("rain", rain)):
        if monthly.shape != (n, 12):
            raise ValueError(
                f"{name} has shape {tuple(monthly.shape)} and lat {tuple(lat.shape)}; "
                f"pass (N, 12) and (N,)"
            )
        bad = ~monthly.isfinite().all(dim=1)
        if bad.any():
            row = int(bad.nonzero()[0])
            raise ValueError(f"{name} of row {row} is not finite: {monthly[row].tolist()}")
    if (rain < 0).any():
        raise ValueError(f"rain must not be negative; the least is {rain.min().item()} mm")
    if (temperature > 100).any():
        raise ValueError(
            f"temperature must be in degC, not kelvin; the highest is {temperature.max().item()}"
        )


def _summer(temperature: Tensor, lat: Tensor) -> Tensor:
    """(N, 12) bool, the six months of summer."""
    april_to_september = torch.zeros(12, dtype=torch.bool)
    april_to_september[3:9] = True
    excess = temperature[:, april_to_september].sum(1) - temperature[:, ~april_to_september].sum(1)
    northern = (excess > 0) | ((excess == 0) & (lat >= 0))
    return april_to_september == northern[:, None]


def _dry(temperature: Tensor, rain: Tensor, summer: Tensor) -> tuple[Tensor, Tensor]:
    """B: rain below a threshold that rises with temperature and with the share of summer rain."""
    year, mean = rain.sum(1), temperature.mean(1)
    in_summer = (rain * summer).sum(1)
    threshold = 2 * mean + 14
    threshold = torch.where(in_summer >= 0.7 * year, 2 * mean + 28, threshold)
    threshold = torch.where(year - in_summer >= 0.7 * year, 2 * mean, threshold)
    desert, hot = year < 5 * threshold, mean >= 18
    chosen = torch.where(
        desert,
        torch.where(hot, _FIRST["BWh"], _FIRST["BWk"]),
        torch.where(hot, _FIRST["BSh"], _FIRST["BSk"]),
    )
    return year < 10 * threshold, chosen


def _tropical(temperature: Tensor, rain: Tensor) -> tuple[Tensor, Tensor]:
    """A: no month below 18 degC."""
    driest, year = rain.amin(1), rain.sum(1)
    monsoon = torch.where(driest >= 100 - year / 25, _FIRST["Am"], _FIRST["Aw"])
    return temperature.amin(1) >= 18, torch.where(driest >= 60, _FIRST["Af"], monsoon)


def _polar(temperature: Tensor) -> tuple[Tensor, Tensor]:
    """E: no month above 10 degC."""
    hottest = temperature.amax(1)
    return hottest <= 10, torch.where(hottest > 0, _FIRST["ET"], _FIRST["EF"])


def _temperate_or_cold(temperature: Tensor, rain: Tensor, summer: Tensor) -> tuple[Tensor, Tensor]:
    """C and D, separated by 0 degC in the coldest month: all other places."""
    hottest, coldest = temperature.amax(1), temperature.amin(1)
    cold = coldest <= 0
    infinity = torch.tensor(torch.inf, dtype=rain.dtype)
    driest_summer = torch.where(summer, rain, infinity).amin(1)
    driest_winter = torch.where(summer, infinity, rain).amin(1)
    wettest_summer = torch.where(summer, rain, -infinity).amax(1)
    wettest_winter = torch.where(summer, -infinity, rain).amax(1)
    dry_summer = (driest_summer < 40) & (driest_summer < wettest_winter / 3)
    dry_winter = driest_winter < wettest_summer / 10
    summer_is_drier = (rain * summer).sum(1) < (rain * ~summer).sum(1)
    both = dry_summer & dry_winter
    dry_summer, dry_winter = (
        dry_summer & (~both | summer_is_drier),
        dry_winter & (~both | ~summer_is_drier),
    )
    season = torch.where(dry_summer, 0, torch.where(dry_winter, 1, 2))
    warmth = torch.where(hottest >= 22, 0, torch.where((temperature >= 10).sum(1) >= 4, 1, 2))
    warmth = torch.where(cold & (warmth == 2) & (coldest < -38), 3, warmth)
    temperate_class = _FIRST["Csa"] + 3 * season + warmth
    cold_class = _FIRST["Dsa"] + 4 * season + warmth
    return hottest > 10, torch.where(cold, cold_class, temperate_class)
