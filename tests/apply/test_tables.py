"""Columns of coordinates: found alike everywhere, and never by their order."""

import gzip
import json
import re
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import xarray
from command import run_here
from typer.testing import CliRunner

import locties
from locties import evaluation
from locties._util.files import DataError
from locties.apply.tables import coordinate_columns, read_table
from locties.cli import app
from locties.modality import profile_encoder

RNG = np.random.default_rng(0)
LONLAT = RNG.uniform([-80, -60], [80, 60], (120, 2))
FRAME = pd.DataFrame(LONLAT[:, ::-1], columns=["latitude", "longitude"])
MASKED = np.ma.masked_array(LONLAT, np.arange(240).reshape(120, 2) == 3)  # the latitude of row 1
TASK = evaluation.Task("north", LONLAT, LONLAT[:, 1])
ENCODER = locties.LocationEncoder("xyz", "mlp", 4, network_options={"hidden": 8})

# Wherever coordinates are taken, as an array of what comes out.
TAKEN: dict[str, Callable] = {
    "encoder": lambda x: ENCODER(x).detach(),
    "check": locties.lonlat.check,
    "spherical_harmonics": lambda x: locties.spherical_harmonics(x, 4),
    "embed": lambda x: locties.embed(ENCODER, x),
    "LocationFeatures": lambda x: locties.LocationFeatures(ENCODER).fit_transform(x),
    "LocationFeatures.transform": lambda x: (
        locties.LocationFeatures(ENCODER).fit(LONLAT).transform(x)
    ),
    "Task": lambda x: evaluation.Task("north", x, LONLAT[:, 1]).lonlat,
    "Modality": lambda x: locties.Modality("m", x, torch.ones(120, 2), profile_encoder(2)).lonlat,
    "fit_probe": lambda x: locties.fit_probe(ENCODER, TASK)(x),
    "folds": lambda x: evaluation.folds(x, "block"),
    "nearest_label_km": lambda x: evaluation.nearest_label_km(x, LONLAT + 1),
    "place_density": lambda x: evaluation.place_density(x)(torch.tensor(LONLAT)),
}


@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN)
def test_a_frame_is_read_by_name_wherever_coordinates_are_taken(take: Callable) -> None:
    np.testing.assert_array_equal(np.asarray(take(FRAME)), np.asarray(take(LONLAT)))


@pytest.mark.parametrize("take", TAKEN.values(), ids=TAKEN)
def test_a_masked_coordinate_is_refused_by_row_wherever_they_are_taken(take: Callable) -> None:
    with pytest.raises(ValueError, match=r"row 1\b.*|missing: row 1\b"):
        take(MASKED)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (["id", "LAT", "Lon"], ("Lon", "LAT")),
        (["decimalLatitude", "decimalLongitude"], ("decimalLongitude", "decimalLatitude")),
        ([" lng", "latitude", "x", "y"], (" lng", "latitude")),
        (["Longitude (deg)", "Latitude [°]"], ("Longitude (deg)", "Latitude [°]")),
        (["decimal_longitude", "decimal latitude"], ("decimal_longitude", "decimal latitude")),
        (["lat_dd", "long_dd", "laterite"], ("long_dd", "lat_dd")),
        (["GPS Lat", "GPS Long"], ("GPS Long", "GPS Lat")),
        (["LON_WGS84", "LAT_WGS84", "long_name", "lat_error"], ("LON_WGS84", "LAT_WGS84")),
    ],
)
def test_usual_names_are_found_in_any_case_and_order(names, found) -> None:
    assert coordinate_columns(pd.DataFrame(columns=names)) == found


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["lon", "Longitude", "lat"], ["lon, Longitude", "Pass lon='lon', or another"]),
        (["lon", "lat", "Latitude"], ["lat, Latitude", "Pass lat='lat', or another"]),
        (["x", "y"], ["no column 'lon' nor 'lat'", "Pass lon='x', lat='y'"]),
        (["east", "lat"], ["no column 'lon'", "east, lat", "Pass lon= and lat="]),
        (["lon", "lat", "lon"], ["several columns 'lon': rename them"]),
    ],
)
def test_names_that_are_not_clear_are_listed_with_what_to_pass(names, words) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 (the message is tested just below)
        coordinate_columns(pd.DataFrame(columns=names))
    for word in words:
        assert word in str(error.value)


