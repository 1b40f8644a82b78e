"""`locties map`: every output, every wrong use before any work, and a kill in the middle."""

import json
import shlex
import signal
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray
from command import run
from killed import killed_at_sync

pytestmark = pytest.mark.usefixtures("no_kriging")

BOUNDS = "5,43,15,50"


@pytest.fixture
def points(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.uniform([6, 44], [14, 49], (40, 2)), columns=["lon", "lat"])
    table["ph"] = table["lat"] / 10 + rng.normal(0, 0.05, 40)
    table["biome"] = np.where(table["lat"] > 46.5, "taiga", "steppe")
    table.to_csv(tmp_path / "points.csv", index=False)
    return tmp_path / "points.csv"


@pytest.fixture
def sites(tmp_path: Path) -> Path:
    (tmp_path / "sites.csv").write_text(
        'site id,lon,lat,note\n007,7.0,45.0,"a, b"\n008,13.50,48.5,\n', encoding="utf-8"
    )
    return tmp_path / "sites.csv"


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["tif", "zarr"])
def test_a_raster_is_written_with_a_report(ending, points, encoder, tmp_path):
    output, report = tmp_path / f"ph.{ending}", tmp_path / "ph.html"
    raster = ["--bounds", BOUNDS, "--resolution", "0.5", "--sea"]
    where = ["--output", output, *(["--report", report] if ending == "tif" else [])]
    result = run("map", points, "--target", "ph", "--encoder", encoder, *raster, *where)
    assert result.exit_code == 0, result.stderr
    assert "40 labels of ph" in result.stdout
    assert "Coverage on held-out blocks" in result.stdout
    assert f"{output}: 20 x 14 pixels of 0.5 degrees; trusted on" in result.stdout
    if ending == "tif":
        with rasterio.open(output) as dataset:
            value = dataset.read(1)
    else:
        value = xarray.open_zarr(output)["value"].to_numpy()
    assert value.shape == (14, 20)
    assert np.isfinite(value).all()
    assert 4.3 < value.min() < value.max() < 5
    if ending == "tif":
        assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
        assert report.with_suffix(".png").stat().st_size > 1000


@pytest.mark.parametrize("ending", ["csv", "tsv", "parquet"])
@pytest.mark.parametrize("target", ["ph", "biome"])
def test_at_given_places_the_columns_stay_and_predictions_follow(
    ending, target, points, sites, encoder, tmp_path
):
    output = tmp_path / f"out.{ending}"
    result = run(
        *("map", points, "--target", target, "--encoder", encoder),
        *("--at", sites, "--output", output),
    )
    assert result.exit_code == 0, result.stderr
    if ending == "parquet":
        table = pd.read_parquet(output)
    else:
        mark = "," if ending == "csv" else "\t"
        table = pd.read_csv(output, sep=mark, dtype=str, keep_default_na=False)
    assert list(table)[:4] == ["site id", "lon", "lat", "note"]
    if ending != "parquet":
        assert table["site id"].tolist() == ["007", "008"]
        assert table["lon"].tolist() == ["7.0", "13.50"]
    assert table["note"].iloc[0] == "a, b"
    if target == "ph":
        assert list(table)[4:7] == ["value", "low", "high"]
        numbers = table[["low", "value", "high"]].astype(float).to_numpy()
        assert (np.diff(numbers, axis=1) >= 0).all()
    else:
        assert table["value"].tolist() == ["steppe", "taiga"]
        assert {"p_steppe", "p_taiga", "set", "set_size"} <= set(table)
    assert {"dissimilarity", "trusted", "nearest_label_km"} <= set(table)


def test_a_month_is_that_of_the_map(points, seasonal, sites):
    output = sites.with_name("july.csv")
    at = ["--at", sites, "--output", output]
    refused = run("map", points, "--target", "ph", "--encoder", seasonal, *at)
    assert refused.exit_code == 2
    assert "pass --month 7" in refused.stderr
    result = run("map", points, "--target", "ph", "--encoder", seasonal, "--month", "7", *at)
    assert result.exit_code == 0, result.stderr
    assert len(pd.read_csv(output)) == 2
    dated = sites.with_name("dated.csv")
    pd.read_csv(points).assign(month=3).to_csv(dated, index=False)
    result = run("map", dated, "--target", "ph", "--encoder", seasonal, "--month", "7")
    assert "every label counts as of month 7" in result.stderr


def test_without_an_output_the_summary_is_printed_alone(points, encoder, tmp_path):
    before = sorted(tmp_path.iterdir())
    result = run("map", points, "--target", "biome", "--encoder", encoder)
    assert result.exit_code == 0, result.stderr
    assert "40 labels of biome" in result.stdout
    assert sorted(tmp_path.iterdir()) == before


