"""The map and the table of the open tier's tasks, on a synthetic tier."""

import matplotlib.pyplot as plt
import numpy as np
import pytest

from locties.data.manifest import source
from locties.evaluation import BASELINES, OPEN_TASKS
from locties.saved import read_config
from locties_paper import open_tasks


def test_every_task_has_a_panel_and_the_region_a_map_of_its_own(open_tier):
    tasks = {name: OPEN_TASKS[name]() for name in ("biome", "house_value", "elevation")}
    figure = open_tasks.draw(tasks)
    panels = {ax.get_title(): ax for ax in figure.axes if ax.get_title()}
    assert set(panels) == {"Biome", "House value", "Elevation"}
    (houses,) = panels["House value"].collections
    task = tasks["house_value"]
    assert np.asarray(houses.get_offsets()) == pytest.approx(task.lonlat.numpy())
    assert np.asarray(houses.get_array()) == pytest.approx(task.target / 1000)
    assert panels["Biome"].get_legend() is None
    plt.close(figure)


def test_every_contender_is_scored_on_every_task(open_tier, monkeypatch):
    few = {name: BASELINES[name] for name in ("constant", "xyz")}
    monkeypatch.setattr(open_tasks, "BASELINES", few)
    monkeypatch.setattr(open_tasks, "published", lambda: ["melt"])
    tasks = {name: OPEN_TASKS[name]() for name in ("air_temperature", "biome")}
    table = open_tasks.score(tasks).query("metric in ('r2', 'accuracy')")
    assert set(zip(table["encoder"], table["task"], strict=True)) == {
        (name, task) for name in [*few, "melt"] for task in tasks
    }
    assert {"all", "50", "200"} <= set(table["labels"])
    weights = table.groupby("encoder")["sha256"].agg(set)
    assert weights["melt"] == {read_config("melt")["sha256"]}
    assert weights["xyz"] == {""}
    table = table[table["labels"] == "all"]
    best = table.groupby(["task", "encoder"])["value"].max()
    assert best["air_temperature", "xyz"] > 0.9 > best["air_temperature", "constant"]


def test_every_task_comes_from_a_dataset_of_the_open_tier():
    assert set(open_tasks.SOURCES) == set(OPEN_TASKS)
    assert all(source(name).tier == "open" for name in open_tasks.SOURCES.values())
