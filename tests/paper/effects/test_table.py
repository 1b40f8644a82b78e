"""The table of effects, from rows as the study writes them."""

import numpy as np
import pandas as pd
import pytest

from locties_paper.design import READS
from locties_paper.effects import table
from locties_paper.effects.rows import read_rows, shared
from locties_paper.sweeps import SWEEPS, UNTRAINED

TASKS = {"embedded": ["elevation", "country"], "open": ["elevation", "biome", "house_value"]}
READ_GAIN = {"output": 0.0, "output+harmonics_10": 0.01, "output+raw+harmonics_10": 0.02}


def cells(name: str, read: str, budget: float, seed: int, draw: int, value: float) -> list[dict]:
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
        for tier, tasks in TASKS.items()
        for task in tasks
        for split in ("random", "block")
        for labels in ("all", "50")
    ]


@pytest.fixture
def results(tmp_path):
    """Every contender, with a score by its number of modalities; regression is .1 better."""
    for kind in ("main", "crossed"):
        chosen, trained = [], []
        for name, each in SWEEPS[kind].contenders.items():
            value = 0.5 + 0.02 * len(each.modalities) + 0.1 * (each.objective == "regression")
            best = each.budgets[0]
            chosen.append({"contender": name, "budget": best, "value": value})
            reads = [*READS, "output+raw+harmonics_10"]
            for seed, draws in each.replicates:
                for draw in [draw for draw in draws if draw < 4]:
                    for budget in {best, 1.0}:
                        for read in reads:
                            trained += cells(name, read, budget, seed, draw, value - budget / 10)
        pd.DataFrame(chosen).to_parquet(tmp_path / f"study_{kind}_chosen.parquet")
        pd.DataFrame(trained).to_parquet(tmp_path / f"study_{kind}_table.parquet")
    baselines = [
        row
        for name in UNTRAINED
        for draw in range(4 if name == "raw" else 3)
        for row in cells(name, "output", 0.0, 0, draw, 0.4)
    ]
    pd.DataFrame(baselines).to_parquet(tmp_path / "study_main_baselines.parquet")
    return tmp_path


def test_rows_name_budget_and_reading(results):
    rows = read_rows(results)
    assert {"melt", "melt@1", "melt+harmonics_10", "raw", "clip-rain@1"} <= set(rows["encoder"])
    assert set(rows.loc[rows["encoder"] == "raw", "draw"]) == {0, 1, 2, 3}
    assert set(shared(rows)["draw"]) == {0, 1, 2}
    leaking = rows[rows["leaks"]].groupby("tier")["task"].unique()
    assert set(leaking["embedded"]) == {"elevation", "country"}
    assert set(leaking["open"]) == {"elevation"}


@pytest.mark.slow
def test_effects_are_what_the_rows_say(results, monkeypatch):
    monkeypatch.setattr(table, "CELLS", ("labels",))
    monkeypatch.setattr(table, "GROUPS", {"open, no leaks": table.GROUPS["open, no leaks"]})
    found = pd.DataFrame(table.effects(results))
    assert set(found["question"]) == set(table.QUESTIONS)
    overall = found[(found["by"] == "all") & (found["group"] == "open, no leaks")]
    assert set(overall["reading"]) == {"alone", "beside harmonics", "as named"}
    value = overall[overall["reading"] != "beside harmonics"].set_index("contrast")["value"]
    assert value["regression: five minus one"] == pytest.approx(0.08)
    assert value["MELT minus regression"] == pytest.approx(-0.1)
    assert value["budget: its best minus equal pairs"] == pytest.approx((1 - 1 / 16) / 10)
    assert value["reading: harmonics beside"] == pytest.approx(0.01)
    assert set(overall["tasks"]) == {2}
    assert set(overall.loc[overall["question"] == "C3 crossed", "draws"]) == {4}
    assert np.isfinite(found[["value", "low", "high", "low_tasks"]].to_numpy(float)).all()
    labels = found[(found["by"] == "labels") & (found["contrast"] == "MELT minus SALT")]
    assert set(labels["level"]) == {"all", "50"}
