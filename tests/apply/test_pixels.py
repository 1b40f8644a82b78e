"""Pixels drawn from rasters: where they lie, what they hold, and what is left out."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import rasterio.warp
import torch
from raster_files import noise, write
from rasterio.transform import Affine, from_origin

import locties
from locties.apply import pixels
from locties.data import sampling

GRIDS = {
    "north-up": ("EPSG:4326", from_origin(5, 55, 0.05, 0.05)),
    "south-up": ("EPSG:4326", Affine(0.05, 0, 5, 0, 0.05, 45)),
    "rotated": ("EPSG:32633", Affine(4330, 2500, 4e5, 2500, -4330, 5e6)),
    "utm": ("EPSG:32633", from_origin(2e5, 6e6, 5000, 5000)),
    "polar": ("EPSG:3413", from_origin(-2e6, 2e6, 20000, 20000)),
    "mercator": ("EPSG:3857", from_origin(5e5, 7e6, 8000, 8000)),
    "date line": ("EPSG:4326", from_origin(175, 70, 0.05, 0.05)),
    "date line, utm": ("EPSG:32601", from_origin(1e5, 7e6, 5000, 5000)),
    "to 360": ("EPSG:4326", from_origin(200, 55, 0.05, 0.05)),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_samples_are_what_rasterio_reads_at_their_places(grid: str, tmp_path: Path) -> None:
    crs, transform = GRIDS[grid]
    path = write(tmp_path / "grid.tif", noise(3, 200, 200), transform, crs)
    modality = locties.read_modality(path, name="grid", samples=300, beside=())
    values = modality.samples[torch.arange(300)].numpy()
    assert ((modality.lonlat >= -180) & (modality.lonlat < 180)).all()
    lon, lat = modality.lonlat.double().numpy().T
    with rasterio.open(path) as raster:
        if grid == "date line":
            lon = lon % 360
        elif grid == "to 360":
            lon = lon + 360
        x, y = rasterio.warp.transform("EPSG:4326", crs, lon, lat)
        expected = np.array(list(raster.sample(zip(x, y, strict=True))))
    assert np.array_equal(values, expected)


@pytest.mark.parametrize("grid", GRIDS)
def test_a_patch_is_the_window_around_its_pixel(grid: str, tmp_path: Path) -> None:
    crs, transform = GRIDS[grid]
    values = noise(2, 100, 100)
    path = write(tmp_path / "grid.tif", values, transform, crs)
    chosen = {"samples": 50, "beside": ()}
    modality = locties.read_modality(path, name="grid", patch=16, **chosen)
    patches = modality.samples[torch.arange(50)].numpy()
    assert patches.shape == (50, 2, 16, 16)
    lon, lat = modality.lonlat.double().numpy().T
    lon = lon % 360 if grid in ("date line", "to 360") else lon
    x, y = rasterio.warp.transform("EPSG:4326", crs, lon, lat)
    rows, columns = np.array(rasterio.transform.rowcol(transform, x, y), dtype=int)
    south_up = transform.e > 0 and grid != "rotated"
    for patch, row, column in zip(patches, rows, columns, strict=True):
        top = row - 7 if south_up else row - 8
        window = values[:, top : top + 16, column - 8 : column + 8]
        assert np.array_equal(patch, window[:, ::-1] if south_up else window)
    assert modality.encoder(8)(torch.from_numpy(patches)).shape == (50, 8)


def test_large_rasters_are_read_by_windows_with_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = noise(2, 90, 90)
    values[:, :20] = -1
    path = write(tmp_path / "r.tif", values, from_origin(10, 50, 0.1, 0.1), nodata=-1)
    chosen = {"name": "own", "samples": 200, "beside": ()}
    read = [locties.read_modality(path, patch=patch, **chosen) for patch in (16, None)]
    monkeypatch.setattr(pixels, "_WHOLE", 0)
    again = [locties.read_modality(path, patch=patch, **chosen) for patch in (16, None)]
    for one, other in zip(read, again, strict=True):
        index = torch.arange(len(one.lonlat))
        assert one.lonlat.equal(other.lonlat)
        assert one.samples[index].equal(other.samples[index])


@pytest.mark.parametrize("patch", [None, 16])
@pytest.mark.parametrize("way", ["nodata", "nan", "mask", "alpha", "one band"])
def test_nodata_never_becomes_a_number(way: str, patch: int | None, tmp_path: Path) -> None:
    values = noise(2, 80, 80)
    hole = np.zeros((80, 80), bool)
    hole[:40, 20:] = True
    options = {}
    if way == "nodata":
        values[:, hole], options = -9999, {"nodata": -9999}
    elif way in ("nan", "one band"):
        values[0 if way == "one band" else slice(None), hole] = np.nan
    path = write(tmp_path / "holes.tif", values, from_origin(10, 50, 0.1, 0.1), **options)
    if way == "mask":
        with rasterio.open(path, "r+") as raster:
            raster.write_mask(~hole)
    elif way == "alpha":
        alpha = np.where(hole, 0, 255)[None].astype(np.uint8)
        bands = np.concatenate([np.full((3, 80, 80), 7, np.uint8), alpha])
        write(path, bands, from_origin(10, 50, 0.1, 0.1), photometric="RGB", alpha="YES")
    modality = locties.read_modality(path, name="own", patch=patch, beside=())
    sampled = modality.samples[torch.arange(len(modality.lonlat))]
    assert len(sampled) > 200
    assert sampled.shape[1] == (3 if way == "alpha" else 2)
    assert sampled.isfinite().all()
    assert sampled.abs().max() < 10
    columns, rows = ((modality.lonlat - torch.tensor([10.0, 50.0])) / torch.tensor([0.1, -0.1])).T
    # A patch reaches from 8 pixels before its own to 7 after it.
    touching = (rows < (48 if patch else 40)) & (columns >= (13 if patch else 20))
    assert not touching.any()
    if patch is None:
        assert ((rows < 40) & (columns < 20)).any()


def test_points_are_uniform_by_area_whatever_the_projection(tmp_path: Path) -> None:
    world = write(tmp_path / "w.tif", noise(1, 180, 360), from_origin(-180, 90, 1, 1))
    mercator = write(
        tmp_path / "m.tif", noise(1, 400, 400), from_origin(-2e7, 2e7, 1e5, 1e5), "EPSG:3857"
    )
    for path, top in ((world, 90.0), (mercator, 84.7)):
        modality = locties.read_modality(path, name="own", samples=4000, beside=())
        height = torch.sin(torch.deg2rad(modality.lonlat[:, 1])).abs()
        limit = np.sin(np.radians(top))
        # The mean of |sin(latitude)| over the globe is half of its range; validation blocks and
        # chance move it by some per cent. Uniform in pixels it would be .64 and .76.
        assert height.mean().item() == pytest.approx(limit / 2, abs=0.03), path.name


def test_a_raster_keeps_to_its_cells_and_validation_to_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "w.tif", noise(1, 360, 720), from_origin(-180, 90, 0.5, 0.5))
    modality = locties.read_modality(path, name="own", samples=2000, validation=500)
    left = {sampling.OWNERS.index(name) for name in ("night_lights", "temperature", "text")}
    assert set(sampling.owner(modality.lonlat).tolist()) == left
    assert (sampling.owner(modality.validation.lonlat) == sampling.VALIDATION).all()
    assert (len(modality.lonlat), len(modality.validation.lonlat)) == (2000, 500)


def test_patches_go_on_across_the_date_line_on_a_global_raster(tmp_path: Path) -> None:
    values = noise(1, 60, 120)
    path = write(tmp_path / "w.tif", values, from_origin(-180, 90, 3, 3))
    modality = locties.read_modality(path, name="own", patch=16, beside=())
    columns = ((modality.lonlat[:, 0] + 180) / 3).long()
    crossing = (columns < 8) | (columns > 120 - 8)
    assert crossing.any()
    wide = np.concatenate([values] * 3, axis=2)
    for i in torch.nonzero(crossing)[:, 0].tolist():
        lon, lat = modality.lonlat[i].tolist()
        top, left = int((90 - lat) // 3) - 8, int((lon + 180) // 3) - 8 + 120
        window = wide[:, top : top + 16, left : left + 16]
        assert np.array_equal(modality.samples[torch.tensor(i)].numpy(), window)


def test_pixels_beyond_the_edge_of_the_earth_are_left_out(tmp_path: Path) -> None:
    path = write(
        tmp_path / "globe.tif",
        noise(1, 100, 100),
        from_origin(-7e6, 7e6, 1.4e5, 1.4e5),
        "+proj=ortho +lat_0=30 +lon_0=10 +R=6371000",
    )
    modality = locties.read_modality(path, name="own", beside=())
    assert modality.lonlat.isfinite().all()
    assert 1000 < len(modality.lonlat) < 10_000 * np.pi / 4


def test_bands_are_chosen_and_checked(tmp_path: Path) -> None:
    values = np.stack([np.full((50, 50), i, np.float32) for i in (1, 2, 3)])
    path = write(tmp_path / "b.tif", values, from_origin(10, 50, 0.1, 0.1))
    modality = locties.read_modality(path, name="own", bands=[3, 1], beside=())
    assert modality.samples[torch.tensor([0])].tolist() == [[3.0, 1.0]]
    with pytest.raises(ValueError, match=r"bands=\[4\]: the raster has bands 1 to 3"):
        locties.read_modality(path, name="own", bands=[4])
    with pytest.raises(ValueError, match="bands=1: give a list"):
        locties.read_modality(path, name="own", bands=1)
    with pytest.raises(ValueError, match="patch=32: the patch encoder reads 16"):
        locties.read_modality(path, name="own", patch=32)
    with pytest.raises(ValueError, match="pass bands"):
        locties.read_modality(path, name="own", columns=["ph"])
    with pytest.raises(ValueError, match="pass columns"):
        locties.read_modality(pd.DataFrame({"lon": [1.0], "lat": [2.0]}), name="own", patch=16)
