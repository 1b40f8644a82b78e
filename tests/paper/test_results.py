"""Rows of results: provenance, gathering, and what is not beaten."""

import json

import pandas as pd
import pytest

from locties.data.manifest import manifest_hash
from locties.modalities import MODALITIES
from locties_paper import results, study
from locties_paper.effects import claims


def rows(encoder: str, value: float, seed: int = 0) -> pd.DataFrame:
    row = {"encoder": encoder, "task": "elevation", "split": "block", "probe": "knn"}
    row |= {"tier": "embedded", "points_seed": 0}
    row |= {"labels": "all", "seed": seed, "metric": "r2", "value": value}
    return pd.DataFrame([row | dict.fromkeys(results.PROVENANCE, "")])


def test_a_row_carries_where_it_comes_from(tmp_path):
    run = tmp_path / "run"
    (run / "encoder").mkdir(parents=True)
    (run / "settings.json").write_text(json.dumps({"seconds": 12.5, "device": "cpu", "seed": 0}))
    settings = {"encoder": str(run / "encoder"), "points": 500, "output": "a"}
    results.write(rows("melt", 0.5), tmp_path / "a.parquet", "smoke", settings)
    results.write(rows("melt", 0.5), tmp_path / "b.parquet", "smoke", settings | {"output": "b"})
    results.write(rows("melt", 0.5), tmp_path / "c.parquet", "smoke", settings | {"points": 501})
    a, b, c = (pd.read_parquet(tmp_path / f"{name}.parquet").iloc[0] for name in "abc")
    assert a["config"] == b["config"] != c["config"], "where it is written is no setting"
    assert (a["profile"], a["device"], a["seconds"]) == ("smoke", "cpu", 12.5)
    assert len(a["data"]) >= 12
    assert a["code"].startswith("0.")
    assert not list(tmp_path.glob("*.part"))


def test_histories_are_gathered_under_the_names_of_their_runs(tmp_path):
    for seed in (0, 1):
        pd.DataFrame({"epoch": [1, 2]}).to_parquet(tmp_path / f"{seed}.parquet")
    files = [tmp_path / "0.parquet", tmp_path / "1.parquet"]
    scored = pd.concat([rows("melt-all", 0.5, seed).assign(config=f"c{seed}") for seed in (0, 1)])
    twice = pd.concat([scored, scored.assign(config="of another tier")])
    names = ["melt-all-0", "melt-all-1"]
    results.gather_histories(names, files, tmp_path / "all.parquet", twice)
    table = pd.read_parquet(tmp_path / "all.parquet")
    assert table["config"].tolist() == ["c0", "c0", "c1", "c1"], "where each comes from"
    assert set(results.PROVENANCE) <= set(table)
    assert table[["encoder", "seed"]].drop_duplicates().to_numpy().tolist() == [
        ["melt-all", 0],
        ["melt-all", 1],
    ]


def test_sweeps_are_gathered_with_the_pairs_that_kept_encoders_saw(tmp_path):
    for seed, step in ((0, 100), (1, 200)):
        history = pd.DataFrame({"epoch": [1, 1, 2, 2], "modality": ["a", "b"] * 2})
        history.assign(pairs=history["epoch"] * step).to_parquet(tmp_path / f"history{seed}")
        both = [rows("along", 0.7, seed), rows("along@1", 0.6, seed), rows("along@2", 0.5, seed)]
        pd.concat(both).to_parquet(tmp_path / f"scores{seed}")
    tables, histories = ([tmp_path / f"{what}{i}" for i in "01"] for what in ("scores", "history"))
    results.gather_sweeps(tables, ["along-0", "along-1"], histories, tmp_path)
    sweeps = pd.read_parquet(tmp_path / "sweeps.parquet")
    assert sweeps["value"].tolist() == [0.7, 0.7]
    along = pd.read_parquet(tmp_path / "scores_along.parquet")
    assert set(along["encoder"]) == {"along"}
    found = along.set_index(["seed", "pairs"])["value"].to_dict()
    assert found == {(0, 100): 0.6, (0, 200): 0.5, (1, 200): 0.6, (1, 400): 0.5}
    results.gather_sweeps([tables[0]], ["along-0"], histories[:1], tmp_path)
    assert len(pd.read_parquet(tmp_path / "scores_along.parquet")) == 2


def test_sweeps_without_kept_encoders_have_no_scores_along(tmp_path):
    pd.DataFrame({"epoch": [1], "pairs": [9]}).to_parquet(tmp_path / "history")
    rows("one", 0.7).to_parquet(tmp_path / "scores")
    results.gather_sweeps([tmp_path / "scores"], ["one-0"], [tmp_path / "history"], tmp_path)
    assert len(pd.read_parquet(tmp_path / "sweeps.parquet")) == 1
    assert {"encoder", "pairs"} <= set(pd.read_parquet(tmp_path / "scores_along.parquet"))
    assert len(pd.read_parquet(tmp_path / "scores_along.parquet")) == 0


def test_a_sweep_alone_leaves_tables_that_claims_can_read(tmp_path):
    """In a new checkout none of the book's own runs is there."""
    results.gather([], tmp_path / "runs.parquet")
    results.gather_histories([], [], tmp_path / "histories.parquet", rows("none", 0.5))
    runs, histories = results.read(tmp_path)
    assert len(runs) == len(histories) == 0
    pd.DataFrame({"epoch": [1], "pairs": [9]}).to_parquet(tmp_path / "history")
    rows("one", 0.7).to_parquet(tmp_path / "scores")
    results.gather_sweeps([tmp_path / "scores"], ["one-0"], [tmp_path / "history"], tmp_path)
    claims.write(tmp_path, tmp_path / "claims.parquet")
    assert set(pd.read_parquet(tmp_path / "claims.parquet")["verdict"]) == {"undecided"}


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


def test_a_folder_without_results_says_what_to_run(tmp_path):
    with pytest.raises(FileNotFoundError, match="run `make results`"):
        results.read(tmp_path)


def test_published_rows_keep_the_study_that_made_them(tmp_path):
    published, present = results.design(), results.design(tmp_path)
    assert {"profiles", "runs", "sweeps", "leaks"} <= set(published) & set(present)
    names = set(results.read()[0]["encoder"].str.partition("+")[0])
    for modality in study.modalities(published):
        assert f"clip-{modality}" in names, "the design has the names of the rows"
    known = set(MODALITIES)
    assert set(study.modalities(present)) <= known
    for leaks in present["leaks"].values():
        assert {name for names in leaks.values() for name in names} <= known
    (tmp_path / results.DESIGN).write_text("runs: {}\n")
    assert results.design(tmp_path) == {"runs": {}}


def test_rows_of_other_data_say_so():
    assert results.edition(pd.DataFrame({"data": [manifest_hash()] * 2})) == ""
    older = results.edition(pd.DataFrame({"data": [manifest_hash(), "abc" * 20]}))
    assert ("abc" * 4) in older
    assert "abcabcabcabc" in older
