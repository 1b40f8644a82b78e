"""A grid on disk, as Zarr or GeoTIFF, written tile by tile.

Each tile is computed separately. Once it is on the disk, a note lists it. So an interrupted call
resumes when it is repeated, and gives the same bits. A Zarr store has no ``zarr.json`` until it is
finished. A GeoTIFF is copied at the end from a Zarr store in ``<name>.unfinished``.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from errno import EIO, ENOSPC
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from locties._util.extras import need
from locties._util.files import DataError, sync, written_aside
from locties.apply import cf
from locties.apply.grid import Edges

DIMENSIONS = 64  # in a chunk, so that reading one dimension skips most of the others
CACHE_MB = 64  # GDAL's default is a share of the machine's memory

Compute = Callable[[slice, slice], Mapping[str, np.ndarray]]  # from rows and columns to layers


class Layer(NamedTuple):
    """One quantity at each pixel of a grid.

    Attributes:
        attributes: attributes by the CF conventions.
        dtype: type of the numbers in a Zarr store; a GeoTIFF has float32.
        missing: the value where there is no number; NaN in a GeoTIFF.
        bands: names of the numbers along an axis "dimension"; by default a pixel has one number.
    """

    attributes: dict[str, Any]
    dtype: str = "float32"
    missing: float = math.nan
    bands: Sequence[str] | None = None


def check_ending(path: Path) -> None:
    """Refuse a name that ends in neither .zarr nor .tif."""
    if path.suffix not in (".zarr", ".tif"):
        raise ValueError(f"path={str(path)!r}: give a name that ends in .zarr or .tif")


def write_grid(
    path: Path,
    grid: Any,
    layers: Mapping[str, Layer],
    compute: Compute,
    identity: dict[str, Any],
    *,
    side: int,
    pixels: Edges | None = None,
    cog: bool = False,
    progress: bool = True,
) -> Path:
    """Write layers of a grid to a Zarr store or a GeoTIFF, tile by tile.

    After an interrupt, a crash or a full disk, the same call resumes after the last finished tile.

    Args:
        path: a name that ends in .zarr or .tif; the ending chooses the format.
        grid: xarray Dataset with the coordinates and attributes, from `locties.apply.cf`.
        layers: the layers by name.
        compute: a function from rows and columns of the grid to the layers there, of shape
            (H, W) or (bands, H, W).
        identity: plain values that distinguish this grid from all others.
        side: largest side of a tile, and of a GeoTIFF's block, in pixels.
        pixels: the pixels to write; all by default. A GeoTIFF has only these.
        cog: write a cloud-optimised GeoTIFF, with overviews.
        progress: show a progress bar.

    Raises:
        FileExistsError: something else is at `path`; it stays as it is.
        RuntimeError: another process is writing to `path`.
    """
    check_ending(path)
    pixels = pixels or (0, grid.sizes["lat"], 0, grid.sizes["lon"])
    if path.suffix == ".zarr":
        store = _Store(path, grid, layers, identity, side)
        with _advice(path), store.held():
            store.write(compute, pixels, progress)
            store.finish()
        return path
    store = _Store(path.with_name(f"{path.name}.unfinished"), grid, layers, identity, side)
    identity = {**identity, "pixels": list(pixels)}
    if not _is_geotiff_of(path, identity):
        with _advice(path), store.held():
            if not _is_geotiff_of(path, identity):  # another process may just have finished it
                store.write(compute, pixels, progress)
                _write_geotiff(path, store, pixels, identity, cog, progress)
    shutil.rmtree(store.path, ignore_errors=True)
    return path


class _Store:
    """A Zarr store of a grid, filled tile by tile; a tile is all the chunks at a place.

    Its folder ``.locties`` holds the lock, the note of finished tiles, and ``zarr.json`` until the
    store is finished.
    """

    def __init__(
        self,
        path: Path,
        grid: Any,
        layers: Mapping[str, Layer],
        identity: dict[str, Any],
        side: int,
    ) -> None:
        self.zarr = need("zarr", "a grid on disk", "export")
        self.tqdm = need("tqdm", "a grid on disk", "export").tqdm
        self.path, self.notes, self.grid, self.layers = path, path / ".locties", grid, layers
        self.identity, self.block = identity, side
        # Such as the month; "crs" is the grid mapping.
        self.scalars = {k: v.item() for k, v in grid.coords.items() if not v.dims and k != "crs"}
        height = grid.sizes["lat"]
        # Take a divisor of the height if one is near: chunks then have round edges.
        sides = range(min(side, height), side // 2, -1)
        self.side = next((n for n in sides if height % n == 0), min(side, height))

    @contextmanager
    def held(self) -> Iterator[None]:
        """Lock the store, and refuse a path that this module did not make."""
        from locties._util.lock import only_process

        if self.path.is_file() or (not self.notes.is_dir() and any(self.path.glob("*"))):
            raise FileExistsError(f"{self.path} is not a grid of locties: choose another path")
        self.notes.mkdir(parents=True, exist_ok=True)
        with only_process(self.notes):
            yield

    @cached_property
    def arrays(self) -> dict[str, Any]:
        """The store's arrays on the disk, by layer."""
        try:
            return {name: self.zarr.open_array(self.path / name, mode="r+") for name in self.layers}
        except Exception as error:  # zarr has no error of its own for altered metadata
            raise DataError(
                f"{self.path} has an altered zarr.json ({error}): delete {self.path} and write it "
                "again"
            ) from error

    def write(self, compute: Compute, pixels: Edges, progress: bool) -> None:
        """Write the missing tiles of these pixels."""
        file, side = self.notes / "note.json", self.side
        if file.exists():
            self.note = _read_json(file, {"grid", "regions", "done"}, self.path)
            _refuse_other(self.path, self.note["grid"], self.identity)
        elif any((self.path / name / "c").exists() for name in self.layers):
            raise FileExistsError(f"{self.path} is from another version: choose another path")
        else:
            self._create()
            self.note = {"grid": self.identity, "regions": [], "done": []}
        tiles, done = self._tiles(pixels), set(map(tuple, self.note["done"]))
        missing = [tile for tile in tiles if tile not in done]
        if not missing:
            return
        if list(pixels) not in self.note["regions"]:
            self.note["regions"].append(list(pixels))
        _write_json(file, self.note)
        for left_over in self.path.rglob("*.partial"):  # left by a killed process
            left_over.unlink()
        (self.path / "zarr.json").unlink(missing_ok=True)
        bar = self.tqdm(missing, self.path.name, len(tiles), file=sys.stderr, disable=not progress)
        bar.update(len(tiles) - len(missing))
        for row, column in bar:
            rows, columns = (slice(n * side, (n + 1) * side) for n in (row, column))
            for name, values in compute(rows, columns).items():
                self.arrays[name][..., rows, columns] = values
            for chunk in self.path.glob(f"*/c/**/{row}/{column}"):
                sync(chunk)
            self.note["done"].append((row, column))
            _write_json(file, self.note)

    def finish(self) -> None:
        """Make the store readable, unless a region that was begun lacks tiles."""
        done = set(map(tuple, self.note["done"]))
        for pixels in self.note["regions"]:
            if not done.issuperset(self._tiles(pixels)):
                warnings.warn(
                    f"{self.path} stays unfinished: region {self.degrees(pixels)} was begun and "
                    "not finished. Repeat the call with that region",
                    stacklevel=4,
                )
                return
        root = _read_json(self.notes / "zarr.json", {"attributes"}, self.path)
        root["attributes"]["regions"] = list(map(self.degrees, self.note["regions"]))
        file = self.path / "zarr.json"
        if not file.exists():
            _write_json(file, root)
        elif _read_json(file, root.keys(), self.path) != root or not self.arrays:
            raise DataError(f"{file} is altered: delete {self.path} and write it again")

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Bands (B, H, W) float32, NaN where there is no number."""
        parts = []
        for name, layer in self.layers.items():
            values = self.arrays[name][..., rows, columns]
            values = values.reshape(-1, *values.shape[-2:])
            if not math.isnan(layer.missing):
                values = np.where(values == layer.missing, np.nan, values)
            parts.append(values.astype(np.float32, copy=False))
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def degrees(self, pixels: Edges) -> list[float]:
        """West, south, east and north edges of pixels, in degrees."""
        top, bottom, left, right = pixels
        lon, lat, size = self.grid["lon"], self.grid["lat"], self.grid.attrs["resolution_degrees"]
        west, north = float(lon[left]) - size / 2, float(lat[top]) + size / 2
        east, south = float(lon[right - 1]) + size / 2, float(lat[bottom - 1]) - size / 2
        return [round(edge, 9) for edge in (west, south, east, north)]

    def _tiles(self, pixels: Edges) -> list[tuple[int, int]]:
        """Row and column of each tile that these pixels touch."""
        top, bottom, left, right = (edge / self.side for edge in pixels)
        rows, columns = range(int(top), math.ceil(bottom)), range(int(left), math.ceil(right))
        return list(product(rows, columns))

    def _create(self) -> None:
        """Write a store without tiles; keep its ``zarr.json`` among the notes."""
        files: dict[str, Any] = {}
        memory = self.zarr.storage.MemoryStore(files)
        group = self.zarr.create_group(memory, attributes=self.grid.attrs)
        for name, values in self.grid.coords.items():
            about = {"dimension_names": values.dims, "attributes": values.attrs}
            group.create_array(name, data=values.values, chunks=values.shape, **about)
        beside = {"coordinates": " ".join(self.scalars)} if self.scalars else {}
        for name, layer in self.layers.items():
            shape, chunks = [self.grid.sizes["lat"], self.grid.sizes["lon"]], [self.side] * 2
            if layer.bands is not None:
                shape.insert(0, len(layer.bands))
                chunks.insert(0, min(DIMENSIONS, len(layer.bands)))
            group.create_array(
                name,
                shape=shape,
                chunks=chunks,
                dtype=layer.dtype,
                fill_value=layer.missing,
                compressors=self.zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
                dimension_names=cf.AXES[-len(shape) :],
                attributes={**layer.attributes, **cf.GRID_MAPPING, **beside},
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Zarr 3 does not specify consolidated metadata yet
            self.zarr.consolidate_metadata(memory)
        for name, content in files.items():
            file = (self.notes if name == "zarr.json" else self.path) / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content.to_bytes())


def _write_geotiff(
    path: Path,
    store: _Store,
    pixels: Edges,
    identity: dict[str, Any],
    cog: bool,
    progress: bool,
) -> None:
    """Copy pixels of a store to a GeoTIFF, block by block, and check what was written."""
    rasterio = need("rasterio", "a GeoTIFF", "export")
    about, block = store.grid.attrs | store.scalars, store.block
    top, bottom, left, right = pixels
    west, _, _, north = store.degrees(pixels)
    size = 180 / round(180 / about["resolution_degrees"])  # the attribute has only 12 digits
    bands = [
        (band, layer.attributes)
        for name, layer in store.layers.items()
        for band in layer.bands or [name]
    ]
    corners = list(product(range(top, bottom, block), range(left, right, block)))

    def blocks(doing: str) -> Iterator[tuple[Any, np.ndarray]]:
        title = f"{doing} {path.name}"
        for row, column in store.tqdm(corners, title, file=sys.stderr, disable=not progress):
            rows = slice(row, min(row + block, bottom))
            values = store.read(rows, slice(column, min(column + block, right)))
            height, width = values.shape[1:]
            yield rasterio.windows.Window(column - left, row - top, width, height), values

    profile = {
        "driver": "GTiff",
        "crs": about["crs"],
        "transform": rasterio.Affine(size, 0, west, 0, -size, north),
        "height": bottom - top,
        "width": right - left,
        "count": len(bands),
        "dtype": "float32",
        "nodata": math.nan,
        "bigtiff": "yes",
        "tiled": True,
        "blockxsize": block,
        "blockysize": block,
        "interleave": "band",
        "compress": "deflate",
        "predictor": 3,
    }
    # In the store's folder, which is deleted with all that GDAL or a killed process left there.
    whole = store.notes / "whole.tif"
    with rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
        with rasterio.open(whole, "w", **profile) as dataset:
            dataset.update_tags(**about, locties_grid=json.dumps(identity))
            dataset.descriptions = [name for name, _ in bands]
            dataset.units = [str(attributes.get("units", "")) for _, attributes in bands]
            for band, (_, attributes) in enumerate(bands, 1):
                dataset.update_tags(band, **attributes)
            for window, values in blocks("writing"):
                dataset.write(values, window=window)
        if cog:
            plain, whole = whole, store.notes / "cog.tif"
            options = {"compress": "deflate", "predictor": 3, "blocksize": block}
            # An overview repeats values of the map, because averages of classes mean nothing.
            options |= {"overview_resampling": "nearest", "bigtiff": "if_safer"}
            need("rasterio.shutil", "a GeoTIFF", "export").copy(plain, whole, "COG", **options)
        # GDAL writes when it closes the file, and then only logs that the disk is full.
        with rasterio.open(whole) as dataset:
            for window, values in blocks("checking"):
                if not np.array_equal(dataset.read(window=window), values, equal_nan=True):
                    raise OSError(ENOSPC, "the file differs from what was written")
    sync(whole)
    whole.replace(path)
    sync(path.parent)


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
    """Raise FileExistsError unless the grid at the path is this one."""
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


def _read_json(file: Path, keys: Collection[str], store: Path) -> dict[str, Any]:
    """A dict with these keys; DataError if the file holds anything else."""
    try:
        content = json.loads(file.read_bytes())
        if not set(keys) <= content.keys():
            raise KeyError(*keys)
    except (ValueError, AttributeError, KeyError, RecursionError, FileNotFoundError):
        raise DataError(f"{file} is altered: delete {store} and write it again") from None
    return dict(content)


@contextmanager
def _advice(path: Path) -> Iterator[None]:
    """After an interrupt or a failed write, say that the same call resumes."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped; finished tiles are kept: the same call with path={str(path)!r} resumes"
        ) from None
    except (DataError, FileExistsError):
        raise
    except OSError as error:  # GDAL's error has no number; its cause has the reason
        reason = os.strerror(error.errno) if error.errno else str(error.__cause__ or error)
        raise OSError(
            error.errno or EIO,
            f"the grid cannot be written: {reason}. Finished tiles are kept: make room or fix "
            "the cause, and the same call resumes",
            str(path),
        ) from error
