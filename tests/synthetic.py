"""A small open tier in the formats of the real one, whose every value is known."""

import csv
import gzip
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from locties.data import manifest

STATIONS, MOSAIKS, PLACES, PLOTS, FILES, HOUSES = 300, 250, 400, 60, 70, 80
BIOMES = {1: "Forest", 2: "Steppe", 3: "Rock"}
LIGHT = 200  # red of the lit quarter, east of 0 and north of the equator


def lonlat(n: int, seed: int) -> np.ndarray:
    """Points (n, 2) in tenths of a degree, none of them twice."""
    rng = np.random.default_rng(seed)
    cells = rng.choice(3000 * 1200, n, replace=False)
    return np.stack([cells // 1200 - 1500, cells % 1200 - 600], 1) / 10


def warmth(points: np.ndarray) -> np.ndarray:
    """What the synthetic stations measure, degC."""
    return 30 - np.abs(points[:, 1]) / 2


def species(points: np.ndarray) -> np.ndarray:
    """How many species there are at the synthetic places and plots."""
    return 100 - np.abs(points[:, 1]).astype(int)


def biome_code(points: np.ndarray) -> np.ndarray:
    """1 in the west, 2 in the east."""
    return np.where(points[:, 0] < 0, 1, 2)


def write_open_tier(mirror: Path) -> Path:
    """Write the files into `mirror`, and ``manifest.yaml`` beside it; returns `mirror`."""
    mirror.mkdir(parents=True)
    files = {
        "stations": {"data": [_stations(mirror)]},
        "mosaiks_elevation": {"data": _mosaiks(mirror, "elevation", 2)},
        "mosaiks_population": {"data": _mosaiks(mirror, "population", 3)},
        "biomes": _biomes(mirror),
        "plant_richness": _plants(mirror),
        "tree_plots": {"data": [_plots(mirror)]},
        "design_temperatures": {"data": [_weather_files(mirror)]},
        "house_values": {"data": [_houses(mirror)]},
        "countries": {"data": [_countries(mirror)]},
        "night_lights": {"data": [_night_lights(mirror)]},
    }
    kept = [*manifest.sources("embedded"), *manifest.sources("frozen")]
    entries = [asdict(source) for source in kept]
    for source in manifest.sources("open"):
        if source.name in files:
            entry = asdict(source) | {"carrier": {"address": "https://synthetic.invalid/tier"}}
            entry["files"] = [
                {
                    "path": f"synthetic/{path.relative_to(mirror)}",
                    "bytes": path.stat().st_size,
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    "role": role,
                }
                for role, paths in files[source.name].items()
                for path in paths
            ]
            entries.append(entry)
    for entry in entries:
        entry["files"] = list(entry["files"])
    (mirror.parent / "manifest.yaml").write_text(yaml.safe_dump({"sources": entries}))
    return mirror


def _csv(path: Path, header: str, rows: list[tuple]) -> Path:
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(header.split(","))
        writer.writerows(rows)
    return path


def _stations(mirror: Path) -> Path:
    points = lonlat(STATIONS, 1)
    rows = [(x, y, "unread", t, 40 * t) for (x, y), t in zip(points, warmth(points), strict=True)]
    return _csv(mirror / "stations.csv", "Lon,Lat,nObs,meanT,meanP", rows)


def _mosaiks(mirror: Path, name: str, seed: int) -> list[Path]:
    """Two files that share a third of their points."""
    points = lonlat(MOSAIKS, seed)
    rows = [(x, y, "unread", abs(x) + y, "unread") for x, y in points]
    third = MOSAIKS // 3
    header = "lon,lat,predictions,labels,relative_error"
    return [
        _csv(mirror / f"{name}_a b+.csv", header, rows[: 2 * third]),
        _csv(mirror / f"{name}_c.csv", header, rows[third:]),
    ]


def _plants(mirror: Path) -> dict[str, list[Path]]:
    """Numbers at half of the places of the biomes, and none at one of them."""
    points = lonlat(PLACES, 4)[: PLACES // 2]
    counts = ["NA", *species(points)[1:]]
    rows = [(f"a{i}", "VascularPlantsRichness", n) for i, n in enumerate(counts)]
    places = [mirror / "east/societies.csv", mirror / "west/societies.csv"]
    return {
        "data": [_csv(mirror / "plants.csv", "soc_id,var_id,code", rows)],
        "places": places,
    }


def _plots(mirror: Path) -> Path:
    """A third of the plots is too small, a third counted thinner stems as well."""
    points = lonlat(PLOTS, 5)
    rows = [
        (y, x, n, (0.1, 1, 1)[i % 3], (10, 10, 5)[i % 3])
        for i, ((x, y), n) in enumerate(zip(points, species(points), strict=True))
    ]
    return _csv(mirror / "plots.csv", "Lat,Lon,S,Area_ha,min_DBH_cm", rows)


def _weather_files(mirror: Path) -> Path:
    """Stations with two files each, in a compressed table; the last has only that of some years."""
    points = lonlat(FILES, 6)
    rows = [
        (x, y, f"<a href=A.{i:06}_{kind}.zip>", f"{t - 20 + off} C", f"{t + 10 + off} C")
        for i, ((x, y), t) in enumerate(zip(points, warmth(points), strict=True))
        for kind, off in (("TMYx.2007-2021", 1), ("TMYx", 0))[: 1 if i == FILES - 1 else 2]
    ]
    path = _csv(mirror / "weather.csv", "lon,lat,Source,99% Heating DB,1% Cooling DB ", rows)
    path.write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    return path


def _houses(mirror: Path) -> Path:
    rows = [(x, y, 1000 * (200 + x)) for x, y in lonlat(HOUSES, 7)]
    return _csv(mirror / "houses.csv", "longitude,latitude,median_house_value", rows)


def _biomes(mirror: Path) -> dict[str, list[Path]]:
    """Places in two tables. Of the last six entries: a place twice with one biome, a place twice
    with two, one without a biome, and one of a rare biome."""
    points = lonlat(PLACES, 4)
    entries = [
        (f"a{i}", x, y, c)
        for i, ((x, y), c) in enumerate(zip(points, biome_code(points), strict=True))
    ]
    (x, y), (u, v) = points[0], points[1]
    extra = [
        ("b0", x, y, biome_code(points)[0]),
        ("b1", u, v, 3),
        ("b2", 170.05, 70.0, "NA"),
        ("b3", 170.15, 70.0, 3),
    ]
    data = [
        row
        for entry, _, _, code in [*entries, *extra]
        for row in ((entry, "unread", "Biome", code), (entry, "unread", "EcoRegion", 7))
    ]
    header = "id,pref_name_for_society,origLat,origLong,Lat,Long,Comment"
    tables = {"east/societies.csv": entries, "west/societies.csv": extra}
    codes = [("Biome", "unread", code, name) for code, name in BIOMES.items()]
    codes += [("EcoRegion", "unread", 1, "not a biome"), ("Biome", "unread", "NA", "Missing data")]
    return {
        "data": [_csv(mirror / "data.csv", "soc_id,sub_case,var_id,code", data)],
        "codes": [_csv(mirror / "codes.csv", "var_id,description,code,name", codes)],
        "places": [
            _csv(mirror / path, header, [(e, "unread", "", "", y, x, "") for e, x, y, _ in table])
            for path, table in tables.items()
        ],
    }


def _box(west: float, south: float, east: float, north: float) -> list:
    return [[[west, south], [east, south], [east, north], [west, north], [west, south]]]


def _countries(mirror: Path) -> Path:
    """WE west of -20; EA east of 0, in two parts and with a lake; no code in the south; or sea."""
    lake = _box(20, 20, 30, 30)
    east = [_box(0, -30, 90, 85) + lake, _box(90, -30, 180, 85)]
    features = [
        {"properties": {"ISO_A2_EH": code}, "geometry": {"type": kind, "coordinates": where}}
        for code, kind, where in (
            ("WE", "Polygon", _box(-180, -30, -20, 85)),
            ("EA", "MultiPolygon", east),
            ("-99", "Polygon", _box(-180, -90, 180, -30)),
        )
    ]
    path = mirror / "countries.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def _night_lights(mirror: Path) -> Path:
    """72 x 36 pixels; red is LIGHT in the north-east, blue is bright everywhere."""
    pixels = np.zeros((36, 72, 3), np.uint8)
    pixels[:18, 36:, 0] = LIGHT
    pixels[:, :, 2] = 250
    path = mirror / "night.jpg"
    Image.fromarray(pixels).save(path, quality=100, subsampling=0)
    return path
