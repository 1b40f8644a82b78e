"""Add a task: predict the month with the most rain.

A task is a function that returns a `Task`: locations, and the measurements or classes to predict
there. For labels in a table, `locties.read_task` does the same in one line.
"""

import numpy as np
import torch

import locties
from locties.data import embedded
from locties.data.sampling import land_lonlat
from locties.evaluation.tasks import TASKS

MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def rainiest_month(points: int = 2000) -> locties.Task:
    earth = embedded.load()
    lonlat = land_lonlat(earth, points, torch.Generator().manual_seed(0))
    month = earth.rain.sample(lonlat).argmax(dim=1).numpy()
    return locties.Task("rainiest_month", lonlat, month, kind="classification", classes=MONTHS)


TASKS["rainiest_month"] = rainiest_month

if __name__ == "__main__":
    task = TASKS["rainiest_month"]()
    commonest = np.bincount(task.target).max() / len(task.target)
    print(f"guessing the commonest month: accuracy = {commonest:.2f}")
    encoder = locties.LocationEncoder(feature_options={"degree": 10})
    table = locties.evaluate(encoder, "rainiest_month", splits="block", labels="all")
    for probe, accuracy in table[table.metric == "accuracy"][["probe", "value"]].to_numpy():
        print(f"untrained encoder, {probe}: accuracy = {accuracy:.2f}")
