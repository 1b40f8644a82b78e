"""Grids on disk: what is in them, and that nothing unfinished passes for whole."""

import errno
import math
import multiprocessing
import os
import random
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
from locties._util.lock import only_process
from locties.apply import export
from locties.apply.grid import POINTS_PER_CHUNK

RESOLUTION = 0.5  # 3 x 6 tiles of 120 pixels
TILES = 18
PAUSE = 0.03  # seconds a tile, so that a signal falls into the work

# Imports take longer than the work: a forked process has them done.
HAS_FORK = "fork" in multiprocessing.get_all_start_methods()
processes = multiprocessing.get_context("fork" if HAS_FORK else None)
needs_fork = pytest.mark.skipif(not HAS_FORK, reason="this system has no fork")


def small() -> locties.LocationEncoder:
    encoder = locties.LocationEncoder("xyz", "mlp", dim=5, network_options={"hidden": 8})
    encoder.origin = {"model": "small", "licence": "CC0"}
    return encoder


class Slow:
    """An encoder that takes its time, and counts."""

    def __init__(self) -> None:
        self.encoder, self.calls = small(), 0

    def __call__(self, lonlat: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        time.sleep(PAUSE if len(lonlat) > 1 else 0)
        return self.encoder(lonlat)


def write(path: Path, region=None) -> None:
    locties.export_grid(Slow(), path, RESOLUTION, region=region, progress=False)


def files(path: Path) -> dict[str, bytes]:
    """What is in a file or store, without the notes of those who wrote it."""
    if path.is_file():
        return {"": path.read_bytes()}
    found = (file for file in path.rglob("*") if file.is_file())
    names = {file: str(file.relative_to(path)) for file in found}
    return {name: f.read_bytes() for f, name in names.items() if not name.startswith(".locties")}


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


def test_values_are_the_encoders_at_the_places_named(globe):
    there = xarray.open_zarr(globe / "grid.zarr")["embedding"]
    for lonlat in [(-179.75, 89.75), (13.25, 52.75), (179.75, -89.75)]:
        here = small()([lonlat]).detach().numpy()[0]
        np.testing.assert_allclose(there.sel(lon=lonlat[0], lat=lonlat[1]), here, atol=1e-6)


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
    assert (store["resolution_degrees"], tags["resolution_degrees"]) == (0.5, "0.5")


def test_a_geotiff_of_a_region_is_that_region_to_whole_pixels(tmp_path, globe):
    path = tmp_path / "germany.tif"
    locties.export_grid(small(), path, 0.5, region=(5.9, 47.3, 15.0, 55.1), progress=False)
    there = xarray.open_zarr(globe / "grid.zarr")["embedding"]
    with rasterio.open(path) as dataset:
        assert dataset.bounds == pytest.approx((5.5, 47, 15, 55.5))
        inside = there.sel(lon=slice(5.5, 15), lat=slice(55.5, 47)).values
        np.testing.assert_allclose(dataset.read(), inside, atol=1e-6)
    assert list(tmp_path.iterdir()) == [path]


def test_tiles_that_do_not_divide_the_globe(tmp_path):
    """180 / 257 degrees: 257 is a prime."""
    path = locties.export_grid(small(), tmp_path / "odd.zarr", 180 / 257, progress=False)
    there = xarray.open_zarr(path)["embedding"]
    here = locties.embed_grid(small(), 180 / 257).to_xarray()["embedding"]
    np.testing.assert_allclose(there.values, here.values, atol=1e-6)


def test_progress_is_on_stderr_and_can_be_turned_off(tmp_path, capfd):
    locties.export_grid(small(), tmp_path / "a.zarr", 10, progress=False)
    assert capfd.readouterr() == ("", "")
    locties.export_grid(small(), tmp_path / "b.zarr", 10)
    out, err = capfd.readouterr()
    assert out == ""
    assert "b.zarr: 100%" in err


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


@needs_fork
@pytest.mark.parametrize("suffix", ["zarr", "tif"])
def test_killed_three_times_and_resumed_it_is_the_same_to_the_bit(suffix, tmp_path, globe):
    path = tmp_path / f"grid.{suffix}"
    store = path if suffix == "zarr" else tmp_path / "grid.tif.unfinished" / "tiles.zarr"
    rng = random.Random(suffix)
    for _ in range(3):
        before = logged(store)
        process = processes.Process(target=write, args=(path,))
        process.start()
        until(lambda before=before: logged(store) > before)
        time.sleep(rng.uniform(0, 3 * PAUSE))
        process.kill()
        process.join()
        assert not is_whole(path)
    assert 0 < logged(store) < TILES
    done, encoder = logged(store), Slow()
    locties.export_grid(encoder, path, RESOLUTION, progress=False)
    # One tile more to see that the encoder is the same, one call for the length of an embedding.
    calls = (TILES - done + 1) * math.ceil(export.TILE**2 / POINTS_PER_CHUNK) + 1
    assert encoder.calls <= calls, "what was finished was computed again"
    assert is_whole(path)
    again = tmp_path / f"again.{suffix}"
    write(again)
    assert files(path) == files(again)
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize("suffix", ["zarr", "tif"])
def test_interrupted_it_finishes_a_tile_and_says_how_to_go_on(suffix, tmp_path, interrupted):
    path = tmp_path / f"grid.{suffix}"
    store = path if suffix == "zarr" else tmp_path / "grid.tif.unfinished" / "tiles.zarr"
    said = interrupted(lambda: write(path), lambda: logged(store) > 2)
    assert said == (
        f"stopped, with what is finished kept: the same call with path='{path}' goes on from there"
    )
    assert 2 < logged(store) < TILES
    assert len(list(store.glob("embedding/c/0/*/*"))) == logged(store), "a tile is half done"
    assert not is_whole(path)
    write(path)
    again = tmp_path / f"again.{suffix}"
    write(again)
    assert files(path) == files(again)


def logged(store: Path) -> int:
    return sum(log.read_text().count("done") for log in store.glob(".locties/*/done"))


def until(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened for a minute"
        time.sleep(0.002)


def test_what_a_killed_process_left_is_cleared(tmp_path):
    path = tmp_path / "grid.zarr"
    left = path / "embedding" / "c" / "0" / "0" / "1.0123456789abcdef.partial"
    locties.export_grid(small(), path, 1, region=(-180, 0, -90, 90), progress=False)
    left.parent.mkdir(parents=True, exist_ok=True)
    left.write_bytes(b"half")
    locties.export_grid(small(), path, 1, progress=False)
    assert not left.exists()


def test_a_torn_line_of_the_log_counts_for_nothing(tmp_path):
    path = tmp_path / "grid.zarr"
    locties.export_grid(small(), path, 1, progress=False)
    whole = files(path)
    (log,) = path.glob(".locties/*/done")
    lines = log.read_text().split("\n")
    log.write_text("\n".join(lines)[: -len("\n1 3 done\n") + 4])  # the last tile: "1 3", no end
    (path / "zarr.json").rename(path / "zarr.json.unfinished")
    (path / "embedding" / "c" / "0" / "1" / "3").write_bytes(b"half")
    locties.export_grid(small(), path, 1, progress=False)
    assert files(path) == whole


@pytest.mark.parametrize("suffix", ["zarr", "tif"])
def test_a_full_disk_is_said_and_leaves_nothing_that_passes_for_whole(
    suffix, tmp_path, globe, monkeypatch
):
    path = tmp_path / f"grid.{suffix}"
    put, written = export._Store._put, []

    def full(self, array, tile, values):
        if len(written) == 4:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(tile)
        put(self, array, tile, values)

    monkeypatch.setattr(export._Store, "_put", full)
    with pytest.raises(OSError, match=r"No space left.*What is finished is kept") as error:
        locties.export_grid(small(), path, RESOLUTION, progress=False)
    assert error.value.errno == errno.ENOSPC
    assert not is_whole(path)
    monkeypatch.undo()
    locties.export_grid(small(), path, RESOLUTION, progress=False)
    assert files(path) == files(globe / path.name)


@pytest.mark.parametrize(
    ("suffix", "kilobytes"),
    [("zarr", 12), ("zarr", 1500), ("tif", 12), ("tif", 1500), ("tif", 3800)],
)
def test_a_small_disk_is_named_and_with_more_room_it_goes_on(suffix, kilobytes, globe, small_disk):
    """Too small for an empty store, for all its tiles, and for the GeoTIFF beside these."""
    path = small_disk(kilobytes * 1024) / f"grid.{suffix}"
    said = rf"cannot be written: .* is kept: make room, and the same call goes on: '{path}'"
    with pytest.raises(OSError, match=said):
        locties.export_grid(small(), path, RESOLUTION, progress=False)
    assert not is_whole(path)
    assert suffix == "zarr" or not path.exists()
    small_disk(16 * 2**20)
    locties.export_grid(small(), path, RESOLUTION, progress=False)
    assert files(path) == files(globe / path.name)


def test_a_file_that_cannot_grow_is_said_and_not_put_in_place(tmp_path, globe):
    """Here the system itself refuses, in the middle of the GeoTIFF."""
    resource = pytest.importorskip("resource")
    path, size = tmp_path / "grid.tif", (globe / "grid.tif").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, before[1]))
    try:
        with pytest.raises(
            OSError, match=r"cannot be written.*What is finished is kept.*grid\.tif"
        ):
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
    with pytest.raises(OSError, match="what was written is not what is read"):
        locties.export_grid(small(), tmp_path / "grid.tif", 10, progress=False)
    assert not (tmp_path / "grid.tif").exists()


