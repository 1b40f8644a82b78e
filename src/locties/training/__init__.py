"""Pretraining: one loop, and three schedules that say which modalities a batch holds."""

from locties.training.loop import SCHEDULES, Run, pretrain

__all__ = ["SCHEDULES", "Run", "pretrain"]
