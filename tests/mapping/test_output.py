"""What a map writes: its pixels are its predictions, and nothing unfinished passes for whole."""

import json
import multiprocessing
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import rioxarray
import torch
import xarray

from locties.evaluation.splits import nearest_label_km
from locties.evaluation.tasks import Task
from locties.mapping import output
from locties.mapping.output import Outputs, window_of

EUROPE = (5.0, 43.0, 15.0, 50.0)
CLASSES = ("beech forest", "\x1bsteppe", "täiga $x$")


class Stand(Outputs):
    """A map whose predictions are a plain function of the place."""

    def __init__(self, kind: str = "regression", lonlat=None, pause: float = 0) -> None:
        rng = np.random.default_rng(0)
        lonlat = rng.uniform([6, 44], [14, 49], (50, 2)) if lonlat is None else np.asarray(lonlat)
        self.pause = pause
        self.metadata = {"encoder": "stand-in", "labels_sha256": "00ff", "coverage": 0.9, "seed": 0}
        if kind == "regression":
            target = lonlat[:, 1] / 10
            self.task = Task("pH [/]\x1b", lonlat, target, unit="pH")
        else:
            target = np.arange(len(lonlat)) % 3
            self.task = Task("biome", lonlat, target, kind, classes=CLASSES)

    def predict(self, lonlat) -> pd.DataFrame:
        time.sleep(self.pause)
        points = torch.as_tensor(np.asarray(lonlat, dtype=np.float64))
        x, y = points.numpy().T
        common = {
            "dissimilarity": np.abs(x),
            "trusted": x < 12,
            "nearest_label_km": nearest_label_km(points, self.task.lonlat),
        }
        if self.task.kind == "regression":
            value = y / 10 + np.sin(x)
            return pd.DataFrame({"value": value, "low": value - 1, "high": value + 2, **common})
        scores = np.stack([x, y, x + y], 1) % 1 + 0.1
        shares = scores / scores.sum(1, keepdims=True)
        names = np.array(CLASSES)
        return pd.DataFrame(
            {
                "value": names[shares.argmax(1)],
                **{f"p_{name}": shares[:, code] for code, name in enumerate(CLASSES)},
                "set": names[shares.argmax(1)],
                "set_size": (shares > 0.3).sum(1),
                **common,
            }
        )


def expected(fitted: Stand, lon: np.ndarray, lat: np.ndarray) -> dict[str, np.ndarray]:
    """The layers at pixel centres, each (H, W)."""
    frame = fitted.predict(np.stack(np.meshgrid(lon, lat), -1).reshape(-1, 2))
    layers = {name: frame[name] for name in ("value", "trusted", "nearest_label_km")}
    if fitted.task.kind == "regression":
        layers |= {"low": frame["low"], "high": frame["high"]}
    else:
        layers["value"] = frame["value"].map(CLASSES.index)
        layers["set_size"] = frame["set_size"]
        layers["probability"] = frame[[f"p_{name}" for name in CLASSES]].max(axis=1)
    shape = len(lat), len(lon)
    return {name: np.float32(column).reshape(shape) for name, column in layers.items()}


