"""Runs of the study: trained once, scored once, chosen on pilot places."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

import locties
from locties import Task
from locties.evaluation.raw import Raw
from locties_paper import design, fair_runs
from locties_paper.design import READS, Contender, Scoring, Sweep, replicates
from locties_paper.results import PUBLISHED_ROWS
from locties_paper.sweeps import BOOSTED, SWEEPS

SCORING = Scoring(tiers=["embedded"])


@pytest.fixture
def small(monkeypatch):
    """A contender that trains in a second, and one task."""
    lonlat = torch.tensor(np.random.default_rng(0).uniform([-180, -60], [180, 60], (400, 2)))
    task = Task("north", lonlat, lonlat[:, 1], tier="embedded")
    monkeypatch.setattr(design, "PAIRS", 512)
    monkeypatch.setattr(design, "BATCH", 32)
    monkeypatch.setattr(design, "tasks", lambda tier, draw: [task])
    fair_runs._tasks.cache_clear()
    tiny = {"features": "xyz", "network": "mlp", "network_options": {"hidden": 8}, "dim": 8}
    yield Contender("tiny", "melt", ["rain", "haze"], encoder=tiny, budgets=(1.0,))
    fair_runs._tasks.cache_clear()


@pytest.mark.slow
@pytest.mark.data
def test_a_job_is_trained_and_scored_once(small, tmp_path, monkeypatch):
    job = fair_runs.Job(small, 1.0, 100, [design.PILOT_DRAW], READS, SCORING)
    rows = pd.read_parquet(fair_runs.run(job, tmp_path))
    assert set(rows["read"]) == set(READS)
    assert set(rows["draw"]) == {design.PILOT_DRAW}
    assert set(rows["budget"]) == {1.0}
    assert rows.loc[rows["metric"] == "r2", "value"].max() > 0.9

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was trained or scored again")

    monkeypatch.setattr(fair_runs, "score", never)
    monkeypatch.setattr("locties.pretrain", never)
    assert fair_runs.run(job, tmp_path).exists()
    (tmp_path / "rows" / f"{job.name}.parquet").unlink()
    with pytest.raises(AssertionError, match="again"):
        fair_runs.run(job, tmp_path)  # the encoder is kept, the scores are not


def pilot_rows(values: dict[tuple[str, float, str], float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "encoder": name,
            "budget": budget,
            "read": read,
            "value": value if task == "biome" else 1 - value,  # the other task leaks
            "metric": "r2",
            "tier": "open",
            "task": task,
            "draw": design.PILOT_DRAW,
        }
        for (name, budget, read), value in values.items()
        for task in ("biome", "elevation")
    )


def test_the_best_budget_is_chosen_for_each_on_pilot_places():
    sweep = Sweep("", [Contender("a", "melt", []), Contender("b", "melt", [])])
    rows = pilot_rows(
        {
            ("a", 0.25, "output"): 0.7,
            ("a", 1.0, "output"): 0.6,
            ("a", 1.0, "output+harmonics_10"): 0.8,
            ("b", 0.25, "output"): 0.5,
            ("b", 1.0, "output+harmonics_10"): 0.4,
        }
    )
    of_a_table = rows.assign(draw=0, value=rows["value"].max() - rows["value"])
    chosen = fair_runs.choose(sweep, pd.concat([rows, of_a_table])).set_index("contender")
    assert chosen["budget"].to_dict() == {"a": 1.0, "b": 0.25}


def test_a_single_budget_needs_no_pilot():
    sweep = Sweep("", [Contender("a", "melt", [], budgets=(3.0,)), Contender("b", "melt", [])])
    assert {job.contender.name for job in fair_runs.pilot_jobs(sweep)} == {"b"}
    for rows in (pd.DataFrame(), pilot_rows({("b", 0.25, "output"): 0.7})):
        chosen = fair_runs.choose(sweep, rows).set_index("contender")
        assert chosen.loc["a", "budget"] == 3.0
    assert list(chosen.index) == ["b", "a"]
    with pytest.raises(ValueError, match="'b' has no best budget: run its pilot"):
        list(fair_runs.table_jobs(sweep, chosen.loc[["a"]].reset_index()))


def test_replicates_have_the_best_budget_and_the_strongest_single_all_up_to_one(small):
    made = [replace(small, name=f"clip-{m}", budgets=(0.25, 1.0, 4.0)) for m in design.FIVE]
    made.append(replace(made[0], name="fewer-seeds", replicates=replicates(5, draws=2)))
    made.append(replace(made[0], name="curve", budgets=(), curve=(0.5, 2.0)))
    values = [0.5, 0.8, 0.5, 0.5, 0.5, 0.9]
    names = [each.name for each in made[:-1]]
    chosen = pd.DataFrame({"contender": names, "budget": 0.25, "value": values})
    jobs = [
        (job.contender.name, job.budget, list(job.draws))
        for job in fair_runs.table_jobs(Sweep("", made), chosen)
    ]
    assert jobs[:3] == [
        ("clip-imagery", 0.25, [0]),
        ("clip-rain", 0.25, [0]),
        ("clip-rain", 1.0, [0]),  # the strongest single
    ]
    assert ("fewer-seeds", 0.25, [0, 1]) in jobs
    assert jobs[-2:] == [("curve", 0.5, [9]), ("curve", 2.0, [9])]
    assert len(jobs) == 8 * design.REPLICATES + design.REPLICATES // 2


def test_rows_that_were_published_are_not_made_again():
    chosen = pd.read_parquet(PUBLISHED_ROWS / "study_main_chosen.parquet")
    for part, jobs in (
        ("pilot", fair_runs.pilot_jobs(SWEEPS["main"])),
        ("table", fair_runs.table_jobs(SWEEPS["main"], chosen)),
        ("baselines", fair_runs.baseline_jobs(SWEEPS["main"])),
    ):
        table = pd.read_parquet(PUBLISHED_ROWS / f"study_main_{part}.parquet")
        known = set(table.loc[table["encoder"] != "untrained", "job"])
        assert len(known & {job.name for job in jobs}) > 0.7 * len(known), part


def test_baselines_are_scored_at_the_draws_of_the_tables_and_the_longest_last(small, tmp_path):
    made = replace(small, replicates=replicates(2))
    jobs = list(fair_runs.baseline_jobs(Sweep("", [made], (BOOSTED, "xyz"), SCORING)))
    assert [(job.encoder, job.draw) for job in jobs] == [
        ("xyz", 0),
        ("xyz", 1),
        (BOOSTED, 0),
        (BOOSTED, 1),
    ]
    rows = pd.read_parquet(fair_runs.run(jobs[0], tmp_path))
    assert rows.loc[rows["metric"] == "r2", "value"].max() > 0.9


@pytest.mark.slow
@pytest.mark.data
def test_a_run_is_scored_at_the_end_of_each_turn(small, tmp_path):
    salt = replace(small, schedule="salt", each_epoch=True)
    job = fair_runs.Job(salt, 1.0, 100, [0], READS[:1], SCORING)
    assert job.seconds > 6 * SCORING.seconds  # three turns of each modality
    rows = pd.read_parquet(fair_runs.run(job, tmp_path))
    turns = rows[["epoch", "active"]].drop_duplicates().itertuples(index=False, name=None)
    assert list(turns) == [(e, "rain" if e % 2 else "haze") for e in range(1, 7)]
    last = rows.loc[rows["epoch"] == 6, "value"].reset_index(drop=True)
    first = rows.loc[rows["epoch"] == 1, "value"].reset_index(drop=True)
    whole = fair_runs.score(
        locties.load(tmp_path / "runs" / job.name / "encoder"), "tiny", [0], SCORING
    )
    np.testing.assert_array_equal(last, whole["value"])
    assert not np.allclose(first, last, equal_nan=True)


@pytest.mark.slow
@pytest.mark.data
def test_raw_values_can_lack_what_leaks():
    place = torch.tensor([[-60.0, -3.1]])
    kept = fair_runs.baseline("raw-without-rain-imagery")(place)
    assert torch.equal(kept, Raw(["haze", "relief"])(place))
    assert fair_runs.baseline("raw-without-rain-imagery+xyz")(place).shape[1] == kept.shape[1] + 3


def test_jobs_that_were_gathered_are_not_run_again(small, tmp_path, monkeypatch, capsys):
    job = fair_runs.Job(small, 1.0, 100, [0], ["output"])
    folder, kept = tmp_path / "pilot", tmp_path / "kept.parquet"
    fair_runs.write(
        pd.DataFrame({"job": [job.name], "metric": ["r2"], "value": [0.5]}),
        folder / "rows" / "x.parquet",
    )
    (folder / "rows" / "x.parquet").rename(folder / "rows" / f"{job.name}.parquet")
    fair_runs.gather(folder, kept).to_parquet(kept)
    (folder / "rows" / f"{job.name}.parquet").unlink()
    assert fair_runs.gather(folder, kept)["value"].tolist() == [0.5]
    fair_runs.run_all([job], folder, kept, 1)
    assert "0 of 1 jobs" in capsys.readouterr().err

    monkeypatch.setattr(fair_runs, "manifest_hash", lambda: "another edition")
    with pytest.raises(ValueError, match="rows of other data"):
        fair_runs.gather(folder, kept)
