"""One's own data: tables and rasters as tasks and modalities, and what is said of bad ones."""

import re
import warnings
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow.parquet
import pyogrio
import pytest
import shapely
import torch
from command import run_here

import locties
from locties._util import extras
from locties.data import sampling
from locties.data.manifest import DataError
from locties.lonlat import CELL_DEGREES, cell_index
from locties.modality import Modality, profile_encoder
from locties.user_data import in_one_month

EUROPE = (5.0, 40.0, 25.0, 60.0)
WORLD = (-180.0, -55.0, 180.0, 70.0)


def table(n: int = 200, box: tuple[float, float, float, float] = EUROPE) -> pd.DataFrame:
    """Places within a box, west, south, east, north, and what was measured there."""
    rng = np.random.default_rng(1)
    west, south, east, north = box
    return pd.DataFrame(
        {
            "lon": rng.uniform(west, east, n),
            "lat": rng.uniform(south, north, n),
            "ph": rng.normal(6.5, 1, n),
            "clay": rng.uniform(0, 50, n),
            "crop": rng.choice(["rye", "oats", "maize"], n),
        }
    )


def points(frame: pd.DataFrame, crs: object = "EPSG:4326") -> geopandas.GeoDataFrame:
    geometry = geopandas.points_from_xy(frame["lon"], frame["lat"])
    return geopandas.GeoDataFrame(frame.drop(columns=["lon", "lat"]), geometry=geometry, crs=crs)


def degrees_apart(lonlat: torch.Tensor, expected: np.ndarray) -> float:
    return float(np.abs(lonlat.numpy() - expected).max())


# ------------------------------------------------------------------------------------- tables


@pytest.mark.parametrize("ending", ["csv", "csv.gz", "tsv", "parquet", "geojson", "gpkg", "geo"])
def test_every_format_gives_the_same_task(ending: str, tmp_path: Path) -> None:
    frame = table()
    path = tmp_path / f"soil.{ending.replace('geo', 'geo.parquet') if ending == 'geo' else ending}"
    match ending:
        case "csv" | "csv.gz":
            frame.to_csv(path, index=False)
        case "tsv":
            frame.to_csv(path, index=False, sep="\t")
        case "parquet":
            frame.to_parquet(path, index=False)
        case "geo":
            points(frame).to_parquet(path)
        case _:
            points(frame).to_file(path)
    task = locties.read_task(path, "ph", unit="pH")
    assert (task.name, task.kind, task.unit) == ("ph", "regression", "pH")
    assert degrees_apart(task.lonlat, frame[["lon", "lat"]].to_numpy()) < 1e-9
    assert np.allclose(task.target, frame["ph"], atol=1e-12)


@pytest.mark.parametrize(
    ("crs", "box"),
    [
        ("EPSG:3857", (-179.0, -80.0, 179.0, 80.0)),
        ("EPSG:32633", (12.0, 10.0, 18.0, 70.0)),
        ("EPSG:3413", (-179.9, 60.0, 179.9, 89.9)),
        ("EPSG:32601", (-182.0, 50.0, -178.0, 70.0)),  # across the date line
        ("EPSG:4258", EUROPE),
    ],
)
def test_points_in_any_crs_come_back_as_degrees(crs: str, box: tuple, tmp_path: Path) -> None:
    frame = table(box=box)
    projected = points(frame).to_crs(crs)
    projected.to_parquet(tmp_path / "projected.parquet")
    expected = frame[["lon", "lat"]].to_numpy(copy=True)
    expected[:, 0] = (expected[:, 0] + 180) % 360 - 180
    for source in (projected, tmp_path / "projected.parquet"):
        task = locties.read_task(source, "ph")
        assert degrees_apart(task.lonlat, expected) < 1e-6, crs


def test_geometry_comes_before_columns_of_coordinates() -> None:
    frame = table()
    shifted = points(frame).assign(lon=0.0, lat=0.0)
    assert (
        degrees_apart(locties.read_task(shifted, "ph").lonlat, frame[["lon", "lat"]].to_numpy())
        == 0
    )


