"""Rasters: where they lie, what counts as data, and what is refused."""

import http.server
import shlex
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import rasterio.shutil
import rasterio.vrt
import rasterio.warp
import rioxarray
import torch
import xarray
from command import run_here
from raster_files import noise, read, write
from rasterio.control import GroundControlPoint
from rasterio.rio.main import main_group
from rasterio.rpc import RPC
from rasterio.transform import from_origin

import locties
from locties.data.manifest import DataError


def test_rasters_that_lie_nowhere_or_are_none_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", noise(1, 50, 50), from_origin(10, 50, 0.1, 0.1))
    with pytest.raises(DataError, match="there is no file"):
        locties.read_modality(tmp_path / "absent.tif", name="own")
    (tmp_path / "broken.tif").write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="cannot be read as a raster"):
        locties.read_modality(tmp_path / "broken.tif", name="own")
    empty = np.full((1, 50, 50), np.nan, np.float32)
    path = write(tmp_path / "empty.tif", empty, from_origin(10, 50, 0.1, 0.1))
    with pytest.raises(ValueError, match=r"of \d+ pixels in its cells none has data"):
        locties.read_modality(path, name="own", beside=())
    path = write(tmp_path / "small.tif", noise(1, 10, 10), from_origin(10, 50, 0.1, 0.1))
    with pytest.raises(ValueError, match=r"none has 16x16 pixels with data.*leave patch out"):
        locties.read_modality(path, name="own", patch=16, beside=())
    path = write(tmp_path / "metres.tif", noise(1, 50, 50), from_origin(4e5, 5e6, 100, 100))
    with pytest.raises(ValueError, match="EPSG:4326 cannot be its CRS"):
        locties.read_modality(path, name="own")


def test_a_data_array_gives_what_its_geotiff_gives(tmp_path: Path) -> None:
    values = noise(2, 50, 60)
    values[:, :10] = np.nan
    path = write(tmp_path / "a.tif", values, from_origin(10, 50, 0.1, 0.1))
    lon, lat = 10.05 + 0.1 * np.arange(60), 49.95 - 0.1 * np.arange(50)
    array = xarray.DataArray(values, {"lat": lat, "lon": lon}, ("band", "lat", "lon"))
    chosen = {"name": "own", "patch": 16, "beside": ()}
    expected = locties.read_modality(path, **chosen)
    for same in (array, array.transpose("lat", "lon", "band")):
        modality = locties.read_modality(same, **chosen)
        assert torch.allclose(modality.lonlat, expected.lonlat, atol=1e-5)
        index = torch.arange(len(expected.lonlat))
        assert modality.samples[index].equal(expected.samples[index])
    one = locties.read_modality(array[0], name="own", beside=())
    assert one.samples[torch.tensor([0])].shape == (1, 1)


def test_a_raster_that_names_another_file_is_not_followed(tmp_path: Path) -> None:
    write(tmp_path / "real.tif", np.ones((1, 40, 40)), from_origin(10, 50, 0.1, 0.1))
    path = tmp_path / "soil.tif"
    with rasterio.open(tmp_path / "real.tif") as real, rasterio.vrt.WarpedVRT(real) as warped:
        rasterio.shutil.copy(warped, path, driver="VRT")
    with rasterio.open(path) as followed:
        assert followed.read().any(), "GDAL itself follows it"
    with pytest.raises(DataError, match=r"soil\.tif cannot be read.*gdal_translate"):
        locties.read_modality(path, name="soil", beside=())


# ------------------------------------------------------- metadata that disagrees with coordinates


def own_places(west: float = 0, south: float = 30, step: float = 0.25) -> xarray.DataArray:
    """A GeoTIFF as rioxarray opens it, whose two bands hold each pixel's longitude and latitude."""
    lon, lat = west + step * (np.arange(160) + 0.5), south + step * (np.arange(120)[::-1] + 0.5)
    with rasterio.MemoryFile() as file:
        profile = {"driver": "GTiff", "count": 2, "height": 120, "width": 160, "dtype": "float32"}
        with file.open(
            **profile, crs="EPSG:4326", transform=from_origin(west, south + 120 * step, step, step)
        ) as raster:
            raster.write(np.stack(np.meshgrid(lon, lat)))
        with file.open() as raster:
            return rioxarray.open_rasterio(raster).load()


