"""Gains task by task and mean ranks that can be worked out by hand."""

import pandas as pd
import pytest

from locties_paper.effects.family import by_task, ranks


def rows(name: str, values: dict[str, float]) -> list[dict]:
    """One score for each task at two draws; the second is .02 higher for "ours"."""
    fixed = {"encoder": name, "seed": 0, "split": "block", "probe": "knn", "labels": "all"}
    return [
        {**fixed, "draw": draw, "task": task, "value": value + 0.02 * draw * (name == "ours")}
        for draw in (0, 1)
        for task, value in values.items()
    ]


TABLE = pd.DataFrame(
    rows("ours", {"biome": 0.5, "country": 0.7})
    + rows("theirs", {"biome": 0.6, "country": 0.4})
    + rows("none", {"biome": 0.1, "country": 0.5})
)


def test_gains_are_task_by_task_and_the_largest_come_first():
    gains = by_task(TABLE, "ours", ["theirs"])
    assert list(gains["task"]) == ["country", "biome"]
    assert gains["value"].tolist() == pytest.approx([0.31, -0.09])
    # Gains of .30 and .32 at two draws: t is 12.71 with one degree of freedom.
    assert gains["high"][0] - 0.31 == pytest.approx(12.706 * 0.01, abs=1e-4)
    assert gains["draws"].tolist() == [2, 2]


def test_ranks_are_means_over_cells_and_the_best_comes_first():
    table = ranks(TABLE, ["none", "theirs", "ours"])
    assert table["encoder"].tolist() == ["ours", "theirs", "none"]
    assert table["rank"].tolist() == [1.5, 2.0, 2.5]
    assert table["low"].tolist() == table["high"].tolist() == table["rank"].tolist()


def test_a_cell_that_a_contender_lacks_counts_for_none():
    lacking = TABLE[(TABLE["encoder"] != "theirs") | (TABLE["task"] != "country")]
    assert ranks(lacking, ["theirs", "ours", "none"])["rank"].tolist() == [1.0, 2.0, 3.0]
