"""The published effects, derived again from the rows of the study by plain loops."""

from statistics import fmean

import pandas as pd
import pytest

from locties_paper.results import PUBLISHED_ROWS

LEAKING = {"precipitation", "elevation", "plant_richness"}  # rain and relief hold their answer


def cells(table: str, encoder: str, read: str, budget: float) -> dict[tuple, float]:
    """Open scores by draw, task, split, probe and labels."""
    found = {}
    for row in pd.read_parquet(PUBLISHED_ROWS / f"study_main_{table}.parquet").itertuples():
        mine = (row.encoder, row.read, row.budget) == (encoder, read, budget)
        if mine and row.tier == "open" and row.task not in LEAKING and row.metric != "macro_f1":
            found[row.draw, row.task, row.split, row.probe, row.labels] = row.value
    return found


@pytest.mark.parametrize(
    ("contrast", "other", "table", "read"),
    [
        ("MELT minus strongest single", "clip-haze", "table", "output+harmonics_10"),
        ("MELT minus untrained", "untrained", "table", "output+harmonics_10"),
        ("MELT minus raw values", "raw+harmonics_10", "baselines", "output"),
    ],
)
def test_published_effects_follow_from_the_rows(contrast, other, table, read):
    chosen = pd.read_parquet(PUBLISHED_ROWS / "study_main_chosen.parquet")
    budget = dict(zip(chosen["contender"], chosen["budget"], strict=True))
    melt = cells("table", "melt", "output+harmonics_10", budget["melt"])
    against = cells(table, other, read, budget.get(other, 0.0))
    both = melt.keys() & against.keys()
    means = []  # of each draw and task: tasks count alike, however many cells they have
    for pair in {cell[:2] for cell in both}:
        means.append(fmean(melt[c] - against[c] for c in both if c[:2] == pair))
    effects = pd.read_parquet(PUBLISHED_ROWS / "effects.parquet")
    published = effects[
        (effects["contrast"] == contrast)
        & (effects["reading"] == "beside harmonics")
        & (effects["group"] == "open, no leaks")
        & (effects["by"] == "all")
    ]
    assert published["value"].item() == pytest.approx(fmean(means), abs=1e-9)
    assert published["draws"].item() == len({cell[0] for cell in both})


def test_what_rain_loses_follows_from_the_rows():
    rows = pd.read_parquet(PUBLISHED_ROWS / "study_own_table.parquet")
    scores: dict[str, dict[tuple, float]] = {"melt": {}, "clip-rain": {}}
    for row in rows.itertuples():
        budget = {"melt": 0.25, "clip-rain": 0.05}.get(row.encoder)
        if budget == row.budget and row.task.startswith("rain") and row.metric == "r2":
            scores[row.encoder][row.draw, row.task, row.split, row.probe] = row.value
    both = scores["melt"].keys() & scores["clip-rain"].keys()
    effects = pd.read_parquet(PUBLISHED_ROWS / "effects.parquet")
    published = effects[
        (effects["contrast"] == "MELT minus single, budget 0.25")
        & (effects["group"] == "own targets, rain")
        & (effects["by"] == "all")
    ]
    apart = fmean(scores["melt"][cell] - scores["clip-rain"][cell] for cell in both)
    assert published["value"].item() == pytest.approx(apart, abs=1e-9)
    assert published["draws"].item() * 8 == len(both)  # two targets, two kinds of folds, two probes


@pytest.mark.parametrize("table", sorted(PUBLISHED_ROWS.glob("*.parquet")), ids=lambda p: p.stem)
def test_no_published_table_was_made_with_uncommitted_code(table):
    rows = pd.read_parquet(table)
    if "code" in rows:
        assert not [code for code in rows["code"].unique() if "dirty" in str(code)]