def to_180(array: xarray.DataArray) -> xarray.DataArray:
    moved = array.assign_coords(x=(array.x + 180) % 360 - 180)
    return moved.sortby("x")


def swath(array: xarray.DataArray) -> xarray.DataArray:
    lon, lat = array.to_numpy()
    bare = array.drop_vars(["x", "y", "spatial_ref"])
    return bare.assign_coords(lon=(("y", "x"), lon), lat=(("y", "x"), lat))


MOVED: dict[str, Callable[[xarray.DataArray], xarray.DataArray]] = {
    "as opened": lambda a: a,
    "every 4th": lambda a: a[:, ::4, ::4],
    "a part": lambda a: a[:, 40:90, 70:],
    "coarsened": lambda a: a.coarsen(x=4, y=4).mean(),
    "sorted by y": lambda a: a.sortby("y"),
    "mirrored": lambda a: a.isel(x=slice(None, None, -1)),
    "turned by 180 degrees": lambda a: a.isel(x=slice(None, None, -1), y=slice(None, None, -1)),
    "transposed": lambda a: a.transpose("x", "y", "band"),
    "rolled with its coordinates": lambda a: a.roll(x=40, roll_coords=True).assign_coords(
        x=lambda moved: moved.x % 40
    )[:, :, 40:],
    "shifted to the date line": lambda a: (
        a + xarray.DataArray([160, 0], dims="band")
    ).assign_coords(x=a.x + 160),
    "wrapped at the date line": lambda a: (
        a + xarray.DataArray([160, 0], dims="band")
    ).assign_coords(x=(a.x + 160 + 180) % 360 - 180),
    "interpolated": lambda a: a.interp(x=np.arange(1, 39, 0.5), y=np.arange(59, 31, -0.5)),
    "float32 coordinates": lambda a: a.assign_coords(x=a.x.astype("f4"), y=a.y.astype("f4")),
    "whole degrees": lambda a: a.interp(x=np.arange(1, 39), y=np.arange(31, 59)),
    "lon and lat": lambda a: a.rename(x="lon", y="lat"),
    "Longitude and Latitude": lambda a: a.rename(x="Longitude", y="Latitude").drop_vars(
        "spatial_ref"
    ),
    "lon and lat beside numbered rows": lambda a: a.rename(x="i", y="j").assign_coords(
        lon=("i", a.x.to_numpy()), lat=("j", a.y.to_numpy())
    ),
    "units of degrees": lambda a: a.drop_vars("spatial_ref").assign_coords(
        x=a.x.assign_attrs(units="degrees_east")
    ),
    "steps like Gaussian latitudes": lambda a: a.interp(y=np.sin(np.linspace(-1, 1, 60)) * 14 + 45),
    "longitudes of each pixel beside": lambda a: a.assign_coords(
        lon=(("y", "x"), a[0].data), lat=(("y", "x"), a[1].data)
    ),
    "lazily": lambda a: a.chunk(x=50),
    "one time": lambda a: a.expand_dims(time=[0]),
}


@pytest.mark.filterwarnings("ignore:angle from rectified:UserWarning")
@pytest.mark.parametrize("patch", [None, 16])
@pytest.mark.parametrize("way", MOVED)
def test_samples_lie_where_the_coordinates_say(way: str, patch: int | None) -> None:
    if way == "lazily":
        pytest.importorskip("dask")
    array = MOVED[way](own_places())
    places, values = read(array, samples=300, patch=patch)
    assert len(places) > 100
    middle = values[:, :, 8, 8] if patch else values
    apart = (middle - places + 180) % 360 - 180
    assert np.abs(apart).max() < 0.01
    if patch:  # west to east and north to south
        assert (np.diff(values[:, 0], axis=2) > 0).all()
        assert (np.diff(values[:, 1], axis=1) < 0).all()