def test_columns_that_are_named_come_before_a_geometry(tmp_path: Path) -> None:
    frame = table()
    shifted = points(frame).assign(x=frame["lon"] + 1, y=frame["lat"] + 1)
    shifted.to_parquet(tmp_path / "shifted.parquet")
    expected = frame[["lon", "lat"]].to_numpy() + 1
    for source in (shifted, tmp_path / "shifted.parquet"):
        task = locties.read_task(source, "ph", lon="x", lat="y")
        assert degrees_apart(task.lonlat, expected) == 0
    with pytest.raises(ValueError, match="no column 'z'"):
        locties.read_task(shifted, "ph", lon="z", lat="y")
    with pytest.raises(ValueError, match="no column 'x' nor 'y'"):
        locties.embed("melt", shifted.geometry, lon="x", lat="y")


def test_a_file_of_several_layers_is_refused_with_a_command_that_takes_one(tmp_path: Path) -> None:
    path, frame = tmp_path / "two.gpkg", points(table(30))
    pyogrio.write_dataframe(pd.DataFrame({"style": ["red"]}), path, layer="styles")
    frame.to_file(path, layer="a")
    assert len(locties.read_task(path, "ph").target) == 30, "a layer without geometry is no choice"
    frame[:20].to_file(path, layer="b")
    with pytest.raises(ValueError, match=r"several layers \(a, b\)") as error:
        locties.read_task(path, "ph")
    run_here(str(error.value).partition("of one: ")[2])
    assert len(locties.read_task(tmp_path / "two_new.gpkg", "ph").target) == 30


def test_a_raster_has_no_columns_of_coordinates(tmp_path: Path) -> None:
    (tmp_path / "a.tif").touch()
    with pytest.raises(ValueError, match="a raster has no columns, lon or lat"):
        locties.read_modality(tmp_path / "a.tif", name="a", lon="x")


def test_months_of_rows_go_with_their_labels() -> None:
    frame = table(20).assign(month=np.arange(20) % 12 + 1, when="2024-07-31")
    frame.loc[3, "month"] = 13
    with pytest.raises(ValueError, match=r"1 of 20 rows .*'month' is not a month .*: row 3"):
        locties.read_task(frame, "ph", month="month")
    with pytest.warns(UserWarning, match="1 of 20 rows"):
        task = locties.read_task(frame, "ph", month="", invalid="drop")
    assert task.month.tolist() == frame["month"].drop(3).tolist()
    assert task.target.tolist() == frame["ph"].drop(3).tolist()
    assert set(locties.read_task(frame, "ph", month="when").month.tolist()) == {7}
    assert locties.read_task(frame, "ph").month is None


def test_longitudes_to_360_are_wrapped() -> None:
    frame = table().assign(lon=lambda t: np.linspace(0, 359.5, len(t)))
    lonlat = locties.read_task(frame, "ph").lonlat
    assert lonlat[:, 0].min() >= -180
    assert lonlat[:, 0].max() < 180
    assert np.allclose(lonlat[:, 0].numpy() % 360, frame["lon"])


def test_other_coordinates_and_row_numbers_are_no_profile() -> None:
    frame = points(table()).drop(columns="crop").assign(decimalLongitude=1.0, decimalLatitude=2.0)
    frame["Unnamed: 0"] = range(len(frame))
    soil = locties.read_modality(frame, name="soil", beside=())
    assert soil.samples[torch.arange(1)].shape == (1, 2), "ph and clay"


def test_places_given_twice_are_kept_and_said() -> None:
    frame = pd.concat([table(50), table(50).iloc[:7]])
    with pytest.warns(UserWarning, match="7 of 57 rows .* average them"):
        task = locties.read_task(frame, "ph")
    assert len(task.target) == 57
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        locties.read_task(table(50), "ph")


