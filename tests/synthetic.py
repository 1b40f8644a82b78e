"""A small open tier in the formats of the real one, whose every value is known."""

import csv
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from locties.data import manifest

STATIONS, MOSAIKS, PLACES = 300, 250, 400
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


def biome_code(points: np.ndarray) -> np.ndarray:
    """1 in the west, 2 in the east."""
    return np.where(points[:, 0] < 0, 1, 2)


def write_open_tier(mirror: Path) -> Path:
    """Write the files into `mirror`, and ``manifest.yaml`` beside it; returns `mirror`."""
    mirror.mkdir(parents=True)
    files = {
        "stations": {"data": [_stations(mirror)]},
        "mosaiks_elevation": {"data": [_mosaiks(mirror, "elevation", 2)]},
        "mosaiks_population": {"data": [_mosaiks(mirror, "population", 3)]},
        "biomes": _biomes(mirror),
        "countries": {"data": [_countries(mirror)]},
        "night_lights": {"data": [_night_lights(mirror)]},
    }
    entries = [asdict(source) for source in manifest.sources("embedded")]
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
    rows = [(x, y, "unread", t) for (x, y), t in zip(points, warmth(points), strict=True)]
    return _csv(mirror / "stations.csv", "Lon,Lat,nObs,meanT", rows)


def _mosaiks(mirror: Path, name: str, seed: int) -> Path:
    points = lonlat(MOSAIKS, seed)
    rows = [(x, y, "unread", abs(x) + y, "unread") for x, y in points]
    return _csv(mirror / f"{name}.csv", "lon,lat,predictions,labels,relative_error", rows)


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
