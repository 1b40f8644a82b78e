"""A grid of embeddings on disk, as Zarr or GeoTIFF, written tile by tile.

A tile is embedded by itself and listed in a note once it is on the disk, so an interrupted export
goes on with the same call, to the same bits. Until a Zarr store is finished it has no
``zarr.json``. A GeoTIFF is written last, from a Zarr store in ``<name>.unfinished``.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from errno import EIO, ENOSPC
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from locties._util.extras import need
from locties._util.files import sync, written_aside
from locties.apply import cf
from locties.apply.grid import embed_points, pixel_centres, rows_embedder
from locties.apply.metadata import Encoder, column_names, resolve

TILE = 128  # pixels along a side, at most: 16 MB at 256 dimensions; also a GeoTIFF's block
DIMENSIONS = 64  # in a chunk, so that reading one dimension skips most of the others
CACHE_MB = 64  # GDAL's default is a share of the machine's memory

Edges = tuple[int, int, int, int]  # of pixels of the globe: top, bottom, left, right


def export_grid(
    encoder: str | Path | Encoder,
    path: str | os.PathLike[str],
    resolution: float = 0.25,
    *,
    region: Sequence[float] | None = None,
    progress: bool = True,
) -> Path:
    """Embed the centre of every pixel of a global grid into a Zarr store or a GeoTIFF.

    Both carry the encoder's name, the sha256 of its weights, its licence, the CRS and the version
    of locties. The store follows the CF conventions: open it with
    ``xarray.open_zarr(path, decode_coords="all")``. Memory holds one tile at a time. After an
    interrupt, a crash or a full disk, the same call goes on after the last finished tile.

    Args:
        encoder: name or folder as in `locties.load`, a LocationEncoder, or a function from lonlat
            (N, 2) float32 to (N, dim).
        path: ends in .zarr or .tif, which chooses the format.
        resolution: pixel size in degrees; it must divide 180.
        region: (west, south, east, north) in degrees; the globe by default. A GeoTIFF covers the
            region, widened to whole pixels. A store has the coordinates of the globe; several
            calls can fill it region by region, each widened to whole chunks, and the rest is NaN.
            Its attribute `regions` lists them.

    Raises:
        FileExistsError: something else is at `path`; it stays as it is.
        RuntimeError: another process is writing to `path`.

    Example:
        >>> path = export_grid("melt", "melt.zarr", 10, progress=False)
        >>> import xarray
        >>> xarray.open_zarr(path)["embedding"].sel(lon=13.4, lat=52.5, method="nearest").shape
        (256,)
    """
    target = Path(path)
    if target.suffix not in (".zarr", ".tif"):
        raise ValueError(f"path={str(path)!r}: give a name that ends in .zarr or .tif")
    lon, lat = pixel_centres(resolution)
    region = (-180.0, -90.0, 180.0, 90.0) if region is None else region
    pixels = _pixels(region, len(lat))
    function, metadata = resolve(encoder)
    sample = embed_points(function, torch.tensor([[13.4, 52.5], [-60.0, -3.1]]))
    grid = cf.dataset(lon, lat, sample.shape[1], metadata)
    identity = {
        "weights_sha256": metadata.get("weights_sha256"),
        "resolution_degrees": grid.attrs["resolution_degrees"],
        "dimensions": sample.shape[1],
        "sample": sample[:, :8].tolist(),  # tells functions apart, which have no hash
    }
    if target.suffix == ".zarr":
        store = _Store(target, grid, identity)
        with _advice(target), store.held():
            store.write(function, region, progress)
            store.finish()
        return target
    store = _Store(target.with_name(f"{target.name}.unfinished"), grid, identity)
    identity = {**identity, "pixels": list(pixels)}
    if not _is_geotiff_of(target, identity):
        with _advice(target), store.held():
            if not _is_geotiff_of(target, identity):  # another process may just have finished it
                store.write(function, region, progress)
                _write_geotiff(target, store, pixels, identity, progress)
    shutil.rmtree(store.path, ignore_errors=True)
    return target


class _Store:
    """A Zarr store of the globe, an xarray Dataset, filled by tiles: all the chunks at a place.

    Its folder ``.locties`` holds the lock, the note of finished tiles, and ``zarr.json`` until the
    store is finished.
    """

    def __init__(self, path: Path, grid: Any, identity: dict[str, Any]) -> None:
        self.zarr = need("zarr", "export_grid", "export")
        self.tqdm = need("tqdm", "export_grid", "export").tqdm
        self.path, self.notes, self.grid, self.identity = path, path / ".locties", grid, identity
        self.height = grid.sizes["lat"]
        # If a divisor of the height is near, chunks have round edges.
        sides = range(min(TILE, self.height), TILE // 2, -1)
        self.side = next((n for n in sides if self.height % n == 0), min(TILE, self.height))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes out, and refuse a path that `export_grid` did not make."""
        from locties._util.lock import only_process

        if self.path.is_file() or (not self.notes.is_dir() and any(self.path.glob("*"))):
            raise FileExistsError(f"{self.path} is not from export_grid: choose another path")
        self.notes.mkdir(parents=True, exist_ok=True)
        with only_process(self.notes):
            yield

    def write(self, encoder: Encoder, region: Sequence[float], progress: bool) -> None:
        """Write the tiles of a region that are not there yet."""
        file, side = self.notes / "note.json", self.side
        if file.exists():
            self.note = json.loads(file.read_text())
            _refuse_other(self.path, self.note["grid"], self.identity)
        elif (self.path / "embedding" / "c").exists():
            raise FileExistsError(f"{self.path} is from another version: choose another path")
        else:
            self._create()
            self.note = {"grid": self.identity, "regions": [], "done": []}
        tiles, done = self._tiles(region), set(map(tuple, self.note["done"]))
        missing = [tile for tile in tiles if tile not in done]
        if not missing:
            return
        if (bounds := [float(edge) for edge in region]) not in self.note["regions"]:
            self.note["regions"].append(bounds)
        _write_json(file, self.note)
        for left_over in self.path.rglob("*.partial"):  # by a process that was killed
            left_over.unlink()
        (self.path / "zarr.json").unlink(missing_ok=True)
        array = self.zarr.open_array(self.path / "embedding", mode="r+")
        lon, lat = self.grid["lon"].values, self.grid["lat"].values
        bar = self.tqdm(missing, self.path.name, len(tiles), file=sys.stderr, disable=not progress)
        bar.update(len(tiles) - len(missing))
        for row, column in bar:
            rows, columns = (slice(n * side, (n + 1) * side) for n in (row, column))
            values = rows_embedder(encoder, lon[columns])(lat[rows])
            array[:, rows, columns] = np.moveaxis(values, -1, 0)
            for chunk in self.path.glob(f"embedding/c/*/{row}/{column}"):
                sync(chunk)
            self.note["done"].append((row, column))
            _write_json(file, self.note)

    def finish(self) -> None:
        """Let the store be opened, unless a region that was begun lacks tiles."""
        done = set(map(tuple, self.note["done"]))
        for region in self.note["regions"]:
            if not done.issuperset(self._tiles(region)):
                warnings.warn(
                    f"{self.path} stays unfinished: region {region} was begun and not finished. "
                    "Call export_grid with that region",
                    stacklevel=3,
                )
                return
        root = json.loads((self.notes / "zarr.json").read_text())
        root["attributes"]["regions"] = self.note["regions"]
        if not (self.path / "zarr.json").exists():
            _write_json(self.path / "zarr.json", root)

    def _tiles(self, region: Sequence[float]) -> list[tuple[int, int]]:
        """Row and column of each tile that a region touches."""
        top, bottom, left, right = (edge / self.side for edge in _pixels(region, self.height))
        rows, columns = range(int(top), math.ceil(bottom)), range(int(left), math.ceil(right))
        return list(product(rows, columns))

    def _create(self) -> None:
        """Write a store without tiles; its ``zarr.json`` waits among the notes."""
        files: dict[str, Any] = {}
        memory = self.zarr.storage.MemoryStore(files)
        group = self.zarr.create_group(memory, attributes=self.grid.attrs)
        for name, values in self.grid.coords.items():
            about = {"dimension_names": values.dims, "attributes": values.attrs}
            group.create_array(name, data=values.values, chunks=values.shape, **about)
        dim = self.grid.sizes["dimension"]
        group.create_array(
            "embedding",
            shape=(dim, self.height, 2 * self.height),
            chunks=(min(DIMENSIONS, dim), self.side, self.side),
            dtype="float32",
            fill_value=np.nan,
            compressors=self.zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
            dimension_names=cf.AXES,
            attributes={**cf.EMBEDDING, **cf.GRID_MAPPING},
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Zarr 3 does not specify consolidated metadata yet
            self.zarr.consolidate_metadata(memory)
        for name, content in files.items():
            file = (self.notes if name == "zarr.json" else self.path) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.to_bytes())


