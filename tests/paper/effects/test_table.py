"""The table of effects, from rows as the study writes them."""

import numpy as np
import pandas as pd
import pytest

from locties_paper.design import FIVE
from locties_paper.effects import table
from locties_paper.effects.rows import read_rows, shared, without_leaks
from locties_paper.own_targets import OWN
from locties_paper.sweeps import SWEEPS

TASKS = {"embedded": ["elevation", "country"], "open": ["elevation", "biome", "house_value"]}
OWN_TASKS = {"own": list(OWN)}
READ_GAIN = {"output": 0.0, "output+harmonics_10": 0.01, "output+raw+harmonics_10": 0.02}


def cells(
    name: str,
    read: str,
    budget: float,
    seed: int,
    draw: int,
    value: float,
    tiers: dict[str, list[str]] = TASKS,
) -> list[dict]:
    return [
        {
            "encoder": name,
            "read": read,
            "budget": budget,
            "seed": seed,
            "draw": draw,
            "tier": tier,
            "task": task,
            "split": split,
            "probe": "ridge",
            "labels": labels,
            "metric": "r2",
            "value": value + READ_GAIN[read] + draw / 100,
        }
        for tier, tasks in tiers.items()
        for task in tasks
        for split in ("random", "block")
        for labels in ("all", "50")
    ]


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """Every contender, with a score by its number of modalities; regression is .1 better."""
    folder = tmp_path_factory.mktemp("results")
    for sweep in {sweep for sweep, _ in table.QUESTIONS.values()} | {"left_out"}:
        chosen, trained, tiers = [], [], OWN_TASKS if sweep == "own" else TASKS
        for name, each in SWEEPS[sweep].contenders.items():
            value = 0.5 + 0.02 * len(each.modalities) + 0.1 * (each.objective == "regression")
            best = [each.budgets[0]] if each.budgets else []
            chosen += [(name, budget, value) for budget in best]
            for seed, draws in each.replicates:
                for draw in [draw for draw in draws if draw < 4]:
                    for budget in {*best, *each.curve, 1.0}:
                        for read in READ_GAIN:
                            score = value - budget / 10
                            trained += cells(name, read, budget, seed, draw, score, tiers)
        columns = ["contender", "budget", "value"]
        pd.DataFrame(chosen, columns=columns).to_parquet(folder / f"study_{sweep}_chosen.parquet")
        pd.DataFrame(trained).to_parquet(folder / f"study_{sweep}_table.parquet")
        if SWEEPS[sweep].baselines:
            baselines = [
                row
                for name in SWEEPS[sweep].baselines
                for draw in range(4 if name == "raw" else 3)
                for row in cells(
                    name, "output", 0.0, 0, draw, 0.3 if "without" in name else 0.4, tiers
                )
            ]
            pd.DataFrame(baselines).to_parquet(folder / f"study_{sweep}_baselines.parquet")
    return folder


def test_rows_name_budget_and_reading(results):
    rows = read_rows(results)
    assert {"melt", "melt@1", "melt+harmonics_10", "raw", "clip-rain@1"} <= set(rows["encoder"])
    assert set(rows.loc[rows["encoder"] == "raw", "draw"]) == {0, 1, 2, 3}
    assert set(shared(rows)["draw"]) == {0, 1, 2}
    leaking = rows[rows["leaks"]].groupby("tier")["task"].unique()
    assert set(leaking["embedded"]) == {"elevation", "country"}
    assert set(leaking["open"]) == {"elevation"}


def test_a_run_without_what_leaks_stands_for_its_contender(results):
    rows = without_leaks(read_rows(results), read_rows(results, "left_out"))
    scores = rows[rows["draw"] == 0].pivot_table("value", "encoder", "task")
    budget = 1 / 16 / 10
    assert scores.loc["melt", "biome"] == pytest.approx(0.6 - budget)
    assert scores.loc["melt", "elevation"] == pytest.approx(0.58 - budget)  # relief is left out
    assert scores.loc["raw", ["biome", "elevation"]].to_list() == pytest.approx([0.4, 0.3])
    assert {"xyz", "clip-rain", "untrained", "melt+harmonics_10"} <= set(scores.index)
    assert {"clip-relief", "salt", "best"}.isdisjoint(scores.index)
    assert scores.notna().all(axis=None)
    assert set(rows.loc[rows["encoder"] == "raw", "draw"]) == {0, 1, 2}  # that both have


