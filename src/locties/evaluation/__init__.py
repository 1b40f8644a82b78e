"""Evaluation: tasks, splits, probes, retrieval, leakage, intervals, and the protocol over them.

from locties.evaluation import evaluate
table = evaluate(encoder, tasks=["air_temperature", "elevation"])
"""

from locties.evaluation.baselines import BASELINES, append, contender
from locties.evaluation.leakage import LEAKS, observe, place_density
from locties.evaluation.probes import PROBES
from locties.evaluation.protocol import evaluate, fit_probe, predict
from locties.evaluation.public_tasks import OPEN_TASKS
from locties.evaluation.retrieval import rank, retrieve
from locties.evaluation.splits import SPLITS, folds, nearest_label_km
from locties.evaluation.statistics import block_bootstrap, mean_interval
from locties.evaluation.tasks import TASKS, TIERS, Task

__all__ = [
    "BASELINES",
    "LEAKS",
    "OPEN_TASKS",
    "PROBES",
    "SPLITS",
    "TASKS",
    "TIERS",
    "Task",
    "append",
    "block_bootstrap",
    "contender",
    "evaluate",
    "fit_probe",
    "folds",
    "mean_interval",
    "nearest_label_km",
    "observe",
    "place_density",
    "predict",
    "rank",
    "retrieve",
]
