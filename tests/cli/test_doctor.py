"""`locties doctor`: what it takes a file to be, its exit code, and that its remedies work."""

import json
import shlex
from pathlib import Path

import geopandas
import numpy as np
import pandas as pd
import pytest
import rasterio
from command import run
from rasterio.transform import from_origin

RNG = np.random.default_rng(0)
TABLE = pd.DataFrame(
    {
        "id": range(60),
        "decimalLongitude": RNG.uniform(5, 25, 60).round(4),
        "decimalLatitude": RNG.uniform(40, 60, 60).round(4),
        "ph": RNG.normal(6, 1, 60).round(2),
        "crop": RNG.choice(["rye", "oats"], 60),
    }
)


def facts_of(*arguments: object) -> tuple[int, dict]:
    result = run("doctor", *arguments, "--json")
    return result.exit_code, json.loads(result.stdout)


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "parquet", "gpkg", "geojson", "geo"])
def test_each_format_is_told_in_about_ten_lines(ending: str, tmp_path: Path) -> None:
    path = tmp_path / (f"a.{ending}" if ending != "geo" else "a.parquet")
    places = geopandas.points_from_xy(TABLE["decimalLongitude"], TABLE["decimalLatitude"])
    points = geopandas.GeoDataFrame(TABLE[["ph", "crop"]], geometry=places, crs=4326).to_crs(3857)
    match ending:
        case "csv" | "csv.gz" | "tsv":
            TABLE.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
        case "parquet":
            TABLE.to_parquet(path)
        case "geo":
            points.to_parquet(path)
        case "geojson":
            points.to_crs(4326).to_file(path)
        case _:
            points.to_file(path)
    result = run("doctor", path, "--target", "ph")
    assert (result.exit_code, result.stderr) == (0, "")
    assert len(result.stdout.splitlines()) <= 12
    code, facts = facts_of(path, "--target", "ph")
    assert (code, facts["rows"], facts["unusable rows"], facts["problem"]) == (0, 60, 0, None)
    assert facts["target"].startswith("ph: regression, ")
    west, _, east = facts["longitude"].split()
    assert float(west) == pytest.approx(TABLE["decimalLongitude"].min(), abs=1e-3)
    assert float(east) == pytest.approx(TABLE["decimalLongitude"].max(), abs=1e-3)
    expected = {"gpkg": "EPSG:3857", "geo": "EPSG:3857", "geojson": "EPSG:4326"}
    assert expected.get(ending, "decimalLongitude, decimalLatitude") in facts["coordinates"]


def test_without_a_target_it_says_what_could_be_one(tmp_path: Path) -> None:
    TABLE.to_csv(tmp_path / "a.csv", index=False)
    code, facts = facts_of(tmp_path / "a.csv")
    assert code == 0
    assert facts["targets"] == ["id (whole numbers)", "ph (regression)", "crop (classification)"]


def test_a_code_for_missing_is_refused_unless_the_user_says_which(tmp_path: Path) -> None:
    path = tmp_path / "it's soil.csv"
    TABLE.assign(ph=TABLE["ph"].where(TABLE.index % 10 != 0, -9999)).to_csv(path, index=False)
    for command in (["doctor"], ["map", "--encoder", "xyz"]):
        result = run(*command, path, "--target", "ph")
        assert result.exit_code == 1
        assert "'ph' holds -9999, far from the others" in result.stderr
        assert "rows 0, 10, 20, 30, 40 and 1 more" in result.stderr
    asked = ["doctor", path, "--target", "ph", "--invalid"]
    for remedy, rows in {"drop": 6, "keep": 0}.items():
        assert f"--invalid {remedy}" in result.stderr
        mended = run(*asked, remedy, "--json")
        assert (mended.exit_code, json.loads(mended.stdout)["unusable rows"]) == (0, rows)
        assert "-9999" in mended.stderr


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (4, "embed; evaluate needs 5 labels; map needs 9"),
        (8, "embed, evaluate; map needs 9 labels at 3 places"),
        (9, "embed, evaluate, map"),
    ],
)
@pytest.mark.usefixtures("no_kriging")
def test_it_says_which_commands_have_enough_labels(labels, said, tmp_path):
    """And it is so: `map` refuses 8 labels and takes 9."""
    TABLE[:labels].to_csv(tmp_path / "a.csv", index=False)
    code, facts = facts_of(tmp_path / "a.csv", "--target", "ph")
    assert (code, facts["usable by"][: len(said)]) == (0, said)
    mapped = run("map", tmp_path / "a.csv", "--target", "ph", "--encoder", "xyz")
    assert (mapped.exit_code == 0) == ("map needs" not in said), mapped.stderr
    scored = run("evaluate", "xyz", "--points-file", tmp_path / "a.csv", "--target", "ph")
    assert (scored.exit_code == 0) == ("evaluate needs" not in said), scored.stderr


@pytest.mark.parametrize(
    ("change", "options", "remedy"),
    [
        ({"ph": range(60)}, (), "--kind regression"),
        ({"ph": ["-", *map(str, TABLE["ph"][1:])]}, (), "--kind regression and --invalid drop"),
        ({"decimalLatitude": [99.0, *TABLE["decimalLatitude"][1:]]}, (), "--invalid drop"),
        ({"lon": 1.0, "lat": 2.0}, (), "--lon decimalLongitude"),
    ],
)
def test_what_cannot_be_used_exits_1_and_its_options_mend_it(
    change: dict, options: tuple, remedy: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    TABLE.assign(**change).to_csv(path, index=False)
    result = run("doctor", path, "--target", "ph")
    assert result.exit_code == 1
    assert remedy in result.stderr
    mended = shlex.split(remedy.replace(" and ", " "))
    if "--lon" in mended:
        mended += ["--lat", "decimalLatitude"]
    assert run("doctor", path, "--target", "ph", *mended).exit_code == 0
    assert facts_of(path, "--target", "ph")[1]["problem"]


def test_a_raster_and_its_undeclared_nodata(tmp_path: Path) -> None:
    values = RNG.normal(10, 3, (1, 40, 60)).astype("float32")
    values[:, :, ::3] = -9999
    profile = {"driver": "GTiff", "count": 1, "height": 40, "width": 60, "dtype": "float32"}
    profile |= {"crs": "EPSG:4326", "transform": from_origin(5, 60, 0.25, 0.25)}
    with rasterio.open(tmp_path / "a.tif", "w", **profile) as file:
        file.write(values)
    code, facts = facts_of(tmp_path / "a.tif")
    assert (code, facts["format"], facts["CRS"]) == (0, "GTiff", "EPSG:4326")
    assert (facts["longitude"], facts["latitude"]) == ("5 to 20", "50 to 60")
    assert (facts["nodata"], len(facts["bands"])) == ("None", 1)
    assert "-9999" in facts["warnings"][0]


def test_what_is_no_file_of_data_exits_1(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no raster")
    for name in ("absent.csv", "notes.txt"):
        result = run("doctor", tmp_path / name)
        assert result.exit_code == 1
        assert name in result.stderr
