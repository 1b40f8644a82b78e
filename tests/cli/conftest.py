"""What the tests of several commands share."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import locties


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A small one, in a folder."""
    made = locties.LocationEncoder("xyz", "linear", dim=3)
    made.save(tmp_path / "small")
    return tmp_path / "small"


@pytest.fixture
def seasonal(tmp_path: Path) -> Path:
    folder = tmp_path / "seasonal"
    locties.LocationEncoder("xyz", "linear", dim=3, time="month").save(folder)
    return folder


@pytest.fixture
def soil(tmp_path: Path) -> Path:
    """A table of places, with a measurement that depends on where they lie."""
    rng = np.random.default_rng(0)
    table = pd.DataFrame(rng.uniform([-20, 30], [40, 60], (600, 2)), columns=["lon", "lat"])
    table["ph"] = 4 + table["lat"] / 20 + rng.normal(0, 0.01, 600)
    table["horizon"] = rng.integers(1, 4, 600)
    table.to_csv(tmp_path / "soil.csv", index=False)
    return tmp_path / "soil.csv"
