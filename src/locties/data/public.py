"""The open tier: readers of public files.

Each raises DataError if its file is missing or altered; the message says what to run. The manifest
gives the full sources.
"""

from __future__ import annotations

import csv
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from locties._util.extras import needs
from locties.data.embedded import decode_jpeg, pixel_grid
from locties.data.manifest import source
from locties.data.raster import Raster
from locties.lonlat import LonLat, check


def stations() -> tuple[Tensor, NDArray[np.float64]]:
    """Weather stations (N, 2) float64, and the annual mean (N,) of their air temperature, degC.

    Source: Hooker, Duveiller and Cescatti (Scientific Data 5, 2018, 180246), by way of SatCLIP.
    """
    (path,) = source("stations").paths()
    lon, lat, celsius = _numbers(path, "Lon", "Lat", "meanT")
    return check({"lon": lon, "lat": lat}), celsius


def mosaiks(label: str) -> tuple[Tensor, NDArray[np.float64]]:
    """The MOSAIKS points (N, 2) float64 that TorchSpatial tests on, and their labels (N,).

    Labels are "elevation" (m) or "population" (log(1 + persons per km2)), as published. The other
    columns of the file come from another model and are not read.

    Source: Rolf et al. (Nature Communications 12, 2021, 4392), by way of TorchSpatial.
    """
    (path,) = source(f"mosaiks_{label}").paths()
    lon, lat, labels = _numbers(path, "lon", "lat", "labels")
    return check({"lon": lon, "lat": lat}), labels


def biomes() -> tuple[Tensor, NDArray[np.str_]]:
    """The places (N, 2) float64 of D-PLACE and their WWF biomes (N,). Nothing else is read.

    A place in several tables is kept once. Places without a biome, or with several, are dropped.

    Source: Olson et al. (BioScience 51, 2001), by way of D-PLACE (Kirby et al., PLoS ONE 11, 2016).
    """
    biome = source("biomes")
    (codes,), (data,) = biome.paths("codes"), biome.paths()
    name = {row[1]: row[2] for row in _rows(codes, "var_id", "code", "name") if row[0] == "Biome"}
    of = {
        row[1]: row[2]
        for row in _rows(data, "var_id", "soc_id", "code")
        if row[0] == "Biome" and row[2] != "NA"
    }
    found: dict[tuple[float, float], set[str]] = {}
    for path in biome.paths("places"):
        for entry, lon, lat in _rows(path, "id", "Long", "Lat"):
            if entry in of:
                found.setdefault((float(lon), float(lat)), set()).add(name[of[entry]])
    kept = {place: names.pop() for place, names in found.items() if len(names) == 1}
    return check(list(kept)), np.array(list(kept.values()))


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
    return check({"lon": lon, "lat": lat}), np.log(species)


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


def _rows(path: Path, *columns: str) -> list[tuple[str, ...]]:
    """The named columns of a CSV file, as text."""
    with path.open(encoding="utf-8", newline="") as stream:
        return [tuple(row[column] for column in columns) for row in csv.DictReader(stream)]


def _numbers(path: Path, *columns: str) -> NDArray[np.float64]:
    """The named columns (columns, N) of a CSV file, as numbers."""
    return np.array(_rows(path, *columns), dtype=np.float64).T
