"""What every function of coordinates must do, whichever package it is in."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch

POINTS = np.random.default_rng(0).uniform([-80, -50], [80, 50], (40, 2)).astype(np.float32)


@torch.no_grad()
def check_coordinates(takes: Callable) -> None:
    """Columns are read by name, and a masked coordinate is refused."""
    named = pd.DataFrame(POINTS[:, ::-1], columns=["lat", "lon"])
    assert np.array_equal(np.asarray(takes(named)), np.asarray(takes(torch.from_numpy(POINTS))))
    masked = np.ma.array(POINTS, mask=False)
    masked[2, 1] = np.ma.masked
    with pytest.raises(ValueError, match=r"row [12]\b"):
        takes(masked)
