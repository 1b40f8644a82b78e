"""AdamW, and how its learning rate changes along a run."""

import math
from collections.abc import Callable

import torch
from torch import nn

WARM_UP = 0.05  # share of the steps in which the learning rate rises
WEIGHT_DECAY = 0.01


def adamw(learned: nn.Module, learning_rate: float) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only: none on biases, norms and the temperature.

    Source: Loshchilov and Hutter, arXiv 1711.05101.
    """
    parameters = [p for p in learned.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def rate_factor(steps: int, decay: str) -> Callable[[int], float]:
    """The learning rate of a step as a share of its peak: a linear rise, then `decay`."""
    warm_up = max(1, round(WARM_UP * steps))

    def factor(step: int) -> float:
        rising = min(1.0, (step + 1) / warm_up)
        if decay == "constant":
            return rising
        along = max(0, step - warm_up) / max(1, steps - warm_up)
        return rising * (1 + math.cos(math.pi * along)) / 2

    return factor
