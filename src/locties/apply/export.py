"""A grid of embeddings on disk, as Zarr or GeoTIFF, tile by tile: resumable, in bounded memory.

A tile is one chunk of the Zarr store along latitude and longitude. It is always computed by itself,
so the same bytes come out whatever is interrupted and however the globe is shared among processes.
A GeoTIFF cannot be taken up again in the middle, so its tiles go to a store beside it first.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from errno import ENOSPC
from pathlib import Path
from typing import Any

import numpy as np
import torch

from locties._util.extras import need, needs
from locties._util.files import remedy, sync, uninterrupted
from locties.apply import cf
from locties.apply.grid import embed_points, pixel_centres, rows_embedder
from locties.apply.metadata import Encoder, column_names, resolve

TILE = 128  # pixels along a side, at most: 16 MB at 256 dimensions; also a GeoTIFF's block
DIMENSIONS = 64  # in a chunk, so that reading one map leaves most of the others alone
CACHE_MB = 64  # GDAL's; its default is a share of the machine's memory
_WHOLE, _UNFINISHED = "zarr.json", "zarr.json.unfinished"
_WORK = ".locties"  # within a store: which tiles are done, and who is at work

Area = tuple[int, int, int, int]  # of tiles: top, bottom, left, right; the ends excluded
Tile = tuple[int, int]  # row from the north, column from the west


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
    of locties. The store follows the CF conventions, and
    ``xarray.open_zarr(path, decode_coords="all")`` opens it.

    Interrupted in any way, the same call goes on after the last finished tile. What is not finished
    cannot be taken for whole: a store has no ``zarr.json`` (but a ``zarr.json.unfinished``) and a
    GeoTIFF is not there (but ``<name>.unfinished`` beside it).

    Args:
        encoder: name of an encoder that comes with locties, folder of a saved one,
            `LocationEncoder`, or any function from lonlat (N, 2) float32 to (N, dim).
        path: ending in .zarr or .tif; it says which is written.
        resolution: pixel size in degrees; it must divide 180.
        region: (west, south, east, north) degrees. A store always has the coordinates of the whole
            globe, and is NaN outside the regions written so far, which its attribute `regions`
            lists. Several processes may write regions into one store at once, or later; regions
            consist of whole chunks. A GeoTIFF covers the region alone, widened to whole pixels,
            and is written by one process.
        progress: a progress bar on stderr.

    Returns:
        The path.

    Raises:
        ValueError: another ending; a resolution that does not divide 180; a region that is none,
            cuts a chunk, or shares chunks with one that another process is writing.
        FileExistsError: something else is at `path`.
        RuntimeError: another process is writing this very region, or this GeoTIFF.
        OSError: no room on the disk; what is finished is kept.
        KeyboardInterrupt: at an interrupt; a tile that is being written is written first.
        ImportError: zarr or rasterio is missing: ``pip install "locties[export]"``.
        FileNotFoundError: no encoder of that name or folder.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> path = export_grid("melt", f"{folder.name}/melt.zarr", 10, progress=False)
        >>> import xarray
        >>> xarray.open_zarr(path)["embedding"].sel(lon=13.4, lat=52.5, method="nearest").shape
        (256,)
    """
    target = Path(path)
    if target.suffix not in (".zarr", ".tif"):
        raise ValueError(f"{target.name} ends neither in .zarr nor in .tif: say which to write")
    function, metadata = resolve(encoder)
    dim = embed_points(function, torch.zeros(1, 2)).shape[1]
    height = len(pixel_centres(resolution)[1])
    if target.suffix == ".zarr":
        layout = _Layout(height, dim, _tile(height))
        store, area = _Store(target, layout, metadata), layout.area(region)
        with _kept(target):
            store.write(function, area, progress)
            store.finish()
    else:
        layout = _Layout(height, dim, min(TILE, height))
        _write_geotiff(target, layout, function, metadata, region, progress)
    return target


