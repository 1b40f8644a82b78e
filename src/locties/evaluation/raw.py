"""The modalities' own values as an embedding: a baseline that a trained encoder must beat."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from locties.evaluation.leakage import raw_values
from locties.lonlat import LonLat, check
from locties.modalities import EMBEDDED, MODALITIES, Gathered
from locties.modality import FITTED, Standardise


class Raw(nn.Module):
    """Values of several modalities at each place: `(N, 2)` degrees to `(N, d)`, without training.

    The `raw_values` of each of the M modalities are standardised, then scaled so that their mean
    square length is 1 / M.

    Args:
        modalities: names in `locties.modalities.MODALITIES`; by default those of the
            embedded tier that are rasters, so that they have a value at each place. Leave out those
            that leak into a task.

    Example:
        >>> Raw(["haze", "relief"])([[-60.0, -3.1]]).shape
        torch.Size([1, 28])
    """

    unit_length = False  # the length of a row says how unusual a place is

    def __init__(self, modalities: Sequence[str] | None = None) -> None:
        super().__init__()
        made = {n: MODALITIES[n](samples=FITTED) for n in modalities or EMBEDDED}
        if modalities is None:
            made = {n: each for n, each in made.items() if isinstance(each.samples, Gathered)}
        self.values = {n: raw_values(each) for n, each in made.items()}
        self.scales = nn.ModuleDict(
            {n: Standardise(self.values[n](each.lonlat)[:, :-1]) for n, each in made.items()}
        )

    def forward(self, lonlat: LonLat) -> Tensor:
        points = check(lonlat).float()
        parts = [self.scales[n](values(points)[:, :-1]) for n, values in self.values.items()]
        return torch.cat([part / math.sqrt(part.shape[1] * len(parts)) for part in parts], dim=1)