def test_easting_and_northing_are_read_in_the_crs() -> None:
    array = own_places().rio.reproject("EPSG:32633", resolution=20_000)
    array = array.where(array != array.rio.nodata).rename(x="Easting", y="northing")
    places, values = read(array[:, ::2])
    assert len(places) > 1000
    assert np.abs(places - values).max() < 0.25, "half a pixel of the raster before"


REFUSED: dict[str, tuple[Callable[[xarray.DataArray], xarray.DataArray], str]] = {
    "pixel numbers": (
        lambda a: a.assign_coords(x=np.arange(160), y=np.arange(120)),
        "count columns and rows.*assign_coords",
    ),
    "pixel numbers of an image": (
        lambda a: a.assign_coords(x=np.arange(160) + 0.5, y=np.arange(120) + 0.5),
        "count columns and rows",
    ),
    "no coordinates": (lambda a: a.drop_vars(["x", "y"]), "assign_coords"),
    "no x": (lambda a: a.rename(x="station"), "rename"),
    "no CRS": (lambda a: a.drop_vars("spatial_ref"), r"no CRS.*write_crs\('EPSG:4326'\)"),
    "gap": (lambda a: a.isel(x=[*range(40), *range(60, 90)]), r"x is not evenly spaced.*interp"),
    "shuffled": (lambda a: a.isel(y=[3, 1, 2, 0, *range(4, 90)]), r"sortby\('y'\)"),
    "repeated": (lambda a: xarray.concat([a, a[:, :, :9]], "x"), r"drop_duplicates\('x'\)"),
    "missing coordinate": (
        lambda a: a.assign_coords(x=a.x.where(a.x > 5)),
        "finite numbers.*assign_coords",
    ),
    "one row": (lambda a: a[:, 5:6], "two or more"),
    "text": (lambda a: a.assign_coords(x=a.x.astype(str)), "finite numbers"),
    "axes swapped": (lambda a: a.assign_coords(y=a.y + 60), "EPSG:4326 cannot be its CRS"),
    "metres in degrees": (
        lambda a: a.assign_coords(x=a.x * 1e4, y=a.y),
        "EPSG:4326 cannot be its CRS",
    ),
    "degrees in metres": (lambda a: a.rio.write_crs("EPSG:32633"), "EPSG:32633 is in metres"),
    "lon and lat in metres": (
        lambda a: a.rename(x="lon", y="lat").rio.write_crs("EPSG:32633"),
        r"EPSG:32633.*write_crs",
    ),
    "on the Moon": (
        lambda a: a.rio.write_crs("+proj=longlat +R=1737400 +no_defs"),
        "nowhere on Earth",
    ),
    "stale longitudes of each pixel": (
        lambda a: a.assign_coords(
            lon=(("y", "x"), a[0].data[:, ::-1]), lat=(("y", "x"), a[1].data)
        ),
        "drop_vars",
    ),
    "a fourth dimension": (lambda a: a.expand_dims(time=[0, 1]), r"isel\(\)"),
    "complex": (lambda a: a + 1j, "complex"),
    "dates": (lambda a: a.astype("datetime64[s]"), "datetime64"),
    "a track": (
        lambda a: xarray.DataArray(
            np.arange(50.0), {"lon": ("t", np.arange(50)), "lat": ("t", np.arange(50))}, ("t",)
        ),
        "same dimension.*to_dataframe",
    ),
}


@pytest.mark.parametrize("way", REFUSED)
def test_a_data_array_without_a_place_is_refused(way: str) -> None:
    change, words = REFUSED[way]
    with pytest.raises(ValueError, match=words):
        read(change(own_places()))


def test_a_dataset_is_refused() -> None:
    with pytest.raises(ValueError, match="a Dataset: pass one"):
        read(own_places().to_dataset(name="t"))