def test_points_as_text_are_recognised_and_the_remedy_works() -> None:
    frame = pd.DataFrame({"wkt": ["POINT (13.4 52.5)", "POINT (2.3 48.8)"], "ph": [5.1, 6.2]})
    with pytest.raises(ValueError, match="Column 'wkt' has points as WKT") as caught:
        coordinate_columns(frame)
    expression = str(caught.value).partition("WKT: ")[2].partition(" gives")[0]
    points = eval(expression, {"geopandas": geopandas, "frame": frame})
    placed = frame.assign(lon=points.x, lat=points.y)
    assert locties.read_task(placed, target="ph").lonlat[0].tolist() == pytest.approx([13.4, 52.5])


def test_one_column_is_not_both_coordinates() -> None:
    with pytest.raises(ValueError, match="both 'lat': name the column of each"):
        coordinate_columns(pd.DataFrame(columns=["lon", "lat"]), lon="lat")


@pytest.mark.parametrize("given", [{}, {"lon": "x", "lat": "y"}])
def test_embed_the_readers_and_the_command_line_find_the_same(given: dict, tmp_path: Path) -> None:
    lon, lat = given.get("lon", "Longitude"), given.get("lat", "LAT")
    frame = pd.DataFrame({lat: LONLAT[:, 1], "ph": RNG.normal(6, 1, 120), lon: LONLAT[:, 0]})
    if given:
        frame[["lon", "lat"]] = 0.0  # what is given wins
    expected = ENCODER(LONLAT).detach().numpy()
    embedded = locties.embed(ENCODER, frame, **given).to_numpy()
    np.testing.assert_allclose(embedded, expected, atol=1e-5)
    in_mapping = locties.embed(ENCODER, dict(frame), **given).to_numpy()
    np.testing.assert_array_equal(in_mapping, embedded)
    np.testing.assert_array_equal(locties.read_task(frame, "ph", **given).lonlat, LONLAT)
    soil = locties.read_modality(frame, name="soil", beside=(), **given)
    assert soil.samples[torch.arange(1)].shape == (1, 1), "coordinates are no measurement"
    assert {tuple(p) for p in soil.lonlat.tolist()} <= set(
        map(tuple, LONLAT.astype(np.float32).tolist())
    )
    ENCODER.save(tmp_path / "encoder")
    frame.to_csv(tmp_path / "a.csv", index=False)
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    encoder, file = str(tmp_path / "encoder"), str(tmp_path / "a.csv")
    quick = ["--target", "ph", "--splits", "random", "--probes", "ridge"]
    for command in (["embed", encoder, file], ["evaluate", encoder, "--points-file", file, *quick]):
        result = CliRunner().invoke(app, [*command, *options])
        assert result.exit_code == 0, result.stderr


def test_an_index_that_repeats_is_said_before_a_join_mixes_rows() -> None:
    with pytest.raises(ValueError, match="reset_index"):
        locties.embed(ENCODER, pd.concat([FRAME[:2], FRAME[:2]]))


def test_a_masked_measurement_is_a_missing_one() -> None:
    values = np.ma.masked_array(LONLAT[:, 1], np.arange(120) == 7)
    with pytest.raises(ValueError, match="row 7"):
        evaluation.Task("north", LONLAT, values)


