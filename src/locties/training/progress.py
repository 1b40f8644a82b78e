"""How far a run is, what its steps cost, and the bar that shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from locties._util.extras import needs
from locties.training import processes


@dataclass
class Progress:
    """What of a run's state lies in no module, optimiser or stream."""

    step: int = 0
    epoch: int = 0  # epochs that are done
    flops: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)  # of the history
    losses: list[Tensor] = field(default_factory=list)  # of the epoch's steps so far


class Flops:
    """Floating point operations of a step, counted once for each composition of a batch."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.of_step: dict[tuple[tuple[str, int], ...], int] = {}

    @contextmanager
    def counted(self, counts: Mapping[str, int], progress: Progress) -> Iterator[None]:
        """Add to `progress` what the block takes, summed over all processes."""
        composition = tuple(counts.items())
        if composition in self.of_step:
            yield
        else:
            with FlopCounterMode(display=False) as counter:
                yield
            total = processes.total(counter.get_total_flops(), self.device)
            self.of_step[composition] = total
        progress.flops += self.of_step[composition]


def progress_bar(steps: int, title: str, shown: bool) -> Any:
    """A bar on stderr."""
    with needs("data", "a progress bar"):
        from tqdm import tqdm

    return tqdm(total=steps, desc=title, unit="step", disable=not shown or processes.rank() > 0)


def random_state(device: torch.device) -> list[Tensor]:
    """The state of the global generators, from which dropout draws."""
    gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *gpu]


def set_random_state(device: torch.device, states: list[Tensor]) -> None:
    """Undo what was drawn since `random_state`."""
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)
