"""`locties evaluate`: rows, a compact table, labels of a user's own, and mistakes."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner, Result

import locties
from locties.cli import app
from locties.evaluation import TASKS, Task


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments)])


def toy(points: int) -> Task:
    lonlat = torch.rand(points, 2, generator=torch.manual_seed(0)) * 60
    return Task("toy", lonlat, lonlat[:, 1].numpy(), tier="embedded")


def test_evaluate_prints_the_rows_of_the_library(encoder, monkeypatch):
    monkeypatch.setitem(TASKS, "toy", toy)
    arguments = [encoder, "--tasks", "toy", "--points", 200, "--labels", "all,20"]
    result = run(*arguments, "--probes", "ridge", "--splits", "block", "--json")
    assert result.exit_code == 0, result.stderr
    rows = pd.DataFrame(json.loads(result.stdout))
    expected = locties.evaluate(
        locties.load(encoder),
        toy(200),
        name=str(encoder),
        labels=["all", 20],
        probes="ridge",
        splits="block",
    )
    pd.testing.assert_frame_equal(rows, expected, check_exact=False, rtol=1e-9)


def test_evaluate_prints_a_compact_table(encoder, monkeypatch):
    monkeypatch.setitem(TASKS, "toy", toy)
    result = run(f"{encoder}+xyz", "--tasks", "toy", "--points", "200")
    assert result.exit_code == 0, result.stderr
    *head, row = result.stdout.strip().splitlines()
    assert " ".join(" ".join(head).split()) == (
        "random random block block task metric labels ridge knn ridge knn"
    )
    task, metric, labels, *scores = row.split()
    assert (task, metric, labels) == ("toy", "r2", "all")
    assert len(scores) == 4
    assert float(scores[0]) > 0.9


def test_evaluate_finds_the_columns_of_coordinates(encoder, soil):
    table = pd.read_csv(soil).rename(columns={"lon": "Longitude", "lat": "Latitude"})
    table.to_csv(soil, index=False)
    result = run(encoder, "--points-file", soil, "--target", "ph", "--splits", "random", "--json")
    assert result.exit_code == 0, result.stderr
    rows = pd.DataFrame(json.loads(result.stdout))
    assert rows[rows["metric"] == "r2"]["value"].min() > 0.9


def test_evaluate_reads_labels_of_ones_own(encoder, soil):
    pd.read_csv(soil).rename(columns={"lon": "x", "lat": "y"}).to_csv(soil, index=False)
    labels = [encoder, "--points-file", soil]
    coordinates = ["--lon", "x", "--lat", "y", "--splits", "random", "--probes", "knn"]
    unnamed = run(*labels, "--target", "ph")
    assert unnamed.exit_code == 1
    assert "Pass --lon x --lat y." in unnamed.stderr
    unclear = run(*labels, "--target", "horizon", *coordinates)
    assert unclear.exit_code == 1
    assert "pass --kind regression or --kind classification" in unclear.stderr
    result = run(*labels, "--target", "ph", *coordinates)
    assert result.exit_code == 0, result.stderr
    task, metric, _, score = result.stdout.splitlines()[-1].split()
    assert (task, metric) == ("ph", "r2")
    assert float(score) > 0.9
    classes = run(*labels, "--target", "horizon", *coordinates, "--kind", "classification")
    assert "accuracy" in classes.stdout
    missing = run(encoder, "--points-file", "none.csv", "--target", "ph")
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "there is no file 'none.csv'" in missing.stderr


def test_evaluate_takes_a_table_of_embeddings_and_joins_it(encoder, soil, tmp_path):
    places = pd.read_csv(soil)[["lon", "lat"]]
    table = tmp_path / "peer.parquet"
    places.join(locties.embed(encoder, places)).to_parquet(table)
    labels = ["--points-file", soil, "--target", "ph", "--splits", "block", "--json"]
    scores = [
        pd.DataFrame(json.loads(run(name, *labels).stdout))["value"]
        for name in (f"{encoder}+xyz", f"{table}+xyz", encoder, table)
    ]
    pd.testing.assert_series_equal(scores[0], scores[1])
    pd.testing.assert_series_equal(scores[2], scores[3])
    places[50:].join(locties.embed(encoder, places[50:])).to_parquet(table)
    result = run(table, *labels)
    assert result.exit_code == 2
    assert "from the places of peer.parquet, such as (" in result.stderr


def test_rows_of_a_table_of_embeddings_are_dropped_if_asked(soil, tmp_path):
    table = pd.read_csv(soil)[["lon", "lat"]].assign(e0=1.5, e1=2.0)
    table.loc[3, "e0"] = np.nan
    table.to_csv(tmp_path / "peer.csv", index=False)
    labels = ["--points-file", soil, "--target", "ph", "--probes", "ridge", "--labels", "all"]
    refused = run(tmp_path / "peer.csv", *labels)
    assert refused.exit_code == 2
    assert "1 of 600 rows of peer.csv cannot be used" in refused.stderr
    assert "pass --invalid drop to drop them" in refused.stderr
    result = run(tmp_path / "peer.csv", *labels, "--invalid", "drop")
    assert result.exit_code == 0, result.stderr


def test_a_warning_of_the_library_is_one_line(encoder, soil):
    table = pd.read_csv(soil)
    pd.concat([table, table[:1]]).to_csv(soil, index=False)
    result = run(
        *[encoder, "--points-file", soil, "--target", "ph"],
        *["--splits", "block", "--probes", "knn"],
    )
    assert result.exit_code == 0
    assert result.stderr.startswith("locties: warning: 1 of 601 rows")
    assert result.stderr.endswith("To have one row for each place, average them\n")


@pytest.mark.parametrize("target", ["temp [degC]", "ph [/]", ":smile: [bold]x", "a\x1b]0;b"])
def test_a_targets_name_is_printed_as_it_is(target, tmp_path):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform([-80, -50], [80, 60], (60, 2)), columns=["lon", "lat"])
    frame.assign(**{target: frame["lat"] + 0.5}).to_csv(tmp_path / "a.csv", index=False)
    quick = ["--splits", "random", "--probes", "ridge", "--target", target]
    result = run("xyz", "--points-file", tmp_path / "a.csv", *quick)
    assert result.exit_code == 0, result.stderr
    assert target.replace("\x1b", "\\x1b") in result.stdout


def test_a_month_is_given_as_a_number_or_a_column(seasonal, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "toy", toy)
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.uniform([0, 0], [60, 60], (200, 2)), columns=["lon", "lat"])
    table["month"], table["when"] = rng.integers(1, 13, 200), "2024-07-01"
    table["rain"] = np.cos(table["month"] / 6 * np.pi)
    file = tmp_path / "rain.csv"
    table.to_csv(file, index=False)
    quick = ["--splits", "random", "--probes", "ridge", "--labels", "all", "--json"]

    def score(*options: object) -> float:
        result = run(seasonal, *options, *quick)
        assert result.exit_code == 0, result.stderr
        return json.loads(result.stdout)[1]["value"]

    rain = ("--points-file", file, "--target", "rain")
    assert score(*rain) > 0.7
    assert score(*rain, "--month", "month") > 0.7
    assert score(*rain, "--month", "when") == score(*rain, "--month", "7") < 0.1
    assert score("--tasks", "toy", "--points", 100, "--month", 7) > 0.9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--tasks", "toy"], "--month 7, or take --tasks monthly_temperature,monthly_prec"),
        (["--tasks", "toy", "--month", "day"], "give a number, 1 to 12"),
        (["--tasks", "toy", "--month", "13"], "is 13: give whole numbers from 1"),
        (["--tasks", "seasons", "--month", "7"], "'toy' has its own months: drop --month 7"),
    ],
)
def test_a_wrong_month_is_refused(options, said, seasonal, monkeypatch):
    monkeypatch.setitem(TASKS, "toy", toy)
    monkeypatch.setitem(TASKS, "seasons", lambda points: replace(toy(points), month=3))
    result = run(seasonal, "--points", 100, *options)
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr


def test_options_of_a_file_without_a_file_are_refused(encoder):
    result = run(encoder, "--tasks", "elevation", "--lon", "x")
    assert result.exit_code == 2
    assert "--lon x is for --points-file" in result.stderr
    for option in (["--points", "10"], ["--tier", "open"]):
        result = run(encoder, "--points-file", "soil.csv", "--target", "ph", *option)
        assert result.exit_code == 2
        assert f"{' '.join(option)} is for --tasks" in result.stderr


def test_a_month_for_an_encoder_without_is_refused(encoder):
    result = run(encoder, "--month", "7")
    assert result.exit_code == 2
    assert "takes no month: drop --month 7" in result.stderr
