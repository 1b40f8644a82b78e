"""Grids on disk: what is in them, and that nothing unfinished passes for whole."""

import errno
import itertools
import json
import math
import multiprocessing
import os
import re
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401 (the .rio of a dataset)
import torch
import xarray
import zarr

import locties
from locties.apply import export
from locties.apply.grid import POINTS_PER_CHUNK

RESOLUTION = 1  # 2 x 4 tiles of 90 pixels
TILES = 8
PAUSE = 0.02  # seconds a chunk, so that a signal falls into the work
WEST, EAST = (-180, -90, 0, 90), (0, -90, 180, 90)

# Imports take longer than the work: a forked process has them done.
HAS_FORK = "fork" in multiprocessing.get_all_start_methods()
processes = multiprocessing.get_context("fork" if HAS_FORK else None)
needs_fork = pytest.mark.skipif(not HAS_FORK, reason="this system has no fork")


def small() -> locties.LocationEncoder:
    encoder = locties.LocationEncoder("xyz", "mlp", dim=5, network_options={"hidden": 8})
    encoder.origin = {"model": "small", "licence": "CC0"}
    return encoder


class Slow:
    """An encoder that pauses and counts its calls."""

    def __init__(self) -> None:
        self.encoder, self.calls = small(), 0

    def __call__(self, lonlat: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        time.sleep(PAUSE)
        return self.encoder(lonlat)


def write(path: Path, region=None) -> None:
    locties.export_grid(Slow(), path, RESOLUTION, region=region, progress=False)


def files(path: Path) -> dict[str, bytes]:
    """What is in a file or store, without the notes of those who wrote it."""
    if path.is_file():
        return {"": path.read_bytes()}
    found = (file for file in path.rglob("*") if file.is_file())
    names = {file: str(file.relative_to(path)) for file in found}
    notes = re.compile(r"\.locties")
    return {name: file.read_bytes() for file, name in names.items() if not notes.match(name)}


def finished(path: Path) -> int:
    """How many tiles are noted as finished, for a store or an unfinished GeoTIFF."""
    folder = path if path.suffix == ".zarr" else path.with_name(f"{path.name}.unfinished")
    try:
        return len(json.loads((folder / ".locties" / "note.json").read_text())["done"])
    except FileNotFoundError:
        return 0


def is_whole(path: Path) -> bool:
    try:
        (xarray.open_zarr if path.suffix == ".zarr" else rasterio.open)(path).close()
    except (OSError, rasterio.errors.RasterioIOError):
        return False
    return True


@pytest.fixture(scope="module")
def globe(tmp_path_factory) -> Path:
    """A folder with the same grid as a store and as a GeoTIFF, written without interruption."""
    folder = tmp_path_factory.mktemp("globe")
    for suffix in ("zarr", "tif"):
        locties.export_grid(small(), folder / f"grid.{suffix}", RESOLUTION, progress=False)
    return folder


# ------------------------------------------------------------------------------ what is written


def test_the_month_is_a_coordinate_of_a_store_and_a_tag_of_a_geotiff(tmp_path):
    encoder = locties.LocationEncoder(
        "xyz", "mlp", dim=5, network_options={"hidden": 8}, time="month"
    )
    stores = []
    for month in (1, 7):
        path = tmp_path / f"{month}.zarr"
        locties.export_grid(encoder, path, 30, month=month, progress=False)
        stores.append(xarray.open_zarr(path, decode_coords="all"))
        here = locties.embed_grid(encoder, 30, month=month).to_xarray()
        xarray.testing.assert_allclose(stores[-1], here, rtol=0, atol=1e-6)
    both = xarray.concat(stores, "month")
    np.testing.assert_array_equal(both["embedding"]["month"], [1, 7])
    assert "month" not in both.attrs
    with pytest.raises(FileExistsError, match="its month is '7', not '1'"):
        locties.export_grid(encoder, path, 30, month=1, progress=False)
    with rasterio.open(
        locties.export_grid(encoder, tmp_path / "7.tif", 30, month=7, progress=False)
    ) as dataset:
        assert dataset.tags()["month"] == "7"


def test_a_store_is_the_grid_with_cf_coordinates(globe):
    there = xarray.open_zarr(globe / "grid.zarr", decode_coords="all")
    assert there.attrs.pop("regions") == [[-180, -90, 180, 90]]
    here = locties.embed_grid(small(), RESOLUTION).to_xarray()
    assert there["embedding"].dtype == np.float32
    xarray.testing.assert_allclose(there, here, rtol=0, atol=1e-6)
    assert there.attrs == here.attrs
    assert there["embedding"].dims == ("dimension", "lat", "lon")
    for name in ("lat", "lon", "dimension", "crs", "embedding"):
        assert there[name].attrs == here[name].attrs
    for name, unit, axis in (("lon", "degrees_east", "X"), ("lat", "degrees_north", "Y")):
        coordinate = there[name].attrs
        assert (coordinate["units"], coordinate["axis"]) == (unit, axis)
        assert coordinate["standard_name"] == {"lon": "longitude", "lat": "latitude"}[name]
    assert there.attrs["Conventions"] == "CF-1.11"
    assert there["embedding"].encoding["grid_mapping"] == "crs"
    for dataset in (there, here):
        assert dataset.rio.crs.to_epsg() == 4326
        assert dataset["embedding"].rio.bounds() == pytest.approx((-180, -90, 180, 90))


def test_a_geotiff_holds_the_same(globe):
    there = xarray.open_zarr(globe / "grid.zarr")["embedding"].values
    with rasterio.open(globe / "grid.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(), there)
        assert dataset.descriptions == tuple(f"small_00{i}" for i in range(5))
        assert dataset.bounds == (-180, -90, 180, 90)
        assert dataset.crs.to_epsg() == 4326
        assert dataset.profile["compress"] == "deflate"
        assert dataset.block_shapes == [(128, 128)] * 5
    magic = (globe / "grid.tif").read_bytes()[:4]
    assert magic == b"II+\0", "a BigTIFF has 43 where a TIFF has 42"


def test_both_say_of_what_encoder_they_are(globe):
    saved = small()
    saved.save(globe / "small")
    sha256 = (globe / "small" / "config.json").read_text().split('"sha256": "')[1][:64]
    expected = {
        "encoder": "small",
        "weights_sha256": sha256,
        "licence": "CC0",
        "crs": "EPSG:4326",
        "locties": locties.__version__,
    }
    store = xarray.open_zarr(globe / "grid.zarr").attrs
    with rasterio.open(globe / "grid.tif") as dataset:
        tags = dataset.tags()
    for name, value in expected.items():
        assert (store[name], tags[name]) == (value, value)
    assert (store["resolution_degrees"], tags["resolution_degrees"]) == (1, "1.0")


def test_a_geotiff_of_a_region_is_that_region_to_whole_pixels(tmp_path, globe):
    path = tmp_path / "germany.tif"
    locties.export_grid(small(), path, 1, region=(5.9, 47.3, 15.0, 55.1), progress=False)
    there = xarray.open_zarr(globe / "grid.zarr")["embedding"]
    with rasterio.open(path) as dataset:
        assert dataset.bounds == pytest.approx((5, 47, 15, 56))
        inside = there.sel(lon=slice(5, 15), lat=slice(56, 47)).values
        np.testing.assert_allclose(dataset.read(), inside, atol=1e-6)
    assert list(tmp_path.iterdir()) == [path]


def test_tiles_that_do_not_divide_the_globe(tmp_path):
    """180 / 257 degrees: 257 is a prime."""
    path = locties.export_grid(small(), tmp_path / "odd.zarr", 180 / 257, progress=False)
    there = xarray.open_zarr(path)["embedding"]
    here = locties.embed_grid(small(), 180 / 257).to_xarray()["embedding"]
    np.testing.assert_allclose(there.values, here.values, atol=1e-6)


@pytest.mark.parametrize("resolution", [0.5, 0.1, 180 / 257])
def test_no_more_than_a_tile_is_embedded_at_once(tmp_path, resolution):
    sizes = []

    def encoder(lonlat: torch.Tensor) -> torch.Tensor:
        sizes.append(len(lonlat))
        return lonlat

    path, region = tmp_path / "grid.tif", (10, 0, 12, 20)
    locties.export_grid(encoder, path, resolution, region=region, progress=False)
    assert max(sizes) <= export.TILE**2


# ---------------------------------------------------------------------------- what is interrupted


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("suffix", ["zarr", "tif"])
def test_killed_and_resumed_it_is_the_same_to_the_bit(suffix, tmp_path):
    path = tmp_path / f"grid.{suffix}"
    for _ in range(2):
        before = finished(path)
        process = processes.Process(target=write, args=(path,))
        process.start()
        until(lambda before=before: finished(path) > before)
        process.kill()
        process.join()
        assert not is_whole(path)
    done, encoder = finished(path), Slow()
    assert 0 < done < TILES
    locties.export_grid(encoder, path, RESOLUTION, progress=False)
    # One call more, for the sample that tells encoders apart.
    assert encoder.calls == (TILES - done) * math.ceil(90**2 / POINTS_PER_CHUNK) + 1
    assert is_whole(path)
    again = tmp_path / f"again.{suffix}"
    write(again)
    assert files(path) == files(again)
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.slow
@needs_fork
@pytest.mark.parametrize("suffix", ["zarr", "tif"])
def test_wherever_it_is_killed_the_same_call_goes_on(suffix, tmp_path):
    """Killed at each folder made and each file renamed, in an export of one tile."""

    def export(path: Path, kill_at: int | None = None) -> None:
        count = itertools.count()

        def hook(event: str, arguments: tuple) -> None:
            concerns = event in ("os.mkdir", "os.rename") and str(tmp_path) in str(arguments[0])
            if concerns and next(count) == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

        if kill_at is not None:
            sys.addaudithook(hook)
        locties.export_grid(small(), path, 60, progress=False)

    export(tmp_path / f"whole.{suffix}")
    expected = files(tmp_path / f"whole.{suffix}")
    for kill_at in (*range(6), *range(6, 100, 6)):
        path = tmp_path / f"{kill_at}" / f"grid.{suffix}"
        path.parent.mkdir()
        process = processes.Process(target=export, args=(path, kill_at))
        process.start()
        process.join()
        if process.exitcode == 0:
            break
        assert not is_whole(path) or files(path) == expected
        export(path)
        assert files(path) == expected
        assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert process.exitcode == 0
    assert kill_at > 5


@pytest.mark.parametrize("suffix", ["zarr", "tif"])
def test_interrupted_it_says_how_to_go_on(suffix, tmp_path, interrupted):
    path = tmp_path / f"grid.{suffix}"
    said = interrupted(lambda: write(path), lambda: finished(path) > 1)
    assert f"same call with path='{path}'" in said
    assert 1 < finished(path) < TILES
    assert not is_whole(path)
    write(path)
    again = tmp_path / f"again.{suffix}"
    write(again)
    assert files(path) == files(again)


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened for a minute"
        time.sleep(0.002)


@pytest.fixture
def failing_at(monkeypatch):
    """A function after which the tile of that number, from 0, raises an error."""

    def arm(number: int, error: Exception) -> None:
        embedder, count = export.rows_embedder, itertools.count()

        def embed(*arguments):
            if next(count) == number:
                raise error
            return embedder(*arguments)

        monkeypatch.setattr(export, "rows_embedder", embed)

    return arm


def test_what_a_killed_process_left_is_cleared(tmp_path):
    path = tmp_path / "grid.zarr"
    left = path / "embedding" / "c" / "0" / "0" / "1.0123456789abcdef.partial"
    locties.export_grid(small(), path, 1, region=(-180, 0, -90, 90), progress=False)
    left.write_bytes(b"half")
    locties.export_grid(small(), path, 1, progress=False)
    assert not left.exists()


@pytest.mark.parametrize("suffix", ["zarr", "tif"])
def test_a_full_disk_is_said_and_leaves_nothing_that_passes_for_whole(
    suffix, tmp_path, globe, failing_at, monkeypatch
):
    path = tmp_path / f"grid.{suffix}"
    failing_at(4, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    with pytest.raises(OSError, match=r"No space left.*make room.*same call resumes") as error:
        locties.export_grid(small(), path, RESOLUTION, progress=False)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
    assert not is_whole(path)
    assert finished(path) == 4
    monkeypatch.undo()
    locties.export_grid(small(), path, RESOLUTION, progress=False)
    assert files(path) == files(globe / path.name)


def test_a_file_that_cannot_grow_is_said_and_not_put_in_place(tmp_path, globe):
    """Here the system itself refuses, in the middle of the GeoTIFF."""
    resource = pytest.importorskip("resource")
    path, size = tmp_path / "grid.tif", (globe / "grid.tif").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
    try:
        with pytest.raises(OSError, match=r"make room.*same call resumes.*grid\.tif"):
            locties.export_grid(small(), path, RESOLUTION, progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert [file.name for file in tmp_path.iterdir()] == ["grid.tif.unfinished"]
    locties.export_grid(small(), path, RESOLUTION, progress=False)
    assert files(path) == files(globe / "grid.tif")


def test_a_geotiff_that_does_not_read_as_written_is_not_put_in_place(tmp_path, monkeypatch):
    write = rasterio.io.DatasetWriter.write
    monkeypatch.setattr(
        rasterio.io.DatasetWriter,
        "write",
        lambda self, values, **where: write(self, 0 * values, **where),
        raising=False,
    )
    with pytest.raises(OSError, match="make room"):
        locties.export_grid(small(), tmp_path / "grid.tif", 10, progress=False)
    assert not (tmp_path / "grid.tif").exists()


def test_what_is_finished_is_not_written_again(globe):
    for path in (globe / "grid.zarr", globe / "grid.tif"):
        before = path.stat().st_mtime_ns
        locties.export_grid(small(), path, RESOLUTION, progress=False)
        locties.export_grid(small(), path, RESOLUTION, progress=False)
        assert path.stat().st_mtime_ns == before
        assert not list(globe.glob("*.unfinished"))


# ------------------------------------------------------------------------------- several writers


@needs_fork
@pytest.mark.parametrize("suffix", ["zarr", "tif"])
@pytest.mark.parametrize("region", [None, WEST, EAST])
def test_a_second_process_is_refused_while_one_is_writing(suffix, region, tmp_path):
    path = tmp_path / f"grid.{suffix}"
    writer = processes.Process(target=write, args=(path, WEST))
    writer.start()
    until(lambda: finished(path))
    with pytest.raises(RuntimeError, match=f"in use by process {writer.pid} .*wait"):
        locties.export_grid(Slow(), path, RESOLUTION, region=region, progress=False)
    writer.join()
    assert writer.exitcode == 0
    assert is_whole(path)


def test_disjoint_regions_fill_one_store(tmp_path, globe):
    path = tmp_path / "grid.zarr"
    for region in (WEST, EAST):
        locties.export_grid(small(), path, RESOLUTION, region=region, progress=False)
        assert is_whole(path)
    there, here = files(path), files(globe / "grid.zarr")
    assert there.keys() == here.keys()
    assert {name for name in here if there[name] != here[name]} == {"zarr.json"}
    assert xarray.open_zarr(path).attrs["regions"] == [list(WEST), list(EAST)]


def test_a_region_left_unfinished_keeps_the_store_unfinished(tmp_path, failing_at, monkeypatch):
    path = tmp_path / "grid.zarr"
    failing_at(1, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        locties.export_grid(small(), path, 1, region=WEST, progress=False)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"\[-180.0, -90.0, 0.0, 90.0\].*with that region"):
        locties.export_grid(small(), path, 1, region=EAST, progress=False)
    assert not is_whole(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        locties.export_grid(small(), path, 1, region=WEST, progress=False)
    assert is_whole(path)


def test_a_whole_store_is_unfinished_again_while_a_region_is_added(tmp_path, failing_at):
    path = tmp_path / "grid.zarr"
    locties.export_grid(small(), path, 1, region=WEST, progress=False)
    assert is_whole(path)
    failing_at(0, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        locties.export_grid(small(), path, 1, region=EAST, progress=False)
    assert not is_whole(path)


def test_a_geotiff_needs_no_tile_of_another_region_that_was_left(tmp_path, failing_at, monkeypatch):
    path = tmp_path / "grid.tif"
    failing_at(1, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        locties.export_grid(small(), path, 1, progress=False)
    monkeypatch.undo()
    locties.export_grid(small(), path, 1, region=(0, 0, 10, 10), progress=False)
    with rasterio.open(path) as dataset:
        assert dataset.shape == (10, 10)
        assert np.isfinite(dataset.read()).all()


def test_a_region_of_a_store_is_widened_to_chunks_and_the_rest_is_nan(tmp_path):
    path = tmp_path / "grid.zarr"
    locties.export_grid(small(), path, 1, region=(0, 1, 80, 90), progress=False)
    there = xarray.open_zarr(path)["embedding"]
    assert there.sel(lon=slice(0, 90), lat=slice(90, 0)).notnull().all()
    assert int(there.isel(dimension=0).notnull().sum()) == 90 * 90
    assert list(zarr.open_array(path / "embedding").chunks) == [5, 90, 90]


# -------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize("suffix", ["zarr", "tif"])
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"resolution": 0.7}, r"0\.7.*180 / 257"),
        ({"resolution": "1"}, r"'1'.*such as 0\.25"),
        ({"resolution": None}, r"None.*such as 0\.25"),
        ({"region": (90, 0, 0, 90)}, r"\(90, 0, 0, 90\).*west < east"),
        ({"region": (0, 0, 90, 91)}, r"\(0, 0, 90, 91\).*within \[-90, 90\]"),
        ({"region": (170, 0, 190, 10)}, r"190.*split a region at the antimeridian"),
        ({"region": (0, 0, 90)}, r"\(0, 0, 90\).*\(west, south, east, north\)"),
        ({"region": (0, 0, math.nan, 90)}, "nan.*west < east"),
        ({"region": "0123"}, r"'0123'.*\(west, south, east, north\)"),
        ({"region": 5}, r"=5.*\(west, south, east, north\)"),
        ({"region": ("a", 0, 1, 2)}, r"'a'.*\(west, south, east, north\)"),
        ({"region": (0, 0, None, 2)}, r"None.*\(west, south, east, north\)"),
        ({"encoder": 7}, "'melt', a folder or a LocationEncoder"),
    ],
)
def test_what_the_user_got_wrong_is_said(tmp_path, suffix, options, said):
    arguments = {"encoder": small(), "path": tmp_path / f"grid.{suffix}", "resolution": 1} | options
    with pytest.raises(ValueError, match=said):
        locties.export_grid(**arguments, progress=False)
    assert not list(tmp_path.iterdir())


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"grid\.nc.*\.zarr or \.tif"):
        locties.export_grid(small(), tmp_path / "grid.nc", 10)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["zarr", "tif"])
def test_another_grid_is_never_overwritten_or_mixed(globe, suffix):
    path = globe / f"grid.{suffix}"
    before = files(path)
    other = locties.LocationEncoder("xyz", "mlp", 5, network_options={"hidden": 8}, seed=1)
    for encoder, resolution, name in (
        (other, RESOLUTION, "weights_sha256"),
        (small(), 2, "resolution_degrees"),
    ):
        with pytest.raises(FileExistsError, match=f"{path}.*{name}.*another path, or delete"):
            locties.export_grid(encoder, path, resolution, progress=False)
    assert files(path) == before


@pytest.mark.parametrize("suffix", ["zarr", "tif"])
def test_a_function_without_a_hash_is_known_by_what_it_gives(suffix, tmp_path):
    path, region = tmp_path / f"grid.{suffix}", (0, 0, 90, 90)
    locties.export_grid(lambda lonlat: lonlat, path, 1, region=region, progress=False)
    with pytest.raises(FileExistsError, match=r"sample.*another path, or delete"):
        locties.export_grid(lambda lonlat: 2 * lonlat, path, 1, region=region, progress=False)


def test_another_encoder_does_not_go_on_with_an_unfinished_grid(tmp_path, failing_at, monkeypatch):
    for suffix in ("zarr", "tif"):
        path = tmp_path / f"grid.{suffix}"
        failing_at(1, ZeroDivisionError())
        with pytest.raises(ZeroDivisionError):
            locties.export_grid(small(), path, 1, progress=False)
        monkeypatch.undo()
        with pytest.raises(FileExistsError, match=r"grid\..*another path, or delete"):
            locties.export_grid(lambda lonlat: lonlat, path, 1, progress=False)


def test_a_geotiff_of_another_region_is_left_alone(globe):
    before = files(globe / "grid.tif")
    with pytest.raises(FileExistsError, match="another path, or delete"):
        locties.export_grid(small(), globe / "grid.tif", 1, region=WEST, progress=False)
    assert files(globe / "grid.tif") == before
    assert not list(globe.glob("*.unfinished"))


@pytest.mark.parametrize("name", ["grid.zarr", "grid.tif", "grid.tif.unfinished"])
def test_other_files_are_left_alone(name, tmp_path):
    path = tmp_path / name.removesuffix(".unfinished")
    (tmp_path / name).mkdir()
    (tmp_path / name / "mine.txt").touch()
    with pytest.raises(FileExistsError, match=f"{name}.*another path"):
        locties.export_grid(small(), path, 10, progress=False)
    assert [file.name for file in (tmp_path / name).iterdir()] == ["mine.txt"]
    if path.suffix != ".unfinished" and name == path.name:
        (tmp_path / name / "mine.txt").unlink()
        (tmp_path / name).rmdir()
        path.write_text("mine")
        with pytest.raises(FileExistsError, match=f"{name}.*another path"):
            locties.export_grid(small(), path, 10, progress=False)
        assert path.read_text() == "mine"


@pytest.mark.parametrize("content", ["{", "{}", "[]", "null", "[" * 100_000, None])
@pytest.mark.parametrize(
    "name",
    ["zarr.json", "embedding/zarr.json", ".locties/note.json", ".locties/zarr.json"],
)
def test_altered_json_of_a_store_is_named(name: str, content: str | None, tmp_path: Path) -> None:
    encoder = locties.LocationEncoder("xyz", "linear", 4)
    path = locties.export_grid(encoder, tmp_path / "g.zarr", 30, progress=False)
    whole = (path / name).read_text()
    (path / name).write_text(whole[:100] if content is None else content)
    with pytest.raises(OSError, match=r"g\.zarr.*altered.*delete"):
        locties.export_grid(encoder, path, 30, progress=False)
    (path / name).write_text(whole)
    locties.export_grid(encoder, path, 30, progress=False)