def test_what_is_proposed_for_a_data_array_works() -> None:
    array = own_places()
    gap = array.isel(x=[*range(40), *range(60, 90)])
    remedies = [
        array.drop_vars("spatial_ref").rio.write_crs("EPSG:4326"),
        gap.interp(x=np.arange(0.5, 9, 0.25)),
        array.isel(y=[3, 1, 2, 0, *range(4, 90)]).drop_duplicates("y").sortby("y"),
        xarray.concat([array, array[:, :, :9]], "x").drop_duplicates("x").sortby("x"),
        array.rio.write_crs("EPSG:32633").rio.write_crs("EPSG:4326"),
    ]
    for mended in remedies:
        places, values = read(mended, samples=100)
        assert np.abs(places - values).max() < 0.01
    with pytest.raises(ValueError, match=r"lon and lat, of two dimensions.*to_dataframe"):
        read(swath(array))
    frame = swath(array).sel(band=1).to_dataframe("value").reset_index()
    places, values = read(frame, columns=["value"], samples=100)
    assert np.abs(places[:, 0] - values[:, 0]).max() < 0.01


# --------------------------------------------------------------------- files that lie nowhere


def bare(path: Path, **options) -> Path:
    """A GeoTIFF without geotransform, unless the options have one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        profile = {"driver": "GTiff", "count": 1, "height": 40, "width": 50, "dtype": "float32"}
        with rasterio.open(path, "w", **profile, **options) as raster:
            raster.write(noise(1, 40, 50))
    return path


CORNERS = [
    GroundControlPoint(row, column, 10 + column / 25, 50 - row / 40)
    for row in (0, 40)
    for column in (0, 50)
]
CAMERA = RPC(
    **{f"{what}_{part}": 1.0 for what in ("height", "lat", "long", "line", "samp")
       for part in ("off", "scale")},
    **{f"{what}_{part}_coeff": [1.0] * 20 for what in ("line", "samp") for part in ("num", "den")},
)  # fmt: skip
NOWHERE = {
    "neither": ({}, "no geotransform.*--transform"),
    "a CRS alone": ({"crs": "EPSG:4326"}, "no geotransform.*--transform"),
    "a projected CRS alone": ({"crs": "EPSG:32633"}, "no geotransform.*--transform"),
    "a geotransform alone": ({"transform": from_origin(10, 50, 1, 1)}, "no CRS.*--crs EPSG:4326"),
    "control points": ({"gcps": CORNERS, "crs": "EPSG:4326"}, "control point.*gdalwarp -t_srs"),
    "a camera": ({"rpcs": CAMERA}, "RPC.*gdalwarp -rpc"),
    "a local CRS": (
        {"crs": 'LOCAL_CS["site",UNIT["metre",1]]', "transform": from_origin(1e5, 1e5, 9, 9)},
        "nowhere on Earth",
    ),
    "degrees in metres": (
        {"crs": "EPSG:32633", "transform": from_origin(10, 50, 0.1, 0.1)},
        "EPSG:32633 is in metres",
    ),
    "too many longitudes": (
        {"crs": "EPSG:4326", "transform": from_origin(-180, 50, 30, 0.1)},
        "cannot be its CRS",
    ),
}


@pytest.mark.parametrize("way", NOWHERE)
def test_a_raster_that_lies_nowhere_is_refused(way: str, tmp_path: Path) -> None:
    options, words = NOWHERE[way]
    path = bare(tmp_path / "a.tif", **options)
    with pytest.raises(ValueError, match=rf"(?s){words}"):
        read(path)


def ours(said: pytest.WarningsRecorder) -> str:
    """The first warning that is not one of old packages about their own code."""
    return next(str(each.message) for each in said if each.category is UserWarning)


def rio(*arguments: object) -> None:
    main_group.main([str(argument) for argument in arguments], "rio", standalone_mode=False)


def test_what_is_proposed_for_a_file_works(tmp_path: Path) -> None:
    path = bare(tmp_path / "a b.tif")
    rio("edit-info", path, "--transform", "[0.1, 0, 10, 0, -0.1, 50]")
    with pytest.raises(ValueError, match="no CRS"):
        read(path)
    rio("edit-info", path, "--crs", "EPSG:4326")
    places, _ = read(path)
    assert places.min(0) == pytest.approx([10, 46], abs=0.2)
    codes = noise(1, 40, 50)
    codes[0, ::3] = -9999
    write(path, codes, from_origin(10, 50, 0.1, 0.1))
    with pytest.warns(UserWarning, match=r"-9999\.0 in 3") as said:
        read(path)
    rio(*shlex.split(ours(said).rpartition(": rio ")[2]))
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert read(path)[1].min() > -10


# -------------------------------------------------------------------- files of several variables


@pytest.mark.parametrize("name", ["era5.nc", "deep.h5", "era5.zarr"])
def test_variables_of_a_file_are_named(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / name
    grid = {"latitude": np.arange(50.0, 40, -1), "longitude": np.arange(350.0, 370)}
    both = xarray.Dataset({key: (tuple(grid), noise(1, 10, 20)[0]) for key in ("t2m", "d2m")}, grid)
    if name == "era5.nc":
        both.to_netcdf(path, engine="scipy")
    elif name == "era5.zarr":
        both.to_zarr(path)
    else:
        with h5py.File(path, "w") as file:
            file["land/t2m"] = both["t2m"].to_numpy()
            file["far"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(DataError, match=r"xarray\.open_dataset\(.*\)\['[td]2m'\]") as error:
        read(path)
    assert ("group='land'" in str(error.value)) == (name == "deep.h5")
    if name == "deep.h5":
        return
    proposed = str(error.value).partition(" as ")[2].partition(". On")[0]
    places, _ = read(eval(proposed, {"xarray": xarray}))
    assert places[:, 0].min() == pytest.approx(-10, abs=4)
    before, _, command = (
        str(error.value).partition("make a GeoTIFF of it, as ")[2].rpartition("rio ")
    )
    if before:
        monkeypatch.chdir(tmp_path)
        run_here(before.removesuffix(" && "))
    command = command.removesuffix(" does")
    rio(*shlex.split(command)[:-1], tmp_path / "t2m.tif")
    rio("edit-info", tmp_path / "t2m.tif", "--crs", "EPSG:4326")
    assert np.abs(np.sort(read(tmp_path / "t2m.tif")[0], 0) - np.sort(places, 0)).max() < 1e-4


def test_gdals_name_of_a_variable_points_to_xarray() -> None:
    for name in (
        "NETCDF:era5.nc:t2m",
        'NETCDF:"a b.nc":t2m',
        "HDF5:a.h5://t2m",
        "ZARR:a.zarr:/t2m",
    ):
        with pytest.raises(ValueError, match=r"open_dataset\(.*\)\['t2m'\]"):
            read(name)


# -------------------------------------------------------------------------------- what is data


@pytest.mark.parametrize("patch", [None, 16])
@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("float32", -9999.0),
        ("float32", -3.4028234663852886e38),
        ("float32", 1e20),
        ("float64", -99999.0),
        ("int16", -32768),
        ("int16", -9999),
        ("uint16", 65535),
        ("int32", -2147483648),
        ("uint8", 255),
    ],
)
def test_nodata_that_is_not_declared_is_said(
    kind: str, code: float, patch: int | None, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).integers(1, 60, (1, 60, 60)).astype(kind)
    values[:, :20, :40] = code
    path = write(tmp_path / "a.tif", values, from_origin(10, 50, 0.1, 0.1))
    with pytest.warns(UserWarning, match=r"band 1 .* in [\d.]+% of the pixels.*--nodata=") as said:
        read(path, patch=patch)
    assert float(ours(said).rpartition("--nodata=")[2]) == pytest.approx(code)
    array = xarray.DataArray(
        values[0], {"lat": 50 - np.arange(60) / 10, "lon": np.arange(60) / 10}, ("lat", "lon")
    )
    with pytest.warns(UserWarning, match=r"array\.where"):
        read(array, patch=patch)
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        write(path, values, from_origin(10, 50, 0.1, 0.1), nodata=code)
        for mended in (
            path,
            array.where(array != code),
            array.assign_attrs(_FillValue=code),
            array.assign_attrs(missing_value=code),
            array.rio.set_nodata(code),
        ):
            found = read(mended, patch=patch)[1]
            assert found.min() >= 1
            assert found.max() < 60


def test_ordinary_values_are_not_taken_for_nodata(tmp_path: Path) -> None:
    values = np.random.default_rng(0).gamma(2, 300, (3, 60, 60)).astype(np.float32) - 30
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        read(write(tmp_path / "a.tif", values, from_origin(10, 50, 0.1, 0.1)))


def test_scale_and_offset_are_applied_once(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(2500, 3000, (2, 40, 40)).astype(np.int16)
    stored[:, :9] = -9999
    path = write(tmp_path / "a.tif", stored, from_origin(10, 50, 0.1, 0.1), nodata=-9999)
    with rasterio.open(path, "r+") as raster:
        raster.scales, raster.offsets = (0.1, 1), (-273.15, 0)
    for source in (path, rioxarray.open_rasterio(path, mask_and_scale=True)):
        _, values = read(source, bands=[2, 1])
        assert 2500 <= values[:, 0].min() < values[:, 0].max() <= 3000
        assert -24 < values[:, 1].min() < values[:, 1].max() < 27
    one = xarray.DataArray(
        stored[0], {"lat": 50 - np.arange(40) / 10, "lon": np.arange(40) / 10}, ("lat", "lon")
    ).assign_attrs(scale_factor=0.1, add_offset=-273.15, _FillValue=np.int16(-9999))
    for patch in (None, 16):
        assert -24 < read(one, patch=patch)[1].min() < read(one, patch=patch)[1].max() < 27
    decoded = xarray.decode_cf(one.to_dataset(name="t"))["t"]
    assert np.allclose(np.sort(read(decoded)[1], 0), np.sort(read(one)[1], 0), atol=1e-3)


@pytest.mark.parametrize("driver", ["GTiff", "PNG", "ENVI", "EHdr", "AAIGrid", "HFA"])
def test_every_format_gives_its_place_and_values(driver: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 200, (1, 40, 50)).astype(np.uint8)
    tif = write(tmp_path / "a.tif", values, from_origin(10, 50, 0.1, 0.1))
    endings = {"GTiff": "tiff", "ENVI": "bsq", "EHdr": "bil", "AAIGrid": "asc", "HFA": "img"}
    path = tmp_path / f"copy.{endings.get(driver, driver.lower())}"
    rasterio.shutil.copy(tif, path, driver=driver)
    for found, expected in zip(read(path), read(tif), strict=True):
        assert np.allclose(found, expected, atol=1e-5)


def test_codes_of_colours_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "cover.tif"
    values = np.random.default_rng(0).integers(1, 9, (1, 40, 40)).astype(np.uint8)
    write(path, values, from_origin(10, 50, 0.1, 0.1), photometric="palette")
    with rasterio.open(path, "r+") as raster:
        raster.write_colormap(1, {i: (i, 20 * i, 0, 255) for i in range(9)})
    with pytest.warns(UserWarning, match="band 1 has a table of colours"):
        read(path)


def test_colours_are_read_without_their_alpha(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 40, 40)).astype(np.uint8)
    values[3, :20] = 0
    path = write(
        tmp_path / "a.tif", values, from_origin(10, 50, 0.1, 0.1), photometric="RGB", alpha="YES"
    )
    places, found = read(path)
    assert found.shape[1] == 3
    assert places[:, 1].max() < 48
    with pytest.raises(ValueError, match=r"1 \(red\), 2 \(green\), 3 \(blue\), 4 \(alpha\)"):
        read(path, bands=[5])


@pytest.mark.parametrize("kind", ["complex64", "complex128", "complex_int16"])
def test_complex_numbers_are_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "slc.tif"
    profile = {"driver": "GTiff", "count": 1, "height": 40, "width": 40, "dtype": kind}
    with rasterio.open(
        path, "w", **profile, crs="EPSG:4326", transform=from_origin(10, 50, 0.1, 0.1)
    ) as raster:
        raster.write(noise(1, 40, 40).astype(np.complex64))
    with pytest.raises(ValueError, match=r"slc\.tif, band 1, holds complex"):
        read(path)


# ------------------------------------------------------------------------- nothing else is read


@pytest.fixture
def server() -> Iterator[tuple[str, list[str]]]:
    """An address, and the paths that were asked for there."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_address[1]}", asked
        running.shutdown()