# ------------------------------------------------------------------------------ rows refused


def bad_rows() -> tuple[pd.DataFrame, list[int]]:
    frame = table()
    frame.loc[3, "lon"] = np.nan
    frame.loc[17, "lat"] = 523.1
    frame.loc[40, ["lon", "lat"]] = [23.0, -9999.0]
    frame.loc[41, "lon"] = np.inf
    frame.loc[99, "ph"] = np.nan
    frame.loc[199, "lon"] = -500.0
    return frame, [3, 17, 40, 41, 99, 199]


def test_bad_rows_are_refused_by_number(tmp_path: Path) -> None:
    frame, _ = bad_rows()
    frame.to_csv(tmp_path / "soil.csv", index=False)
    with pytest.raises(ValueError, match="6 of 200 rows cannot be used") as error:
        locties.read_task(tmp_path / "soil.csv", "ph")
    said = str(error.value)
    assert "latitude is missing: rows 3, 41;" in said
    assert "latitude is outside [-90, 90]: rows 17, 40;" in said
    assert "longitude is outside [-360, 360]: row 199;" in said
    assert "'ph' is missing or not finite: row 99." in said
    assert "row 0 is the first below the header" in said
    assert "invalid='drop'" in said


def test_bad_rows_are_dropped_when_asked_and_no_others() -> None:
    frame, bad = bad_rows()
    frame.index = frame.index[::-1]  # rows are counted, whatever the index says
    with pytest.warns(UserWarning, match="6 of 200 rows cannot be used.*rows 3, 41"):
        task = locties.read_task(frame, "ph", invalid="drop")
    good = frame.reset_index(drop=True).drop(index=bad)
    assert np.array_equal(task.lonlat.numpy(), good[["lon", "lat"]].to_numpy())
    assert np.array_equal(task.target, good["ph"])


REGIONS = {  # west, south, east, north
    "Germany": (7, 48, 14, 54),
    "Kenya": (34, -4, 39, 3),
    "Spain": (-6, 38, 0, 42),
}
SEAS = {
    "North Sea": (2, 55, 6, 58),
    "mid Atlantic": (-40, 10, -30, 20),
    "Gulf of Guinea": (-5, -5, 5, 3),
}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("kind", ["table", "points"])
def test_swapped_columns_that_put_land_into_the_sea_are_said(region, kind) -> None:
    frame = table(60, REGIONS[region])
    swapped = frame.rename(columns={"lon": "lat", "lat": "lon"})
    given = points(swapped) if kind == "points" else swapped
    with pytest.warns(UserWarning, match=r"of 60 places lie in the sea.*swapped") as said:
        locties.read_task(given, "ph")
    remedy = str(said[0].message).rpartition("on land, ")[2]
    mended = {"frame": given, "geopandas": geopandas}
    if kind == "points":
        task = locties.read_task(eval(remedy.removeprefix("swap them: "), mended), "ph")
    else:
        assert remedy == "pass lon='lat', lat='lon'"
        task = locties.read_task(given, "ph", lon="lat", lat="lon")
    assert np.allclose(task.lonlat, frame[["lon", "lat"]])


def test_swapped_columns_are_said_even_if_some_places_are_at_sea_either_way() -> None:
    """A box around western Europe: a fifth of its places are at sea, and most if swapped."""
    europe = table(200, (-4, 43, 15, 54))
    with pytest.warns(UserWarning, match=r"of 200 places lie in the sea.*swapped"):
        locties.read_task(europe.rename(columns={"lon": "lat", "lat": "lon"}), "ph")


def test_labels_of_several_months_are_not_taken_for_one_in_silence() -> None:
    frame = table(60, REGIONS["Germany"])
    with pytest.warns(UserWarning, match="'Month' is not read, and every label counts as of month"):
        given = in_one_month(frame.assign(Month=np.arange(60) % 12 + 1), 7)
    assert len(given) == 60
    with pytest.warns(UserWarning, match="keep the rows of that month first"):
        in_one_month(frame.assign(month="Jul"), 7)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        in_one_month(frame.assign(month=7), 7)
        in_one_month(frame, 7)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("box", [*REGIONS.values(), *SEAS.values()])
