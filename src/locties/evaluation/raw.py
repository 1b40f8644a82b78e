"""The modalities' own values as an embedding: a baseline that a trained encoder must beat."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from locties import month as months
from locties._util.registry import check_choice
from locties.encoder import TIMES
from locties.evaluation.leakage import raw_values
from locties.lonlat import LonLat, check
from locties.modalities import EMBEDDED, MODALITIES, MONTHLY, Gathered
from locties.modality import FITTED, Standardise


class Raw(nn.Module):
    """Values of several modalities at each place: `(N, 2)` degrees to `(N, d)`, without training.

    The `raw_values` of each of the M modalities are standardised, then scaled so that their mean
    square length is 1 / M.

    Args:
        modalities: names in `locties.modalities.MODALITIES`; by default those of the
            embedded tier that are rasters, so that they have a value at each place. Leave out those
            that leak into a task.
        time: None, or "month" for the values of one month: a modality with twelve months, such as
            rain, then gives one value.

    Example:
        >>> Raw(["haze", "relief"])([[-60.0, -3.1]]).shape
        torch.Size([1, 28])
    """

    unit_length = False  # the length of a row says how unusual a place is

    def __init__(self, modalities: Sequence[str] | None = None, time: str | None = None) -> None:
        super().__init__()
        if time is not None:
            check_choice("time", time, TIMES)
        self.time = time
        made = {n: MODALITIES[n](samples=FITTED) for n in modalities or EMBEDDED}
        if modalities is None:
            made = {n: each for n, each in made.items() if isinstance(each.samples, Gathered)}
        self.values = {n: raw_values(each) for n, each in made.items()}
        self.scales = nn.ModuleDict(
            {
                n: Standardise(values.flatten()[:, None] if self._monthly(n) else values)
                for n, each in made.items()
                for values in [self.values[n](each.lonlat)[:, :-1]]
            }
        )

    def _monthly(self, name: str) -> bool:
        return self.time is not None and name in MONTHLY

    def forward(self, lonlat: LonLat, month: Any = None) -> Tensor:
        points = check(lonlat).float()
        of_points = None if self.time is None else months.check(month, len(points))
        parts = []
        for name, values in self.values.items():
            part = values(points)[:, :-1]
            if of_points is not None and self._monthly(name):
                part = part.gather(1, of_points[:, None] - 1)
            parts.append(self.scales[name](part))
        return torch.cat([part / math.sqrt(part.shape[1] * len(parts)) for part in parts], dim=1)