SOURCE = (
    "<SimpleSource><SourceFilename>{}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
)
VRT = (
    '<VRTDataset rasterXSize="40" rasterYSize="40"><SRS>EPSG:4326</SRS><GeoTransform>10,1,0,50,0,-1'
    "</GeoTransform>{}"
    '<VRTRasterBand dataType="Byte" band="1">' + SOURCE + "</VRTRasterBand></VRTDataset>"
)
ELSEWHERE = {
    "VRT": VRT.format("", "/vsicurl/{0}/a.tif"),
    "VRT of a file": VRT.format("", "{1}"),
    "WMS": '<GDAL_WMS><Service name="TMS"><ServerUrl>{0}/${{z}}</ServerUrl></Service></GDAL_WMS>',
    "WCS": "<WCS_GDAL><ServiceURL>{0}/wcs?</ServiceURL><CoverageName>a</CoverageName></WCS_GDAL>",
    "WMTS": "<GDAL_WMTS><GetCapabilitiesUrl>{0}/wmts</GetCapabilitiesUrl></GDAL_WMTS>",
    "GTI": "<GDALTileIndexDataset><IndexDataset>/vsicurl/{0}/a.gpkg</IndexDataset>"
    "</GDALTileIndexDataset>",
    "STACIT": '{{"stac_version": "1.0.0", "type": "FeatureCollection", "features": [{{"assets": '
    '{{"a": {{"href": "{0}/a.tif"}}}}}}]}}',
    "EEDAI": "EEDAI:a",
    "address": "/vsicurl/{0}/a.tif",
}


