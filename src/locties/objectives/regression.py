"""Regression: each location predicts the content of its own sample; nothing is contrasted."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from locties.modality import Modality
from locties.objectives.base import Batch, Objective
from locties.objectives.content import contents_of, make_decoders, reading_error


class Regression(Objective):
    """The squared error of each sample's content, read from the embedding of its location.

    With M the modalities in the batch, e_i the embedding of location i (not normalised), x_i the
    standardised `content` of its sample (c_m numbers) and W_m, b_m a linear head::

        L = 1/M sum_m 1/(B_m c_m) sum_(i in m) |W_m e_i + b_m - x_i|^2

    It is about 1 for heads that predict the mean and 0 for perfect ones. Modality encoders are not
    used: they stay untrained, and a run has no retrieval scores.

    Source: plain regression of the values at each place, the control that contrastive pretraining
    has to beat.
    """

    reads_samples = True
    encodes_samples = False

    def __init__(self) -> None:
        super().__init__()
        self.decoders: Any = nn.ModuleList()

    def prepare(self, modalities: Mapping[str, Modality], dim: int) -> None:
        """Make a head for each modality; heads made before are replaced."""
        self.decoders = make_decoders(modalities, dim)

    def forward(self, batch: Batch) -> Tensor:
        contents = contents_of(batch.raw, self.decoders, "regression")
        with torch.autocast(batch.locations.device.type, enabled=False):
            e = batch.locations.to(batch.dtype)
            return reading_error(e, batch.modality, self.decoders, contents)
