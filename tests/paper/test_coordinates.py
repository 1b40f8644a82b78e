"""What the study does at coordinates reads named columns by name, and refuses masked ones."""

import numpy as np
import pytest
import torch
from coordinates import check_coordinates

from locties_paper.geography import GROUPINGS, autocorrelation
from locties_paper.representation import nearby_points

TAKES = {
    "autocorrelation": lambda lonlat: autocorrelation(lonlat, np.arange(40.0), permutations=9),
    "nearby_points": lambda lonlat: nearby_points(lonlat, 9, torch.Generator().manual_seed(0)),
    **GROUPINGS,
}


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("takes", TAKES.values(), ids=TAKES)
def test_coordinates_are_read_by_name_and_masked_ones_refused(takes):
    check_coordinates(takes)
