"""A probe for each month, on a task whose rule differs from month to month."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from locties.evaluation import Task, predict
from locties.lonlat import to_xyz
from locties_paper.months import score_each_month


@pytest.fixture(scope="module")
def task() -> Task:
    rng = np.random.default_rng(0)
    lonlat = np.column_stack(
        [rng.uniform(-180, 180, 1200), np.degrees(np.arcsin(rng.uniform(-1, 1, 1200)))]
    )
    month = torch.arange(1200) % 12 + 1
    xyz = to_xyz(torch.tensor(lonlat)).numpy()
    sign = np.where(month.numpy() % 2, 1, -1)
    return Task("rule", lonlat, sign * (xyz @ [1.0, 2.0, 3.0]), month=month)


def test_each_probe_learns_the_rule_of_its_month(task):
    assert score_each_month(to_xyz, task, "random") > 0.99
    alone = predict(to_xyz, Task("rule", task.lonlat, task.target), "random")
    assert np.corrcoef(alone, task.target)[0, 1] < 0.5, "one probe cannot"


def test_an_encoder_that_takes_a_month_is_fixed_to_it(task):
    def in_month(month):
        asked.append(month)
        return to_xyz

    asked = []
    score_each_month(SimpleNamespace(time="month", in_month=in_month), task, "block")
    assert asked == list(range(1, 13))


def test_a_task_without_months_is_refused(task):
    with pytest.raises(ValueError, match=r"rule.*MONTHLY_TASKS"):
        score_each_month(to_xyz, Task("rule", task.lonlat, task.target), "block")
