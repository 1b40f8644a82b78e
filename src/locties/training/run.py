"""What a pretraining leaves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from locties._util.files import written_aside
from locties.encoder import LocationEncoder
from locties.training import processes

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Run:
    """What a pretraining leaves.

    Attributes:
        encoder: the trained location encoder.
        modality_encoders: by name of modality.
        history: a tidy table, one row for each epoch and modality: epoch, step, pairs, flops,
            seconds (all since the start), learning_rate, modality, active (whether it was in the
            epoch's batches), train_loss (mean over the epoch, of all active modalities together),
            validation_loss and recall_at_10 (from a held-out sample to its own location among
            the held-out locations; at a temperature of 0.07 in every run).
        settings: the arguments that made it.

    Example:
        >>> from locties.training import pretrain
        >>> run = pretrain("clip", "haze", LocationEncoder("xyz", "linear", dim=8), pairs=256,
        ...                batch=64, epochs=2, samples=128, progress=False)
        >>> run.history[["modality", "pairs"]].to_numpy().tolist()
        [['haze', 128], ['haze', 256]]
    """

    encoder: LocationEncoder
    modality_encoders: nn.ModuleDict
    history: pd.DataFrame
    settings: dict[str, Any]

    def save(self, folder: str | Path) -> None:
        """Write ``encoder/``, ``history.parquet`` and ``settings.json`` into `folder`.

        In a run of several processes only the first one writes.
        """
        if processes.rank() > 0:
            return
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        self.encoder.save(folder / "encoder")
        with written_aside(folder / "history.parquet") as aside:
            self.history.to_parquet(aside, index=False)
        with written_aside(folder / "settings.json") as aside:
            aside.write_text(json.dumps(self.settings, indent=2))