BANDS = {
    "regression": ("value", "low", "high", "trusted", "nearest_label_km"),
    "classification": ("value", "probability", "set_size", "trusted", "nearest_label_km"),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", BANDS)
def test_a_geotiff_is_cloud_optimised_and_holds_the_predictions(kind, tmp_path):
    fitted = Stand(kind)
    path = fitted.to_geotiff(
        tmp_path / "map.tif", bounds=EUROPE, resolution=0.02, sea=True, progress=False
    )
    assert list(tmp_path.iterdir()) == [path]
    with rasterio.open(path) as dataset:
        assert dataset.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert dataset.overviews(1) == [2]
        assert dataset.descriptions == BANDS[kind]
        assert dataset.bounds == pytest.approx(EUROPE, abs=1e-9)
        assert (dataset.crs.to_epsg(), dataset.shape) == (4326, (350, 500))
        assert np.isnan(dataset.nodata)
        lon, lat = window_of(fitted.task.lonlat.numpy(), EUROPE, 0.02).centres()
        np.testing.assert_allclose(dataset.xy(0, np.arange(500))[0], lon, atol=1e-9)
        np.testing.assert_allclose(dataset.xy(np.arange(350), 0)[1], lat, atol=1e-9)
        there = dict(zip(dataset.descriptions, dataset.read(), strict=True))
        units = dict(zip(dataset.descriptions, dataset.units, strict=True))
        tags = dataset.tags()
        names = dataset.tags(1).get("classes")
    for name, values in expected(fitted, lon, lat).items():
        np.testing.assert_array_equal(there[name], values, err_msg=name)
    assert units["nearest_label_km"] == "km"
    assert (tags["encoder"], tags["labels_sha256"]) == ("stand-in", "00ff")
    if kind == "regression":
        assert units["value"] == units["low"] == units["high"] == "pH"
    else:
        assert json.loads(names) == {"0": "beech forest", "1": r"\x1bsteppe", "2": "täiga $x$"}
    with rioxarray.open_rasterio(path, masked=True) as opened:
        assert opened.rio.crs.to_epsg() == 4326
        assert opened.attrs["long_name"] == BANDS[kind]


@pytest.mark.parametrize("kind", BANDS)
def test_a_store_follows_cf_and_is_exactly_what_predict_says(kind, tmp_path):
    fitted = Stand(kind)
    path = fitted.to_zarr(
        tmp_path / "map.zarr", bounds=EUROPE, resolution=0.02, sea=True, progress=False
    )
    there = xarray.open_zarr(path, decode_coords="all")
    assert set(there.data_vars) == set(BANDS[kind])
    for name, values in expected(fitted, there["lon"].values, there["lat"].values).items():
        np.testing.assert_array_equal(there[name].values, values, err_msg=name)
    assert there["value"].rio.crs.to_epsg() == 4326
    assert there["value"].rio.bounds() == pytest.approx(EUROPE)
    assert there.attrs["Conventions"].startswith("CF-")
    assert there["trusted"].attrs["flag_meanings"] == "no yes"
    if kind == "regression":
        assert there["low"].attrs["units"] == "pH"
        assert "\x1b" not in (path / "zarr.json").read_text()
    else:
        value = there["value"].attrs
        assert list(value["flag_values"]) == [0, 1, 2]
        assert value["flag_meanings"].split() == ["beech_forest", r"\x1bsteppe", "täiga_$x$"]
        assert json.loads(value["classes"])["2"] == "täiga $x$"


@pytest.mark.parametrize("kind", BANDS)
@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_the_sea_has_no_number_unless_asked(kind, ending, tmp_path):
    """Off Brittany: land in the east, sea in the west, one label out at sea."""
    labels = [[-5.62, 47.22], [-3, 48.2], [-2.5, 48.1], [-2, 48.0]]
    fitted = Stand(kind, labels)
    write = fitted.to_geotiff if ending == "tif" else fitted.to_zarr
    with pytest.warns(UserWarning, match="1 of 4 labels lie in the sea.*sea=True"):
        path = write(
            tmp_path / f"map.{ending}", bounds=(-6, 47, -1, 49), resolution=0.05, progress=False
        )
    if ending == "tif":
        with rioxarray.open_rasterio(path, masked=True) as opened:
            layers = list(opened.rename(x="lon", y="lat"))
    else:
        layers = [
            variable
            for _, variable in xarray.open_zarr(path, decode_coords="all").data_vars.items()
        ]
    assert len(layers) == 5
    for layer in layers:
        mapped = np.isfinite(layer)
        assert not mapped.sel(lon=-5, lat=47.5, method="nearest")
        assert mapped.sel(lon=-2.5, lat=48.1, method="nearest")
        assert mapped.sel(lon=-5.62, lat=47.22, method="nearest"), "the label's own pixel"
        assert 0.2 < float(mapped.mean()) < 0.7


def test_only_land_is_predicted(tmp_path, monkeypatch):
    counts = []
    predict = Stand.predict
    monkeypatch.setattr(
        Stand, "predict", lambda self, points: counts.append(len(points)) or predict(self, points)
    )
    path = Stand(lonlat=[[-2.5, 48.1], [-2.4, 48.1], [-2.5, 48.2]]).to_geotiff(
        tmp_path / "map.tif", bounds=(-6, 47, -1, 49), resolution=0.05, progress=False
    )
    with rasterio.open(path) as dataset:
        mapped = int(np.isfinite(dataset.read(1)).sum())
    assert sum(counts) == mapped + 3  # and a sample of the labels, which tells maps apart
    assert max(counts) <= output.TILE**2


def test_without_the_land_mask_the_message_names_the_extra_or_the_sea(tmp_path, monkeypatch):
    def absent(*_):
        raise ModuleNotFoundError('building the data needs pvlib: pip install "locties[data]"')

    monkeypatch.setattr("locties.data.embedded.load", absent)
    with pytest.raises(ModuleNotFoundError, match=r"locties\[data\].*sea=True"):
        Stand().to_geotiff(tmp_path / "map.tif", progress=False)
    Stand().to_geotiff(tmp_path / "map.tif", resolution=0.1, sea=True, progress=False)


# ------------------------------------------------------------------------------------ the window


@pytest.mark.parametrize(
    ("labels", "inside"),
    [
        ([[5, 47], [15, 55]], (4.1, 46.1, 15.9, 55.9)),
        ([[179, -18], [-179, -16]], (178.9, -18.1, 181.1, -15.9)),
        ([[-170, -60], [-60, 0], [60, 30], [170, 70]], (-180, -73, 180, 83)),
        ([[10, 50], [10, 50]], (9.991, 49.991, 10.009, 50.009)),
        ([[13.4, 52.5], [13.43, 52.53]], (13.391, 52.491, 13.439, 52.539)),
        ([[0, -90], [10, 90]], (-17.5, -90, 27.5, 90)),
    ],
)
def test_by_default_a_map_has_the_labels_a_margin_and_a_usual_number_of_pixels(labels, inside):
    window = window_of(np.array(labels, float))
    west, south, east, north = window.bounds
    assert west <= inside[0] + 1e-9
    assert south <= inside[1] + 1e-9
    assert east >= inside[2] - 1e-9
    assert north >= inside[3] - 1e-9
    assert 95_000 < np.prod(window.shape) < 260_000
    lon, lat = window.centres()
    assert (len(lat), len(lon)) == window.shape
    assert np.abs(lat).max() < 90
    assert float(f"{window.resolution:.2g}") == pytest.approx(window.resolution)


def test_across_the_antimeridian_a_map_is_in_one_piece(tmp_path):
    fitted = Stand(lonlat=[[179, -18], [-179, -16]])
    path = fitted.to_zarr(
        tmp_path / "fiji.zarr", bounds=(177, -19, -179, -16), resolution=0.1, sea=True
    )
    there = xarray.open_zarr(path, decode_coords="all")
    assert there.rio.bounds() == pytest.approx((177, -19, 181, -16))
    lon = there["lon"].to_numpy()
    assert (np.diff(lon) > 0).all()
    np.testing.assert_array_equal(
        there["value"].values, expected(fitted, lon, there["lat"].values)["value"]
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"bounds": (15, 43, 5, 91)}, "91.*west, south, east and north"),
        ({"bounds": (5, 43, 15)}, r"\(5, 43, 15\).*west, south, east"),
        ({"bounds": "5,43,15"}, "5,43,15.*west, south, east"),
        ({"bounds": (5, 43, 5, 50)}, "antimeridian"),
        ({"bounds": (5, 50, 15, 43)}, "south < north"),
        ({"bounds": (5, 43, float("nan"), 50)}, "nan"),
        ({"bounds": (-190, 43, 15, 50)}, r"-190.*\[-180, 180\]"),
        ({"resolution": 0.07}, r"0\.07.*0\.0700117"),
        ({"resolution": 0}, r"resolution=0:.*degrees"),
        ({"resolution": 1e-5, "bounds": EUROPE}, r"1e-05.*700,000 x 1,000,000.*resolution=0\.001"),
    ],
)
@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_what_the_user_got_wrong_is_said_before_any_work(options, said, ending, tmp_path):
    fitted = Stand(pause=60)
    write = fitted.to_geotiff if ending == "tif" else fitted.to_zarr
    with pytest.raises(ValueError, match=said):
        write(tmp_path / f"map.{ending}", **options, progress=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("proposed", [0.0700117, 0.00833333, 0.700389, 0.001])
def test_a_resolution_that_a_message_proposes_is_taken(proposed):
    window_of(np.array([[5.0, 47.0]]), (5, 47, 6, 48), proposed)


@pytest.mark.parametrize(("method", "name"), [("to_geotiff", "a.zarr"), ("to_zarr", "a.tif")])
def test_an_ending_is_what_it_promises(method, name, tmp_path):
    with pytest.raises(ValueError, match=f"{name}.*ends in"):
        getattr(Stand(), method)(tmp_path / name)


# ------------------------------------------------------------- interrupted, and others' files

HAS_FORK = "fork" in multiprocessing.get_all_start_methods()
processes = multiprocessing.get_context("fork" if HAS_FORK else None)


def write(path: Path, pause: float = 0, **options) -> None:
    fitted = Stand(pause=pause)
    to = fitted.to_geotiff if path.suffix == ".tif" else fitted.to_zarr
    to(path, **{"bounds": EUROPE, "resolution": 0.01, "sea": True, "progress": False} | options)


def files(path: Path) -> dict[str, bytes]:
    if path.is_file():
        return {"": path.read_bytes()}
    names = [name for name in path.rglob("*") if name.is_file() and ".locties" not in name.parts]
    return {str(name.relative_to(path)): name.read_bytes() for name in names}


@pytest.mark.slow
@pytest.mark.skipif(not HAS_FORK, reason="this system has no fork")
@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_killed_and_resumed_it_is_the_same_to_the_bit(ending, tmp_path):
    path = tmp_path / f"map.{ending}"
    folder = path if ending == "zarr" else tmp_path / "map.tif.unfinished"
    note = folder / ".locties" / "note.json"

    def done() -> int:
        return len(json.loads(note.read_text())["done"]) if note.exists() else 0

    process = processes.Process(target=write, args=(path, 0.05))
    process.start()
    end = time.monotonic() + 60
    while done() < 2:
        assert time.monotonic() < end
        time.sleep(0.005)
    with pytest.raises(RuntimeError, match=f"in use by process {process.pid}"):
        write(path)
    process.kill()
    process.join()
    assert 2 <= done() < 12
    with pytest.raises(FileExistsError, match=r"bounds.*another path, or delete"):
        write(path, bounds=(5, 43, 14, 50))
    write(path)
    write(tmp_path / f"again.{ending}")
    assert files(path) == files(tmp_path / f"again.{ending}")
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_the_same_map_is_left_and_another_refused(ending, tmp_path):
    path = tmp_path / f"map.{ending}"
    options = {"resolution": 0.1}
    write(path, **options)
    before, time_before = files(path), path.stat().st_mtime_ns
    write(path, **options)
    assert path.stat().st_mtime_ns == time_before
    for changed, name in (({"resolution": 0.2}, "resolution"), ({"sea": False}, "sea")):
        with pytest.raises(FileExistsError, match=f"{path}.*{name}.*another path, or delete"):
            write(path, **options | changed)
    other = Stand()
    other.metadata["labels_sha256"] = "11ff"
    with pytest.raises(FileExistsError, match=r"labels_sha256.*another path, or delete"):
        (other.to_geotiff if ending == "tif" else other.to_zarr)(
            path, bounds=EUROPE, sea=True, resolution=0.1, progress=False
        )
    assert files(path) == before


@pytest.mark.parametrize("name", ["map.tif", "map.zarr"])
def test_somebody_elses_file_is_left_alone(name, tmp_path):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"{name}.*another path"):
        write(tmp_path / name, resolution=0.1)
    assert (tmp_path / name).read_text() == "mine"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_map(tmp_path):
    """1.3 million pixels, five bands of float32, are 26 MB; a tile with its predictions is 10."""
    write(tmp_path / "warm.tif", resolution=0.1)
    tracemalloc.start()
    try:
        write(tmp_path / "map.tif", bounds=(0, 40, 20, 50), resolution=0.0125)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    with rasterio.open(tmp_path / "map.tif") as dataset:
        assert np.prod(dataset.shape) == 1_280_000
    assert peak < 20e6
