"""The paper's setting: each task with all budgets that it has labels for."""

import os

import numpy as np
import pytest
import torch

from locties import Task
from locties_paper import paper_setting

with_mirror = pytest.mark.skipif(
    not os.environ.get("LOCTIES_MIRROR"), reason="LOCTIES_MIRROR names no mirror of the open tier"
)


def warmth(n: int) -> Task:
    lonlat = torch.tensor(np.random.default_rng(0).uniform([-180, -60], [180, 60], (n, 2)))
    return Task("warmth", lonlat, 30 - lonlat[:, 1].abs() / 2)


def test_budgets_end_where_the_labels_do():
    # Four of five folds learn, so 912 points leave 729 labels: no fewer than all.
    assert paper_setting.budgets(warmth(912)) == [243, "all"]
    assert paper_setting.budgets(warmth(913)) == [243, 729, "all"]
    assert paper_setting.budgets(warmth(303)) == ["all"]
    assert paper_setting.budgets(warmth(60_000))[-2:] == [40_000, "all"]


def test_a_table_has_every_budget_of_every_split():
    table = paper_setting.evaluate(
        "xyz", [warmth(400)], name="places", splits=["random", "block"], probes=["knn"], seed=3
    )
    r2 = table.query("metric == 'r2'")
    assert set(zip(r2["split"], r2["labels"], strict=True)) == {
        (split, labels) for split in ("random", "block") for labels in ("243", "all")
    }
    assert (set(table["encoder"]), set(table["seed"])) == ({"places"}, {3})
    by_labels = r2.query("split == 'random'").set_index("labels")["value"]
    assert by_labels["all"] > by_labels["243"] > 0.9


@with_mirror
def test_the_real_tasks_have_the_budgets_that_the_page_names():
    found = {name: paper_setting.TASKS[name]() for name in ("elevation", "population", "biome")}
    budgets = {name: paper_setting.budgets(task) for name, task in found.items()}
    assert budgets["elevation"] == [243, 729, 2187, 6561, 19683, 40000, "all"]
    assert budgets["population"] == [243, 729, 2187, 6561, 19683, "all"]
    assert budgets["biome"] == [243, 729, "all"]
    assert paper_setting.budgets(found["elevation"], "block")[-2:] == [40000, "all"]