def _tile(height: int) -> int:
    """Pixels along a side of a tile: a divisor of the height, so that regions have round edges."""
    return next((n for n in range(TILE, TILE // 2, -1) if height % n == 0), min(TILE, height))


@dataclass(frozen=True)
class _Layout:
    """How the pixels of the globe are cut into tiles; those at the east and south may be smaller.

    Args:
        height: of the globe in pixels; it is twice as wide.
        dim: of an embedding.
        tile: pixels along a side of a tile.
    """

    height: int
    dim: int
    tile: int

    @property
    def whole(self) -> Area:
        return 0, -(-self.height // self.tile), 0, -(-2 * self.height // self.tile)

    def window(self, tile: Tile) -> tuple[slice, slice]:
        """Pixels of a tile: rows and columns."""
        return tuple(  # type: ignore[return-value]
            slice(n * self.tile, min((n + 1) * self.tile, end))
            for n, end in zip(tile, (self.height, 2 * self.height), strict=True)
        )

    def pixels(self, region: Sequence[float] | None) -> tuple[float, float, float, float]:
        """Edges of a region in pixels, from the north and the west: top, bottom, left, right."""
        if region is None:
            return 0, self.height, 0, 2 * self.height
        try:
            west, south, east, north = map(float, region)
        except (TypeError, ValueError):
            raise ValueError(
                f"region={region!r}: give (west, south, east, north) in degrees"
            ) from None
        if not (-180 <= west < east <= 180 and -90 <= south < north <= 90):
            raise ValueError(
                f"region={tuple(region)!r}: give (west, south, east, north) in degrees, west < "
                "east within [-180, 180] and south < north within [-90, 90]; one that crosses the "
                "antimeridian is two"
            )
        edges = (90 - north, 90 - south, 180 + west, 180 + east)
        return tuple(edge * self.height / 180 for edge in edges)  # type: ignore[return-value]

    def area(self, region: Sequence[float] | None) -> Area:
        """The tiles of a region that consists of whole ones."""
        area = self.around(region)
        edges = self.pixels(region)
        if region is not None and not np.allclose(edges, self._edges(area), rtol=0, atol=1e-6):
            raise ValueError(
                f"region={tuple(region)!r} cuts chunks, which are "
                f"{self.tile * 180 / self.height:g} degrees wide: the smallest region of whole "
                f"chunks around it is {self.degrees(area)}"
            )
        return area

    def around(self, region: Sequence[float] | None) -> Area:
        """The tiles that a region touches."""
        top, bottom, left, right = (edge / self.tile for edge in self.pixels(region))
        _, rows, _, columns = self.whole
        return (
            math.floor(top + 1e-9),
            min(math.ceil(bottom - 1e-9), rows),
            math.floor(left + 1e-9),
            min(math.ceil(right - 1e-9), columns),
        )

    def _edges(self, area: Area) -> tuple[int, int, int, int]:
        top, bottom, left, right = (edge * self.tile for edge in area)
        return top, min(bottom, self.height), left, min(right, 2 * self.height)

    def degrees(self, area: Area) -> tuple[float, float, float, float]:
        """West, south, east, north of an area of tiles."""
        top, bottom, left, right = (edge * 180 / self.height for edge in self._edges(area))
        return tuple(  # type: ignore[return-value]
            round(edge, 9) for edge in (left - 180, 90 - bottom, right - 180, 90 - top)
        )


def _tiles(area: Area) -> list[Tile]:
    """Column by column: what depends on longitude alone is prepared once for each."""
    top, bottom, left, right = area
    return [(row, column) for column in range(left, right) for row in range(top, bottom)]


class _Store:
    """A Zarr store that may be unfinished.

    ``.locties`` in it has a folder for each area asked for, held by the process that writes it,
    with a log of its finished tiles: a tile is on the log once its chunks are on the disk.
    """

    def __init__(self, path: Path, layout: _Layout, metadata: dict[str, str]) -> None:
        self.path, self.layout = path, layout
        lon, lat = pixel_centres(180 / layout.height)
        self.attributes = cf.dataset(lon, lat, layout.dim, metadata).attrs

    def write(self, encoder: Encoder, area: Area, progress: bool) -> None:
        """Write the tiles of an area that are not there yet."""
        zarr = need("zarr", "a Zarr store", "export")
        with needs("export", "export_grid"):
            from tqdm import tqdm

        if self.path.exists() and not (self.path / _WORK).is_dir():
            raise FileExistsError(f"{self.path} is no store of export_grid: choose another path")
        (self.path / _WORK).mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            with self._lock():
                self._create_or_check()
                self._hold(area, stack)
                done = self._done()
                missing = [tile for tile in _tiles(area) if tile not in done]
                if missing and (self.path / _WHOLE).exists():
                    (self.path / _WHOLE).rename(self.path / _UNFINISHED)
            array = zarr.open_array(self.path / "embedding", mode="r+")
            self._check_same(encoder, array, [tile for tile in _tiles(area) if tile in done])
            bar = tqdm(
                total=len(_tiles(area)),
                initial=len(_tiles(area)) - len(missing),
                desc=self.path.name,
                unit="tile",
                file=sys.stderr,
                disable=not progress,
            )
            with bar, (self._folder(area) / "done").open("a") as log:
                for tile, values in self._embed(encoder, missing):
                    with uninterrupted():
                        self._put(array, tile, values)
                        # A torn line lacks its end, and an empty one before it does no harm.
                        log.write(f"\n{tile[0]} {tile[1]} done\n")
                        log.flush()
                        os.fsync(log.fileno())
                    bar.update()

    def _lock(self) -> AbstractContextManager[Any]:
        """Held for moments, by who looks at the areas or makes the store whole."""
        with needs("export", "export_grid"):
            from filelock import FileLock

        return FileLock(self.path / _WORK / ".lock")

    def _create_or_check(self) -> None:
        found = next(
            (self.path / n for n in (_WHOLE, _UNFINISHED) if (self.path / n).exists()), None
        )
        if found is None:
            self._create()
            return
        there = json.loads(found.read_text())
        attributes = there["attributes"]
        shape = there["consolidated_metadata"]["metadata"]["embedding"]["shape"]
        here = {**self.attributes, "dimensions": self.layout.dim}
        for name in ("weights_sha256", "resolution_degrees", "dimensions"):
            value = {**attributes, "dimensions": shape[0]}.get(name)
            if value != here.get(name):
                raise FileExistsError(
                    f"{self.path} holds another grid: its {name} is {value!r}, not "
                    f"{here.get(name)!r}. Choose another path, or delete it"
                )

    def _create(self) -> None:
        """The store without its chunks, made aside; its last file to appear is the unfinished."""
        zarr = need("zarr", "a Zarr store", "export")
        aside, layout = self.path / _WORK / "new", self.layout
        shutil.rmtree(aside, ignore_errors=True)
        group = zarr.create_group(aside, attributes=self.attributes)
        group.create_array(
            "embedding",
            shape=(layout.dim, layout.height, 2 * layout.height),
            chunks=(min(DIMENSIONS, layout.dim), layout.tile, layout.tile),
            dtype="float32",
            fill_value=np.nan,
            compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=3, shuffle="shuffle"),
            dimension_names=cf.AXES,
            attributes={**cf.EMBEDDING, **cf.GRID_MAPPING},
        )
        lon, lat = pixel_centres(180 / layout.height)
        for name, values, attributes in (
            ("dimension", np.arange(layout.dim, dtype=np.int32), cf.DIMENSION),
            ("lat", lat, cf.LAT),
            ("lon", lon, cf.LON),
            ("crs", np.int32(0), cf.CRS),
        ):
            group.create_array(
                name,
                data=np.asarray(values),
                chunks=values.shape,
                dimension_names=[name] * values.ndim,
                attributes=attributes,
            )
        with warnings.catch_warnings():
            # That the third version of Zarr has not yet written this down.
            warnings.simplefilter("ignore")
            zarr.consolidate_metadata(aside)
        for file in aside.rglob("*"):
            _flush(file)
        for part in ("embedding", "dimension", "lat", "lon", "crs"):
            shutil.rmtree(self.path / part, ignore_errors=True)
            (aside / part).rename(self.path / part)
        (aside / _WHOLE).rename(self.path / _UNFINISHED)
        aside.rmdir()
        sync(self.path)

    def _folder(self, area: Area) -> Path:
        return self.path / _WORK / "-".join(map(str, area))

    def _areas(self) -> list[Area]:
        folders = (self.path / _WORK).glob("*-*-*-*")
        return sorted(tuple(map(int, folder.name.split("-"))) for folder in folders)  # type: ignore[misc]

    def _hold(self, area: Area, stack: ExitStack) -> None:
        """Make an area this process's own, after a look at those of others."""
        from locties._util.lock import only_process

        for other in self._areas():
            if other == area or not set(_tiles(other)) & set(_tiles(area)):
                continue
            try:
                with only_process(self._folder(other)):
                    pass
            except RuntimeError as held:
                raise ValueError(
                    f"region {self.layout.degrees(area)} shares chunks with region "
                    f"{self.layout.degrees(other)}: {held}. Choose disjoint regions"
                ) from None
        self._folder(area).mkdir(exist_ok=True)
        stack.enter_context(only_process(self._folder(area)))

    def _done(self) -> set[Tile]:
        """Finished tiles of all areas."""
        done = set()
        for log in (self.path / _WORK).glob("*-*-*-*/done"):
            for line in log.read_text().splitlines():
                match line.split():
                    case [row, column, "done"]:
                        done.add((int(row), int(column)))
        return done

    def _check_same(self, encoder: Encoder, array: Any, done: Sequence[Tile]) -> None:
        """A tile that is there must be what this encoder makes, up to another machine's rounding.

        The weights' hash is in the attributes; this also covers a function without one, and code
        that has changed.
        """
        for tile, values in self._embed(encoder, done[:1]):
            there = array[:, *self.layout.window(tile)]
            if not np.allclose(there, values, rtol=0, atol=1e-3 * np.abs(values).max()):
                raise FileExistsError(
                    f"{self.path} holds other embeddings than this encoder gives, in "
                    f"{self.layout.degrees((tile[0], tile[0] + 1, tile[1], tile[1] + 1))}: choose "
                    "another path, or delete it"
                )

    def _embed(self, encoder: Encoder, tiles: Sequence[Tile]) -> Iterator[tuple[Tile, np.ndarray]]:
        """Each tile's embeddings (dim, rows, columns)."""
        lon, lat = pixel_centres(180 / self.layout.height)
        column, embed = -1, None
        for tile in tiles:
            rows, columns = self.layout.window(tile)
            if tile[1] != column or embed is None:
                column, embed = tile[1], rows_embedder(encoder, lon[columns])
            yield tile, np.moveaxis(embed(lat[rows]), -1, 0)

    def _put(self, array: Any, tile: Tile, values: np.ndarray) -> None:
        """Write a tile's chunks, and see that they are on the disk."""
        row, column = tile
        for left_over in self.path.glob(f"embedding/c/*/{row}/{column}.*"):
            left_over.unlink()  # by a process that was killed in the middle
        array[:, *self.layout.window(tile)] = values
        for chunk in self.path.glob(f"embedding/c/*/{row}/{column}"):
            _flush(chunk)
            sync(chunk.parent)

    def finish(self) -> None:
        """Make the store whole, unless an area is still being written or was left unfinished."""
        from locties._util.lock import only_process

        with self._lock():
            if not (self.path / _UNFINISHED).exists():
                return
            done = self._done()
            for area in self._areas():
                if set(_tiles(area)) <= done:
                    continue
                try:
                    with only_process(self._folder(area)):
                        warnings.warn(
                            f"{self.path} stays unfinished: region {self.layout.degrees(area)} "
                            "was begun and not finished. Call export_grid with that region",
                            stacklevel=3,
                        )
                except RuntimeError:
                    pass  # its process makes the store whole
                return
            content = json.loads((self.path / _UNFINISHED).read_text())
            regions = [list(self.layout.degrees(area)) for area in self._areas()]
            content["attributes"]["regions"] = regions
            aside = self.path / _WORK / "new.json"
            aside.write_text(json.dumps(content, indent=2))
            _flush(aside)
            aside.replace(self.path / _UNFINISHED)
            (self.path / _UNFINISHED).rename(self.path / _WHOLE)
            sync(self.path)


def _write_geotiff(
    target: Path,
    layout: _Layout,
    encoder: Encoder,
    metadata: dict[str, str],
    region: Sequence[float] | None,
    progress: bool,
) -> None:
    rasterio = need("rasterio", "a GeoTIFF", "export")
    zarr = need("zarr", "a GeoTIFF", "export")
    with needs("export", "export_grid"):
        from tqdm import tqdm

    from locties._util.lock import only_process

    edges = layout.pixels(region)
    top, bottom, left, right = (
        round_edge(edge + nudge)
        for round_edge, nudge, edge in zip(
            (math.floor, math.ceil) * 2, (1e-6, -1e-6) * 2, edges, strict=True
        )
    )
    size = 180 / layout.height
    profile = {
        "driver": "GTiff",
        "crs": metadata["crs"],
        "transform": rasterio.Affine(size, 0, left * size - 180, 0, -size, 90 - top * size),
        "height": bottom - top,
        "width": right - left,
        "count": layout.dim,
        "dtype": "float32",
        "bigtiff": "yes",
        "tiled": True,
        "blockxsize": TILE,
        "blockysize": TILE,
        "interleave": "band",
        "compress": "deflate",
        "predictor": 3,
    }
    tags = {**metadata, "resolution_degrees": f"{size:.12g}"}
    work = target.with_name(f"{target.name}.unfinished")
    if target.exists():
        with rasterio.open(target) as dataset:
            there = {**dataset.tags(), **dataset.profile}
        for name in ("weights_sha256", "transform", "height", "width", "count"):
            if there.get(name) != (value := {**tags, **profile}.get(name)):
                raise FileExistsError(
                    f"{target} holds another grid: its {name} is {there.get(name)!r}, not "
                    f"{value!r}. Choose another path, or delete it"
                )
        shutil.rmtree(work, ignore_errors=True)
        return
    with _kept(target), ExitStack() as stack:
        work.mkdir(parents=True, exist_ok=True)
        stack.enter_context(only_process(work))
        store = _Store(work / "tiles.zarr", layout, metadata)
        store.write(encoder, layout.around(region), progress)
        array = zarr.open_array(store.path / "embedding", mode="r")
        windows = [
            ((row, min(row + TILE, bottom)), (column, min(column + TILE, right)))
            for row in range(top, bottom, TILE)
            for column in range(left, right, TILE)
        ]

        def blocks(said: str) -> Iterator[tuple[Any, np.ndarray]]:
            for rows, columns in tqdm(
                windows, f"{said} {target.name}", file=sys.stderr, disable=not progress
            ):
                window = tuple(
                    (start - first, stop - first)
                    for (start, stop), first in ((rows, top), (columns, left))
                )
                yield window, array[:, slice(*rows), slice(*columns)]

        aside = work / target.name
        aside.unlink(missing_ok=True)
        with rasterio.Env(GDAL_CACHEMAX=CACHE_MB):
            with rasterio.open(aside, "w", **profile) as dataset:
                dataset.update_tags(**tags)
                for band, name in enumerate(column_names(metadata["encoder"], layout.dim), 1):
                    dataset.set_band_description(band, name)
                for window, values in blocks("writing"):
                    dataset.write(values, window=window)
            # GDAL writes late, and lack of room on closing is only logged.
            with rasterio.open(aside) as dataset:
                for window, values in blocks("reading back"):
                    if not np.array_equal(dataset.read(window=window), values):
                        raise OSError(ENOSPC, "what was written is not what is read")
            _flush(aside)
        aside.rename(target)
        sync(target.parent)
    shutil.rmtree(work)


@contextmanager
def _kept(path: Path) -> Iterator[None]:
    """Say of a full disk and of an interrupt how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"stopped, with what is finished kept: the same call with path={str(path)!r} goes on "
            "from there"
        ) from None
    except OSError as error:
        # GDAL gives no number where there was no room, and the reason as the cause.
        of_gdal = type(error).__module__.startswith("rasterio")
        if isinstance(error, FileExistsError) or (error.errno is None and not of_gdal):
            raise  # no fault of the disk
        reason = error.strerror or str(error.__cause__ or error)
        said = f"the grid cannot be written: {reason.rstrip('.')}. What is finished is kept: "
        said += f"{'make room' if of_gdal else remedy(error)}, and the same call goes on"
        if error.errno is None:
            raise OSError(f"{said}: {str(path)!r}") from error
        raise OSError(error.errno, said, str(path)) from error


def _flush(path: Path) -> None:
    """Put a file's content on the disk."""
    if path.is_file():
        with path.open("rb") as file:
            os.fsync(file.fileno())