@pytest.mark.parametrize("ending", ["tif", "png", "img", "vrt", "asc", "xml"])
@pytest.mark.parametrize("way", ELSEWHERE)
def test_a_raster_that_names_what_lies_elsewhere_is_refused(
    way: str, ending: str, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = server
    path = tmp_path / f"soil.{ending}"
    path.write_text(ELSEWHERE[way].format(address, "/etc/passwd"))
    with pytest.raises(DataError, match=rf"soil\.{ending} cannot be read"):
        read(path)
    assert not asked


@pytest.mark.parametrize("sidecar", ["tif.msk", "tif.ovr", "tif.aux.xml"])
def test_what_lies_beside_a_raster_opens_nothing_else(
    sidecar: str, server: tuple[str, list[str]], tmp_path: Path
) -> None:
    address, asked = server
    write(tmp_path / "soil.tif", noise(1, 40, 40), from_origin(10, 50, 1, 1))
    flags = '<Metadata><MDI key="INTERNAL_MASK_FLAGS_1">2</MDI></Metadata>'
    text = VRT.format(flags, f"/vsicurl/{address}/a.tif")
    if sidecar.endswith("xml"):
        text = (
            '<PAMDataset><Metadata domain="OVERVIEWS"><MDI key="OVERVIEW_FILE">'
            f"/vsicurl/{address}/a.tif</MDI></Metadata></PAMDataset>"
        )
    (tmp_path / f"soil.{sidecar}").write_text(text)
    if sidecar.endswith("msk"):
        with pytest.raises(DataError, match=r"soil\.tif\.msk.*not a TIFF"):
            read(tmp_path / "soil.tif")
    else:
        assert len(read(tmp_path / "soil.tif", patch=16)[0])
    assert not asked


def test_addresses_are_never_opened(server: tuple[str, list[str]]) -> None:
    address, asked = server
    for name in (f"/vsicurl/{address}/a.tif", f"{address}/a.tif", f"/vsizip/{address}/a.zip/a.tif"):
        with pytest.raises((DataError, ValueError), match="there is no file"):
            read(name)
    assert not asked


@pytest.mark.parametrize("share", [0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_truncated_raster_is_named(share: float, tmp_path: Path) -> None:
    path = write(tmp_path / "cut.tif", noise(2, 180, 360), from_origin(-180, 90, 1, 1))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=r"cut\.tif cannot be read"):
        read(path)
