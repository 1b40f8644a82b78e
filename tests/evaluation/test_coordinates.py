"""Whatever takes coordinates reads those with column names by name, and refuses masked ones."""

import numpy as np
import pytest
import torch
from coordinates import POINTS, check_coordinates

from locties.evaluation import (
    BASELINES,
    Joined,
    Task,
    folds,
    nearest_label_km,
    place_density,
    raw_values,
)
from locties.evaluation.protocol import checked_embedding
from locties.evaluation.splits import block_index
from locties.evaluation.tasks import kernel_density
from locties.modality import Modality

VALUES = np.arange(40.0)
rain = Modality("rain", POINTS, torch.from_numpy(VALUES[:, None]).float(), torch.nn.Linear)

TAKES = {
    **{name: make() for name, make in BASELINES.items()},
    "Joined": Joined(BASELINES["xyz"](), BASELINES["harmonics_10"]()),
    "Task": lambda lonlat: Task("mine", lonlat, VALUES).lonlat,
    "block_index": block_index,
    "checked_embedding": lambda lonlat: checked_embedding("xyz", lonlat),
    "folds": lambda lonlat: folds(lonlat, "block"),
    "kernel_density": lambda lonlat: kernel_density(lonlat, POINTS[::2], VALUES[::2]),
    "kernel_density, sources": lambda lonlat: kernel_density(POINTS[::2], lonlat, VALUES),
    "nearest_label_km": lambda lonlat: nearest_label_km(lonlat, POINTS[::2]),
    "nearest_label_km, labels": lambda lonlat: nearest_label_km(POINTS + 1, lonlat[::2]),
    "place_density": place_density(POINTS[::2]),
    "place_density, sources": lambda lonlat: place_density(lonlat)(torch.from_numpy(POINTS)),
    "raw_values": raw_values(rain),
}


@pytest.mark.parametrize("takes", TAKES.values(), ids=TAKES)
def test_coordinates_are_read_by_name_and_masked_ones_refused(takes):
    check_coordinates(takes)
