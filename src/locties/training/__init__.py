"""Pretraining: one loop, and three schedules that say which modalities a batch holds.

Start with `schedules` (what MELT, SALT and clip do differently) and `Loop.run` and `Loop.step` in
`loop` (what they share). The other modules each do one thing for the loop.
"""

from locties._util.extras import needs, require

require("data,study", "locties.pretrain", "pandas")  # imported at the end of a run
with needs("data,study", "locties.pretrain"):
    from locties.training.loop import pretrain
    from locties.training.run import Run
    from locties.training.schedules import SCHEDULES

__all__ = ["SCHEDULES", "Run", "pretrain"]