def _pixels(region: Sequence[float], height: int) -> Edges:
    """Top, bottom, left and right edge of the pixels that a region in degrees touches."""
    try:
        west, south, east, north = map(float, () if isinstance(region, str) else region)
    except (TypeError, ValueError):
        west = south = east = north = math.nan
    if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
        raise ValueError(
            f"region={region!r}: give (west, south, east, north) in degrees, west < east within "
            "[-180, 180] and south < north within [-90, 90]; split a region at the antimeridian"
        )
    # Rounded, so that an edge between two pixels touches only one of them.
    edges = (90 - north, 90 - south, 180 + west, 180 + east)
    top, bottom, left, right = (round(edge * height / 180, 6) for edge in edges)
    return int(top), math.ceil(bottom), int(left), math.ceil(right)


def _write_geotiff(
    path: Path, store: _Store, pixels: Edges, identity: dict[str, Any], progress: bool
) -> None:
    """Copy pixels of a store to a GeoTIFF, block by block, and check what was written."""
    rasterio = need("rasterio", "a GeoTIFF", "export")
    array = store.zarr.open_array(store.path / "embedding", mode="r")
    about, size = store.grid.attrs, 180 / store.height
    top, bottom, left, right = pixels
    corners = list(product(range(top, bottom, TILE), range(left, right, TILE)))

    def blocks(doing: str) -> Iterator[tuple[Any, np.ndarray]]:
        title = f"{doing} {path.name}"
        for row, column in store.tqdm(corners, title, file=sys.stderr, disable=not progress):
            values = array[:, row : min(row + TILE, bottom), column : min(column + TILE, right)]
            height, width = values.shape[1:]
            yield rasterio.windows.Window(column - left, row - top, width, height), values

    profile = {
        "driver": "GTiff",
        "crs": about["crs"],
        "transform": rasterio.Affine(size, 0, left * size - 180, 0, -size, 90 - top * size),
        "height": bottom - top,
        "width": right - left,
        "count": array.shape[0],
        "dtype": "float32",
        "bigtiff": "yes",
        "tiled": True,
        "blockxsize": TILE,
        "blockysize": TILE,
        "interleave": "band",
        "compress": "deflate",
        "predictor": 3,
    }
    with written_aside(path) as aside, rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
        with rasterio.open(aside, "w", **profile) as dataset:
            dataset.update_tags(**about, locties_grid=json.dumps(identity))
            dataset.descriptions = column_names(about["encoder"], array.shape[0])
            for window, values in blocks("writing"):
                dataset.write(values, window=window)
        # GDAL writes late, and only logs that the disk was full when it closes the file.
        with rasterio.open(aside) as dataset:
            for window, values in blocks("checking"):
                if not np.array_equal(dataset.read(window=window), values, equal_nan=True):
                    raise OSError(ENOSPC, "what is read is not what was written")


