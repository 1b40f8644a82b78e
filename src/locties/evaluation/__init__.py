"""Evaluation: tasks, splits, probes, retrieval, leakage, intervals, and the protocol over them.

from locties.evaluation import evaluate
table = evaluate(encoder, tasks=["air_temperature", "elevation"])
"""

from locties._util.extras import needs

with needs("data,study", "locties.evaluation"):
    from locties.evaluation.baselines import BASELINES, append, contender
    from locties.evaluation.geography import (
        GROUPINGS,
        autocorrelation,
        best_prediction,
        residuals,
        score_groups,
    )
    from locties.evaluation.leakage import LEAKS, observe, place_density
    from locties.evaluation.probes import PROBES
    from locties.evaluation.protocol import evaluate, fit_probe, predict
    from locties.evaluation.public_tasks import OPEN_TASKS
    from locties.evaluation.representation import (
        alignment,
        diagnose,
        effective_rank,
        intrinsic_dimension,
        uniformity,
    )
    from locties.evaluation.retrieval import rank, retrieve
    from locties.evaluation.splits import SPLITS, folds, nearest_label_km
    from locties.evaluation.statistics import block_bootstrap, mean_interval
    from locties.evaluation.tasks import TASKS, TIERS, Task

__all__ = [
    "BASELINES",
    "GROUPINGS",
    "LEAKS",
    "OPEN_TASKS",
    "PROBES",
    "SPLITS",
    "TASKS",
    "TIERS",
    "Task",
    "alignment",
    "append",
    "autocorrelation",
    "best_prediction",
    "block_bootstrap",
    "contender",
    "diagnose",
    "effective_rank",
    "evaluate",
    "fit_probe",
    "folds",
    "intrinsic_dimension",
    "mean_interval",
    "nearest_label_km",
    "observe",
    "place_density",
    "predict",
    "rank",
    "residuals",
    "retrieve",
    "score_groups",
    "uniformity",
]