def test_places_that_are_right_are_not_called_swapped(box) -> None:
    locties.read_task(table(60, box), "ph")


def test_no_row_left_is_an_error_even_when_dropping() -> None:
    for frame in (table(5).assign(ph=np.nan), table(5).assign(lon=np.nan)):
        with pytest.raises(ValueError, match="No row is left"):
            locties.read_task(frame, "ph", invalid="drop")
    with pytest.raises(ValueError, match="no row"):
        locties.read_task(table(5).iloc[:0], "ph")


def test_missing_geometry_is_a_bad_row() -> None:
    frame = points(table(20))
    frame.loc[4, "geometry"] = None
    frame.loc[7, "geometry"] = shapely.Point()
    with pytest.raises(ValueError, match="The geometry is missing: rows 4, 7"):
        locties.read_task(frame, "ph")
    with pytest.warns(UserWarning, match="rows 4, 7"):
        assert len(locties.read_task(frame, "ph", invalid="drop").target) == 18


# ------------------------------------------------------------- the whole column is wrong


@pytest.mark.parametrize("invalid", ["raise", "drop"])
def test_swapped_columns_are_said_and_never_dropped(invalid: str) -> None:
    asia = table(box=(70.0, -10.0, 150.0, 60.0))
    swapped = asia.rename(columns={"lon": "lat", "lat": "lon"})
    beyond = int((swapped["lat"] > 90).sum())
    assert 100 < beyond < 200
    with pytest.raises(ValueError, match=rf"{beyond} of 200 latitudes.*swapped; pass lon='lat'"):
        locties.read_task(swapped, "ph", invalid=invalid)
    assert locties.read_task(swapped, "ph", lon="lat", lat="lon").lonlat[:, 0].max() > 140
    with pytest.raises(ValueError, match=r"swapped.*points_from_xy"):
        locties.read_task(points(swapped), "ph", invalid=invalid)


def test_one_latitude_beyond_90_is_a_row_and_no_swap() -> None:
    frame = table()
    frame.loc[8, "lat"] = 95.0
    with pytest.raises(ValueError, match=r"1 of 200 rows cannot be used.*\(swapped\?\): row 8"):
        locties.read_task(frame, "ph")


@pytest.mark.parametrize("invalid", ["raise", "drop"])
def test_projected_coordinates_are_said_and_the_remedy_works(invalid: str) -> None:
    frame = table()
    metres = points(frame).to_crs("EPSG:3857").geometry
    flat = frame.assign(lon=metres.x, lat=metres.y)
    with pytest.raises(ValueError, match=r"projected, in metres.*to_crs\(4326\)") as error:
        locties.read_task(flat, "ph", invalid=invalid)
    remedy = re.search(r"frame\.pipe.*", str(error.value))[0].replace("...", "3857")
    mended = eval(remedy, {"geopandas": geopandas, "frame": flat})
    assert (
        degrees_apart(locties.read_task(mended, "ph").lonlat, frame[["lon", "lat"]].to_numpy())
        < 1e-6
    )


def test_a_crs_that_the_numbers_contradict_is_said() -> None:
    frame = points(table()).to_crs(3857).set_crs(4326, allow_override=True)
    with pytest.raises(ValueError, match=r"not in the CRS EPSG:4326.*set_crs"):
        locties.read_task(frame, "ph")
    with pytest.raises(ValueError, match=r"EPSG:3857 is not in degrees.*set_crs\(.EPSG:4326"):
        locties.read_task(points(table(), "EPSG:3857"), "ph")