ROWS = "13.4{s}52.5{s}6{d}5\n2.3{s}48.9{s}7{d}25\n"
FOREIGN = {
    "semicolon.csv": ("lon;lat;ph\n" + ROWS.format(s=";", d=","), "utf8"),
    "points.csv": ("lon;lat;ph\n" + ROWS.format(s=";", d="."), "utf8"),
    "sep.csv": ("sep=;\nlon;lat;ph\n" + ROWS.format(s=";", d=","), "utf8"),
    "bom.csv": ("lon;lat;ph\n" + ROWS.format(s=";", d=","), "utf-8-sig"),
    "pipe.csv": ("lon|lat|ph\n" + ROWS.format(s="|", d="."), "utf8"),
    "tab.csv": ("lon\tlat\tph\n" + ROWS.format(s="\t", d="."), "utf8"),
    "comma.tsv": ("lon,lat,ph\n" + ROWS.format(s=",", d="."), "utf8"),
    "latin.csv": ("lon,lat,ph,ort\n13.4,52.5,6.5,Köln\n2.3,48.9,7.25,Orléans\n", "latin-1"),
    "it's Köln.csv": ("lon,lat,ph,ort\n13.4,52.5,6.5,Köln\n2.3,48.9,7.25,é\n", "cp1252"),
    "utf16.csv": ("lon,lat,ph\n" + ROWS.format(s=",", d="."), "utf-16"),
    "latin.tsv": ("lon\tlat\tph\tort\n13.4\t52.5\t6.5\tö\n2.3\t48.9\t7.25\té\n", "latin-1"),
}


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("packed", [False, True])
def test_a_foreign_table_is_named_and_the_command_converts_it(
    name: str, packed: bool, tmp_path: Path
) -> None:
    text, encoding = FOREIGN[name]
    path = tmp_path / (name + ".gz" if packed else name)
    path.write_bytes(gzip.compress(text.encode(encoding)) if packed else text.encode(encoding))
    before = {*tmp_path.iterdir()}
    with pytest.raises(ValueError, match=re.escape(path.name.split(".")[0])) as error:
        locties.read_task(path, "ph")
    command = re.search(r"(python -c|iconv|zcat) .*", str(error.value))[0]
    if command.startswith("python") and name != "semicolon.csv":
        run_here(command)
    else:
        path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
        environment = {"PATH": path, "LC_ALL": "C.UTF-8"}
        subprocess.run(command, shell=True, check=True, env=environment)
    [new] = {*tmp_path.iterdir()} - before
    task = locties.read_task(new, "ph")
    assert task.target.tolist() == [6.5, 7.25]
    assert task.lonlat.tolist() == [[13.4, 52.5], [2.3, 48.9]]


@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "my points.csv"])
def test_gzip_under_another_name_is_unpacked_by_the_command(name: str, tmp_path: Path) -> None:
    path, separator = tmp_path / name, "\t" if name.endswith("tsv") else ","
    text = "lon,lat,ph\n" + ROWS.format(s=",", d=".")
    path.write_bytes(gzip.compress(text.replace(",", separator).encode()))
    with pytest.raises(ValueError, match="gzip") as error:
        locties.read_task(path, "ph")
    assert "zcat" in CliRunner().invoke(app, ["embed", "melt", str(path)]).stderr
    command = re.search(r"zcat .*", str(error.value))[0]
    subprocess.run(command, shell=True, check=True)
    [new] = {*tmp_path.iterdir()} - {path}
    assert locties.read_task(new, "ph").target.tolist() == [6.5, 7.25]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_quotes_that_swallow_rows_are_refused(ending: str, tmp_path: Path) -> None:
    separator = {"csv": ",", "tsv": "\t"}[ending]
    rows = [["lon", "lat", "ph", "note"], *([str(i), str(i), f"{i}.5", "n"] for i in range(9))]
    rows[3][3], rows[6][3] = '"Main" street', '5" pipe'
    path = tmp_path / f"a.{ending}"
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    assert len(locties.read_task(path, "ph").target) == 9
    rows[1][3] = rows[5][3] = ""
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    assert len(locties.read_task(path, "ph").target) == 9
    rows[2][3], rows[7][0] = '"open', f'close"{separator}7'
    rows[7] = rows[7][:4]
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    with pytest.raises((ValueError, DataError), match=r"quote|fields"):
        locties.read_task(path, "ph")


def test_a_quoted_text_of_several_lines_with_commas_is_read(tmp_path: Path) -> None:
    prose = "One, two.\nThree, four.\n\n5, 6, or seven, 8, 9."
    frame = pd.DataFrame({"lon": [1.5, 2.5], "lat": [3.5, 4.5], "ph": [5.5, 6.5]})
    frame.assign(note=prose).to_csv(tmp_path / "a.csv", index=False)
    assert read_table(tmp_path / "a.csv")["note"].tolist() == [prose, prose]


TABLE = {"lat": [52.5, 48.9], "lon": [13.4, 2.3], "ph": [6.5, 7.25]}


class Polars:
    """What a frame of polars has."""

    columns = tuple(TABLE)

    def to_pandas(self) -> pd.DataFrame:
        return pd.DataFrame(TABLE)