@pytest.mark.slow
def test_effects_are_what_the_rows_say(results, monkeypatch):
    monkeypatch.setattr(table, "CELLS", ("labels",))
    monkeypatch.setattr(table, "GROUPS", {"open, no leaks": table.GROUPS["open, no leaks"]})
    found = pd.DataFrame(table.effects(results))
    assert set(found["question"]) == set(table.QUESTIONS)
    overall = found[(found["by"] == "all") & (found["group"] == "open, no leaks")]
    assert set(overall["reading"]) == {"alone", "beside harmonics", "as named"}
    parts = {f"own targets, {name}" for name in FIVE}
    assert set(found["group"]) == {"open, no leaks", table.LEFT_OUT, "own targets", *parts}
    main = overall["question"].isin(["training", "C1", "C2", "C3", "C4"])
    shown = overall[main & (overall["reading"] != "beside harmonics")]
    value = shown.set_index("contrast")["value"]
    assert value["regression: five minus one"] == pytest.approx(0.08)
    assert value["MELT minus regression"] == pytest.approx(-0.1)
    assert value["budget: its best minus equal pairs"] == pytest.approx((1 - 1 / 16) / 10)
    assert value["reading: harmonics beside"] == pytest.approx(0.01)
    assert value["MELT: budget 1 minus 0.25"] == pytest.approx(-0.075)
    of = overall[overall["reading"] == "beside harmonics"].set_index(["question", "contrast"])
    assert of["value"]["C2 counts", "five minus one, equal pairs of each"] == pytest.approx(0.06)
    assert of["value"]["C7", "batch_2048 minus batch_1024"] == pytest.approx(-0.1)
    assert of["value"]["C1 paper", "MELT minus single on rain"] == pytest.approx(0.08)
    assert set(overall["tasks"]) == {2}
    assert set(overall.loc[overall["question"] == "C3 crossed", "draws"]) == {4}
    assert np.isfinite(found[["value", "low", "high", "low_tasks"]].to_numpy(float)).all()
    labels = found[(found["by"] == "labels") & (found["contrast"] == "MELT minus SALT")]
    assert set(labels["level"]) == {"all", "50"}


def test_joint_training_is_compared_on_the_targets_of_each_modality(results, monkeypatch):
    monkeypatch.setattr(table, "CELLS", ())
    monkeypatch.setattr(table, "QUESTIONS", {"C6": table.QUESTIONS["C6"]})
    found = pd.DataFrame(table.effects(results))
    found = found[found["reading"] == "alone"].set_index(["group", "contrast"])
    value, tasks = found["value"], found["tasks"]
    for group, of_group in (("own targets", 10), ("own targets, toponyms", 2)):
        # Four more modalities add .08; joint training has .8 more budget, which costs .08.
        assert value[group, "MELT minus single, budget 1"] == pytest.approx(0.0, abs=1e-9)
        assert value[group, "SALT minus untrained, budget 1"] == pytest.approx(-0.1)
        assert tasks[group, "regression minus regression on one, budget 0.25"] == of_group
    own = value["own targets, rain", "MELT minus own values"]
    other = value["own targets, rain", "MELT minus other values"]
    assert own - other == pytest.approx(-0.1)


def test_an_encoder_of_all_rasters_is_left_out_where_they_leak():
    tasks = ["elevation", "precipitation", "plant_richness", "biome"]
    rows = pd.DataFrame(
        [(name, "open", task, task != "biome", 0) for name in ("large", "xyz") for task in tasks],
        columns=["encoder", "tier", "task", "leaks", "draw"],
    )
    found = without_leaks(rows, rows[:1].assign(encoder="melt-without-relief"))
    assert set(found["encoder"]) == {"xyz"}
    assert set(found["task"]) == set(tasks)
