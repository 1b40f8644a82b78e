"""`fit_map` beside a random forest and kriging."""

import numpy as np
import pandas as pd
import pytest
import torch

from locties.evaluation import Task
from locties.evaluation.splits import block_index
from locties_paper import map_study

RIVALS = ["random forest", "ordinary kriging", "regression kriging"]


@pytest.fixture
def task():
    rng = np.random.default_rng(0)
    lonlat = torch.from_numpy(rng.uniform([-60, -40], [60, 60], (600, 2)))
    warmth = 30 - lonlat[:, 1].abs().numpy() / 2 + rng.normal(size=600)
    return Task("warmth", lonlat, warmth, unit="degC")


def test_no_test_place_stands_in_a_block_with_a_label(task):
    block = block_index(task.lonlat)
    for seed in range(3):
        known, test = map_study.draw(task, 100, seed)
        assert len(known) == 100
        assert not set(block[known]) & set(block[test])


def test_more_labels_than_half_of_the_blocks_hold_are_refused(task):
    with pytest.raises(ValueError, match="500"):
        map_study.draw(task, 500, 0)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_learns_what_is_there_to_learn(task, name):
    found = map_study.measure(task, 150, 0, name)
    assert found["score"] > 0.8  # noise alone limits it to 0.98
    assert 0.4 < found["coverage"] <= 1
    assert found["loss"] >= found["width"] > 0


def test_a_forests_sets_hold_classes(task):
    zones = Task("zone", task.lonlat, np.digitize(task.target, [10, 20]), "classification")
    found = map_study.measure(zones, 150, 0, "random forest")
    assert found["score"] > 0.7
    assert 0.6 < found["coverage"] <= 1
    assert 1 <= found["width"] < 3


def test_a_study_resumes_and_leaves_out_what_a_task_is_too_small_for(task, tmp_path, monkeypatch):
    monkeypatch.setattr(map_study, "OPEN_TASKS", {"warmth": lambda: task})
    monkeypatch.setattr(map_study, "ALWAYS", {})
    to = tmp_path / "study.parquet"
    first = map_study.study(to, ["warmth"], [50, 1000], 1, progress=False)
    assert first["contender"].tolist() == RIVALS[1:]
    assert set(first["labels"]) == {50}

    monkeypatch.setattr(map_study, "measure", lambda *cell: {"score": 0.0})
    both = map_study.study(to, ["warmth"], [50, 1000], 2, progress=False)
    pd.testing.assert_frame_equal(both.iloc[:2], first)
    assert both["score"].tolist()[2:] == [0.0, 0.0]

    both.assign(data="of the first edition").to_parquet(to)
    with pytest.raises(ValueError, match="other data: pass another --output"):
        map_study.study(to, ["warmth"], [50], 1, progress=False)


def test_differences_are_paired_by_draw():
    rows = [
        ("a", 50, seed, who, score + seed)
        for seed in range(3)
        for who, score in (("locties", 0.5), ("random forest", 0.3))
    ]
    table = pd.DataFrame(rows, columns=["task", "labels", "seed", "contender", "score"])
    [found] = map_study.differences(table).itertuples()
    assert found.Index == ("a", 50, "random forest")
    assert [found.difference, found.low, found.high] == pytest.approx([0.2, 0.2, 0.2])