def test_geometry_without_a_crs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no CRS.*\.set_crs"):
        locties.read_task(points(table(), None), "ph")
    points(table(), None).to_parquet(tmp_path / "nowhere.parquet")
    with pytest.raises(ValueError, match=r"no CRS.*\.set_crs"):
        locties.read_task(tmp_path / "nowhere.parquet", "ph")


@pytest.mark.parametrize("invalid", ["raise", "drop"])
def test_other_geometry_than_points_is_refused_by_row(invalid: str) -> None:
    frame = points(table())
    frame.loc[[5, 9], "geometry"] = frame.geometry.iloc[[5, 9]].buffer(0.1).to_numpy()
    with pytest.raises(
        ValueError, match=r"2 of 200 geometries are not points.*rows 5, 9, counted from 0"
    ):
        locties.read_task(frame, "ph", invalid=invalid)


@pytest.mark.parametrize(
    ("header", "hint"),
    [
        (("x", "Y"), "lon='x', lat='Y'"),
        (("x", "lat"), "Pass lon='x'."),
        (("east", "north"), "Pass lon= and lat="),
    ],
)
def test_missing_columns_are_listed_with_the_likely_ones(header: tuple, hint: str) -> None:
    frame = table().rename(columns=dict(zip(("lon", "lat"), header, strict=True)))
    with pytest.raises(ValueError, match=r"there is no column 'lon'") as error:
        locties.read_task(frame, "ph")
    assert hint in str(error.value)
    assert all(name in str(error.value) for name in frame.columns)


def test_a_wrong_target_is_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="unknown column 'crops': did you mean 'crop'"):
        locties.read_task(table(), "crops")


def test_text_coordinates_are_refused(tmp_path: Path) -> None:
    frame = table()
    comma = frame.assign(lat=frame["lat"].map(lambda value: f"{value:.4f}".replace(".", ",")))
    comma.to_csv(tmp_path / "comma.csv", index=False)
    with pytest.raises(ValueError, match=r"'lat' holds text with a decimal comma.*python -c"):
        locties.read_task(tmp_path / "comma.csv", "ph", invalid="drop")
    with pytest.raises(ValueError, match=r"'lat' holds text, such as '52°31′N'.*decimal degrees"):
        locties.read_task(frame.assign(lat="52°31′N"), "ph")
    with pytest.raises(ValueError, match=r"frame\.astype"):
        locties.read_task(frame.assign(lon=frame["lon"].astype(str)), "ph")
    some = frame.astype({"lon": object})
    some.loc[12, "lon"] = "unknown"
    with pytest.raises(ValueError, match="'lon' holds text, such as 'unknown': row 12"):
        locties.read_task(some, "ph")
    with pytest.warns(UserWarning, match="row 12"):
        assert len(locties.read_task(some, "ph", invalid="drop").target) == 199


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no file"):
        locties.read_task(tmp_path / "soil.csv", "ph")
    with pytest.raises(DataError, match="there is no file 'https://"):
        locties.read_task("https://example.org/soil.csv", "ph")
    table().to_csv(tmp_path / "semicolon.csv", index=False, sep=";", decimal=",")
    with pytest.raises(ValueError, match=r'convert.*sep=";", decimal=","'):
        locties.read_task(tmp_path / "semicolon.csv", "ph")
    (tmp_path / "latin.csv").write_bytes("lon,lat,ort\n1,2,Köln\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"not UTF-8.*iconv -f cp1252"):
        locties.read_task(tmp_path / "latin.csv", "ort")
    (tmp_path / "long.csv").write_text("lon,lat,ph\n1,2,3.5,9\n4,5,6.5,9\n")
    with pytest.raises(ValueError, match="more fields in its rows than in its header"):
        locties.read_task(tmp_path / "long.csv", "ph")
    (tmp_path / "comma.csv").write_text("lon,lat,ph\n1,2,3.5,\n4,5,6.5,\n")
    task = locties.read_task(tmp_path / "comma.csv", "ph")
    assert task.lonlat.tolist() == [[1, 2], [4, 5]]
    assert task.target.tolist() == [3.5, 6.5]
    for ending in ("csv", "parquet", "gpkg"):
        (tmp_path / f"broken.{ending}").write_bytes(b"" if ending == "csv" else b"\0" * 100)
        with pytest.raises(DataError, match="cannot be read"):
            locties.read_task(tmp_path / f"broken.{ending}", "ph")
    with pytest.raises(ValueError, match="is a folder, not a table: name one file"):
        locties.read_task(tmp_path, "ph")
    (tmp_path / "soil.xlsx").write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"names of tables end in \.csv.*a spreadsheet as CSV"):
        locties.read_task(tmp_path / "soil.xlsx", "ph")


