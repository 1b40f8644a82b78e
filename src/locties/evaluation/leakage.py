"""Leakage: how well a modality's own values, with no encoder, already predict a task.

An encoder trained on a modality partly copies a task made from the same data. `LEAKS` lists such
pairs, and `OPEN_LEAKS` those of the open tier. With `raw_values`, `evaluate` scores a modality
itself.
"""

import numpy as np
import torch
from torch import Tensor

from locties.apply.metadata import Encoder
from locties.evaluation.tasks import kernel_density
from locties.lonlat import LonLat, check, to_xyz
from locties.modalities import Gathered
from locties.modality import Modality
from locties.objectives.content import content

# For each task, the modalities that hold the same quantity or come from the same source. Rain and
# temperature come from one reanalysis, and climate zones are computed from both; relief and the
# elevations of airports have different sources but are the same quantity; population, country,
# toponyms and the places of texts come from one gazetteer, and texts name their country. Rasters
# hold rain, relief and the density of the gazetteer's settlements.
LEAKS: dict[str, tuple[str, ...]] = {
    "air_temperature": ("rain", "temperature", "rasters"),
    "elevation": ("relief", "rasters"),
    "population": ("toponyms", "text", "rasters"),
    "climate_zone": ("rain", "temperature", "rasters"),
    "country": ("toponyms", "text"),
}
# As above. MOSAIKS and pvlib took their elevations from the same terrain tiles on AWS: in the
# repository Global-Policy-Lab/mosaiks-paper, extractElevation_global.R calls get_aws_terrain. The
# richness of plants was computed from climate and relief.
OPEN_LEAKS: dict[str, tuple[str, ...]] = {
    "air_temperature": ("temperature",),
    "precipitation": ("rain", "rasters"),
    "elevation": ("relief", "rasters"),
    "plant_richness": ("rain", "temperature", "relief", "rasters"),
    "winter_temperature": ("temperature",),
    "summer_temperature": ("temperature",),
}
# As above, for the tasks with months: ERA5 again.
MONTHLY_LEAKS: dict[str, tuple[str, ...]] = {
    "monthly_temperature": ("rain", "temperature"),
    "monthly_precipitation": ("rain", "temperature"),
}
BAG = 256  # n-gram buckets are folded to this many counts


def raw_values(modality: Modality) -> Encoder:
    """The modality's own values at any point, as a function that `evaluate` accepts.

    Profiles are not changed; patches become 4 x 4 means of each channel, and texts 256 counts of
    their n-grams. A constant 1 is appended: kNN ignores the length of a row, and with the constant,
    rows of different length also differ in direction. Rasters are read at the point itself. Other
    modalities give their nearest sample, held-out ones included. The result maps lonlat `(N, 2)` to
    `(N, d)` float32.

    Example:
        >>> profiles = torch.tensor([[5.0], [2.0]])
        >>> rain = Modality("rain", [[0, 0], [90, 0]], profiles, torch.nn.Linear)
        >>> raw_values(rain)(torch.tensor([[80.0, 10.0], [1.0, 1.0]]))
        tensor([[2., 1.],
                [5., 1.]])
    """
    from scipy.spatial import cKDTree

    samples = modality.samples
    if isinstance(samples, Gathered):
        return lambda lonlat: _rows(samples.read(samples.rasters, check(lonlat)))
    known = [modality] if modality.validation is None else [modality, modality.validation]
    everything = torch.cat([_rows(each.samples[torch.arange(len(each.samples))]) for each in known])
    tree = cKDTree(to_xyz(torch.cat([each.lonlat for each in known]).double()).numpy())

    def nearest(lonlat: Tensor) -> Tensor:
        _, row = tree.query(to_xyz(check(lonlat).double()).numpy())
        return everything[torch.from_numpy(row)]

    return nearest


def place_density(sources: LonLat) -> Encoder:
    """Where samples are, without their content: log(1 + samples per 10,000 km2), and a constant 1.

    Toponyms are sampled where places are, so their locations alone predict population.

    Example:
        >>> place_density([[0.0, 0.0]])(torch.tensor([[0.0, 0.0], [90.0, 0.0]])).round(decimals=2)
        tensor([[1.2700, 1.0000],
                [0.0000, 1.0000]])
    """
    places = check(sources)

    def density(lonlat: Tensor) -> Tensor:
        per_km2 = torch.from_numpy(kernel_density(lonlat, places, np.ones(len(places))))
        return _rows((1e4 * per_km2).log1p()[:, None].float())

    return density


def _rows(samples: Tensor) -> Tensor:
    """Samples `(B, ...)` as rows `(B, d)` of float32, with a constant 1."""
    if not samples.is_floating_point():
        bag = torch.zeros(len(samples), BAG)
        samples = bag.scatter_add_(1, samples % BAG, (samples > 0).float())
    else:
        samples = content(samples)
    return torch.cat([samples, torch.ones(len(samples), 1)], dim=1)
