"""Rows of results: provenance, and what is not beaten."""

import json

import pandas as pd

from locties.data.manifest import manifest_hash
from locties_paper import results


def rows(encoder: str, value: float, seed: int = 0) -> pd.DataFrame:
    row = {"encoder": encoder, "task": "elevation", "split": "block", "probe": "knn"}
    row |= {"tier": "embedded"}
    row |= {"labels": "all", "seed": seed, "metric": "r2", "value": value}
    return pd.DataFrame([row])


def test_a_row_carries_where_it_comes_from(tmp_path):
    run = tmp_path / "run"
    (run / "encoder").mkdir(parents=True)
    (run / "settings.json").write_text(json.dumps({"seconds": 12.5, "device": "cpu", "seed": 0}))
    settings = {"encoder": str(run / "encoder"), "points": 500, "output": "a"}
    results.write(rows("melt", 0.5), tmp_path / "a.parquet", settings)
    results.write(rows("melt", 0.5), tmp_path / "b.parquet", settings | {"output": "b"})
    results.write(rows("melt", 0.5), tmp_path / "c.parquet", settings | {"points": 501})
    a, b, c = (pd.read_parquet(tmp_path / f"{name}.parquet").iloc[0] for name in "abc")
    assert a["config"] == b["config"] != c["config"], "where it is written is no setting"
    assert (a["device"], a["seconds"]) == ("cpu", 12.5)
    assert len(a["data"]) >= 12
    assert a["code"].startswith("0.")
    assert not list(tmp_path.glob("*.part"))


def test_not_beaten_compares_means_over_seeds():
    table = pd.concat(
        [rows("melt", 0.4, 0), rows("melt", 0.6, 1), rows("xyz", 0.5), rows("constant", 0.0)]
    )
    behind = results.not_beaten(table, "melt")
    assert list(behind["other"]) == ["xyz"], "a tie is not a win"
    assert results.not_beaten(table, "xyz")["other"].tolist() == ["melt"]


def test_scores_leave_intervals_and_few_labels_out():
    table = pd.concat(
        [
            rows("melt", 0.5),
            rows("melt", 0.4).assign(metric="r2_low"),
            rows("melt", 0.3).assign(labels="50"),
        ]
    )
    assert results.scores(table)["value"].tolist() == [0.5]


def test_rows_of_two_tiers_never_mix():
    opened = rows("melt", 0.9).assign(tier="open")
    table = pd.concat([rows("melt", 0.5), opened, rows("xyz", 0.7)])
    assert results.scores(table)["value"].tolist() == [0.5, 0.7]
    assert results.scores(table, tier="open")["value"].tolist() == [0.9]
    assert results.not_beaten(table, "melt")["other"].tolist() == ["xyz"]
    assert results.not_beaten(table, "melt", tier="open").empty


def test_rows_of_other_data_say_so():
    assert results.edition(pd.DataFrame({"data": [manifest_hash()] * 2})) == ""
    older = results.edition(pd.DataFrame({"data": [manifest_hash(), "abc" * 20]}))
    assert ("abc" * 4) in older
    assert "abcabcabcabc" in older


def test_an_interval_is_written_only_where_there_is_one():
    nan = float("nan")
    assert results.with_interval(0.5, 0.4, 0.6, ".1f") == "0.5 [0.4, 0.6]"
    assert results.with_interval(-0.5, nan, nan, ".1f") == "-0.5"
    assert results.with_interval(nan, nan, nan) == ""
