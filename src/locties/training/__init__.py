"""Pretraining: one loop, and three schedules that say which modalities a batch holds."""

from locties._util.extras import needs

with needs("data,study", "locties.pretrain"):
    from locties.training.loop import pretrain
    from locties.training.run import Run
    from locties.training.schedules import SCHEDULES

__all__ = ["SCHEDULES", "Run", "pretrain"]