VRT = "<OGRVRTDataSource><OGRVRTLayer name='real'><SrcDataSource>{0}</SrcDataSource></OGRVRTLayer>"
REFERENCES = {
    "points.json": VRT + "</OGRVRTDataSource>",
    "points.gml": VRT + "</OGRVRTDataSource>",
    "points.gpkg": VRT + "</OGRVRTDataSource>",
    "points.geojson": '{{"type": "gdal_streamed_alg", "command_line": "gdal vector pipeline ! '
    'read {0} ! write streamed_dataset --format stream"}}',
}


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("packed", [False, True])
def test_a_table_that_names_another_file_is_not_followed(
    name: str, packed: bool, tmp_path: Path
) -> None:
    points(table(20)).to_file(tmp_path / "real.geojson")
    path = tmp_path / name
    path.write_text(REFERENCES[name].format(tmp_path / "real.geojson"))
    assert len(pyogrio.read_dataframe(path)) == 20, "GDAL itself follows it"
    if packed:
        with zipfile.ZipFile(tmp_path / "points.zip", "w") as archive:
            archive.write(path, name)
        path = tmp_path / "points.zip"
    with pytest.raises(DataError, match=rf"{path.name} cannot be read"):
        locties.read_task(path, "ph")


def test_a_zipped_shapefile_is_read(tmp_path: Path) -> None:
    points(table(20)).to_file(tmp_path / "soil.shp")
    with zipfile.ZipFile(tmp_path / "soil.zip", "w") as archive:
        for part in tmp_path.glob("soil.*[!p]"):
            archive.write(part, f"data/{part.name}")
        archive.write(tmp_path / "soil.shp", "data/soil.shp")
    assert len(locties.read_task(tmp_path / "soil.zip", "ph").target) == 20


