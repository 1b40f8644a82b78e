"""Monthly tasks with a probe of its own for each month."""

import numpy as np
from sklearn.metrics import r2_score

from locties.apply.metadata import Encoder, in_month, takes_month
from locties.evaluation import Task, predict
from locties.month import MONTHS


def score_each_month(encoder: Encoder, task: Task, split: str) -> float:
    """R² of twelve ridge probes, one for each month, on the folds of `split`.

    An encoder that takes a month is fixed to that of the probe.
    """
    if task.month is None:
        raise ValueError(f"task {task.name!r} has no month: give one of MONTHLY_TASKS")
    predicted = np.empty_like(task.target)
    for number in range(1, len(MONTHS) + 1):
        rows = (task.month == number).numpy()
        fixed = in_month(encoder, number) if takes_month(encoder) else encoder
        part = Task(task.name, task.lonlat[rows], task.target[rows])
        predicted[rows] = predict(fixed, part, split)
    return float(r2_score(task.target, predicted))
