"""Evaluation: tasks, splits, probes, intervals, and the protocol that makes them one table.

from locties.evaluation import evaluate
table = evaluate(encoder, tasks=["air_temperature", "elevation"])
"""

from locties.evaluation.baselines import BASELINES
from locties.evaluation.probes import PROBES
from locties.evaluation.protocol import evaluate, fit_probe, predict
from locties.evaluation.splits import SPLITS, folds, nearest_label_km
from locties.evaluation.statistics import block_bootstrap, mean_interval
from locties.evaluation.tasks import TASKS, Task

__all__ = [
    "BASELINES",
    "PROBES",
    "SPLITS",
    "TASKS",
    "Task",
    "block_bootstrap",
    "evaluate",
    "fit_probe",
    "folds",
    "mean_interval",
    "nearest_label_km",
    "predict",
]