def test_what_is_finished_is_not_written_again(globe, tmp_path):
    for path in (globe / "grid.zarr", globe / "grid.tif"):
        before = path.stat().st_mtime_ns
        locties.export_grid(small(), path, RESOLUTION, progress=False)
        assert path.stat().st_mtime_ns == before


# ------------------------------------------------------------------------------- several writers


@needs_fork
def test_two_processes_write_disjoint_regions_at_once(tmp_path, globe):
    path = tmp_path / "grid.zarr"
    regions = [(-180, -90, 0, 90), (0, -90, 180, 90)]
    writers = [processes.Process(target=write, args=(path, region)) for region in regions]
    for writer in writers:
        writer.start()
    until(lambda: len([log for log in path.glob(".locties/*/done") if log.stat().st_size]) == 2)
    assert all(writer.is_alive() for writer in writers), "they did not run at once"
    assert not is_whole(path)
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    there, here = files(path), files(globe / "grid.zarr")
    assert there.keys() == here.keys()
    assert {name for name in here if there[name] != here[name]} == {"zarr.json"}
    opened = xarray.open_zarr(path)
    assert opened.attrs["regions"] == [list(map(float, region)) for region in regions]


def test_regions_that_share_chunks_are_refused_by_name(tmp_path):
    path = tmp_path / "grid.zarr"
    east = (0, -90, 180, 90)
    locties.export_grid(small(), path, 1, region=(-180, -90, 0, 90), progress=False)
    store = export._Store(path, export._Layout(180, 5, 90), {})
    area = store.layout.area(east)
    store._folder(area).mkdir()
    with only_process(store._folder(area)):
        with pytest.raises(ValueError, match="Choose disjoint regions") as error:
            locties.export_grid(small(), path, 1, progress=False)
        assert "(-180.0, -90.0, 180.0, 90.0) shares chunks with region (0.0, -90.0" in str(
            error.value
        )
        assert f"process {os.getpid()}" in str(error.value)
        with pytest.raises(RuntimeError, match="in use by process"):
            locties.export_grid(small(), path, 1, region=east, progress=False)