@pytest.mark.parametrize("name", ["cut.csv.gz", "altered.csv.gz", "wkb.parquet"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    if name == "wkb.parquet":
        points(table(1)).to_parquet(path)
        whole = pyarrow.parquet.read_table(path)
        at = whole.column_names.index("geometry")
        pyarrow.parquet.write_table(whole.set_column(at, "geometry", [[b"garbage"]]), path)
    else:
        table().to_csv(path, index=False)
        content = bytearray(path.read_bytes())
        content[200] ^= 255 if name.startswith("altered") else 0
        path.write_bytes(content[: None if name.startswith("altered") else -40])
    with pytest.raises(DataError, match=rf"{name} cannot be read"):
        locties.read_modality(path, name="soil", beside=())


def test_a_name_that_stands_twice_in_a_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(",lon,lat,ph,ph,lon\n0,1,2,3.5,9.5,7\n")
    with pytest.raises(ValueError, match="several columns 'lon'"):
        locties.read_task(tmp_path / "a.csv", "ph")
    (tmp_path / "a.csv").write_text(",lon,lat,ph,ph\n0,1,2,3.5,9.5\n")
    with pytest.raises(ValueError, match="several columns 'ph'"):
        locties.read_task(tmp_path / "a.csv", "ph")


def test_what_is_not_installed_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points(table()).to_parquet(tmp_path / "geo.parquet")
    table().to_csv(tmp_path / "plain.csv", index=False)
    table().to_parquet(tmp_path / "plain.parquet", index=False)
    (tmp_path / "raster.tif").write_bytes(b"II*")

    def refuse(name: str, package: str | None = None):
        if name.partition(".")[0] in ("geopandas", "rasterio", "rioxarray"):
            raise ModuleNotFoundError(name=name)
        return real(name, package)

    real = extras.import_module
    monkeypatch.setattr(extras, "import_module", refuse)
    for source in ("geo.parquet", "raster.tif"):
        with pytest.raises(ImportError, match=r'pip install "locties\[own\]"'):
            locties.read_modality(tmp_path / source, name="own")
    for source in ("plain.csv", "plain.parquet"):
        assert locties.read_task(tmp_path / source, "ph").kind == "regression"


def test_options_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown kind of task 'regresion'"):
        locties.read_task(table(), "ph", kind="regresion")
    with pytest.raises(ValueError, match="invalid 'skip'"):
        locties.read_task(table(), "ph", invalid="skip")
    with pytest.raises(ValueError, match="a table is a path"):
        locties.read_task([[1.0, 2.0]], "ph")


# --------------------------------------------------------------------- a table as a modality


def test_columns_become_a_standardised_profile() -> None:
    modality = locties.read_modality(table(), name="soil", columns=["ph", "clay"], beside=())
    values = modality.samples[torch.arange(len(modality.lonlat))]
    source = table()
    for place, row in zip(modality.lonlat, values, strict=True):
        i = (source[["lon", "lat"]] - place.numpy()).abs().sum(axis=1).argmin()
        assert row.tolist() == pytest.approx(source.loc[i, ["ph", "clay"]].tolist(), rel=1e-6)
    standardised = modality.encoder(8)[0](values)
    assert standardised.mean(0).abs().max() < 1e-5
    assert (standardised.std(0) - 1).abs().max() < 1e-5
    assert modality.encoder(8)(values).shape == (len(values), 8)


def test_without_columns_all_numeric_ones_are_taken() -> None:
    modality = locties.read_modality(points(table()), name="soil")
    assert modality.samples[torch.tensor([0])].shape == (1, 2)
    assert len(modality.lonlat) == len(locties.read_modality(table(), name="soil").lonlat)


def test_missing_values_of_a_profile_never_become_numbers() -> None:
    frame = table(box=WORLD)
    frame.loc[[7, 8], "clay"] = np.nan
    with pytest.raises(ValueError, match="'clay' is missing or not finite: rows 7, 8"):
        locties.read_modality(frame, name="soil")
    with pytest.warns(UserWarning, match="rows 7, 8"):
        modality = locties.read_modality(frame, name="soil", invalid="drop", beside=())
    kept = len(modality.lonlat) + len(modality.validation.lonlat)
    assert kept == 198
    assert modality.samples[torch.arange(len(modality.lonlat))].isfinite().all()


def test_a_profile_of_text_is_refused() -> None:
    with pytest.raises(ValueError, match="'crop' holds text"):
        locties.read_modality(table(), name="soil", columns=["ph", "crop"])
    with pytest.raises(ValueError, match="no numeric column"):
        locties.read_modality(table()[["lon", "lat", "crop"]], name="soil")
    with pytest.raises(ValueError, match="columns='ph': give a list"):
        locties.read_modality(table(), name="soil", columns="ph")


def test_a_name_that_cannot_be_one_is_refused_before_any_training() -> None:
    for name in ("my.soil", "", "keys"):
        with pytest.raises(ValueError, match="cannot be called"):
            locties.read_modality(table(), name=name, beside=())


# ------------------------------------------------------------------------------------- cells


def cells(modality: Modality) -> set[int]:
    return set(cell_index(modality.lonlat, CELL_DEGREES).tolist())


def test_by_default_a_modality_stands_in_nobody_elses_cells() -> None:
    modality = locties.read_modality(table(20_000, WORLD), name="soil")
    owners = sampling.owner(modality.lonlat)
    left = {sampling.OWNERS.index(name) for name in ("night_lights", "temperature", "text")}
    assert set(owners.tolist()) == left
    assert (sampling.owner(modality.validation.lonlat) == sampling.VALIDATION).all()
    assert len(modality.lonlat) == pytest.approx(20_000 * 0.9 / 6, rel=0.1)


def test_beside_leaves_out_the_cells_of_those_named_alone() -> None:
    frame = table(20_000, WORLD)
    modality = locties.read_modality(frame, name="soil", beside=["rain", "relief"])
    owners = set(sampling.owner(modality.lonlat).tolist())
    taken = {sampling.OWNERS.index(name) for name in ("rain", "relief")}
    assert owners == set(range(8)) - taken
    assert len(modality.lonlat) == pytest.approx(20_000 * 0.9 * 4 / 6, rel=0.05)
    alone = locties.read_modality(frame, name="soil", beside=())
    assert len(alone.lonlat) + len(alone.validation.lonlat) == pytest.approx(19_000, abs=1001)
    assert not cells(alone) & cells(alone.validation)


def test_two_of_ones_own_share_no_cell() -> None:
    first = locties.read_modality(table(2000), name="soil", beside=["rain"])
    second = locties.read_modality(table(5000), name="trees", beside=["rain", first])
    assert len(second.lonlat) > 100
    assert not cells(first) & cells(second)
    assert cells(first) & cells(locties.read_modality(table(5000), name="trees"))


def test_no_cell_left_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"'soil' has no sample left.*beside=\(\)"):
        locties.read_modality(table(), name="soil", beside=sampling.OWNERS)
    with pytest.raises(ValueError, match="unknown modality trained beside it 'rian': did you mean"):
        locties.read_modality(table(), name="soil", beside=["rian"])


def test_pretraining_warns_of_shared_cells_and_of_no_others() -> None:
    small = {"pairs": 64, "batch": 16, "epochs": 2, "progress": False}
    encoder = locties.LocationEncoder("xyz", "linear", dim=8)
    other = Modality(
        "other",
        locties.read_modality(table(2000), name="x", beside=()).lonlat[:500],
        torch.rand(500, 3),
        profile_encoder(3),
    )
    paired = locties.read_modality(table(2000), name="soil", beside=())
    with pytest.warns(UserWarning, match=r"'soil' and 'other' share \d+ cells.*beside="):
        locties.pretrain("melt", [paired, other], encoder, **small)
    apart = locties.read_modality(table(2000), name="soil", beside=[other])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run = locties.pretrain("melt", [apart, other], encoder, locations="fixed", **small)
    assert set(run.history["modality"]) == {"soil", "other"}


def test_fresh_locations_come_from_the_same_samples() -> None:
    modality = locties.read_modality(table(3000), name="soil")
    lonlat, values = modality.fresh(500, torch.Generator().manual_seed(0))
    assert values.shape == (500, 2)
    assert set(map(tuple, lonlat.tolist())) <= set(map(tuple, modality.lonlat.tolist()))


def test_samples_and_seed() -> None:
    frame = table(5000, WORLD)
    draws = [locties.read_modality(frame, name="soil", samples=50, seed=seed) for seed in (0, 0, 1)]
    assert draws[0].lonlat.equal(draws[1].lonlat)
    assert not draws[0].lonlat.equal(draws[2].lonlat)
    assert len(draws[0].lonlat) == 50
    assert len(locties.read_modality(frame, name="soil", validation=9).validation.lonlat) == 9
    with pytest.raises(ValueError, match="samples=0"):
        locties.read_modality(frame, name="soil", samples=0)


@pytest.mark.parametrize("name", ["rain", "imagery", "night_lights"])
def test_a_name_that_is_taken_is_refused(name):
    with pytest.raises(ValueError, match=f"name='{name}'.*another name"):
        locties.read_modality({"lon": [1.0], "lat": [2.0], "ph": [3.0]}, name=name)
