"""Evaluation: tasks, splits, probes, retrieval, leakage, intervals, and the protocol over them.

Example: ``evaluate("best", tasks=["air_temperature", "elevation"])``.
"""

from locties._util.extras import needs, require

# Imported on first use: together they take as long as torch.
require("data,study", "locties.evaluation", "pandas", "scipy", "sklearn")
with needs("data,study", "locties.evaluation"):
    from locties.evaluation import kriging as kriging  # a probe, in PROBES
    from locties.evaluation.baselines import BASELINES, Joined, contender
    from locties.evaluation.leakage import LEAKS, place_density, raw_values
    from locties.evaluation.probes import PROBES
    from locties.evaluation.protocol import evaluate, fit_probe, predict
    from locties.evaluation.public_tasks import OPEN_TASKS
    from locties.evaluation.retrieval import rank, retrieve
    from locties.evaluation.splits import SPLITS, block_degrees, folds, nearest_label_km
    from locties.evaluation.statistics import block_bootstrap, mean_interval
    from locties.evaluation.tasks import MONTHLY_TASKS, TASKS, TIERS, Task

__all__ = [
    "BASELINES",
    "LEAKS",
    "MONTHLY_TASKS",
    "OPEN_TASKS",
    "PROBES",
    "SPLITS",
    "TASKS",
    "TIERS",
    "Joined",
    "Task",
    "block_bootstrap",
    "block_degrees",
    "contender",
    "evaluate",
    "fit_probe",
    "folds",
    "mean_interval",
    "nearest_label_km",
    "place_density",
    "predict",
    "rank",
    "raw_values",
    "retrieve",
]
