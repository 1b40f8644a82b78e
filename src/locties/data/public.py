"""The open tier: readers of public files.

Each raises DataError if its file is missing or altered; the message says what to run. The manifest
gives the full sources.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from functools import cache
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locties._util.extras import needs
from locties.data.embedded import decode_jpeg, pixel_grid
from locties.data.manifest import DataError, Source, source
from locties.data.raster import Raster
from locties.lonlat import LonLat, check

_ALL = "_TMYx.zip"  # a weather file of all years of a station
_GZIP = b"\x1f\x8b"


def stations(label: str) -> tuple[Tensor, NDArray[np.float64]]:
    """Weather stations (N, 2) float64, and an annual mean (N,) of what they measured.

    Labels are "temperature" (degC) or "precipitation" (mm per year).

    Source: Hooker, Duveiller and Cescatti (Scientific Data 5, 2018, 180246), by way of SatCLIP.
    """
    (path,) = source("stations").paths()
    column = {"temperature": "meanT", "precipitation": "meanP"}[label]
    return _points(*_numbers(path, "Lon", "Lat", column))


def mosaiks(label: str) -> tuple[Tensor, NDArray[np.float64]]:
    """The MOSAIKS points (N, 2) float64 that TorchSpatial tested on, and their labels (N,).

    Labels are "elevation" (m) or "population" (log(1 + persons per km2)), as published. The points
    are the union of 15 test splits, sorted by longitude and latitude. Files that disagree about a
    point raise DataError. The other columns come from other models and are not read.

    Source: Rolf et al. (Nature Communications 12, 2021, 4392), by way of TorchSpatial.
    """
    name = f"mosaiks_{label}"
    parts = [_numbers(path, "lon", "lat", "labels") for path in source(name).paths()]
    rows = np.unique(np.concatenate(parts, axis=1), axis=1)
    again = (rows[:2, 1:] == rows[:2, :-1]).all(0)
    if again.any():
        (lon, lat, first), (_, _, second) = rows[:, again.argmax() :][:, :2].T.tolist()
        raise DataError(
            f"{name}: its files give {first} and {second} at longitude {lon}, latitude {lat}; name "
            "files of one version in data_manifest.yaml"
        )
    return _points(*rows)


def biomes() -> tuple[Tensor, NDArray[np.str_]]:
    """The places (N, 2) float64 of D-PLACE and their WWF biomes (N,). Nothing else is read.

    A place in several tables is kept once. Places without a biome, or with several, are dropped.

    Source: Olson et al. (BioScience 51, 2001), by way of D-PLACE (Kirby et al., PLoS ONE 11, 2016).
    """
    biome = source("biomes")
    (codes,), (data,) = biome.paths("codes"), biome.paths()
    name = {row[1]: row[2] for row in _rows(codes, "var_id", "code", "name") if row[0] == "Biome"}
    lonlat, found = _at_places(biome, data, "Biome")
    return lonlat, np.array([name[code] for code in found])


def plant_richness() -> tuple[Tensor, NDArray[np.float64]]:
    """The places (N, 2) float64 of D-PLACE and the number (N,) of vascular plant species there.

    The numbers are a model's, computed from climate and relief, not counts. Places are kept as in
    `biomes`.

    Source: Kreft and Jetz (PNAS 104, 2007, 5925), by way of D-PLACE.
    """
    plants = source("plant_richness")
    (data,) = plants.paths()
    lonlat, found = _at_places(plants, data, "VascularPlantsRichness")
    return lonlat, np.array(found, dtype=np.float64)


def tree_plots() -> tuple[Tensor, NDArray[np.float64]]:
    """Forest plots (N, 2) float64 of about a hectare, and the logarithm (N,) of their tree species.

    Only plots of 0.5 to 2 ha in which stems from 10 cm were counted: the number of species grows
    with the area.

    Source: Keil and Chase (Nature Ecology & Evolution 3, 2019, 390).
    """
    (path,) = source("tree_plots").paths()
    rows = _rows(path, "Lon", "Lat", "S", "Area_ha", "min_DBH_cm")
    kept = [row[:3] for row in rows if row[4] == "10" and 0.5 <= float(row[3]) <= 2]
    lon, lat, species = np.array(kept, dtype=np.float64).T
    return _points(lon, lat, np.log(species))


def design_temperature(season: str) -> tuple[Tensor, NDArray[np.float64]]:
    """Weather stations (N, 2) float64, and the temperature (N,) that heating or cooling must meet.

    Seasons are "winter" (99% of all hours are warmer) and "summer" (99% are colder), degC. Many
    stations have several weather files, of several periods and methods. One is read: the TMYx file
    of all years. Stations without it are left out.

    Source: Climate.OneBuilding.Org, by way of CBE Clima.
    """
    (path,) = source("design_temperatures").paths()
    column = {"winter": "99% Heating DB", "summer": "1% Cooling DB "}[season]
    rows = _rows(path, "lon", "lat", column, "Source")
    kept = [(lon, lat, text.removesuffix(" C")) for lon, lat, text, link in rows if _ALL in link]
    return _points(*np.array(kept, dtype=np.float64).T)


def house_values() -> tuple[Tensor, NDArray[np.float64]]:
    """Census blocks of California (N, 2) float64, and the median value (N,) of a house there, USD.

    It is the census of 1990. Values above 500,000 USD are given as 500,001. Positions are given to
    0.01 degrees, so many blocks share one.

    Source: Pace and Barry (Statistics & Probability Letters 33, 1997, 291).
    """
    (path,) = source("house_values").paths()
    return _points(*_numbers(path, "longitude", "latitude", "median_house_value"))


def country_at(lonlat: LonLat) -> NDArray[np.str_]:
    """The country (ISO 3166-1 alpha-2) of each point, from Natural Earth at 1:50 million.

    It is "" at sea and where Natural Earth gives no code (Somaliland, Northern Cyprus, Siachen
    Glacier). A point on a border belongs to the polygon that comes first in the file.

    Example:
        >>> country_at([[13.4, 52.5], [0.0, -70.0]]).shape
        (2,)
    """
    with needs("data", "the map of countries"):
        import shapely

    codes, polygons = _countries()
    points = check(lonlat).cpu().double().numpy()
    # The tree holds the points, so each polygon is prepared only once.
    tree = shapely.STRtree(shapely.points(points))
    polygon, point = tree.query(polygons, predicate="intersects")
    # Where two polygons share a point, the first is written last.
    order = np.argsort(-polygon, kind="stable")
    found = np.full(len(points), "", dtype=codes.dtype)
    found[point[order]] = codes[polygon[order]]
    return found


@cache
def _countries() -> tuple[NDArray[np.str_], NDArray[Any]]:
    """Codes and polygons of Natural Earth, in the order of the file."""
    with needs("data", "the map of countries"):
        import shapely

    (path,) = source("countries").paths()
    features = json.loads(path.read_bytes())["features"]
    codes = [feature["properties"]["ISO_A2_EH"] for feature in features]
    polygons = shapely.from_geojson([json.dumps(feature["geometry"]) for feature in features])
    return np.array(["" if code == "-99" else code for code in codes]), polygons


@cache
def night_lights() -> Raster:
    """NASA's Black Marble picture of lights at night: its red channel, 0 to 255, 5.3 arcmin.

    It is a picture, not radiance. Green and blue show land and sea by moonlight; red is mostly the
    lights, but about 12 in the Sahara.
    """
    (path,) = source("night_lights").paths()
    red = decode_jpeg(np.frombuffer(path.read_bytes(), np.uint8))[:1]
    return Raster(torch.from_numpy(red.copy()), **pixel_grid(*red.shape[1:]))


def _points(
    lon: NDArray[np.float64], lat: NDArray[np.float64], values: NDArray[np.float64]
) -> tuple[Tensor, NDArray[np.float64]]:
    """Checked places (N, 2) float64, and the values (N,) there."""
    return check({"lon": lon, "lat": lat}), values


def _at_places(origin: Source, data: Path, variable: str) -> tuple[Tensor, list[str]]:
    """The places (N, 2) of D-PLACE at which a table has exactly one value of a variable."""
    of = {
        entry: code
        for name, entry, code in _rows(data, "var_id", "soc_id", "code")
        if name == variable and code != "NA"
    }
    found: dict[tuple[float, float], set[str]] = {}
    for path in origin.paths("places"):
        for entry, lon, lat in _rows(path, "id", "Long", "Lat"):
            if entry in of:
                found.setdefault((float(lon), float(lat)), set()).add(of[entry])
    kept = {place: values.pop() for place, values in found.items() if len(values) == 1}
    return check(list(kept)), list(kept.values())


def _rows(path: Path, *columns: str) -> list[tuple[str, ...]]:
    """The named columns of a CSV file, which may be compressed by gzip, as text."""
    data = path.read_bytes()
    text = gzip.decompress(data) if data.startswith(_GZIP) else data
    rows = csv.reader(io.StringIO(text.decode("utf-8"), newline=""))
    header = next(rows)
    chosen = itemgetter(*(header.index(column) for column in columns))
    return [chosen(row) for row in rows]


def _numbers(path: Path, *columns: str) -> NDArray[np.float64]:
    """The named columns (columns, N) of a CSV file, as numbers."""
    return np.array(_rows(path, *columns), dtype=np.float64).T
