"""The progress, cost and result of a run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from locties._util.extras import needs
from locties._util.files import written_aside
from locties.encoder import LocationEncoder
from locties.training import processes

if TYPE_CHECKING:
    import pandas as pd

TIMED_STEPS = 10  # steps from which the time of a run is estimated


@dataclass(frozen=True)
class Run:
    """The result of `locties.pretrain`.

    Attributes:
        encoder: the trained location encoder.
        modality_encoders: the modality encoders by name.
        history: a tidy table, one row for each epoch and modality: epoch, step, pairs, flops,
            seconds (all since the start), learning_rate, modality, active (whether it was in the
            epoch's batches), train_loss (mean over the epoch, of all active modalities together),
            validation_loss and recall_at_10 (from a held-out sample to its own location among
            the held-out locations; at a temperature of 0.07 in every run).
        settings: the arguments of the run.
    """

    encoder: LocationEncoder
    modality_encoders: nn.ModuleDict
    history: pd.DataFrame
    settings: dict[str, Any]

    def save(self, folder: str | Path) -> None:
        """Write ``encoder/``, ``history.parquet`` and ``settings.json``, in the first process."""
        if processes.rank() > 0:
            return
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.encoder.save(folder / "encoder")
        with written_aside(folder / "history.parquet") as aside:
            self.history.to_parquet(aside, index=False)
        with written_aside(folder / "settings.json") as aside:
            aside.write_text(json.dumps(self.settings, indent=2))


@dataclass
class Progress:
    """The part of a run's state that no module, optimiser or stream holds."""

    step: int = 0
    epoch: int = 0  # epochs that are done
    flops: int = 0
    seconds: float = 0.0
    rows: list[dict[str, Any]] = field(default_factory=list)  # rows of the history
    losses: list[Tensor] = field(default_factory=list)  # losses of the epoch's steps so far


class Flops:
    """Floating point operations of a step, counted once for each composition of a batch."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.of_step: dict[tuple[tuple[str, int], ...], int] = {}

    @contextmanager
    def counted(self, counts: Mapping[str, int], progress: Progress) -> Iterator[None]:
        """Add the operations in the block to `progress`, summed over all processes."""
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
    """A progress bar on stderr; for a run of minutes, it also prints the estimated time."""
    with needs("data", "a progress bar"):
        from tqdm import tqdm

    class Bar(tqdm):
        def update(self, n: float | None = 1) -> bool | None:
            displayed: bool | None = super().update(n)
            if not self.disable and self.n - self.initial == TIMED_STEPS:
                minutes = self.format_dict["elapsed"] / TIMED_STEPS * (steps - self.n) / 60
                if minutes > 1:
                    estimate = f"{title}: about {minutes:.0f} minutes for {steps:,} steps"
                    self.write(estimate, file=sys.stderr)
            return displayed

    return Bar(total=steps, desc=title, unit="step", disable=not shown or processes.rank() > 0)


def random_state(device: torch.device) -> list[Tensor]:
    """The state of the global generators, from which dropout draws."""
    gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return [torch.get_rng_state(), *gpu]


def set_random_state(device: torch.device, states: list[Tensor]) -> None:
    """Undo what was drawn since `random_state`."""
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)