def test_a_region_left_unfinished_keeps_the_store_unfinished(tmp_path, monkeypatch):
    path = tmp_path / "grid.zarr"
    west, east = (-180, -90, 0, 90), (0, -90, 180, 90)
    monkeypatch.setattr(export._Store, "_put", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        locties.export_grid(small(), path, 1, region=west, progress=False)
    monkeypatch.undo()
    with pytest.warns(UserWarning, match=r"region \(-180.0, -90.0, 0.0, 90.0\) was begun"):
        locties.export_grid(small(), path, 1, region=east, progress=False)
    assert not is_whole(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        locties.export_grid(small(), path, 1, region=west, progress=False)
    assert is_whole(path)


def test_a_whole_store_is_unfinished_again_while_a_region_is_added(tmp_path, monkeypatch):
    path = tmp_path / "grid.zarr"
    west, east = (-180, -90, 0, 90), (0, -90, 180, 90)
    locties.export_grid(small(), path, 1, region=west, progress=False)
    assert is_whole(path)
    monkeypatch.setattr(export._Store, "_put", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        locties.export_grid(small(), path, 1, region=east, progress=False)
    assert not is_whole(path)


def test_a_geotiff_needs_no_tile_of_another_region_that_was_left(tmp_path, monkeypatch):
    path = tmp_path / "grid.tif"
    monkeypatch.setattr(export._Store, "_put", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        locties.export_grid(small(), path, 1, progress=False)
    monkeypatch.undo()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        locties.export_grid(small(), path, 1, region=(0, 0, 10, 10), progress=False)
    with rasterio.open(path) as dataset:
        assert dataset.shape == (10, 10)


def test_outside_its_regions_a_store_is_nan(tmp_path):
    path = tmp_path / "grid.zarr"
    locties.export_grid(small(), path, 1, region=(0, 0, 90, 90), progress=False)
    there = xarray.open_zarr(path)["embedding"]
    assert there.sel(lon=slice(0, 90), lat=slice(90, 0)).notnull().all()
    assert int(there.isel(dimension=0).notnull().sum()) == 90 * 90
    assert list(zarr.open_array(path / "embedding").chunks) == [5, 90, 90]


# -------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"path": "grid.nc"}, r"grid.nc ends neither in .zarr nor in .tif"),
        ({"resolution": 0.7}, "does not divide 180"),
        ({"region": (0, 0, 91, 90)}, r"cuts chunks, .* 90 degrees .*\(0.0, 0.0, 180.0, 90.0\)"),
        ({"region": (90, 0, 0, 90)}, "west < east"),
        ({"region": (0, 0, 90, 91)}, r"region=\(0, 0, 90, 91\)"),
        ({"region": (170, 0, 190, 10)}, "antimeridian"),
        ({"region": (0, 0, 90)}, r"give \(west, south, east, north\)"),
        ({"region": (0, 0, float("nan"), 90)}, "west < east"),
        ({"encoder": 7}, "encoder=7 is no encoder"),
    ],
)
def test_what_the_user_got_wrong_is_said(tmp_path, options, said):
    arguments = {"encoder": small(), "path": "grid.zarr", "resolution": 1, **options}
    arguments["path"] = tmp_path / arguments["path"]
    with pytest.raises(ValueError, match=said):
        locties.export_grid(**arguments, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", ["zarr", "tif"])
def test_another_grid_is_never_overwritten_or_mixed(globe, suffix):
    path = globe / f"grid.{suffix}"
    before = files(path)
    other = locties.LocationEncoder("xyz", "mlp", 5, network_options={"hidden": 8}, seed=1)
    for encoder, resolution, name in (
        (other, RESOLUTION, "weights_sha256"),
        (small(), 1, "resolution_degrees|transform"),
    ):
        with pytest.raises(FileExistsError, match=f"holds another grid: its ({name})"):
            locties.export_grid(encoder, path, resolution, progress=False)
    assert files(path) == before


def test_a_function_without_a_hash_is_known_by_what_it_gives(tmp_path):
    path = tmp_path / "grid.zarr"
    locties.export_grid(lambda lonlat: lonlat, path, 1, region=(0, 0, 90, 90), progress=False)
    with pytest.raises(FileExistsError, match="other embeddings than this encoder gives"):
        locties.export_grid(lambda lonlat: 2 * lonlat, path, 1, progress=False)


def test_other_files_are_left_alone(tmp_path):
    (tmp_path / "grid.zarr").mkdir()
    (tmp_path / "grid.zarr" / "mine.txt").touch()
    with pytest.raises(FileExistsError, match="no store of export_grid"):
        locties.export_grid(small(), tmp_path / "grid.zarr", 10, progress=False)
    assert [file.name for file in (tmp_path / "grid.zarr").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("suffix", "package"), [("zarr", "zarr"), ("tif", "rasterio")])
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, suffix, package):
    from locties._util import extras

    real = extras.import_module

    def refuse(name: str):
        if name == package:
            raise ImportError(name)
        return real(name)

    monkeypatch.setattr(extras, "import_module", refuse)
    with pytest.raises(ImportError, match=rf'needs {package}: pip install "locties\[export\]"'):
        locties.export_grid(small(), tmp_path / f"grid.{suffix}", 10, progress=False)
    assert not list(tmp_path.iterdir())