def _is_geotiff_of(path: Path, identity: dict[str, Any]) -> bool:
    """Whether the finished GeoTIFF is there; FileExistsError if something else is."""
    rasterio = need("rasterio", "a GeoTIFF", "export")
    if not path.exists():
        return False
    try:
        with rasterio.open(path) as dataset:
            there = json.loads(dataset.tags().get("locties_grid", "{}"))
    except rasterio.errors.RasterioIOError:
        there = {}
    _refuse_other(path, there, identity)
    return True


def _refuse_other(path: Path, there: dict[str, Any], here: dict[str, Any]) -> None:
    """Raise FileExistsError unless what is at the path is this very grid."""
    for name, value in here.items():
        found = there.get(name)
        if name == "sample" and found:  # another machine may round differently
            same = np.allclose(found, value, rtol=1e-3, atol=1e-5, equal_nan=True)
        else:
            same = found == value
        if not same:
            raise FileExistsError(
                f"{path} holds another grid: its {name} is {found!r}, not {value!r}. Choose "
                "another path, or delete it"
            )


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with written_aside(path) as aside:
        aside.write_text(json.dumps(content))


@contextmanager
def _advice(path: Path) -> Iterator[None]:
    """Say after an interrupt or a failed write that the same call goes on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; finished tiles are kept: the same call with path={str(path)!r} goes on"
        ) from None
    except FileExistsError:
        raise
    except OSError as error:  # GDAL's has no number and gives its reason as the cause
        reason = os.strerror(error.errno) if error.errno else str(error.__cause__ or error)
        raise OSError(
            error.errno or EIO,
            f"the grid cannot be written: {reason}. Finished tiles are kept: make room or fix "
            "the cause, and the same call goes on",
            str(path),
        ) from error