@pytest.mark.parametrize(
    "source",
    [
        TABLE,
        pa.table(TABLE),
        Polars(),
        np.array(list(zip(*TABLE.values(), strict=True)), [(name, "f8") for name in TABLE]),
        {**TABLE, "ph": np.ma.masked_array([6.5, 7.25], [0, 0])},
    ],
    ids=["dict", "pyarrow", "polars", "structured", "masked"],
)
def test_what_names_its_columns_is_read_by_name(source: object) -> None:
    task = locties.read_task(source, "ph")
    assert task.lonlat.tolist() == [[13.4, 52.5], [2.3, 48.9]]
    assert task.target.tolist() == [6.5, 7.25]


@pytest.mark.parametrize(
    "source",
    [
        np.ones((2, 3)),
        [[1, 2, 3]],
        pd.Series(TABLE["ph"]),
        xarray.Dataset({name: ("row", values) for name, values in TABLE.items()}),
        7,
    ],
)
def test_what_names_no_columns_is_no_table(source: object) -> None:
    with pytest.raises(ValueError, match="a table is a path"):
        locties.read_task(source, "ph")


def test_masked_values_of_a_table_are_missing() -> None:
    masked = {name: np.ma.masked_array(values, [0, 1]) for name, values in TABLE.items()}
    for name in TABLE:
        with pytest.raises(ValueError, match=r"missing.*row 1\b"):
            locties.read_task({**TABLE, name: masked[name]}, "ph")


@pytest.mark.parametrize(
    ("scale", "words"),
    [(1e7, "times 1e7"), (np.pi / 180, "radians"), (111_000, "in metres"), (3600 * 1e5, "1e7")],
)
def test_other_units_than_degrees_are_said(scale: float, words: str) -> None:
    frame = pd.DataFrame(LONLAT * scale, columns=["lon", "lat"])
    if "radians" in words:
        with pytest.warns(UserWarning, match=words):
            locties.embed(ENCODER, frame)
        return
    with pytest.raises(ValueError, match=words) as error:
        locties.embed(ENCODER, frame)
    if scale == 1e7:
        code = str(error.value).partition("; ")[2]
        np.testing.assert_allclose(eval(code, {"frame": frame}), LONLAT)


def test_places_at_zero_are_said_with_their_rows() -> None:
    frame = FRAME.copy()
    frame.loc[[3, 8]] = 0.0
    with pytest.warns(
        UserWarning, match=r"2 of 120 places are exactly \(0, 0\).*rows 3, 8, counted from 0"
    ):
        locties.embed(ENCODER, frame)


def test_nested_geometry_is_refused_before_it_is_read(tmp_path: Path) -> None:
    point = struct.pack("<BIdd", 1, 1, 1.0, 2.0)
    geo = {"version": "1.1.0", "primary_column": "geometry"}
    geo["columns"] = {"geometry": {"encoding": "WKB", "geometry_types": []}}
    for code in (4, 7, 1007, 0x20000007):
        deep = struct.pack("<BII", 1, code, 1) * 100_000 + point
        table = pa.table({"geometry": pa.array([point, deep], pa.binary()), "ph": [1.5, 2.5]})
        table = table.replace_schema_metadata({b"geo": json.dumps(geo).encode()})
        pq.write_table(table, tmp_path / "a.parquet")
        with pytest.raises(ValueError, match=r"several parts.*row 1\b"):
            locties.read_task(tmp_path / "a.parquet", "ph")
        result = CliRunner().invoke(app, ["embed", "melt", str(tmp_path / "a.parquet")])
        assert (result.exit_code, "several parts" in result.stderr) == (1, True)


@pytest.mark.parametrize("ending", ["fgb", "gpkg", "geojson", "parquet"])
def test_a_file_that_is_cut_off_anywhere_is_refused(ending, tmp_path):
    """A FlatGeobuf is cut between two features, too, where GDAL reads the first ones."""
    points = geopandas.points_from_xy(*LONLAT.T, crs=4326)
    frame = geopandas.GeoDataFrame({"ph": LONLAT[:, 0] + 0.25}, geometry=points)
    whole, cut = tmp_path / f"whole.{ending}", tmp_path / f"cut.{ending}"
    frame.to_parquet(whole) if ending == "parquet" else frame.to_file(whole)
    assert len(read_table(whole)) == 120
    content = whole.read_bytes()
    ends = range(len(content) - 400, len(content) - 2, 4)  # features of FlatGeobuf end at these
    for end in [*range(1, len(content), len(content) // 50), *ends]:
        cut.write_bytes(content[:end])
        with pytest.raises(DataError, match=re.escape(str(cut))):
            read_table(cut)
