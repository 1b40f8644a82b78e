"""What the study does at coordinates reads named columns by name, and refuses masked ones."""

import numpy as np
import pandas as pd
import pytest
import torch

from locties_paper.geography import GROUPINGS, autocorrelation
from locties_paper.representation import nearby_points

POINTS = np.random.default_rng(0).uniform([-80, -50], [80, 50], (40, 2)).astype(np.float32)
TAKES = {
    "autocorrelation": lambda lonlat: autocorrelation(lonlat, np.arange(40.0), permutations=9),
    "nearby_points": lambda lonlat: nearby_points(lonlat, 9, torch.Generator().manual_seed(0)),
    **GROUPINGS,
}


@pytest.mark.data
@pytest.mark.parametrize("takes", TAKES.values(), ids=TAKES)
def test_coordinates_are_read_by_name_and_masked_ones_refused(takes):
    named = pd.DataFrame(POINTS[:, ::-1], columns=["lat", "lon"])
    assert np.array_equal(np.asarray(takes(named)), np.asarray(takes(torch.from_numpy(POINTS))))
    masked = np.ma.array(POINTS, mask=False)
    masked[2, 1] = np.ma.masked
    with pytest.raises(ValueError, match=r"row [12]\b"):
        takes(masked)
