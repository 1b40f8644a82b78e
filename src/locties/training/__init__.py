"""Pretraining: one loop, and three schedules that say which modalities a batch holds."""

from locties.training.loop import Run, pretrain
from locties.training.schedules import SCHEDULES

__all__ = ["SCHEDULES", "Run", "pretrain"]
