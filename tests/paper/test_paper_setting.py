"""The paper's setting: each task with all budgets that it has labels for."""

import os

import numpy as np
import pandas as pd
import pytest
import torch

import locties
from locties import Modality, Task
from locties.modality import profile_encoder
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
    found = {task.name: task for task in paper_setting.tasks("open", 10**6, seed=0)}
    assert len(found["country"].target) <= paper_setting.ON_LAND
    budgets = {name: paper_setting.budgets(task) for name, task in found.items()}
    assert budgets["elevation"] == [243, 729, 2187, 6561, 19683, 40000, "all"]
    assert budgets["population"] == [243, 729, 2187, 6561, 19683, "all"]
    assert budgets["biome"] == [243, 729, "all"]
    assert paper_setting.budgets(found["elevation"], "block")[-2:] == [40000, "all"]


def two_modalities() -> list[Modality]:
    generator = torch.Generator().manual_seed(0)
    lonlat = (torch.rand(400, 2, generator=generator) - 0.5) * torch.tensor([360.0, 160.0])
    values = torch.sin(lonlat.deg2rad())
    return [
        Modality("a", lonlat[::2], values[::2], profile_encoder(2)),
        Modality("b", lonlat[1::2], values[1::2], profile_encoder(2)),
    ]


SMALL = {"degree": 4, "hidden": 8, "dim": 8, "pairs": 200, "batch": 50, "epochs": 2, "seed": 3}
QUICK = {**SMALL, "learning_rate": 1e-3, "device": "cpu", "progress": False}


@pytest.mark.filterwarnings("ignore:modalities")
def test_each_method_trains_on_all_and_the_baseline_on_each(tmp_path):
    runs = paper_setting.train(
        two_modalities(), ["melt", "salt", "clip"], output=str(tmp_path), **QUICK
    )
    assert list(runs) == ["melt", "salt", "clip-a", "clip-b"]
    for name, encoder in runs.items():
        kept = locties.load(tmp_path / name / "encoder")
        assert torch.equal(kept([[13.4, 52.5]]), encoder([[13.4, 52.5]])), name
    before = (tmp_path / "melt/encoder/model.safetensors").stat().st_mtime_ns
    again = paper_setting.train([], ["melt"], output=str(tmp_path), **QUICK)
    assert torch.equal(again["melt"]([[5.0, 5.0]]), runs["melt"]([[5.0, 5.0]]))
    assert (tmp_path / "melt/encoder/model.safetensors").stat().st_mtime_ns == before


@pytest.mark.filterwarnings("ignore:modalities")
def test_scores_stand_beside_an_untrained_encoder_and_coordinates(tmp_path):
    runs = paper_setting.train(two_modalities(), ["melt"], **QUICK)
    table = paper_setting.score(runs, [warmth(400)], probes=["ridge"], seed=3, output=str(tmp_path))
    shown = paper_setting.summary(table)
    assert list(shown.index) == [
        (name, labels) for name in ("melt", "untrained", "xyz") for labels in ("243", "all")
    ]
    assert shown["mean"].equals(shown["warmth"].rename("mean"))
    assert len(pd.read_parquet(tmp_path / "rows.parquet")) == len(table)


@pytest.mark.data
def test_the_embedded_tier_has_the_four_tasks_too():
    names = [task.name for task in paper_setting.tasks("embedded", 1000, seed=0)]
    assert names == ["elevation", "population", "country", "climate_zone"]
