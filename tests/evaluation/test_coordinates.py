"""Whatever takes coordinates reads those with column names by name, and refuses masked ones."""

import numpy as np
import pandas as pd
import pytest
import torch

from locties.evaluation import (
    BASELINES,
    Appended,
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

POINTS = np.random.default_rng(0).uniform([-80, -50], [80, 50], (40, 2)).astype(np.float32)
VALUES = np.arange(40.0)
rain = Modality("rain", POINTS, torch.from_numpy(VALUES[:, None]).float(), torch.nn.Linear)

TAKES = {
    **{name: make() for name, make in BASELINES.items()},
    "Appended": Appended(BASELINES["xyz"](), "xyz"),
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


@torch.no_grad()
@pytest.mark.parametrize("takes", TAKES.values(), ids=TAKES)
def test_coordinates_are_read_by_name_and_masked_ones_refused(takes):
    named = pd.DataFrame(POINTS[:, ::-1], columns=["lat", "lon"])
    assert np.array_equal(np.asarray(takes(named)), np.asarray(takes(torch.from_numpy(POINTS))))
    masked = np.ma.array(POINTS, mask=False)
    masked[2, 1] = np.ma.masked
    with pytest.raises(ValueError, match=r"row [12]\b"):
        takes(masked)