WRONG = [
    (["--output", "ph.png"], "ph.png: give a name that ends in .tif or .zarr"),
    (["--output", "ph.csv"], "--at SITES.csv"),
    (["--output", "ph.tif", "--at", "sites.csv"], "ph.tif is not a table"),
    (["--at", "sites.csv"], "needs --output"),
    (["--at", "sites.csv", "--output", "sites.csv"], "name another file"),
    (["--at", "sites.csv", "--output", "o.csv", "--sea"], "drop --at"),
    (["--report", "ph.pdf"], "--report ph.pdf: give a name that ends in .html"),
    (["--bounds", BOUNDS], "need --output or --report"),
    (["--output", "ph.tif", "--bounds", "5,43,15"], "--bounds 5,43,15: give west, south"),
    (["--output", "ph.tif", "--bounds", "15,50,5,43"], "south < north"),
    (["--output", "ph.tif", "--resolution", "0.07"], "0.0700117"),
    (["--output", "ph.tif", "--resolution", "1e-7"], "resolution 1e-07"),
    (["--output", "ph.tif", "--coverage", "90"], "--coverage 90"),
    (["--output", "ph.tif", "--target", "hp"], "'hp'"),
    (["--output", "ph.tif", "--encoder", "metl"], "did you mean 'melt'"),
    (["--output", "ph.tif", "--encoder", "Auto"], "did you mean 'auto'"),
    (["--output", "ph.tif", "--kind", "classes"], "classification"),
    (["--output", "ph.tif", "--lon", "lgn"], "lgn"),
    (["--output", "ph.tif", "--invalid", "dorp"], "'drop'"),
    (["--output", "ph.tif", "--encoder", "melt", "--month", "7"], "no encoder takes a month"),
]


@pytest.mark.parametrize(
    ("options", "said"), WRONG, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_wrong_use_is_one_line_before_any_work(options, said, points, sites, monkeypatch):
    """No encoder is run: an embedding would fail the test."""
    monkeypatch.chdir(points.parent)
    monkeypatch.setattr(
        "locties.mapping.candidates.checked_embedding", lambda *_: pytest.fail("it came to work")
    )
    before = {path.name: path.read_bytes() for path in points.parent.iterdir()}
    result = run("map", "points.csv", "--target", "ph", *options)
    assert result.exit_code in (1, 2), result.stderr
    assert said in " ".join(result.stderr.split())
    assert (result.stdout, result.stderr.count("\n")) == ("", 1)
    assert {path.name: path.read_bytes() for path in points.parent.iterdir()} == before


@pytest.mark.parametrize(
    ("options", "file"),
    [
        (["--output", "ph.tif"], "no.csv"),
        (["--output", "o.csv", "--at", "no.csv"], "points.csv"),
    ],
)
def test_a_missing_file_is_named(options, file, points, monkeypatch):
    monkeypatch.chdir(points.parent)
    result = run("map", file, "--target", "ph", *options)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "no.csv" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.slow
def test_killed_in_the_middle_the_same_command_resumes_to_the_same_bits(
    points, encoder, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    note = tmp_path / "ph.tif.unfinished" / ".locties" / "note.json"
    where = ["--bounds", BOUNDS, "--resolution", "0.02", "--sea"]
    command = ["map", points, "--target", "ph", "--encoder", encoder, *where, "--output"]
    assert killed_at_sync(lambda: run(*command, "ph.tif"), 20) == -signal.SIGKILL
    assert json.loads(note.read_text())["done"]
    assert not Path("ph.tif").exists()
    for name in ("ph.tif", "whole.tif"):
        result = run(*command, name)
        assert result.exit_code == 0, result.stderr
    assert Path("ph.tif").read_bytes() == Path("whole.tif").read_bytes()
    assert not list(tmp_path.glob("*.unfinished"))


@pytest.mark.parametrize(("option", "name"), [("--output", "ph.tif"), ("--report", "ph.html")])
def test_a_folder_that_cannot_be_written_is_named_before_any_work(option, name, points):
    result = run("map", points, "--target", "no column", option, points / name)
    assert result.exit_code == 1
    assert f"{points / name} cannot be written" in result.stderr


@pytest.mark.parametrize(
    "options",
    [
        ["map", "FILE", "--target", "ph"],
        ["embed", "melt", "FILE"],
        ["pretrain", "melt", "-m", "rain"],
        ["features", "texts", "FILE", "--encoder", "use_multilingual"],
    ],
)
def test_a_missing_folder_is_named_with_the_command_that_makes_it(options, points, monkeypatch):
    monkeypatch.chdir(points.parent)
    command = [str(points) if word == "FILE" else word for word in options]
    ending = "tif" if "map" in options else "csv"
    result = run(*command, "--output", f"my mpas/a.{ending}")
    assert result.exit_code == 1
    assert "there is no folder 'my mpas'" in result.stderr
    assert not Path("my mpas").exists()
    subprocess.run(shlex.split(result.stderr.partition("make it: ")[2]), check=True)
    assert Path("my mpas").is_dir()
